//! Eight payers at once: one that stops paying is cut off at the packet, the others are unharmed,
//! and the block charges each for its own bytes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bitmesh_common::money::UNITS_PER_MSAT;
use bitmesh_core::channel::SpendPath;
use bitmesh_tests::counter::Counter;
use bitmesh_tests::lab::Subscriber;
use bitmesh_tests::payments::{Customer, Market};
use bitmesh_tests::pins::cost;
use bitmesh_tests::udp::{Pace, Receiver, Sender, V4_HEADER_BYTES};
use bitmesh_tests::verdict::same;
use bitmesh_tests::wait::until;

const PAYERS: u8 = 8;
const CAPACITY_SAT: u64 = 100_000;

/// Who stops paying, and after how much: for about half of what is sent.
const QUITTER: usize = 3;
const QUITTER_SAT: u64 = 1_500;

/// What all pay before the traffic begins, and then four times a second: more than they use.
const FIRST_SAT: u64 = 1_000;
const STEP_SAT: u64 = 250;
const STEP_EVERY: Duration = Duration::from_millis(250);

const PACKETS: u64 = 3_000;

/// About six seconds each.
fn pace(number: usize) -> Pace {
    let payload = 1_000 - 50 * number;
    Pace { payload, every: Duration::from_millis(2), packets: Some(PACKETS) }
}

/// Pays step by step until it is stopped, or has paid all that it will.
fn pay_on(customer: &mut Customer, most_sat: u64, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) && customer.signed() < most_sat {
        std::thread::sleep(STEP_EVERY);
        let credit = (customer.signed() + STEP_SAT).min(most_sat);
        let accepted = customer.pay(credit)?;
        ensure!(accepted.credit_msat.0 == credit * 1_000, "{accepted:?}");
    }
    Ok(())
}

/// A download of UDP, counted by nobody of BitMesh's.
struct Download {
    counter: Counter,
    receiver: Receiver,
    sender: Sender,
}

impl Download {
    fn start(market: &Market, number: usize, one: &Subscriber) -> Result<Self> {
        let counter = one.count_downlink()?;
        let receiver = Receiver::start(&one.namespace, one.v4())?;
        let sender = Sender::start(&market.lab.internet, receiver.address, pace(number))?;
        Ok(Self { counter, receiver, sender })
    }
}

/// Everybody pays while everybody downloads. Gives what arrived for each: packets and bytes.
fn evening(market: &Market, payers: &mut [Customer]) -> Result<Vec<(u64, u64)>> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let downloads = market.lab.subscribers.iter().enumerate();
        let downloads =
            downloads.map(|(number, one)| Download::start(market, number, one)).collect::<Vec<_>>();
        let paying: Vec<_> = payers
            .iter_mut()
            .enumerate()
            .map(|(number, customer)| {
                let most = if number == QUITTER { QUITTER_SAT } else { u64::MAX };
                let stop = &stop;
                threads.spawn(move || pay_on(customer, most, stop))
            })
            .collect();
        let arrived = downloads.into_iter().map(|download| {
            let Download { counter, receiver, sender } = download?;
            ensure!(sender.finish()? == PACKETS, "not all were sent");
            let counted = counter.settled()?;
            Ok((receiver.stop()?.len() as u64, counted.bytes))
        });
        let arrived = arrived.collect::<Result<Vec<_>>>();
        stop.store(true, Ordering::Relaxed);
        for payer in paying {
            payer.join().map_err(|_| anyhow!("a payer panicked"))??;
        }
        arrived
    })
}

/// The quitter got all that it paid for, and not a packet more.
fn is_cut_off_at_the_packet(bytes: u64) -> Result<()> {
    let paid = QUITTER_SAT * Market::BYTES_PER_SAT;
    let packet = pace(QUITTER).payload as u64 + V4_HEADER_BYTES;
    ensure!(bytes <= paid, "{bytes} bytes are more than the {paid} that are paid for");
    ensure!(bytes > paid - packet, "{bytes} bytes are a packet less than the {paid} paid for");
    Ok(())
}

/// The kernel, the books and the channel's row say what the counter says.
fn is_charged_its_own(market: &Market, customer: &Customer, bytes: u64) -> Result<()> {
    let pins = market.agent.pins()?;
    let (meter, account) = (pins.meter(customer.station)?, pins.account(customer.station)?);
    let due = cost(0, bytes, &account);
    ensure!(meter.spent == due, "{due} is due: {meter:?}");
    let prepaid = customer.signed() * 1_000 * UNITS_PER_MSAT;
    ensure!(account.prepaid == prepaid, "{prepaid} was paid: {account:?}");
    let id = customer.id.to_string();
    until("the row says the same", || {
        let row = market.row(&id)?;
        let charged = row["charged_msat"] == due.div_ceil(UNITS_PER_MSAT);
        Ok(charged && row["credited_sat"] == customer.signed())
    })
}

#[test]
fn of_eight_payers_the_one_that_stops_is_cut_off_at_the_packet_and_each_pays_its_own() -> Result<()>
{
    let market = Market::with_subscribers(PAYERS)?;
    let mut payers = Customer::all_funded(&market, &market.lab.subscribers, CAPACITY_SAT)?;
    for customer in &mut payers {
        customer.pay(FIRST_SAT)?;
    }
    let arrived = evening(&market, &mut payers)?;
    let pins = market.agent.pins()?;
    for (number, (customer, &(packets, bytes))) in payers.iter().zip(&arrived).enumerate() {
        let meter = pins.meter(customer.station)?;
        let context = || format!("payer {number}: {packets} packets, {bytes} bytes, {meter:?}");
        let counted = bitmesh_tests::counter::Counts { bytes, packets };
        same("download", counted, meter.downlink_bytes, meter.downlink_packets)?;
        if number == QUITTER {
            is_cut_off_at_the_packet(bytes).with_context(context)?;
            let all = packets + meter.dropped_unpaid;
            ensure!(all == PACKETS, "{all} packets are accounted for: {}", context());
        } else {
            ensure!(packets == PACKETS && meter.dropped_unpaid == 0, "harmed: {}", context());
        }
        is_charged_its_own(&market, customer, bytes).with_context(context)?;
    }
    everybody_closes(&market, payers, &arrived)
}

/// All close at once, half of them without MuSig2; one block holds every close.
fn everybody_closes(market: &Market, payers: Vec<Customer>, arrived: &[(u64, u64)]) -> Result<()> {
    let mut expected = Vec::new();
    for (number, (customer, &(_, bytes))) in payers.into_iter().zip(arrived).enumerate() {
        let path = if number % 2 == 0 { SpendPath::KeyPath } else { SpendPath::PayLeaf };
        expected.push(customer.expected(bytes)?);
        customer.close(path).with_context(|| format!("payer {number} closes"))?;
    }
    market.node_holds(expected.len())?;
    let block = market.next_block()?;
    for (number, one) in expected.iter().enumerate() {
        one.closed_together(market, &block).with_context(|| format!("payer {number}"))?;
    }
    Ok(())
}
