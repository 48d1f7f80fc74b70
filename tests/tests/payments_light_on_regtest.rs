//! A gateway that needs no server: two peers tell it of the chain, and it sells a channel from
//! funding to close.

use anyhow::{Result, ensure};
use bitcoin::Amount;
use bitmesh_core::channel::SpendPath;
use bitmesh_core::wire::ChannelWord;
use bitmesh_tests::agent::{Agent, Settings};
use bitmesh_tests::lab::Lab;
use bitmesh_tests::light::Served;
use bitmesh_tests::payments::{Customer, Market, native_address};
use nix::sys::signal::Signal;

const CAPACITY_SAT: u64 = 100_000;

/// A gateway whose node and its twin are peers to it; the node also mines and pays.
fn market() -> Result<(Market, Served)> {
    let lab = Lab::with_subscribers(1)?;
    lab.real_segments()?;
    let (alice, bob) = lab.gateway.enter(|| {
        let (alice, bob) = (Served::start()?, Served::launch()?);
        bob.follow(&alice)?;
        Ok((alice, bob))
    })?;
    let payout = lab.gateway.enter(|| native_address(&alice.node))?;
    let tables = format!(
        "[chain]\nnetwork = \"regtest\"\npeers = [\"{}\", \"{}\"]\n\n\
         [channels]\npayout_address = \"{payout}\"\nmin_capacity_sat = 20000\n\
         lock_blocks = 60\nmargin_blocks = 36\n",
        alice.peer(),
        bob.peer(),
    );
    let agent = Agent::start(&lab, &Settings::new(Market::TARIFF).with(&tables))?;
    let market = Market { agent, node: alice.into_node(), payout, lab };
    market.chain_is("following")?;
    Ok((market, bob))
}

#[test]
fn a_channel_lives_and_ends_without_any_server() -> Result<()> {
    let (mut market, _bob) = market()?;
    let status = market.agent.ask(&["status"])?;
    ensure!(status["chain"]["peers"]["connected"] == 2, "{status}");
    ensure!(status["chain"]["peers"]["required"] == 2, "{status}");
    let mut customer = Customer::open(&market, market.lab.subscriber())?;
    let amount = Amount::from_sat(CAPACITY_SAT);
    let tx = market.signed_payment(customer.opened.address(), amount)?;
    customer.fund(&tx)?;
    market.node_holds(1)?;
    market.mine(1)?;
    customer.until(ChannelWord::Open)?;
    customer.pay(5_000)?;
    customer.pay(6_000)?;

    // It has lost nothing when it is back, and reads the blocks that it has missed.
    market.agent.end(Signal::SIGKILL)?;
    market.node(|node| node.mine(2))?;
    market.agent.launch(&market.lab.gateway)?;
    market.chain_is("following")?;
    let view = customer.view()?;
    ensure!(view.state == ChannelWord::Open && view.credit_msat.0 == 6_000_000, "{view:?}");
    customer.pay(7_000)?;

    let expected = customer.expected(0)?;
    customer.close(SpendPath::KeyPath)?;
    market.node_holds(1)?;
    expected.closed_together(&market, &market.next_block()?)?;
    Ok(())
}
