//! VLAN devices on the way to the subscriber and to the internet: tags are not billed, what they
//! carry is to the byte, and there is no way around the gate through them.
//!
//! In a virtual machine, whose kernel has such devices.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bitmesh_tests::agent::{Agent, Program, Settings, Tariff};
use bitmesh_tests::counter::{Counter, Counts};
use bitmesh_tests::frames::{V4, extension, tcp, udp, v6};
use bitmesh_tests::lab::{
    ETH, GATEWAY_MAC, INTERNET, LAN, Lab, Medium, SERVER_V4, SERVER_V6, Subscriber, WAN,
};
use bitmesh_tests::mixed::{
    Way, addressed, datagrams, fragments, rare_frames, stream, super_datagrams,
};
use bitmesh_tests::pins::cost;
use bitmesh_tests::verdict::{hold, must_be_caught, same};
use bitmesh_tests::vlan::Tag;
use bitmesh_tests::wait::until_still;
use bitmesh_tests::wire::Wire;
use serde_json::Value;

const PLENTY_MSAT: u64 = 1_000_000_000_000;
const TARIFF: Tariff =
    Tariff { uplink_msat_per_mib: 3_000, downlink_msat_per_mib: 5_000, msat_per_minute: 0 };

const ONE: &[Tag] = &[Tag::inner(7)];
const TWO: &[Tag] = &[Tag::outer(7), Tag::inner(8)];
const OTHER_TWO: &[Tag] = &[Tag::outer(5), Tag::inner(6)];

/// A run in which a device lost packets behind the gate proves nothing, and is repeated so often.
const MAX_RUNS: u32 = 3;

const STREAM_BYTES: u64 = 1 << 20;
const DATAGRAMS: u64 = 60;
const SUPER_PACKETS: u64 = 6;
const ROUNDS: u64 = 4;

/// Times that counters are read again, while packets still arrive.
const MAX_READINGS: u32 = 100;

/// How long frames may take through the lab, where the processor is emulated.
const SETTLED: Duration = Duration::from_millis(150);

/// Everything that a subscriber can do.
fn everything(lab: &Lab, bob: &Subscriber) -> Result<()> {
    for way in Way::BOTH {
        for v6 in [false, true] {
            stream(lab, bob, way, v6, STREAM_BYTES)?;
            datagrams(lab, bob, way, v6, 1_000, DATAGRAMS)?;
            super_datagrams(lab, bob, way, v6, SUPER_PACKETS)?;
            fragments(lab, bob, way, v6, ROUNDS)?;
        }
        rare_frames(lab, bob, way, ROUNDS)?;
    }
    Ok(())
}

/// Packets lost between the gate and the independent counts.
fn lost(lab: &Lab) -> Result<u64> {
    let mut lost = 0;
    let ends = [
        (&lab.gateway, LAN),
        (&lab.gateway, WAN),
        (&lab.internet, ETH),
        (&lab.subscriber().namespace, ETH),
    ];
    for (namespace, device) in ends {
        let said = namespace.ip(&format!("-s -j link show dev {device}"))?;
        let said: Value = serde_json::from_str(&said)?;
        for way in ["rx", "tx"] {
            lost += said[0]["stats64"][way]["dropped"].as_u64().context("no count")?;
        }
    }
    Ok(lost)
}

/// Everything over one of these after the other, with one agent: where the processor is emulated,
/// its start takes longer than the rest.
fn is_exact(media: &[Medium], program: Program) -> Result<()> {
    for run in 1..=MAX_RUNS {
        if once(media, program)? {
            return Ok(());
        }
        println!("{media:?}: run {run} was invalid: packets were lost behind the gate");
    }
    bail!("{media:?}: {MAX_RUNS} runs were invalid")
}

/// `false` if packets were lost behind the gate.
fn once(media: &[Medium], program: Program) -> Result<bool> {
    let mut lab = Lab::over(media[0])?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF).run_by(program))?;
    agent.grant(lab.subscriber(), PLENTY_MSAT)?;
    for (number, medium) in media.iter().enumerate() {
        if number > 0 {
            lab.retag(*medium)?;
        }
        if !one_medium(&lab, &agent).with_context(|| format!("{medium:?}"))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn one_medium(lab: &Lab, agent: &Agent) -> Result<bool> {
    lab.real_segments()?;
    let (bob, pins) = (lab.subscriber(), agent.pins()?);
    lab.wait_until_it_carries()?;
    until_still(|| Ok(pins.meter(bob)?.spent))?;
    let first = pins.meter(bob)?;
    let (down, up) = (bob.count_downlink()?, lab.count_arrived(bob)?);
    let at_wan = Counter::arriving(&lab.gateway, WAN, &INTERNET)?;
    let before = lost(lab)?;
    everything(lab, bob)?;
    let mut readings = 0;
    let (down, up, meter) = loop {
        let counted = (down.settled()?, up.settled()?);
        let meter = pins.meter(bob)?;
        if counted == (down.read()?, up.read()?) {
            break (counted.0, counted.1, meter);
        }
        readings += 1;
        ensure!(readings < MAX_READINGS, "packets still arrive after {readings} readings");
    };
    if lost(lab)? != before {
        return Ok(false);
    }
    ensure!(meter.dropped_unpaid == 0 && meter.dropped_malformed == 0, "{meter:?}");
    let bytes = meter.downlink_bytes - first.downlink_bytes;
    same("downlink", down, bytes, meter.downlink_packets - first.downlink_packets)?;
    let bytes = meter.uplink_bytes - first.uplink_bytes;
    same("uplink", up, bytes, meter.uplink_packets - first.uplink_packets)?;
    let (spent, due) = (meter.spent - first.spent, cost(up.bytes, down.bytes, &pins.account(bob)?));
    hold(spent == due, || format!("{due} is due, {spent} spent: {meter:?}"))?;
    let Counts { packets, .. } = at_wan.read()?;
    ensure!(packets * 2 < down.packets, "no super-packets: {packets} for {down:?}");
    println!("{} bytes, each of them counted", down.bytes + up.bytes);
    Ok(true)
}

#[test]
fn tags_below_the_lan_interface_and_on_the_way_to_the_internet_are_not_billed() -> Result<()> {
    let over = |wan| Medium::Tagged { lan: TWO, wan };
    is_exact(&[over(ONE), over(OTHER_TWO)], Program::True)
}

#[test]
fn one_and_two_tags_of_frames_on_the_lan_interface_are_not_billed() -> Result<()> {
    is_exact(&[Medium::Trunk { lan: ONE }, Medium::Trunk { lan: TWO }], Program::True)
}

#[test]
fn a_gate_that_miscounts_tagged_frames_by_one_header_is_caught() -> Result<()> {
    must_be_caught(is_exact(&[Medium::Trunk { lan: ONE }], Program::Miscounting))
}

/// What a stranger sends, by name.
fn packets(from4: IpAddr, from6: IpAddr) -> Vec<(&'static str, u16, Vec<u8>)> {
    let carrying = |protocol: u8| V4::new([0; 4], protocol);
    let v4 = |header: V4, payload: &[u8]| addressed(header.packet(payload), from4, SERVER_V4);
    let over_v6 =
        |next: u8, payload: &[u8]| addressed(v6([0; 16], next, 64, payload), from6, SERVER_V6);
    let later = V4 { fragment: 0x00b9, ..carrying(17) };
    vec![
        ("UDP", 0x0800, v4(carrying(17), &udp(7_777, 40))),
        ("a question to a stranger's port 53", 0x0800, v4(carrying(17), &udp(53, 40))),
        ("TCP to port 80", 0x0800, v4(carrying(6), &tcp(80, 5, 40))),
        ("a later fragment", 0x0800, v4(later, &[0xaa; 64])),
        ("UDP over IPv6", 0x86dd, over_v6(17, &udp(7_777, 40))),
        ("a fragment over IPv6", 0x86dd, over_v6(44, &extension(17, 0, &udp(53, 24)))),
    ]
}

/// Tags before a packet, outermost first, and whether the VLAN devices hand on what has them.
/// IEEE 802.1Q §6.9: a tag of VLAN 0 only says a priority.
type Tags = (&'static [(u16, u16)], bool);

const C_TAG: u16 = 0x8100;
const S_TAG: u16 = 0x88a8;

const ON_ONE: &[Tags] = &[
    (&[], false),
    (&[(C_TAG, 7)], true),
    (&[(C_TAG, 7), (C_TAG, 0)], true),
    (&[(C_TAG, 0xe007)], true),
    (&[(C_TAG, 0)], false),
    (&[(C_TAG, 7), (C_TAG, 7)], false),
    (&[(S_TAG, 7)], false),
    (&[(C_TAG, 9)], false),
];

const ON_TWO: &[Tags] = &[
    (&[(S_TAG, 7), (C_TAG, 8)], true),
    (&[(S_TAG, 7), (C_TAG, 8), (C_TAG, 0)], false),
    (&[(C_TAG, 7), (C_TAG, 8)], false),
    (&[(S_TAG, 7)], false),
];

/// Sends each, and says which were heard by the internet: name, tags, whether it is to be expected
/// of one who pays, whether it was heard.
fn heard(lab: &Lab, tried: &[Tags]) -> Result<Vec<(String, bool, bool)>> {
    let bob = lab.subscriber();
    let counter = lab.count_arrived(bob)?;
    let wire = Wire::open(&bob.namespace, CABLE)?;
    let mut before = counter.read()?.packets;
    let mut found = Vec::new();
    for (tags, expected) in tried {
        for (name, ethertype, packet) in packets(bob.v4(), bob.v6()) {
            let mut frame = [GATEWAY_MAC, bob.mac()].concat();
            for (protocol, tag) in *tags {
                frame.extend(protocol.to_be_bytes());
                frame.extend(tag.to_be_bytes());
            }
            frame.extend(ethertype.to_be_bytes());
            frame.extend(packet);
            frame.resize(frame.len().max(60), 0);
            wire.send(&frame)?;
            std::thread::sleep(SETTLED);
            let now = counter.read()?.packets;
            found.push((format!("{name} behind {tags:x?}"), *expected, now != before));
            before = now;
        }
    }
    Ok(found)
}

/// The subscriber's cable, below its VLAN devices.
const CABLE: &str = "cable0";

/// Whether a subscriber's answer comes back: the way down.
fn comes_back(lab: &Lab) -> Result<bool> {
    let bob = lab.subscriber();
    let counter = bob.count_downlink()?;
    datagrams(lab, bob, Way::Down, false, 100, 5)?;
    datagrams(lab, bob, Way::Down, true, 100, 5)?;
    Ok(counter.settled()?.packets > 0)
}

#[test]
fn no_frame_of_a_stranger_gets_out_behind_any_tags_until_it_is_paid_for() -> Result<()> {
    let media = [(Medium::Trunk { lan: ONE }, ON_ONE), (Medium::Trunk { lan: TWO }, ON_TWO)];
    let mut lab = Lab::over(media[0].0)?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    for (medium, tried) in media {
        lab.retag(medium)?;
        for (name, _, got_out) in heard(&lab, tried)? {
            ensure!(!got_out, "{medium:?}: {name} got out");
        }
        ensure!(!comes_back(&lab)?, "{medium:?}: packets to a stranger pass");
    }
    agent.grant(lab.subscriber(), PLENTY_MSAT)?;
    let mut passed = 0;
    for (medium, tried) in media {
        lab.retag(medium)?;
        lab.wait_until_it_carries()?;
        for (name, expected, got_out) in heard(&lab, tried)? {
            let proof = "the test above proves nothing";
            ensure!(!expected || got_out, "{medium:?}: {name} stays here: {proof}");
            passed += u64::from(got_out);
        }
        ensure!(comes_back(&lab)?, "{medium:?}: packets to who paid do not pass");
    }
    let meter = agent.pins()?.meter(lab.subscriber())?;
    ensure!(meter.uplink_packets >= passed, "{passed} passed, metered: {meter:?}");
    Ok(())
}
