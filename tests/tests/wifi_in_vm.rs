//! Wi-Fi: a station of a real access point is metered and cut off at the packet.
//!
//! In a virtual machine, whose kernel simulates radios.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::lab::{Lab, Medium, SERVER_V4, SERVER_V6};
use bitmesh_tests::udp::{Pace, Receiver, Sender, V4_HEADER_BYTES, V6_HEADER_BYTES};
use bitmesh_tests::verdict::{hold, same};
use bitmesh_tests::wait::until_still;

/// One msat a byte.
const TARIFF: Tariff = Tariff::bytes(1 << 20);

const PAYLOAD: usize = 500;
const PACKETS: u64 = 300;
/// What the radios of an emulated machine carry without loss.
const PACE: Pace =
    Pace { payload: PAYLOAD, every: Duration::from_millis(4), packets: Some(PACKETS) };

/// What is paid for at a time: less than is sent, and no whole number of packets.
const PAID_BYTES: u64 = 100_000;

/// Sends both ways, IPv4 and IPv6, and gives how much arrives.
fn passes(lab: &Lab) -> Result<u64> {
    let bob = lab.subscriber();
    let ways: [(_, _, IpAddr); 4] = [
        (&bob.namespace, &lab.internet, SERVER_V4),
        (&bob.namespace, &lab.internet, SERVER_V6),
        (&lab.internet, &bob.namespace, bob.v4()),
        (&lab.internet, &bob.namespace, bob.v6()),
    ];
    let mut arrived = 0;
    for (from, to, address) in ways {
        let receiver = Receiver::start(to, address)?;
        let few = Pace { packets: Some(50), ..PACE };
        Sender::start(from, receiver.address, few)?.finish()?;
        until_still(|| Ok(receiver.received()))?;
        arrived += receiver.stop()?.len() as u64;
    }
    Ok(arrived)
}

fn joins_anew(lab: &Lab) -> Result<()> {
    let air = lab.air.as_ref().context("no radios")?;
    air.stop_station()?;
    air.start_station(&lab.subscriber().namespace)?;
    air.wait_until_joined(&lab.subscriber().namespace)
}

/// Pays for a little, sends more with the agent stopped, and looks what arrives.
fn is_cut_off(lab: &Lab, agent: &Agent, up: bool, v6: bool) -> Result<()> {
    let bob = lab.subscriber();
    let before = agent.pins()?.meter(bob)?;
    let left = agent.pins()?.account(bob)?.prepaid.saturating_sub(before.spent) >> 20;
    agent.grant(bob, PAID_BYTES - left)?;
    agent.freeze()?;
    let (from, to, address, counter) = match (up, v6) {
        (true, false) => (&bob.namespace, &lab.internet, SERVER_V4, lab.count_arrived(bob)?),
        (true, true) => (&bob.namespace, &lab.internet, SERVER_V6, lab.count_arrived(bob)?),
        (false, false) => (&lab.internet, &bob.namespace, bob.v4(), bob.count_downlink()?),
        (false, true) => (&lab.internet, &bob.namespace, bob.v6(), bob.count_downlink()?),
    };
    let receiver = Receiver::start(to, address)?;
    Sender::start(from, receiver.address, PACE)?.finish()?;
    let counted = counter.settled()?;
    receiver.stop()?;
    agent.thaw()?;
    let after = agent.pins()?.meter(bob)?;
    let (bytes, packets) = if up {
        (after.uplink_bytes - before.uplink_bytes, after.uplink_packets - before.uplink_packets)
    } else {
        (
            after.downlink_bytes - before.downlink_bytes,
            after.downlink_packets - before.downlink_packets,
        )
    };
    same("over the air", counted, bytes, packets)?;
    let packet = PAYLOAD as u64 + if v6 { V6_HEADER_BYTES } else { V4_HEADER_BYTES };
    hold(bytes <= PAID_BYTES && bytes + packet > PAID_BYTES, || {
        format!("{bytes} bytes passed of {PAID_BYTES} that were paid for")
    })?;
    ensure!(after.dropped_unpaid > before.dropped_unpaid, "nothing was dropped: {after:?}");
    Ok(())
}

#[test]
fn a_station_joins_through_the_gate_and_is_metered_and_cut_off_at_the_packet() -> Result<()> {
    let lab = Lab::over(Medium::Air)?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    joins_anew(&lab)?;
    ensure!(passes(&lab)? == 0, "a station passes that did not pay");
    agent.grant(lab.subscriber(), 1)?;
    for up in [true, false] {
        for v6 in [false, true] {
            is_cut_off(&lab, &agent, up, v6).with_context(|| format!("up: {up}, v6: {v6}"))?;
        }
    }
    Ok(())
}
