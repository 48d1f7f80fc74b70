//! The chain at its worst: a funding that is reorganised away, fees that are too low, a payer that
//! races the gateway, many channels that fall due in one block.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bitcoin::{Amount, OutPoint, Transaction, Txid};
use bitmesh_core::wire::ChannelWord;
use bitmesh_tests::lab::{SERVER_V4, Subscriber};
use bitmesh_tests::payments::{Customer, Market, paid};
use bitmesh_tests::regtest::Regtest;
use bitmesh_tests::udp::{Pace, Receiver, Sender, V4_HEADER_BYTES};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;
use serde_json::json;

const CAPACITY_SAT: u64 = 100_000;
/// Blocks from the open to the last call, and from there to the expiry.
const OPEN_BLOCKS: u32 = 24;
const MARGIN_BLOCKS: u32 = 36;

/// The transaction at the node that spends this.
fn at_the_node(market: &Market, outpoint: OutPoint) -> Result<Option<Transaction>> {
    use bitcoin::consensus::encode::deserialize_hex;
    let params = json!([[{"txid": outpoint.txid, "vout": outpoint.vout}]]);
    let spends = market.node(|node| node.call("gettxspendingprevout", &params))?;
    let Some(txid) = spends[0]["spendingtxid"].as_str().map(str::to_owned) else { return Ok(None) };
    let raw = market.node(|node| node.call("getrawtransaction", &json!([txid])))?;
    Ok(Some(deserialize_hex(raw.as_str().context("no transaction")?)?))
}

/// Waits until the node has a close of this channel other than this one.
fn close_at_the_node(
    market: &Market,
    customer: &Customer,
    other: Option<Txid>,
) -> Result<Transaction> {
    let outpoint = customer.outpoint()?;
    let mut found = None;
    let waited = until("the node has a close", || {
        found = at_the_node(market, outpoint)?;
        Ok(found.as_ref().is_some_and(|tx| Some(tx.compute_txid()) != other))
    });
    waited.with_context(|| market.agent.said())?;
    found.context("no close")
}

fn fee(tx: &Transaction, capacity: u64) -> u64 {
    capacity - tx.output.iter().map(|output| output.value.to_sat()).sum::<u64>()
}

#[test]
fn a_reorganisation_that_removes_the_funding_stops_the_credit_until_it_confirms_again() -> Result<()>
{
    let market = Market::with_subscribers(1)?;
    let mut bob = Customer::funded(&market, market.lab.subscriber(), CAPACITY_SAT)?;
    bob.pay(2_000)?;
    let outpoint = bob.view()?.outpoint;
    market.node(|node| node.reorganise(1, 2))?;
    bob.until(ChannelWord::Unconfirmed)?;
    let more = bob.sign(3_000)?;
    let refused = bob.post("/updates", &more)?.refusal()?;
    ensure!(refused == (409, "unconfirmed".to_owned()), "{refused:?}");
    let view = bob.view()?;
    ensure!(view.credit_msat.0 == 2_000_000, "what was credited counts on: {view:?}");
    market.node_holds(1)?;
    market.mine(1)?;
    bob.until(ChannelWord::Open)?;
    ensure!(bob.view()?.outpoint == outpoint && outpoint.is_some(), "another outpoint");
    bob.post("/updates", &more)?.json::<bitmesh_core::wire::UpdateAccepted>()?;
    ensure!(bob.view()?.credit_msat.0 == 3_000_000, "it does not count");
    Ok(())
}

#[test]
fn a_close_whose_first_fee_is_too_low_is_raised_by_schedule_and_confirmed_before_the_expiry()
-> Result<()> {
    let mut market = Market::with_subscribers(1)?;
    let mut bob = Customer::funded(&market, market.lab.subscriber(), CAPACITY_SAT)?;
    bob.pay(20_000)?;
    // From now on the miner takes nothing below 4 sat/vB, and the gateway does not know.
    let node = &mut market.node;
    market.lab.gateway.enter(|| {
        node.stop()?;
        node.start_with(&["-blockmintxfee=0.00004"])
    })?;
    market.chain_is("following")?;
    market.mine(OPEN_BLOCKS)?;
    let first = close_at_the_node(&market, &bob, None)?;
    let mut fees = vec![fee(&first, CAPACITY_SAT)];
    let mut newest = first;
    let expiry = bob.agreement.terms.expiry_height;
    while bob.view()?.state == ChannelWord::Closing {
        let height = market.node(Regtest::height)?;
        ensure!(height < expiry, "the expiry came before a block took the close: fees {fees:?}");
        market.mine(1)?;
        // The gateway raises it with every third block, and is done when it is in one.
        std::thread::sleep(Duration::from_millis(1_500));
        if let Some(tx) = at_the_node(&market, bob.outpoint()?)?
            && tx.compute_txid() != newest.compute_txid()
        {
            fees.push(fee(&tx, CAPACITY_SAT));
            newest = tx;
        }
    }
    println!("the fees of the closes, in satoshi: {fees:?}");
    ensure!(fees.len() > 2 && fees.is_sorted(), "it was not raised: {fees:?}");
    let row = market.row(&bob.id.to_string())?;
    ensure!(row["state"] == "closed_alone", "{row}");
    let settled = row["settled_sat"].as_u64().context("no payout")?;
    let (back, paid_fee) = (row["returned_sat"].as_u64(), row["fee_sat"].as_u64());
    ensure!(Some(CAPACITY_SAT - settled) == back.zip(paid_fee).map(|(a, b)| a + b), "{row}");
    Ok(())
}

#[test]
fn the_race_with_a_refund_is_won_by_the_margin_though_the_gateway_was_dead_for_half_of_it()
-> Result<()> {
    let mut market = Market::with_subscribers(1)?;
    let mut bob = Customer::funded(&market, market.lab.subscriber(), CAPACITY_SAT)?;
    bob.pay(20_000)?;
    let outpoint = bob.outpoint()?;
    // Dearer than any close: at once when it is final, it would win.
    let refund = bob.refund(&[(outpoint, Amount::from_sat(CAPACITY_SAT))], 100)?;
    market.agent.end(Signal::SIGKILL)?;
    market.node(|node| node.mine(OPEN_BLOCKS + MARGIN_BLOCKS / 2))?;
    let early = market.broadcast(&refund).map_err(|error| error.to_string());
    ensure!(early.as_ref().is_err_and(|why| why.contains("non-final")), "before T: {early:?}");
    let gateway = &market.lab.gateway;
    market.agent.launch(gateway)?;
    let close = close_at_the_node(&market, &bob, None)?;
    let early = market.broadcast(&refund).map_err(|error| error.to_string());
    ensure!(early.as_ref().is_err_and(|why| why.contains("non-final")), "before T: {early:?}");
    let block = market.next_block()?;
    ensure!(block.txdata.contains(&close), "the close is not in the next block");
    let left = bob.agreement.terms.expiry_height - market.node(Regtest::height)?;
    ensure!(left > 10, "{left} blocks are left");
    market.mine(left + 1)?;
    let late = market.broadcast(&refund).map_err(|error| error.to_string());
    ensure!(late.as_ref().is_err_and(|why| why.contains("missingorspent")), "after T: {late:?}");
    market.ends(&bob.id.to_string(), "closed_alone").map(drop)
}

const MANY: u8 = 60;
const CREDIT_SAT: u64 = 1_000;
/// Nearly all of it is used: what is left is too little for an output that returns it.
const PACKETS: u64 = 900;
const PACE: Pace = Pace { payload: 996, every: Duration::from_micros(200), packets: Some(PACKETS) };
const USED_SAT: u64 = PACKETS * (996 + V4_HEADER_BYTES) / Market::BYTES_PER_SAT;

fn uploads(market: &Market, station: &Subscriber) -> Result<()> {
    let there = Receiver::start(&market.lab.internet, SERVER_V4)?;
    Sender::start(&station.namespace, there.address, PACE)?.finish()?;
    there.stop().map(drop)
}

#[test]
fn sixty_channels_close_in_one_transaction() -> Result<()> {
    let market = Market::with_subscribers(MANY)?;
    let mut all = Customer::all_funded(&market, &market.lab.subscribers, CAPACITY_SAT)?;
    for customer in &mut all {
        customer.pay(CREDIT_SAT)?;
    }
    for customers in all.chunks(4) {
        std::thread::scope(|threads| {
            let uploads: Vec<_> = (customers.iter())
                .map(|customer| threads.spawn(|| uploads(&market, customer.station)))
                .collect();
            let done =
                uploads.into_iter().map(|one| one.join().map_err(|_| anyhow!("it panicked"))?);
            done.collect::<Result<Vec<()>>>()
        })?;
    }
    let charged = |row: &serde_json::Value| row["charged_msat"] == USED_SAT * 1_000;
    until("the books know what was used", || {
        let listed = market.agent.ask(&["channels"])?;
        Ok(listed["channels"].as_array().is_some_and(|rows| rows.iter().all(charged)))
    })?;
    market.mine(OPEN_BLOCKS)?;
    let close = close_at_the_node(&market, &all[0], None)?;
    let spent: BTreeSet<OutPoint> = close.input.iter().map(|input| input.previous_output).collect();
    for customer in &all {
        ensure!(spent.contains(&customer.outpoint()?), "{} is left out: {close:?}", customer.id);
    }
    ensure!(spent.len() == usize::from(MANY), "{} inputs", spent.len());
    println!("{MANY} channels close in one transaction of {} vB", close.vsize());
    ensure!(
        close.vsize() < 10_000 && close.vsize() < 155 * usize::from(MANY),
        "{} vB",
        close.vsize()
    );
    let block = market.next_block()?;
    ensure!(block.txdata.contains(&close), "it is not in the next block");
    let (mut settled, mut fees) = (0, 0);
    for customer in &all {
        let id = customer.id.to_string();
        market.ends(&id, "closed_alone")?;
        let row = market.row(&id)?;
        let sat = |key: &str| row[key].as_u64().with_context(|| format!("no {key}: {row}"));
        let back = paid(&close, customer.agreement.terms.change_script.as_script());
        ensure!(back == CAPACITY_SAT - CREDIT_SAT && sat("returned_sat")? == back, "{row}: {back}");
        ensure!(sat("settled_sat")? + sat("fee_sat")? == CREDIT_SAT, "{row}");
        settled += sat("settled_sat")?;
        fees += sat("fee_sat")?;
    }
    let payout = paid(&close, &market.payout.script_pubkey());
    ensure!(settled == payout, "the books say {settled}, the block {payout}");
    ensure!(fees + payout == u64::from(MANY) * CREDIT_SAT, "{fees} sat of fees, {payout} paid");
    Ok(())
}
