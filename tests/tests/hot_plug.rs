//! A LAN interface that goes away and comes back is metered again before a packet passes
//! unmetered, and stays closed while the agent is dead.

use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh_tests::agent::{Agent, Program, Settings, Tariff};
use bitmesh_tests::counter::Counts;
use bitmesh_tests::lab::{Lab, SERVER_V4, Subscriber};
use bitmesh_tests::udp::{Pace, Receiver, Sender, V4_HEADER_BYTES};
use bitmesh_tests::verdict::{must_be_caught, same};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;

const TARIFF: Tariff = Tariff::bytes(1_000_000);
const PLENTY_MSAT: u64 = 1_000_000_000;

const PAYLOAD: usize = 500;
const PACKETS: u64 = 200;
/// So many, and then the end.
const PACE: Pace =
    Pace { payload: PAYLOAD, every: Duration::from_micros(500), packets: Some(PACKETS) };
const ENDLESS: Pace = Pace { packets: None, ..PACE };

/// Sends both ways, IPv4 and IPv6, and gives how much arrives.
fn passes(lab: &Lab, bob: &Subscriber) -> Result<u64> {
    let mut arrived = 0;
    for (from, to, address) in lab.ways(bob) {
        let receiver = Receiver::start(to, address)?;
        Sender::start(from, receiver.address, PACE)?.finish()?;
        std::thread::sleep(Duration::from_millis(100));
        arrived += receiver.stop()?.len() as u64;
    }
    Ok(arrived)
}

/// What a receiver got, at the IP layer.
fn counted(receiver: Receiver) -> Result<Counts> {
    let packets = receiver.stop()?.len() as u64;
    Ok(Counts { bytes: packets * (PAYLOAD as u64 + V4_HEADER_BYTES), packets })
}

fn metered_index(agent: &Agent) -> Result<Option<u64>> {
    let status = agent.ask(&["status"])?;
    Ok(status["attachments"][0]["ifindex"].as_u64())
}

/// Replaces the interface under a subscriber who has paid, packets to whom never cease.
fn the_first_packet_counts(program: Program, hook: &'static str, subscribers: u8) -> Result<()> {
    let lab = Lab::with_subscribers(subscribers)?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF).run_by(program).on_hook(hook))?;
    let bob = lab.subscriber();
    agent.grant(bob, PLENTY_MSAT)?;
    let before = metered_index(&agent)?;
    lab.unplug()?;
    until("the agent sees that it is gone", || {
        Ok(metered_index(&agent).is_ok_and(|now| now.is_none()))
    })?;
    let here = Receiver::start(&bob.namespace, "0.0.0.0".parse()?)?;
    let there = Receiver::start(&lab.internet, SERVER_V4)?;
    let down = Sender::start(&lab.internet, (bob.v4(), here.address.port()).into(), ENDLESS)?;
    lab.plug()?;
    let up = Sender::start(&bob.namespace, there.address, ENDLESS)?;
    until("packets pass", || Ok(here.received() > PACKETS && there.received() > PACKETS))?;
    up.stop()?;
    down.stop()?;
    std::thread::sleep(Duration::from_millis(200));
    let after = metered_index(&agent)?;
    ensure!(after.is_some() && after != before, "the same device: {before:?}, {after:?}");
    let meter = agent.pins()?.meter(bob)?;
    same("downlink", counted(here)?, meter.downlink_bytes, meter.downlink_packets)?;
    same("uplink", counted(there)?, meter.uplink_bytes, meter.uplink_packets)
}

#[test]
fn an_interface_that_comes_back_is_metered_from_its_first_packet() -> Result<()> {
    the_first_packet_counts(Program::True, "tcx", 1)?;
    the_first_packet_counts(Program::True, "clsact", 1)
}

#[test]
fn a_bridge_that_comes_back_is_metered_from_its_first_packet() -> Result<()> {
    the_first_packet_counts(Program::True, "tcx", 2)?;
    the_first_packet_counts(Program::True, "clsact", 2)
}

#[test]
fn a_gate_that_comes_back_and_miscounts_by_one_header_is_caught() -> Result<()> {
    must_be_caught(the_first_packet_counts(Program::Miscounting, "tcx", 1))
}

#[test]
fn the_unpaid_stay_closed_while_an_interface_comes_and_goes() -> Result<()> {
    let lab = Lab::new()?;
    lab.add_default_route()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let bob = lab.subscriber();
    let here = Receiver::start(&bob.namespace, "0.0.0.0".parse()?)?;
    let there = Receiver::start(&lab.internet, SERVER_V4)?;
    let down = Sender::start(&lab.internet, (bob.v4(), here.address.port()).into(), ENDLESS)?;
    for _ in 0..5 {
        let before = metered_index(&agent)?;
        lab.unplug()?;
        lab.plug()?;
        let up = Sender::start(&bob.namespace, there.address, ENDLESS)?;
        until("the new device is metered", || {
            // A busy agent may be late: attaching takes long where the processor is emulated.
            let now = metered_index(&agent).ok().flatten();
            Ok(now.is_some() && now != before)
        })?;
        std::thread::sleep(Duration::from_millis(200));
        up.stop()?;
    }
    down.stop()?;
    let passed = (here.stop()?.len(), there.stop()?.len());
    ensure!(passed == (0, 0), "{passed:?} passed unpaid");
    agent.grant(bob, PLENTY_MSAT)?;
    ensure!(passes(&lab, bob)? == 4 * PACKETS, "nobody gets through any more");
    Ok(())
}

/// Replaces the interface while no agent is there.
fn it_stays_closed(hook: &'static str, signal: Signal) -> Result<()> {
    let lab = Lab::with_subscribers(2)?;
    lab.add_default_route()?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF).on_hook(hook))?;
    let [paid, unpaid] = [&lab.subscribers[0], &lab.subscribers[1]];
    agent.grant(paid, PLENTY_MSAT)?;
    agent.end(signal)?;
    lab.unplug()?;
    lab.plug()?;
    ensure!(passes(&lab, paid)? == 0, "one who paid passes unmetered");
    ensure!(passes(&lab, unpaid)? == 0, "one who did not pay passes");
    agent.launch(&lab.gateway)?;
    ensure!(passes(&lab, unpaid)? == 0, "one who did not pay passes a new agent");
    let before = agent.pins()?.meter(paid)?;
    ensure!(passes(&lab, paid)? == 4 * PACKETS, "one who paid is shut out");
    let after = agent.pins()?.meter(paid)?;
    let metered = (
        after.uplink_packets - before.uplink_packets,
        after.downlink_packets - before.downlink_packets,
    );
    ensure!(metered == (2 * PACKETS, 2 * PACKETS), "{metered:?} were metered");
    Ok(())
}

#[test]
fn an_interface_that_comes_back_without_an_agent_stays_closed_until_there_is_one() -> Result<()> {
    it_stays_closed("tcx", Signal::SIGKILL)?;
    it_stays_closed("clsact", Signal::SIGTERM)
}

#[test]
fn without_the_fence_the_same_test_would_see_packets_pass() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    agent.end(Signal::SIGKILL)?;
    lab.gateway.run("nft", &["delete", "table", "inet", "bitmesh"])?;
    lab.unplug()?;
    lab.plug()?;
    ensure!(passes(&lab, lab.subscriber())? == 4 * PACKETS, "something else stops them");
    Ok(())
}

#[test]
fn down_and_up_and_another_name_change_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let bob = lab.subscriber();
    agent.grant(bob, PLENTY_MSAT)?;
    let index = metered_index(&agent)?;
    let mut expected = 0;
    for change in [
        &["link set lan0 down", "link set lan0 up", "addr add fd77::1/64 dev lan0 nodad"][..],
        &["link set lan0 name other0"],
        &["link set other0 name lan0"],
    ] {
        for words in change {
            lab.gateway.ip(words)?;
        }
        bob.namespace.ip("-6 route replace default via fd77::1")?;
        // Neighbours are found anew.
        std::thread::sleep(Duration::from_millis(300));
        ensure!(passes(&lab, bob)? == 4 * PACKETS, "after {change:?}");
        expected += 2 * PACKETS;
        let meter = agent.pins()?.meter(bob)?;
        let metered = (meter.uplink_packets, meter.downlink_packets);
        ensure!(metered == (expected, expected), "after {change:?}: {metered:?}");
    }
    ensure!(metered_index(&agent)? == index);
    Ok(())
}

#[test]
fn programs_that_somebody_takes_off_are_back_at_once() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF).on_hook("clsact"))?;
    let listed = || lab.gateway.run("tc", &["filter", "show", "dev", "lan0", "ingress"]);
    lab.gateway.run("tc", &["qdisc", "del", "dev", "lan0", "clsact"])?;
    until("the programs are back", || Ok(listed().is_ok_and(|list| list.contains("uplink"))))?;
    ensure!(passes(&lab, lab.subscriber())? == 0, "the unpaid pass");
    until("the agent tells of it", || Ok(agent.said().contains("took the programs off")))?;
    Ok(())
}
