//! Payouts to outputs of the operator's own wallet, a new one for each channel.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use bitcoin::{Address, Network};
use bitmesh_core::channel::SpendPath;
use bitmesh_tests::lab::SERVER_V4;
use bitmesh_tests::payments::{Customer, Market, paid, spender};
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use nix::sys::signal::Signal;
use serde_json::json;

const CAPACITY_SAT: u64 = 100_000;
const PAID_SAT: u64 = 20_000;

/// A packet costs more than a satoshi; all of them more than dust.
const PACKETS: u64 = 500;
const PACE: Pace = Pace { payload: 1_024, every: Duration::from_millis(1), packets: Some(PACKETS) };

#[test]
fn each_close_pays_another_output_of_the_operators_wallet_also_after_a_kill() -> Result<()> {
    let mut market = Market::with_descriptor(3)?;
    let mut scripts = BTreeSet::new();
    for station in 0..3 {
        {
            let subscriber = &market.lab.subscribers[station];
            let mut customer = Customer::funded(&market, subscriber, CAPACITY_SAT)?;
            customer.pay(PAID_SAT)?;
            let there = Receiver::start(&market.lab.internet, SERVER_V4)?;
            Sender::start(&subscriber.namespace, there.address, PACE)?.finish()?;
            there.stop()?;
            let script = customer.agreement.terms.payout_script.as_script().clone();
            let address = Address::from_script(&script, Network::Regtest)?.to_string();
            let known = market.node(|node| node.wallet("getaddressinfo", &json!([address])))?;
            ensure!(known["ismine"] == true, "the wallet can't spend it: {known}");
            let outpoint = customer.outpoint()?;
            let closed = customer.close(SpendPath::KeyPath)?;
            market.node_holds(1)?;
            let tx = spender(&market.next_block()?, outpoint)?;
            ensure!(closed.settled_sat >= PACKETS, "nothing to speak of was used: {closed:?}");
            ensure!(paid(&tx, &script) == closed.settled_sat, "{tx:?}");
            scripts.insert(script);
        }
        market.agent.end(Signal::SIGKILL)?;
        market.agent.launch(&market.lab.gateway)?;
        market.chain_is("following")?;
    }
    ensure!(scripts.len() == 3, "an output was used twice: {scripts:?}");
    Ok(())
}
