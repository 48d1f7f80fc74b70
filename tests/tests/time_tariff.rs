//! Time is sold to the millisecond, and beside bytes to the unit.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitmesh_common::abi::Account;
use bitmesh_common::money::{UNITS_PER_MSAT, time_due};
use bitmesh_tests::agent::{Agent, Program, Settings, Tariff};
use bitmesh_tests::clock::{boottime_ns, realtime_ahead_ns};
use bitmesh_tests::lab::Lab;
use bitmesh_tests::pins::{cost, due_at};
use bitmesh_tests::udp::{Arrival, Pace, Receiver, Sender, V4_HEADER_BYTES};
use bitmesh_tests::verdict::{hold, must_be_caught, same};

/// One msat a millisecond.
const MSAT_PER_MINUTE: u64 = 60_000;
const PAID_MSAT: u64 = 2_000;
const MILLISECOND_NS: u64 = 1_000_000;

/// The last packet before the end of the paid time comes at most this long before it.
const MAX_UNUSED_NS: u64 = 50 * MILLISECOND_NS;

const PAYLOAD: usize = 100;
const PACKET_BYTES: u64 = PAYLOAD as u64 + V4_HEADER_BYTES;

/// One packet a millisecond for longer than is paid for.
const PACE: Pace = Pace { payload: PAYLOAD, every: Duration::from_millis(1), packets: Some(3_000) };

/// Sends half-way between two steps of the price: a packet that passes just before the end must
/// not get its time stamp just after it.
fn wait_for_half_a_millisecond(account: &Account) -> Result<()> {
    loop {
        let into_step = (boottime_ns()? - account.start_ns) % MILLISECOND_NS;
        let early = (MILLISECOND_NS + MILLISECOND_NS / 2 - into_step) % MILLISECOND_NS;
        if early < MILLISECOND_NS / 20 {
            return Ok(());
        }
        std::hint::spin_loop();
    }
}

/// The last arrival, by the gate's clock.
fn last_ns(arrivals: &[Arrival]) -> Result<u64> {
    let last = arrivals.iter().map(|arrival| arrival.realtime_ns).max();
    Ok(last.context("nothing arrived")? - realtime_ahead_ns()?)
}

#[test]
fn no_packet_passes_after_the_paid_time_and_the_last_comes_just_before_its_end() -> Result<()> {
    let lab = Lab::new()?;
    let tariff = Tariff { msat_per_minute: MSAT_PER_MINUTE, ..Tariff::default() };
    let agent = Agent::start(&lab, &Settings::new(tariff))?;
    let bob = lab.subscriber();
    let receiver = Receiver::start(&bob.namespace, bob.v4())?;
    agent.grant(bob, PAID_MSAT)?;
    agent.freeze()?;
    let account = agent.pins()?.account(bob)?;
    wait_for_half_a_millisecond(&account)?;
    Sender::start(&lab.internet, receiver.address, PACE)?.finish()?;
    let arrivals = receiver.stop()?;
    let paid_until = account.start_ns + PAID_MSAT * MILLISECOND_NS;
    ensure!(boottime_ns()? > paid_until, "the paid time is not over");
    let last = last_ns(&arrivals)?;
    ensure!(last <= paid_until, "a packet {} ns after the paid time", last - paid_until);
    ensure!(last + MAX_UNUSED_NS >= paid_until, "{} ns were not used", paid_until - last);
    let meter = agent.pins()?.meter(bob)?;
    ensure!(meter.downlink_packets == arrivals.len() as u64, "{meter:?}");
    ensure!(meter.spent == 0, "bytes are free under this tariff: {meter:?}");
    Ok(())
}

/// Bytes and time of one balance.
fn a_mixed_tariff_is_exact(program: Program) -> Result<()> {
    let lab = Lab::new()?;
    let tariff = Tariff { msat_per_minute: MSAT_PER_MINUTE, ..Tariff::bytes(8_000_000) };
    let agent = Agent::start(&lab, &Settings::new(tariff).run_by(program))?;
    let bob = lab.subscriber();
    let counter = bob.count_downlink()?;
    let receiver = Receiver::start(&bob.namespace, bob.v4())?;
    agent.grant(bob, PAID_MSAT)?;
    agent.freeze()?;
    let pins = agent.pins()?;
    let account = pins.account(bob)?;
    wait_for_half_a_millisecond(&account)?;
    Sender::start(&lab.internet, receiver.address, PACE)?.finish()?;
    let counted = counter.settled()?;
    let last = last_ns(&receiver.stop()?)?;
    let meter = pins.meter(bob)?;
    same("downlink", counted, meter.downlink_bytes, meter.downlink_packets)?;
    let spent = cost(0, counted.bytes, &account);
    hold(meter.spent == spent, || format!("{spent} is right: {meter:?}"))?;
    hold(account.prepaid == PAID_MSAT * UNITS_PER_MSAT, || format!("{account:?}"))?;
    let at_last = spent + due_at(last, &account);
    hold(at_last <= account.prepaid, || format!("overdrawn: {at_last} of {account:?}"))?;
    // The next packet, some time later, was too dear.
    let next = cost(0, PACKET_BYTES, &account) + time_due(MAX_UNUSED_NS, MSAT_PER_MINUTE);
    hold(at_last + next > account.prepaid, || format!("not used up: {at_last} of {account:?}"))
}

#[test]
fn a_mixed_tariff_is_exact_in_money() -> Result<()> {
    a_mixed_tariff_is_exact(Program::True)
}

#[test]
fn a_gate_that_miscounts_a_mixed_tariff_by_one_header_is_caught() -> Result<()> {
    must_be_caught(a_mixed_tariff_is_exact(Program::Miscounting))
}
