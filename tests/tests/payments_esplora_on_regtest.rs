//! A gateway that knows the chain from an Esplora server alone sells a channel from funding to
//! close.

use anyhow::{Result, ensure};
use bitcoin::Amount;
use bitmesh_core::channel::SpendPath;
use bitmesh_core::wire::ChannelWord;
use bitmesh_tests::agent::{Agent, Settings};
use bitmesh_tests::esplora::{Mood, Server};
use bitmesh_tests::lab::Lab;
use bitmesh_tests::payments::{Customer, Market, native_address};
use bitmesh_tests::regtest::Regtest;

const CAPACITY_SAT: u64 = 100_000;

/// A gateway without a node's cookie; the node is there to mine and to pay.
fn market() -> Result<(Market, Server)> {
    let lab = Lab::with_subscribers(1)?;
    lab.real_segments()?;
    let node = lab.gateway.enter(Regtest::start)?;
    let server = lab.gateway.enter(|| Server::start(node.config()))?;
    let payout = lab.gateway.enter(|| native_address(&node))?;
    let tables = format!(
        "[chain]\nkind = \"esplora\"\nurl = {:?}\nnetwork = \"regtest\"\n\n\
         [channels]\npayout_address = \"{payout}\"\nmin_capacity_sat = 20000\n\
         lock_blocks = 60\nmargin_blocks = 36\n",
        server.url(),
    );
    let agent = Agent::start(&lab, &Settings::new(Market::TARIFF).with(&tables))?;
    let market = Market { agent, node, payout, lab };
    market.chain_is("following")?;
    Ok((market, server))
}

#[test]
fn a_channel_lives_and_ends_though_the_server_stumbles() -> Result<()> {
    let (market, server) = market()?;
    let mut customer = Customer::open(&market, market.lab.subscriber())?;
    let amount = Amount::from_sat(CAPACITY_SAT);
    let tx = market.signed_payment(customer.opened.address(), amount)?;
    customer.fund(&tx)?;
    market.node_holds(1)?;
    customer.until(ChannelWord::Unconfirmed)?;
    market.mine(1)?;
    customer.until(ChannelWord::Open)?;
    customer.pay(5_000)?;

    server.set(Mood::Says(429, b"Too Many Requests".to_vec()));
    market.chain_is("unavailable")?;
    let why = market.agent.ask(&["status"])?["chain"]["why"].to_string();
    ensure!(why.contains("HTTP 429"), "{why}");
    customer.pay(6_000)?;
    server.set(Mood::Well);
    market.chain_is("following")?;

    let expected = customer.expected(0)?;
    customer.close(SpendPath::KeyPath)?;
    market.node_holds(1)?;
    expected.closed_together(&market, &market.next_block()?)?;
    Ok(())
}
