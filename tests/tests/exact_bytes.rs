//! Real traffic of every kind, each way the stack can carry it: the meter and a count that BitMesh
//! has no part in agree to the byte.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bitmesh_common::abi::Meter;
use bitmesh_tests::agent::{Agent, Program, Settings, Tariff};
use bitmesh_tests::big_tcp::over_ipv4;
use bitmesh_tests::counter::{Counter, Counts};
use bitmesh_tests::lab::{ETH, INTERNET, LAN, Lab, SEGMENTS, Subscriber, WAN};
use bitmesh_tests::mixed::{Way, datagrams, fragments, rare_frames, stream, super_datagrams};
use bitmesh_tests::namespace::Namespace;
use bitmesh_tests::pins::cost;
use bitmesh_tests::scale::of_soak;
use bitmesh_tests::verdict::{hold, must_be_caught, same};
use serde_json::Value;

const PLENTY_MSAT: u64 = 1_000_000_000_000;
const TARIFF: Tariff =
    Tariff { uplink_msat_per_mib: 3_000, downlink_msat_per_mib: 5_000, msat_per_minute: 0 };

/// A run in which a device lost packets behind the gate proves nothing, and is repeated so often.
const MAX_RUNS: u32 = 3;
/// How often to look for a moment at which nothing passed while all was read.
const MAX_LOOKS: u32 = 20;

/// More than a super-packet without BIG TCP can carry.
const BIG_BYTES: u32 = 65_536;

/// How the stack is set up, and what is sent.
struct Row {
    name: &'static str,
    hook: &'static str,
    subscribers: u8,
    prepare: fn(&Lab) -> Result<()>,
    /// What must have been so at the gateway's interface to the internet, or the row was not tried.
    tried: fn(&AtWan) -> Result<()>,
}

/// What the stack handed on at the gateway's interface to the internet, and what that was on the
/// wire to the subscribers.
struct AtWan {
    seen: Counts,
    /// Those of more than [`BIG_BYTES`], over IPv4 and over IPv6.
    big: [Counts; 2],
    delivered: Counts,
}

impl Row {
    const fn new(name: &'static str, hook: &'static str, prepare: fn(&Lab) -> Result<()>) -> Self {
        Self { name, hook, subscribers: 1, prepare, tried: |_| Ok(()) }
    }
}

/// With what else a row sends, more than 1 GB in the soak.
fn stream_bytes() -> u64 {
    of_soak(112, 4) << 20
}

fn rounds() -> u64 {
    of_soak(2_000, 100)
}

/// Everything that a subscriber can do.
fn everything(lab: &Lab, bob: &Subscriber, share: u64) -> Result<()> {
    let rounds = rounds() / share;
    for way in Way::BOTH {
        for v6 in [false, true] {
            stream(lab, bob, way, v6, stream_bytes() / share)?;
            datagrams(lab, bob, way, v6, 1_000, rounds * 10)?;
            super_datagrams(lab, bob, way, v6, rounds)?;
            fragments(lab, bob, way, v6, rounds)?;
        }
        rare_frames(lab, bob, way, rounds)?;
    }
    Ok(())
}

/// Packets that a device has dropped, on its way in and out.
fn dropped(namespace: &Namespace, device: &str) -> Result<u64> {
    let said = namespace.ip(&format!("-s -j link show dev {device}"))?;
    let said: Value = serde_json::from_str(&said)?;
    let number = |way: &str| said[0]["stats64"][way]["dropped"].as_u64();
    Ok(number("rx").context("no count")? + number("tx").context("no count")?)
}

/// Packets lost between the gate and the independent counts.
fn lost(lab: &Lab) -> Result<u64> {
    let mut lost = dropped(&lab.gateway, WAN)? + dropped(&lab.internet, ETH)?;
    lost +=
        lab.lan_devices().iter().map(|port| dropped(&lab.gateway, port)).sum::<Result<u64>>()?;
    for one in &lab.subscribers {
        lost += dropped(&one.namespace, ETH)?;
    }
    Ok(lost)
}

fn is_exact(row: &Row, program: Program) -> Result<()> {
    for run in 1..=MAX_RUNS {
        if once(row, program)? {
            return Ok(());
        }
        println!("{}: run {run} was invalid: packets were lost behind the gate", row.name);
    }
    bail!("{}: {MAX_RUNS} runs were invalid", row.name)
}

/// What the counters and the meter say while nothing passes: half a minute after a fragment whose
/// rest never came, the kernel complains of it to the sender (RFC 792).
fn at_rest(
    down: &Counter,
    up: &Counter,
    meter: impl Fn() -> Result<Meter>,
) -> Result<(Counts, Counts, Meter)> {
    for _ in 0..MAX_LOOKS {
        let before = (down.settled()?, up.settled()?);
        let meter = meter()?;
        if before == (down.read()?, up.read()?) {
            return Ok((before.0, before.1, meter));
        }
    }
    bail!("the counters did not rest while they were read {MAX_LOOKS} times")
}

/// `false` if packets were lost behind the gate.
fn once(row: &Row, program: Program) -> Result<bool> {
    let lab = Lab::with_subscribers(row.subscribers)?;
    (row.prepare)(&lab).with_context(|| row.name)?;
    lab.wait_until_it_carries()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF).run_by(program).on_hook(row.hook))?;
    let mut counters = Vec::new();
    for one in &lab.subscribers {
        agent.grant(one, PLENTY_MSAT)?;
        counters.push([one.count_downlink()?, lab.count_arrived(one)?]);
    }
    let at_wan = Counter::arriving(&lab.gateway, WAN, &INTERNET)?;
    let larger = |family| Counter::arriving_larger_than(&lab.gateway, WAN, family, BIG_BYTES);
    let big = [larger("ip")?, larger("ip6")?];
    let before = lost(&lab)?;
    let (share, lab_ref) = (u64::from(row.subscribers), &lab);
    std::thread::scope(|threads| {
        let start = |one| threads.spawn(move || everything(lab_ref, one, share));
        let each: Vec<_> = lab.subscribers.iter().map(start).collect();
        let panicked = |_| anyhow!("the traffic panicked");
        each.into_iter().try_for_each(|one| one.join().map_err(panicked)?)
    })?;
    let mut delivered = Counts::default();
    let pins = agent.pins()?;
    let mut total = 0;
    for (one, [down, up]) in lab.subscribers.iter().zip(&counters) {
        let (down, up, meter) = at_rest(down, up, || pins.meter(one))?;
        if lost(&lab)? != before {
            return Ok(false);
        }
        let account = pins.account(one)?;
        ensure!(meter.dropped_unpaid == 0 && meter.dropped_malformed == 0, "{meter:?}");
        same(row.name, down, meter.downlink_bytes, meter.downlink_packets)?;
        same(row.name, up, meter.uplink_bytes, meter.uplink_packets)?;
        let due = cost(up.bytes, down.bytes, &account);
        hold(meter.spent == due, || format!("{}: {due} is due: {meter:?}", row.name))?;
        delivered.bytes += down.bytes;
        delivered.packets += down.packets;
        total += down.bytes + up.bytes;
    }
    let big = [big[0].read()?, big[1].read()?];
    (row.tried)(&AtWan { seen: at_wan.read()?, big, delivered })?;
    println!("{}: {total} bytes, each of them counted", row.name);
    Ok(true)
}

fn edges_of(lab: &Lab) -> Vec<(&Namespace, String)> {
    let ports = lab.lan_devices().into_iter().map(|port| (&lab.gateway, port));
    let far = lab.subscribers.iter().map(|one| (&one.namespace, ETH.to_owned()));
    let wan = [(&lab.gateway, WAN.to_owned()), (&lab.internet, ETH.to_owned())];
    ports.chain(far).chain(wan).collect()
}

fn all_devices(lab: &Lab, switches: &str) -> Result<()> {
    edges_of(lab).iter().try_for_each(|(namespace, device)| namespace.offloads(device, switches))
}

fn mtu(lab: &Lab, bytes: u32) -> Result<()> {
    for (namespace, device) in edges_of(lab) {
        namespace.ip(&format!("link set {device} mtu {bytes}"))?;
    }
    Ok(())
}

/// Frames are merged as they come in, and cut again at the edges, so that the far ends count what
/// would be on a wire.
fn merged(lab: &Lab, merging: &str) -> Result<()> {
    for device in [LAN, WAN] {
        lab.gateway.offloads(device, merging)?;
    }
    all_devices(lab, SEGMENTS)
}

fn super_packets(at_wan: &AtWan) -> Result<()> {
    let AtWan { seen, delivered, .. } = at_wan;
    ensure!(seen.packets * 2 < delivered.packets, "no super-packets: {seen:?} for {delivered:?}");
    Ok(())
}

#[test]
fn super_packets_of_tcp_and_udp_are_billed_as_their_segments() -> Result<()> {
    for hook in ["tcx", "clsact"] {
        let row = Row::new("segmentation offload", hook, Lab::real_segments);
        is_exact(&Row { tried: super_packets, ..row }, Program::True)?;
    }
    Ok(())
}

#[test]
fn packets_without_any_offload_are_billed_as_they_are() -> Result<()> {
    let off = |lab: &Lab| {
        all_devices(lab, "tso off gso off tx-udp-segmentation off tx-gso-list off gro off")
    };
    is_exact(&Row::new("no offload", "auto", off), Program::True)
}

#[test]
fn packets_merged_on_arrival_are_billed_as_their_segments() -> Result<()> {
    let row = Row::new("GRO", "auto", |lab| merged(lab, "gro on"));
    is_exact(&row, Program::True)?;
    let row = Row::new("UDP GRO", "auto", |lab| merged(lab, "gro on rx-udp-gro-forwarding on"));
    is_exact(&Row { tried: super_packets, ..row }, Program::True)?;
    let row = Row::new("fraglist GRO", "auto", |lab| merged(lab, "gro on rx-gro-list on"));
    is_exact(&Row { tried: super_packets, ..row }, Program::True)
}

#[test]
fn big_tcp_is_billed_as_its_segments() -> Result<()> {
    let row = Row::new("BIG TCP", "auto", |lab| {
        for (namespace, device) in edges_of(lab) {
            let sizes = "gso_max_size 185000 gro_max_size 185000";
            namespace.ip(&format!("link set {device} {sizes}"))?;
            over_ipv4(namespace, &device, 185_000)?;
        }
        // The kernel takes the header in which it keeps the length for a part of each segment, and
        // finds segments of full size too big to forward (seen with 6.18).
        for device in [LAN, WAN] {
            lab.gateway.ip(&format!("link set {device} mtu 1600"))?;
        }
        lab.real_segments()
    });
    let big = |at_wan: &AtWan| {
        super_packets(at_wan)?;
        let [v4, v6] = at_wan.big;
        ensure!(v4.packets > 0 && v6.packets > 0, "no BIG TCP: {v4:?} over IPv4, {v6:?} over IPv6");
        Ok(())
    };
    is_exact(&Row { tried: big, ..row }, Program::True)
}

#[test]
fn jumbo_frames_are_billed_as_they_are() -> Result<()> {
    for hook in ["auto", "xdp"] {
        let row = Row::new("jumbo frames", hook, |lab| {
            lab.real_segments()?;
            mtu(lab, 9_000)
        });
        is_exact(&row, Program::True)?;
    }
    Ok(())
}

#[test]
fn xdp_in_front_bills_the_same() -> Result<()> {
    is_exact(&Row::new("XDP", "xdp", Lab::real_segments), Program::True)
}

#[test]
fn fifty_at_once_are_billed_their_own_bytes() -> Result<()> {
    let row = Row::new("fifty subscribers", "auto", Lab::real_segments);
    is_exact(&Row { subscribers: 50, ..row }, Program::True)
}

#[test]
fn a_gate_that_miscounts_by_one_header_is_caught() -> Result<()> {
    for hook in ["auto", "xdp"] {
        let row = Row::new("a miscount", hook, Lab::real_segments);
        must_be_caught(is_exact(&row, Program::Miscounting))?;
    }
    Ok(())
}
