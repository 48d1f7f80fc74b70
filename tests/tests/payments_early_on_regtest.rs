//! Credit before the funding is confirmed: what the operator risks, and no more.

use anyhow::{Context as _, Result, ensure};
use bitcoin::{Amount, Transaction};
use bitmesh_core::channel::SpendPath;
use bitmesh_core::wire::{ChannelWord, SignedOffer};
use bitmesh_tests::payments::{Customer, Market, get};
use bitmesh_tests::tcp::{Ends, Load, Stream};

const CAPACITY_SAT: u64 = 100_000;
/// Two channels' worth of 3,000 don't fit into the total.
const LIMITS: &str = "unconfirmed_sat = 3000\nunconfirmed_total_sat = 5000\n";

/// Has the funding relayed, and no block takes it.
fn fund(market: &Market, customer: &mut Customer) -> Result<Transaction> {
    let to = customer.opened.address();
    let tx = market.signed_payment(to, Amount::from_sat(CAPACITY_SAT))?;
    customer.fund(&tx)?;
    Ok(tx)
}

#[test]
fn what_is_paid_before_a_block_passes_at_once_up_to_the_limits_and_a_double_spend_takes_no_more()
-> Result<()> {
    let market = Market::with_tables(3, LIMITS)?;
    let [bob, carol, newcomer] = [0, 1, 2].map(|number| &market.lab.subscribers[number]);
    let asked = format!("/offer?challenge={}", "07".repeat(32));
    let offer: SignedOffer = get(bob, &asked)?.json()?;
    let early = offer.unconfirmed.context("the offer does not say so")?;
    ensure!(early.credit_sat == 3_000 && early.explanation.contains("up to 3000 sat"), "{early:?}");

    let mut honest = Customer::open(&market, bob)?;
    fund(&market, &mut honest)?;
    honest.until(ChannelWord::Open)?;
    ensure!(honest.view()?.confirmations == 0, "a block took it");
    honest.pay(2_500)?;
    let ends = Ends {
        client: &bob.namespace,
        server: &market.lab.internet,
        address: bitmesh_tests::lab::SERVER_V4,
    };
    Stream::download(ends, Load::of(1 << 20))?.finish()?;
    let beyond = honest.sign(3_001)?;
    let refused = honest.post("/updates", &beyond)?.refusal()?;
    ensure!(refused == (409, "unconfirmed".to_owned()), "{refused:?}");

    // Carol pays what is left of the total, and takes her coins back.
    let mut thief = Customer::open(&market, carol)?;
    let funding = fund(&market, &mut thief)?;
    thief.until(ChannelWord::Open)?;
    thief.pay(2_500)?;
    market.double_spend(&funding)?;
    thief.until(ChannelWord::FundingLost)?;
    let mut late = Customer::open(&market, newcomer)?;
    fund(&market, &mut late)?;
    late.until(ChannelWord::Unconfirmed)?;
    let none = late.sign(1_000)?;
    let refused = late.post("/updates", &none)?.refusal()?;
    ensure!(refused == (409, "unconfirmed".to_owned()), "the total is used up: {refused:?}");

    market.mine(1)?;
    late.until(ChannelWord::Open)?;
    late.post("/updates", &none)?.json::<bitmesh_core::wire::UpdateAccepted>()?;
    honest.until(ChannelWord::Open)?;
    honest.post("/updates", &beyond)?.json::<bitmesh_core::wire::UpdateAccepted>()?;
    let closed = honest.close(SpendPath::KeyPath)?;
    ensure!(closed.settled_sat > 1_024, "what was used is not paid: {closed:?}");
    Ok(())
}
