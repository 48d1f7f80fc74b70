//! The payment API of the real agent, beside a real node: a payer made of the core's parts opens,
//! funds, pays, passes the gate and closes. Amounts are recomputed from the blocks alone.

mod refusals;
mod stream;

use anyhow::{Result, ensure};
use bitmesh_core::channel::SpendPath;
use bitmesh_core::wire::{ChannelWord, SessionView};
use bitmesh_tests::lab::SERVER_V4;
use bitmesh_tests::payments::{Customer, Market, get, paid, post, spender};
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const CAPACITY: u64 = 200_000;
const DOWNLOAD: u64 = 4 << 20;

/// Downloads so many bytes from the internet.
fn download(market: &Market, bob: &Customer, bytes: u64) -> Result<u64> {
    let ends =
        Ends { client: &bob.station.namespace, server: &market.lab.internet, address: SERVER_V4 };
    Stream::download(ends, Load::of(bytes))?.finish()
}

/// From the open to the block with the cooperative close.
fn pays_uses_and_closes(path: SpendPath) -> Result<()> {
    let market = Market::with_subscribers(1)?;
    let station = market.lab.subscriber();
    let mut bob = Customer::funded(&market, station, CAPACITY)?;
    ensure!(get(station, "/session")?.refusal()? == (404, "no_session".into()), "a session");
    bob.pay(2_000)?;
    let accepted = bob.pay(8_000)?;
    ensure!(accepted.credit_msat.0 == 8_000_000, "{accepted:?}");
    ensure!(download(&market, &bob, DOWNLOAD)? == DOWNLOAD, "the gate is not open");
    until("the session tells of the download", || {
        let session: SessionView = get(station, "/session")?.json()?;
        Ok(session.open && session.downlink_bytes > DOWNLOAD)
    })?;
    let change = bob.opened.terms().change_script.as_script().clone();
    let (id, outpoint) = (bob.id.to_string(), bob.outpoint()?);
    let closed = bob.close(path)?;
    let charged = market.row(&id)?["charged_msat"].as_u64().unwrap_or(0);
    let meter = market.agent.pins()?.meter(station)?;
    ensure!(charged == meter.spent.div_ceil(1 << 20), "{charged} charged: {meter:?}");
    let tx = spender(&market.next_block()?, outpoint)?;
    ensure!(tx.compute_txid() == closed.txid, "another close");
    let (payout, returned) = (paid(&tx, &market.payout.script_pubkey()), paid(&tx, &change));
    ensure!(payout == charged.div_ceil(1_000), "{payout} sat for {charged} msat");
    ensure!(payout + returned + closed.fee_sat == CAPACITY, "{payout} + {returned}");
    until("the channel is over", || Ok(market.row(&id)?["state"] == "closed_together"))?;
    let row = market.row(&id)?;
    ensure!((&row["settled_sat"], &row["returned_sat"]) == (&json!(payout), &json!(returned)));
    Ok(())
}

#[test]
fn a_payer_opens_funds_pays_passes_and_closes_by_the_key_path() -> Result<()> {
    pays_uses_and_closes(SpendPath::KeyPath)
}

#[test]
fn a_payer_without_musig_closes_by_the_pay_leaf() -> Result<()> {
    pays_uses_and_closes(SpendPath::PayLeaf)
}

#[test]
fn an_operator_closes_alone_when_the_payer_is_silent() -> Result<()> {
    let market = Market::with_subscribers(1)?;
    let mut bob = Customer::funded(&market, market.lab.subscriber(), CAPACITY)?;
    bob.pay(50_000)?;
    let (id, outpoint) = (bob.id.to_string(), bob.outpoint()?);
    let closing = market.agent.ask(&["close", &id[..16]])?;
    ensure!(closing["channels"] == json!([id]), "{closing}");
    let refused = bob.sign(51_000).and_then(|body| bob.post("/updates", &body)?.refusal())?;
    ensure!(refused.0 == 409, "{refused:?}");
    let at_the_node = || {
        let txids = market.node(|node| node.call("getrawmempool", &json!([])))?;
        Ok(txids.as_array().is_some_and(|txids| !txids.is_empty()))
    };
    // The payer has half a minute to close together, as long as one wait lasts.
    let waited = until("the close is at the node", at_the_node);
    waited.or_else(|_| until("the close is at the node", at_the_node))?;
    let tx = spender(&market.next_block()?, outpoint)?;
    let change = bob.opened.terms().change_script.as_script().clone();
    let payout = paid(&tx, &market.payout.script_pubkey());
    // Nothing was used: an honest gateway returns what it took, less the fee.
    ensure!(payout < 1_000, "{payout} sat for nothing: {tx:?}");
    ensure!(paid(&tx, &change) >= CAPACITY - 50_000, "{tx:?}");
    until("the channel is over", || Ok(market.row(&id)?["state"] == "closed_alone"))?;
    Ok(())
}

#[test]
fn a_node_that_is_gone_stops_new_channels_but_none_in_force_until_it_is_back() -> Result<()> {
    let mut market = Market::with_subscribers(2)?;
    let (station, other) = (0, 1);
    let mut bob = Customer::funded(&market, &market.lab.subscribers[station], CAPACITY)?;
    bob.pay(5_000)?;
    let request = Customer::request(&market, &market.lab.subscribers[other])?.1;
    {
        let (gateway, node) = (&market.lab.gateway, &mut market.node);
        gateway.enter(|| node.stop())?;
    }
    market.chain_is("unavailable")?;
    ensure!(bob.pay(9_000)?.credit_msat.0 == 9_000_000, "a session in force stands still");
    ensure!(download(&market, &bob, 1 << 20)? == 1 << 20, "the gate closed");
    let refused = post(&market.lab.subscribers[other], "/channels", &request)?.refusal()?;
    ensure!(refused == (503, "chain_unavailable".into()), "{refused:?}");
    let (gateway, node) = (&market.lab.gateway, &mut market.node);
    gateway.enter(|| node.start_again())?;
    market.chain_is("following")?;
    Customer::funded(&market, &market.lab.subscribers[other], CAPACITY)?.pay(5_000)?;
    ensure!(bob.pay(10_000)?.credit_msat.0 == 10_000_000, "the old channel stands still");
    Ok(())
}

#[test]
fn the_doctor_looks_at_the_node_and_says_when_it_is_gone() -> Result<()> {
    let mut market = Market::with_subscribers(1)?;
    let checks = doctor(&market)?;
    ensure!(verdict(&checks, "bitcoin node") == "ok", "{checks}");
    ensure!(verdict(&checks, "bitcoin node TRUC") == "ok", "{checks}");
    let (gateway, node) = (&market.lab.gateway, &mut market.node);
    gateway.enter(|| node.stop())?;
    let checks = doctor(&market)?;
    ensure!(verdict(&checks, "bitcoin node") == "problem", "{checks}");
    Ok(())
}

fn doctor(market: &Market) -> Result<Value> {
    let config = market.agent.house.config();
    let words = ["doctor", "--json", "--config", config.to_str().unwrap_or_default()];
    Ok(serde_json::from_slice(&market.agent.command(&words)?.stdout)?)
}

fn verdict(checks: &Value, check: &str) -> String {
    let found = checks.as_array().into_iter().flatten().find(|found| found["check"] == check);
    found.and_then(|found| found["verdict"].as_str()).unwrap_or("none").to_owned()
}

#[test]
fn the_agent_is_killed_and_goes_on_with_its_channels_and_its_chain() -> Result<()> {
    let mut market = Market::with_subscribers(1)?;
    let id = {
        let mut bob = Customer::funded(&market, market.lab.subscriber(), CAPACITY)?;
        bob.pay(30_000)?;
        bob.id.to_string()
    };
    market.agent.end(Signal::SIGKILL)?;
    market.node(|node| node.mine(3))?;
    market.agent.launch(&market.lab.gateway)?;
    market.chain_is("following")?;
    let station = market.lab.subscriber();
    let view: bitmesh_core::wire::ChannelView = get(station, &format!("/channels/{id}"))?.json()?;
    ensure!(view.state == ChannelWord::Open && view.confirmations == 4, "{view:?}");
    ensure!(view.credit_msat.0 == 30_000_000, "{view:?}");
    Ok(())
}
