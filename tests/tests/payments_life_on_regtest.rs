//! Every early end of a channel, each in a state that has a name and a sentence for the operator.

use anyhow::{Context as _, Result, ensure};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Amount, OutPoint, Transaction};
use bitmesh_core::channel::SpendPath;
use bitmesh_core::wire::ChannelWord;
use bitmesh_tests::payments::{Customer, Market};
use serde_json::json;

const CAPACITY_SAT: u64 = 100_000;
/// The terms of the market are 20,000 to 1,000,000 sat.
const TOO_LITTLE_SAT: u64 = 15_000;
const TOO_MUCH_SAT: u64 = 2_000_000;
/// What the other payment of a channel that is funded twice holds.
const SECOND_SAT: u64 = 40_000;
/// Blocks from the open to the last call, and from there to the expiry.
const OPEN_BLOCKS: u32 = 24;
const MARGIN_BLOCKS: u32 = 36;

/// The row has this state, and its sentence all these words.
fn says(market: &Market, customer: &Customer, state: &str, words: &[&str]) -> Result<()> {
    let sentence = market.ends(&customer.id.to_string(), state)?;
    let missing = words.iter().find(|word| !sentence.contains(**word));
    ensure!(missing.is_none(), "{sentence:?} does not say {missing:?}");
    Ok(())
}

/// Pays to the channel from the wallet.
fn pay_to(market: &Market, customer: &Customer, sat: u64) -> Result<(OutPoint, Transaction)> {
    let script = customer.opened.script().script_pubkey().clone();
    market.node(|node| node.pay(&script, Amount::from_sat(sat)))
}

/// The wallet replaces its own payment by a dearer one.
fn bump(market: &Market, tx: &Transaction) -> Result<Transaction> {
    let txid = tx.compute_txid();
    let params = json!([txid, {"fee_rate": 25}]);
    let bumped = market.node(|node| node.wallet("bumpfee", &params))?;
    let sent = market.node(|node| node.wallet("gettransaction", &json!([bumped["txid"]])))?;
    Ok(deserialize_hex(sent["hex"].as_str().context("no transaction")?)?)
}

#[test]
fn every_early_end_has_a_state_with_a_name_and_a_sentence() -> Result<()> {
    let market = Market::with_subscribers(10)?;
    let all: Vec<Customer> = (market.lab.subscribers.iter())
        .map(|station| Customer::open(&market, station))
        .collect::<Result<_>>()?;
    let Ok(
        [
            unsigned,
            never,
            under,
            over,
            mut twice,
            late,
            mut replaced,
            mut spent,
            mut silent,
            mut small,
        ],
    ) = <[Customer; 10]>::try_from(all)
    else {
        unreachable!("ten were opened");
    };
    for customer in [&never, &under, &over, &late, &replaced, &spent] {
        customer.countersign()?;
    }
    pay_to(&market, &under, TOO_LITTLE_SAT)?;
    pay_to(&market, &over, TOO_MUCH_SAT)?;
    let (_, first) = pay_to(&market, &replaced, CAPACITY_SAT)?;
    let (_, honest) = pay_to(&market, &spent, CAPACITY_SAT)?;
    for customer in [&mut twice, &mut silent, &mut small] {
        let tx =
            market.signed_payment(customer.opened.address(), Amount::from_sat(CAPACITY_SAT))?;
        customer.fund(&tx)?;
    }
    // Funded, and nobody ever pays on it.
    let unused = &spent;
    says(&market, &replaced, "unconfirmed", &["0 of 1 confirmations"])?;
    says(&market, unused, "unconfirmed", &["0 of 1 confirmations"])?;
    let second = bump(&market, &first)?;
    market.double_spend(&honest)?;
    says(
        &market,
        &spent,
        "opened",
        &["waits for its funding: its funding was replaced or double-spent"],
    )?;
    market.mine(1)?;

    replaced.is_funded_by(&second)?;
    replaced.until(ChannelWord::Open)?;
    ensure!(replaced.view()?.outpoint == Some(replaced.outpoint()?), "the replaced one is pinned");
    says(&market, &under, "opened", &["the channel got 15000 sat and takes 20000 to 1000000"])?;
    says(&market, &over, "opened", &["the channel got 2000000 sat and takes 20000 to 1000000"])?;
    let (stray, _) = pay_to(&market, &twice, SECOND_SAT)?;
    market.mine(1)?;
    says(
        &market,
        &twice,
        "open",
        &["takes updates", "40000 sat more at its address earn nothing"],
    )?;
    for customer in [&mut twice, &mut replaced, &mut silent, &mut small] {
        customer.pay(5_000)?;
    }
    // Nothing was used: what the gateway would get is less than an output may hold.
    let small_id = small.id.to_string();
    let closed = small.close(SpendPath::KeyPath)?;
    ensure!(
        closed.settled_sat == 0 && closed.returned_sat + closed.fee_sat == CAPACITY_SAT,
        "{closed:?}"
    );
    // A funding that is undone for good before anybody pays, and a channel that nobody pays on.
    let tx = market.signed_payment(spent.opened.address(), Amount::from_sat(CAPACITY_SAT))?;
    spent.fund(&tx)?;
    market.node_holds(2)?;
    market.mine(1)?;
    spent.until(ChannelWord::Open)?;
    ensure!(
        market.ends(&small_id, "closed_together")?.contains("both sides closed it"),
        "{small_id}"
    );

    // The last call: what was never funded lapses, who paid and went is closed.
    market.mine(OPEN_BLOCKS)?;
    says(&market, &unsigned, "lapsed", &["its payer never signed it"])?;
    says(&market, &never, "lapsed", &["no funding was seen in time"])?;
    says(&market, &under, "lapsed", &["the channel got 15000 sat", "is its payer's after block"])?;
    says(&market, &over, "lapsed", &["the channel got 2000000 sat", "is its payer's after block"])?;
    let (afterwards, _) = pay_to(&market, &late, CAPACITY_SAT)?;
    says(&market, &late, "lapsed", &["one that comes later is its payer's after block"])?;
    ensure!(late.view().is_err(), "a channel that lapsed takes a funding");
    market.node_holds(2)?;
    market.mine(1)?;
    for customer in [&twice, &replaced, &silent] {
        says(
            &market,
            customer,
            "closed_alone",
            &["the gateway closed it at height", "not yet buried"],
        )?;
    }

    // The expiry: what earned nothing goes back to its payers, without the gateway.
    market.mine(MARGIN_BLOCKS)?;
    says(&market, &silent, "closed_alone", &["the gateway closed it at height"])?;
    says(
        &market,
        &spent,
        "lapsed",
        &["nothing was paid on it", "its payer can take everything back"],
    )?;
    let back = [
        late.refund(&[(afterwards, Amount::from_sat(CAPACITY_SAT))], 2)?,
        twice.refund(&[(stray, Amount::from_sat(SECOND_SAT))], 2)?,
        spent.refund(&[(spent.outpoint()?, Amount::from_sat(CAPACITY_SAT))], 2)?,
    ];
    for refund in &back {
        market.broadcast(refund).with_context(|| serialize_hex(refund))?;
    }
    let block = market.next_block()?;
    ensure!(back.iter().all(|refund| block.txdata.contains(refund)), "a refund is not mined");
    says(&market, &twice, "closed_alone", &["the gateway closed it at height"])
}
