//! `kill -9` of the gateway during payments: what was acknowledged counts, nothing counts that is
//! not on the disk, and the block says the same at the end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bitmesh::store::Store;
use bitmesh_common::money::UNITS_PER_MSAT;
use bitmesh_core::channel::SpendPath;
use bitmesh_core::wire::UpdateBody;
use bitmesh_tests::agent::Agent;
use bitmesh_tests::counter::Counter;
use bitmesh_tests::lab::{Lab, SERVER_V4};
use bitmesh_tests::payments::{Customer, Market, Sent};
use bitmesh_tests::scale::of_soak;
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;

const CAPACITY_SAT: u64 = 1_000_000;

/// The first update, and what each of the others adds: little enough for thousands of them.
const FIRST_SAT: u64 = 600_000;
const STEP_SAT: u64 = 7;

/// A hundred packets of a kilobyte a second, each way.
const PACE: Pace = Pace { payload: 1_000, every: Duration::from_millis(10), packets: None };

/// Between two tries, as long as the gateway is gone.
const PAUSE: Duration = Duration::from_millis(10);

/// How the payments went.
#[derive(Default)]
struct Tally {
    /// What the gateway acknowledged, in satoshi.
    acknowledged: AtomicU64,
    /// Updates that were sent more than once.
    repeated: AtomicU64,
    /// Of these, those that the gateway held although it had not answered.
    held: AtomicU64,
    stop: AtomicBool,
}

impl Tally {
    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }
}

/// Pays without a pause until it is stopped.
fn pay_on(customer: &mut Customer, tally: &Tally) -> Result<()> {
    let mut credit = FIRST_SAT;
    while !tally.stop.load(Ordering::Relaxed) {
        credit += STEP_SAT;
        let body = customer.sign(credit)?;
        if insist(customer, &body, tally).with_context(|| format!("the update for {credit} sat"))? {
            tally.acknowledged.store(credit, Ordering::Release);
        }
    }
    Ok(())
}

/// Sends an update again until the gateway says that it has it: `true`. `false` if payments were
/// stopped before.
fn insist(customer: &Customer, body: &UpdateBody, tally: &Tally) -> Result<bool> {
    let mut lost = 0;
    let has_it = loop {
        match customer.send(body)? {
            Sent::Accepted(accepted) => {
                ensure!(accepted.change_sat == body.change_sat, "another counts: {accepted:?}");
                break true;
            }
            Sent::Held => {
                ensure!(lost > 0, "the gateway holds an update that was never sent");
                tally.held.fetch_add(1, Ordering::Relaxed);
                break true;
            }
            // A gateway that does not come back answers nothing for ever.
            Sent::Again(_) if tally.stop.load(Ordering::Relaxed) => break false,
            Sent::Again(why) => {
                lost += u64::from(why != "too_fast");
                std::thread::sleep(PAUSE);
            }
        }
    };
    tally.repeated.fetch_add(lost.min(1), Ordering::Relaxed);
    Ok(has_it)
}

/// Kills the gateway in the middle of payments, looks at the disk and the kernel, starts it again.
fn kill_and_look(agent: &mut Agent, lab: &Lab, tally: &Tally) -> Result<()> {
    let bob = lab.subscriber();
    agent.end(Signal::SIGKILL)?;
    let acknowledged = tally.acknowledged();
    let prepaid = agent.pins()?.account(bob)?.prepaid;
    let durable = durable_sat(agent)?;
    ensure!(durable >= acknowledged, "{acknowledged} sat acknowledged, {durable} on the disk");
    ensure!(
        prepaid <= durable * 1_000 * UNITS_PER_MSAT,
        "the kernel holds {prepaid} units, {durable} sat are on the disk"
    );
    agent.launch(&lab.gateway)?;
    let account = agent.account(bob)?;
    let credited = account["credited_msat"].as_u64().context("no credit")?;
    ensure!(credited >= durable * 1_000, "{durable} sat were on the disk: {account}");
    until("the payer goes on by itself", || {
        Ok(tally.acknowledged() >= durable.max(acknowledged) + 3 * STEP_SAT)
    })
}

/// What the updates credit that are on the disk of an agent that is dead.
fn durable_sat(agent: &Agent) -> Result<u64> {
    let snapshot = Store::open(&agent.house.database())?.load()?;
    let changes = snapshot.updates.iter().map(|update| update.change_sat);
    Ok(CAPACITY_SAT - changes.min().context("no update is on the disk")?)
}

/// Traffic both ways, counted by nobody of BitMesh's.
struct Traffic {
    senders: [Sender; 2],
    receivers: [Receiver; 2],
    counters: [Counter; 2],
}

impl Traffic {
    fn start(lab: &Lab) -> Result<Self> {
        let bob = lab.subscriber();
        let counters = [bob.count_downlink()?, lab.count_arrived(bob)?];
        let here = Receiver::start(&bob.namespace, bob.v4())?;
        let there = Receiver::start(&lab.internet, SERVER_V4)?;
        let senders = [
            Sender::start(&lab.internet, here.address, PACE)?,
            Sender::start(&bob.namespace, there.address, PACE)?,
        ];
        Ok(Self { senders, receivers: [here, there], counters })
    }

    /// Bytes that passed: all that were sent.
    fn stop(self) -> Result<u64> {
        let sent = self.senders.into_iter().map(Sender::stop).sum::<Result<u64>>()?;
        let counts = self.counters.iter().map(|counter| Ok(counter.settled()?.bytes));
        let bytes = counts.sum::<Result<u64>>()?;
        let arrived = self.receivers.into_iter().map(|receiver| Ok(receiver.stop()?.len() as u64));
        let arrived = arrived.sum::<Result<u64>>()?;
        ensure!(arrived == sent, "{sent} packets sent, {arrived} arrived: the session stood still");
        Ok(bytes)
    }
}

/// Kills the gateway so often while Bob pays and is online. Gives the bytes that passed.
fn killed(agent: &mut Agent, lab: &Lab, bob: &mut Customer, kills: u64) -> Result<u64> {
    // There is credit before there is traffic: no packet may be lost.
    bob.pay(FIRST_SAT)?;
    let traffic = Traffic::start(lab)?;
    let tally = Tally::default();
    let mut kill_all = || -> Result<()> {
        until("the payer pays", || Ok(tally.acknowledged() > 0))?;
        for kill in 0..kills {
            // Another moment of an update's way through the gateway each time.
            std::thread::sleep(Duration::from_micros(kill * 7_919 % 120_000));
            kill_and_look(agent, lab, &tally).with_context(|| format!("kill {kill}"))?;
        }
        Ok(())
    };
    std::thread::scope(|threads| {
        let payer = threads.spawn(|| pay_on(bob, &tally));
        let done = kill_all();
        tally.stop.store(true, Ordering::Relaxed);
        let paid = payer.join().map_err(|_| anyhow!("the payer panicked"))?;
        paid.and(done)
    })?;
    let bytes = traffic.stop()?;
    let repeated = tally.repeated.load(Ordering::Relaxed);
    let held = tally.held.load(Ordering::Relaxed);
    println!("{kills} kills: {repeated} updates were sent again, {held} of them were held already");
    ensure!(repeated >= kills, "only {repeated} of {kills} kills met a payment");
    Ok(bytes)
}

/// Dies, and starts again.
fn die(agent: &mut Agent, lab: &Lab) -> Result<()> {
    agent.end(Signal::SIGKILL)?;
    agent.launch(&lab.gateway)
}

#[test]
fn a_gateway_killed_during_payments_loses_none_and_closes_together_to_the_satoshi() -> Result<()> {
    let mut market = Market::with_subscribers(1)?;
    let mut bob = Customer::funded(&market, market.lab.subscriber(), CAPACITY_SAT)?;
    let kills = of_soak(1_000, 50);
    let bytes = killed(&mut market.agent, &market.lab, &mut bob, kills)?;
    let (expected, id) = (bob.expected(bytes)?, bob.id.to_string());
    market.chain_is("following")?;
    let closed = bob.close(SpendPath::KeyPath)?;
    die(&mut market.agent, &market.lab)?;
    market.node_holds(1)?;
    let fee = expected.closed_together(&market, &market.next_block()?)?;
    ensure!(fee == closed.fee_sat && closed.settled_sat == expected.charge(), "{closed:?}");
    until("the channel is over", || Ok(market.row(&id)?["state"] == "closed_together"))
}

#[test]
fn a_gateway_killed_during_payments_and_its_close_closes_alone_to_the_satoshi() -> Result<()> {
    let mut market = Market::with_subscribers(1)?;
    let mut bob = Customer::funded(&market, market.lab.subscriber(), CAPACITY_SAT)?;
    let bytes = killed(&mut market.agent, &market.lab, &mut bob, of_soak(200, 10))?;
    let (expected, id) = (bob.expected(bytes)?, bob.id.to_string());
    // Nobody was heard of since: it does not wait for a payer to close together.
    die(&mut market.agent, &market.lab)?;
    market.chain_is("following")?;
    market.agent.ask(&["close", &id])?;
    die(&mut market.agent, &market.lab)?;
    market.node_holds(1)?;
    let fee = expected.closed_alone(&market, &market.next_block()?, bob.signed())?;
    until("the channel is over", || Ok(market.row(&id)?["state"] == "closed_alone"))?;
    let row = market.row(&id)?;
    ensure!(row["fee_sat"] == fee, "{fee} sat of fee: {row}");
    Ok(())
}
