//! A bargain between the real payer and the real gateway: what they agree on is the tariff in the
//! kernel, and it stays that when the list price changes.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use bitmesh_common::abi::Account;
use bitmesh_core::wire::SignedOffer;
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::lab::{Lab, SERVER_V4};
use bitmesh_tests::payer::Payer;
use bitmesh_tests::payments::get;
use bitmesh_tests::regtest::Regtest;
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::tunnel::Tunnel;
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// 100 sat for a MiB.
const LIST: u64 = 100_000;
/// What is asked later.
const DEARER: u64 = 170_000;
/// Costs more than what is paid first.
const DOWNLOAD_BYTES: u64 = 16 << 20;
const POLICY: &str = "[bargaining]\nfloor_percent = 60\nstep_percent = 10\nrounds = 4\n";

struct House {
    payer: Payer,
    agent: Agent,
    _tunnels: [Tunnel; 2],
    node: Regtest,
    lab: Lab,
}

fn house() -> Result<House> {
    let lab = Lab::new()?;
    let node = Regtest::start()?;
    let tunnels = [
        Tunnel::open(&lab.gateway, node.port())?,
        Tunnel::open(&lab.subscriber().namespace, node.port())?,
    ];
    let payout = node.wallet("getnewaddress", &json!(["", "bech32m"]))?;
    let settings = Settings::new(Tariff::bytes(LIST)).with(&format!(
        "[chain]\nkind = \"bitcoind\"\nurl = {:?}\nnetwork = \"regtest\"\ncookie_file = {:?}\n\n\
         [channels]\npayout_address = {payout}\nlock_blocks = 288\nmargin_blocks = 36\n\n{POLICY}",
        node.url(),
        node.cookie(),
    ));
    let agent = Agent::start(&lab, &settings)?;
    let payer = Payer::new(lab.subscriber(), &node)?;
    Ok(House { payer, agent, _tunnels: tunnels, node, lab })
}

impl House {
    fn in_kernel(&self) -> Result<Account> {
        self.agent.pins()?.account(self.lab.subscriber())
    }

    fn download(&self) -> Result<u64> {
        let (client, server) = (&self.lab.subscriber().namespace, &self.lab.internet);
        Stream::download(Ends { client, server, address: SERVER_V4 }, Load::of(DOWNLOAD_BYTES))?
            .finish()
    }

    /// The operator changes the list, and starts the agent again.
    fn raise_the_list(&mut self) -> Result<()> {
        let path = self.agent.house.config();
        let text = fs::read_to_string(&path)?.replace(&LIST.to_string(), &DEARER.to_string());
        fs::write(&path, text)?;
        self.agent.end(Signal::SIGTERM)?;
        self.agent.launch(&self.lab.gateway)
    }

    fn listed(&self) -> Result<u64> {
        let mut listed = 0;
        until("the gateway makes an offer", || {
            let asked = format!("/offer?challenge={}", "07".repeat(32));
            let answer = get(self.lab.subscriber(), &asked)?;
            if answer.status != 200 {
                return Ok(false);
            }
            listed = answer.json::<SignedOffer>()?.offer.tariff.downlink_msat_per_mib;
            Ok(true)
        })?;
        Ok(listed)
    }
}

fn price(of: &Value) -> Result<u64> {
    of["downlink_msat_per_mib"].as_u64().with_context(|| format!("no price: {of}"))
}

#[test]
fn what_is_agreed_is_the_tariff_in_the_kernel_and_another_list_price_does_not_touch_it()
-> Result<()> {
    let mut house = house()?;
    house.payer.connect(&house.node, &["--max-msat-per-mib", "100000", "--bid", "50"])?;
    house.payer.until("relayed", |_| true)?;
    let bids: Vec<Value> =
        house.payer.events().into_iter().filter(|event| event["event"] == "bid").collect();
    let told: Vec<(u64, &str, u64)> = bids
        .iter()
        .map(|bid| {
            let verdict = bid["verdict"].as_str().context("no verdict")?;
            Ok((price(&bid["bid"])?, verdict, price(&bid["asked"])?))
        })
        .collect::<Result<_>>()?;
    let expected = [
        (50_000, "countered", 90_000),
        (70_000, "countered", 80_000),
        (75_000, "accepted", 75_000),
    ];
    ensure!(told == expected, "{told:?}");
    until("the node has the funding", || {
        let pool = house.node.call("getrawmempool", &json!([]))?;
        Ok(pool.as_array().is_some_and(|pool| !pool.is_empty()))
    })?;
    house.node.mine(1)?;
    house.payer.until("paying", |standing| standing["paid_sat"].as_u64() > Some(0))?;
    let agreed = house.in_kernel()?;
    ensure!(agreed.downlink_msat_per_mib == 75_000 && agreed.uplink_msat_per_mib == 75_000);
    ensure!(house.download()? == DOWNLOAD_BYTES, "the download ended early");

    house.raise_the_list()?;
    ensure!(house.listed()? == DEARER, "the list did not change");
    let before = house.in_kernel()?;
    ensure!(house.download()? == DOWNLOAD_BYTES, "the download ended early");
    let paid = |house: &House| Ok(house.in_kernel()?.prepaid > before.prepaid);
    until("more is paid under the new list", || paid(&house))?;
    let after = house.in_kernel()?;
    ensure!(after.downlink_msat_per_mib == 75_000 && after.uplink_msat_per_mib == 75_000);
    ensure!(after.start_ns == agreed.start_ns, "another session");
    let account = house.agent.account(house.lab.subscriber())?;
    ensure!(price(&account)? == 75_000, "{account}");
    let closed = house.payer.close()?;
    ensure!(closed["settled_sat"].as_u64() > Some(32 * 75), "{closed}");
    Ok(())
}
