//! `kill -9` at any moment: the gate, the counters and the balances are as before.

use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh_common::money::UNITS_PER_MSAT;
use bitmesh_tests::agent::{Agent, Program, Settings, Tariff};
use bitmesh_tests::lab::{Lab, SERVER_V4};
use bitmesh_tests::pins::cost;
use bitmesh_tests::scale::of_soak;
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use bitmesh_tests::verdict::{hold, must_be_caught, same};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;

const TARIFF: Tariff = Tariff::bytes(1_000_000);
const PLENTY_MSAT: u64 = 1_000_000_000;

/// How often the agent is killed.
fn kills() -> u64 {
    of_soak(200, 8)
}

/// Two thousand packets a second, until stopped.
const PACE: Pace = Pace { payload: 500, every: Duration::from_micros(500), packets: None };

/// Kills and restarts the agent again and again under traffic both ways.
fn nothing_is_lost_or_charged_twice(program: Program, hook: &'static str) -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF).run_by(program).on_hook(hook))?;
    let bob = lab.subscriber();
    let (down, up) = (bob.count_downlink()?, lab.count_arrived(bob)?);
    agent.grant(bob, PLENTY_MSAT)?;
    let epoch = agent.ask(&["status"])?["epoch"].clone();
    let (here, there) =
        (Receiver::start(&bob.namespace, bob.v4())?, Receiver::start(&lab.internet, SERVER_V4)?);
    let senders = [
        Sender::start(&lab.internet, here.address, PACE)?,
        Sender::start(&bob.namespace, there.address, PACE)?,
    ];
    for kill in 0..kills() {
        // Another moment of the agent's second each time.
        std::thread::sleep(Duration::from_millis(kill * 137 % 1_100));
        agent.end(Signal::SIGKILL)?;
        let alone = here.received();
        until("packets pass without an agent", || Ok(here.received() > alone + 20))?;
        agent.launch(&lab.gateway)?;
        let status = agent.ask(&["status"])?;
        ensure!(status["adopted"] == true && status["epoch"] == epoch, "another gate: {status}");
    }
    let sent = senders.into_iter().map(Sender::stop).sum::<Result<u64>>()?;
    let (down, up) = (down.settled()?, up.settled()?);
    let arrived = here.stop()?.len() + there.stop()?.len();
    ensure!(arrived as u64 == sent, "{sent} sent, {arrived} arrived");
    let pins = agent.pins()?;
    let (meter, account) = (pins.meter(bob)?, pins.account(bob)?);
    same("downlink", down, meter.downlink_bytes, meter.downlink_packets)?;
    same("uplink", up, meter.uplink_bytes, meter.uplink_packets)?;
    let due = cost(up.bytes, down.bytes, &account);
    hold(meter.spent == due, || format!("{due} is due: {meter:?}"))?;
    until("the books agree", || {
        let line = agent.account(bob)?;
        let charged = due.div_ceil(UNITS_PER_MSAT);
        Ok(line["charged_msat"] == charged && line["credited_msat"] == PLENTY_MSAT)
    })
}

#[test]
fn kill_and_restart_under_traffic_charges_nothing_twice_and_loses_no_packet() -> Result<()> {
    nothing_is_lost_or_charged_twice(Program::True, "auto")?;
    nothing_is_lost_or_charged_twice(Program::True, "clsact")
}

#[test]
fn a_gate_that_miscounts_meanwhile_by_one_header_is_caught() -> Result<()> {
    must_be_caught(nothing_is_lost_or_charged_twice(Program::Miscounting, "auto"))
}

#[test]
fn a_grant_that_was_confirmed_survives_and_one_that_is_repeated_counts_once() -> Result<()> {
    const MSAT: u64 = 1_000;
    let lab = Lab::new()?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let bob = lab.subscriber();
    let mac = bob.mac_text();
    for kill in 1..=kills() {
        let id = format!("{kill:032x}");
        let grant = ["grant", &mac, "--msat", "1000", "--id", &id];
        let confirmed = std::thread::scope(|threads| {
            let asked = threads.spawn(|| agent.ask(&grant).is_ok());
            std::thread::sleep(Duration::from_micros(kill * 1_700 % 24_000));
            agent.signal(Signal::SIGKILL)?;
            Ok::<_, anyhow::Error>(asked.join().unwrap_or(false))
        })?;
        agent.end(Signal::SIGKILL)?;
        agent.launch(&lab.gateway)?;
        if confirmed {
            ensure!(agent.account(bob)?["credited_msat"] == kill * MSAT, "a credit was lost");
        }
        // Who got no answer asks again, under the same identity.
        agent.ask(&grant)?;
        agent.ask(&grant)?;
        let account = agent.account(bob)?;
        ensure!(
            account["credited_msat"] == kill * MSAT,
            "grant {kill} counted otherwise: {account}"
        );
        let prepaid = agent.pins()?.account(bob)?.prepaid;
        ensure!(prepaid == kill * MSAT * UNITS_PER_MSAT, "the kernel holds {prepaid}");
    }
    Ok(())
}

#[test]
fn a_gate_that_ran_dry_stays_closed_through_kill_and_restart() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let bob = lab.subscriber();
    agent.grant(bob, 100_000)?;
    let receiver = Receiver::start(&bob.namespace, bob.v4())?;
    let sender = Sender::start(&lab.internet, receiver.address, PACE)?;
    let pins = agent.pins()?;
    until("the balance is used up", || Ok(pins.meter(bob)?.dropped_unpaid > 0))?;
    let before = pins.meter(bob)?;
    for _ in 0..3 {
        agent.end(Signal::SIGKILL)?;
        agent.launch(&lab.gateway)?;
    }
    sender.stop()?;
    let after = agent.pins()?.meter(bob)?;
    ensure!(after.spent == before.spent, "more was spent: {before:?}, {after:?}");
    ensure!(after.dropped_unpaid > before.dropped_unpaid, "nothing was dropped: {after:?}");
    ensure!(receiver.stop()?.len() as u64 == after.downlink_packets, "{after:?}");
    Ok(())
}
