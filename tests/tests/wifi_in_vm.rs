//! Wi-Fi: a station of a real access point is metered and cut off at the packet, and an access point
//! that restarts opens no way around the gate.
//!
//! In a virtual machine, whose kernel simulates radios.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::lab::{Lab, Medium, SERVER_V4, SERVER_V6};
use bitmesh_tests::udp::{Pace, Receiver, Sender, V4_HEADER_BYTES, V6_HEADER_BYTES};
use bitmesh_tests::verdict::{hold, same};
use bitmesh_tests::wait::{until, until_still};
use nix::sys::signal::Signal;

/// One msat a byte.
const TARIFF: Tariff = Tariff::bytes(1 << 20);
const PLENTY_MSAT: u64 = 1_000_000_000;

const PAYLOAD: usize = 500;
const PACKETS: u64 = 300;
/// What the radios of an emulated machine carry without loss.
const PACE: Pace =
    Pace { payload: PAYLOAD, every: Duration::from_millis(4), packets: Some(PACKETS) };
const ENDLESS: Pace = Pace { packets: None, ..PACE };

/// What is paid for at a time: less than is sent, and no whole number of packets.
const PAID_BYTES: u64 = 100_000;

/// Sends both ways, IPv4 and IPv6, and gives how much arrives.
fn passes(lab: &Lab) -> Result<u64> {
    let mut arrived = 0;
    for (from, to, address) in lab.ways(lab.subscriber()) {
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

/// Packets without end both ways, of who pays, while something happens to the access point.
fn nothing_passes_unmetered(
    lab: &Lab,
    agent: &Agent,
    happens: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let bob = lab.subscriber();
    let before = agent.pins()?.meter(bob)?;
    let (up, down) = (lab.count_arrived(bob)?, bob.count_downlink()?);
    let here = Receiver::start(&bob.namespace, bob.v4())?;
    let there = Receiver::start(&lab.internet, SERVER_V4)?;
    let senders = [
        Sender::start(&lab.internet, here.address, ENDLESS)?,
        Sender::start(&bob.namespace, there.address, ENDLESS)?,
    ];
    happens()?;
    let then = (here.received(), there.received());
    until("packets pass again", || {
        Ok(here.received() > then.0 + 20 && there.received() > then.1 + 20)
    })?;
    for sender in senders {
        sender.stop()?;
    }
    let (up, down) = (up.settled()?, down.settled()?);
    drop((here.stop()?, there.stop()?));
    let after = agent.pins()?.meter(bob)?;
    let bytes = after.uplink_bytes - before.uplink_bytes;
    same("uplink", up, bytes, after.uplink_packets - before.uplink_packets)?;
    // What was handed to an access point whose station had left is billed, and did not arrive.
    let metered = after.downlink_bytes - before.downlink_bytes;
    hold(down.bytes <= metered, || format!("downlink: {down:?} arrived of {metered} metered"))
}

/// Nothing while the agent is busy: where the processor is emulated, attaching takes longer than
/// `bitmesh status` waits for an answer.
fn metered_index(agent: &Agent) -> Option<u64> {
    agent.ask(&["status"]).ok()?["attachments"][0]["ifindex"].as_u64()
}

#[test]
fn an_access_point_that_restarts_is_metered_again_and_stays_closed_while_the_agent_is_dead()
-> Result<()> {
    let lab = Lab::over(Medium::Air)?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let bob = lab.subscriber();
    let air = lab.air.as_ref().context("no radios")?;
    agent.grant(bob, PLENTY_MSAT)?;
    nothing_passes_unmetered(&lab, &agent, || lab.restart_access_point())?;
    // Another device, with another index.
    nothing_passes_unmetered(&lab, &agent, || {
        let before = metered_index(&agent).context("no interface")?;
        lab.unplug()?;
        lab.plug()?;
        air.wait_until_joined(&bob.namespace)?;
        until("the new device is metered", || {
            Ok(metered_index(&agent).is_some_and(|now| now != before))
        })
    })?;
    agent.end(Signal::SIGKILL)?;
    // The programs are on the device still.
    nothing_passes_unmetered(&lab, &agent, || lab.restart_access_point())?;
    lab.unplug()?;
    lab.plug()?;
    air.wait_until_joined(&bob.namespace)?;
    ensure!(passes(&lab)? == 0, "packets pass a device that no agent has seen");
    agent.launch(&lab.gateway)?;
    nothing_passes_unmetered(&lab, &agent, || Ok(()))
}
