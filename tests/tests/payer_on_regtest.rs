//! The payer's agent against the real gateway, a real node and real traffic.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Block, Transaction, Txid};
use bitmesh_common::money::UNITS_PER_MSAT;
use bitmesh_tests::agent::{Agent, Program, Settings, Tariff};
use bitmesh_tests::lab::{Lab, SERVER_V4, SERVER_V6, Subscriber};
use bitmesh_tests::payer::Payer;
use bitmesh_tests::regtest::Regtest;
use bitmesh_tests::scale::of_soak;
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::tunnel::Tunnel;
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use bitmesh_tests::verdict::{hold, must_be_caught};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;
use serde_json::json;

/// 100 sat for a MiB.
const TARIFF: Tariff = Tariff::bytes(100_000);
const BUDGET_SAT: u64 = 50_000;
const LIMITS: [&str; 2] = ["--max-msat-per-mib", "100000"];
const DOWNLOAD_BYTES: u64 = 40 << 20;

/// How often the payer is killed.
fn kills() -> u64 {
    of_soak(300, 50)
}

/// Alice's gateway, Bob's payer and the node of both.
struct House {
    payer: Payer,
    agent: Agent,
    _tunnels: [Tunnel; 2],
    node: Regtest,
    lab: Lab,
}

impl House {
    /// Everything runs; no channel is asked for. Channels expire after `lock_blocks`.
    fn new(lock_blocks: u32) -> Result<Self> {
        Self::run_by(Program::True, lock_blocks)
    }

    fn run_by(program: Program, lock_blocks: u32) -> Result<Self> {
        let lab = Lab::new()?;
        let node = Regtest::start()?;
        let tunnels = [
            Tunnel::open(&lab.gateway, node.port())?,
            Tunnel::open(&lab.subscriber().namespace, node.port())?,
        ];
        let settings = Settings::new(TARIFF).run_by(program).with(&format!(
            "[chain]\nkind = \"bitcoind\"\nurl = {:?}\nnetwork = \"regtest\"\n\
             cookie_file = {:?}\n\n[channels]\npayout_address = \"{}\"\n\
             lock_blocks = {lock_blocks}\nmargin_blocks = 36\n",
            node.url(),
            node.cookie(),
            native_address(&node)?,
        ));
        let agent = Agent::start(&lab, &settings)?;
        let payer = Payer::new(lab.subscriber(), &node)?;
        Ok(Self { payer, agent, _tunnels: tunnels, node, lab })
    }

    fn bob(&self) -> &Subscriber {
        self.lab.subscriber()
    }

    /// Bob connects, the funding is mined, the first update counts. Gives the channel's name.
    fn connect(&mut self) -> Result<String> {
        self.connect_with(&[])
    }

    /// The same, with more arguments.
    fn connect_with(&mut self, words: &[&str]) -> Result<String> {
        self.payer.connect(&self.node, &[&LIMITS, words].concat())?;
        let relayed = self.payer.until("relayed", |_| true)?;
        let funding = relayed["txid"].as_str().context("no txid")?.to_owned();
        until("the node has the funding", || {
            let pool = self.node.call("getrawmempool", &json!([]))?;
            Ok(pool.as_array().is_some_and(|pool| pool.contains(&json!(funding))))
        })?;
        self.node.mine(1)?;
        self.payer.until("paying", |standing| standing["paid_sat"].as_u64() > Some(0))?;
        until("the gate is open", || Ok(self.agent.account(self.bob())?["state"] != "closed"))?;
        Ok(relayed["channel"].as_str().context("no channel")?.to_owned())
    }

    fn download(&self, load: Load) -> Result<Stream> {
        let (client, server) = (&self.bob().namespace, &self.lab.internet);
        Stream::download(Ends { client, server, address: SERVER_V4 }, load)
    }

    /// What the kernel charged Bob, in whole satoshi, rounded up.
    fn charged_sat(&self) -> Result<u64> {
        let meter = self.agent.pins()?.meter(self.bob())?;
        Ok(meter.spent.div_ceil(UNITS_PER_MSAT).div_ceil(1_000))
    }

    /// Mines a block, and gives the transaction of this name from its bytes.
    fn mined(&self, txid: &str) -> Result<Transaction> {
        until("the node has the transaction", || {
            let pool = self.node.call("getrawmempool", &json!([]))?;
            Ok(pool.as_array().is_some_and(|pool| pool.contains(&json!(txid))))
        })?;
        self.node.mine(1)?;
        let hash = self.node.call("getbestblockhash", &json!([]))?;
        let hex = self.node.call("getblock", &json!([hash, 0]))?;
        let block: Block = deserialize_hex(hex.as_str().context("no block")?)?;
        let txid: Txid = txid.parse()?;
        let found = block.txdata.into_iter().find(|tx| tx.compute_txid() == txid);
        found.context("the block does not have it")
    }
}

/// A new address of a kind that closes can pay to.
fn native_address(node: &Regtest) -> Result<String> {
    let address = node.wallet("getnewaddress", &json!(["", "bech32m"]))?;
    Ok(address.as_str().context("no address")?.to_owned())
}

/// Whether the payer says that the gateway charges more than was counted.
fn is_of_the_count(event: &serde_json::Value) -> bool {
    event["message"].as_str().is_some_and(|message| message.contains("this side counted"))
}

/// What `closed` told, compared with the kernel's charges and the block.
fn settles(house: &House, closed: &serde_json::Value) -> Result<()> {
    let charged = house.charged_sat()?;
    let number = |name: &str| closed[name].as_u64().with_context(|| format!("{name}: {closed}"));
    let tx = house.mined(closed["txid"].as_str().context("no txid")?)?;
    let out: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    let fee = BUDGET_SAT - out;
    ensure!(tx.input.len() == 1 && tx.output.len() == 2, "{tx:?}");
    ensure!(tx.output[1].value.to_sat() == charged, "charged {charged}: {tx:?}");
    ensure!(tx.output[0].value.to_sat() == BUDGET_SAT - charged - fee, "{tx:?}");
    ensure!(number("settled_sat")? == charged && number("fee_sat")? == fee, "{closed}");
    ensure!(number("returned_sat")? == BUDGET_SAT - charged - fee, "{closed}");
    Ok(())
}

#[test]
fn a_download_is_paid_as_it_flows_and_ctrl_c_returns_what_was_not_used() -> Result<()> {
    let mut house = House::new(288)?;
    house.connect()?;
    let got = house.download(Load::of(DOWNLOAD_BYTES))?.finish()?;
    ensure!(got == DOWNLOAD_BYTES, "the download ended early: {got}");
    let closed = house.payer.close()?;
    ensure!(closed["unseen_msat"] == 0, "all of it was counted: {closed}");
    ensure!(!house.payer.events().iter().any(is_of_the_count), "{}", house.payer.said());
    let used = closed["used_msat"].as_u64().context("no count")?;
    // Nothing was lost on this cable, so both count the same.
    ensure!(used.div_ceil(1_000) == house.charged_sat()?, "{closed}");
    settles(&house, &closed)
}

/// Whether a receipt's file is for its owner alone, and holds; gives the command's JSON.
fn verified(house: &House, file: &Path) -> Result<serde_json::Value> {
    let mode = std::fs::metadata(file)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{file:?} has mode {mode:o}");
    let done = verify(house, file)?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(serde_json::from_slice(&done.stdout)?)
}

fn verify(house: &House, file: &Path) -> Result<Output> {
    let file = file.to_str().context("no text")?;
    // In the namespace of nobody's LAN: there is nothing to ask.
    let bitmesh = Program::True.path()?;
    let words = [bitmesh.to_str().context("no text")?, "receipt", "verify", file, "--json"];
    house.lab.internet.enter(|| Ok(Command::new(words[0]).args(&words[1..]).output()?))
}

#[test]
fn both_hold_a_receipt_that_both_signed_and_anybody_can_check_it_offline() -> Result<()> {
    let mut house = House::new(288)?;
    let channel = house.connect()?;
    house.download(Load::of(DOWNLOAD_BYTES))?.finish()?;
    let closed = house.payer.close()?;
    let own = house.payer.state().join(format!("receipt-{channel}.json"));
    let theirs = house.payer.folder().join("theirs.json");
    let file = theirs.to_str().context("no text")?;
    let saved = house.agent.command(&["receipt", "save", &channel, file])?;
    ensure!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    let receipt = verified(&house, &own)?;
    ensure!(receipt == verified(&house, &theirs)?, "two receipts");
    let same = std::fs::read(&own)? == std::fs::read(&theirs)?;
    ensure!(same, "the same, to the byte");
    ensure!(receipt["close_txid"] == closed["txid"], "{receipt}");
    let charged = receipt["charged_msat"].as_u64().context("no charge")?;
    ensure!(charged.div_ceil(1_000) == house.charged_sat()?, "{receipt}");
    ensure!(receipt["downlink_bytes"] == house.agent.account(house.bob())?["downlink_bytes"]);
    settles(&house, &closed)?;
    // A receipt that somebody changed is none.
    let text = std::fs::read_to_string(&own)?;
    let bytes = receipt["downlink_bytes"].to_string();
    std::fs::write(&theirs, text.replace(&bytes, &format!("1{bytes}")))?;
    let done = verify(&house, &theirs)?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(!done.status.success() && said.contains("proves nothing"), "{said}");
    Ok(())
}

/// `lan0`'s, made from its MAC address (RFC 4291, appendix A).
const LINK_LOCAL: &str = "fe80::ff:fe00:7701";

#[test]
fn a_gateway_is_paid_over_ipv6_by_its_address_and_by_a_link_local_default_route() -> Result<()> {
    let mut house = House::new(288)?;
    let channel = house.connect_with(&["--gateway", "http://[fd77::1]:2121"])?;
    let (client, server) = (&house.bob().namespace, &house.lab.internet);
    let ends = Ends { client, server, address: SERVER_V6 };
    let got = Stream::download(ends, Load::of(DOWNLOAD_BYTES))?.finish()?;
    ensure!(got == DOWNLOAD_BYTES, "the download ended early: {got}");
    house.payer.end(Signal::SIGKILL)?;
    let bob = &house.bob().namespace;
    bob.ip("route del default")?;
    bob.ip("-6 route del default")?;
    bob.ip(&format!("-6 route add default via {LINK_LOCAL} dev eth0"))?;
    house.payer.connect(&house.node, &LIMITS)?;
    house.payer.until("paying", |_| true)?;
    let closed = house.payer.close()?;
    ensure!(closed["channel"] == channel.as_str(), "another channel: {closed}");
    settles(&house, &closed)
}

/// Small packets, so that each header weighs; a million bytes of headers.
const PACE: Pace = Pace { payload: 64, every: Duration::from_micros(50), packets: Some(80_000) };
/// Longer than from one of the gateway's statements to the next.
const STATEMENT: Duration = Duration::from_secs(3);

fn both_count_the_same(program: Program) -> Result<()> {
    let mut house = House::run_by(program, 288)?;
    house.connect()?;
    let here = Receiver::start(&house.bob().namespace, house.bob().v4())?;
    Sender::start(&house.lab.internet, here.address, PACE)?.finish()?;
    std::thread::sleep(STATEMENT);
    let standing = house.payer.event("paying").context("no standing")?;
    let bytes = standing["downlink_bytes"].as_u64();
    ensure!(bytes > Some(5_000_000), "there was no traffic: {standing}");
    here.stop()?;
    let warned = house.payer.events().iter().any(is_of_the_count);
    hold(!warned, || house.payer.said())
}

#[test]
fn an_honest_gateway_is_not_warned_of() -> Result<()> {
    both_count_the_same(Program::True)
}

#[test]
fn a_gateway_that_bills_a_header_too_much_is_warned_of() -> Result<()> {
    must_be_caught(both_count_the_same(Program::Miscounting))
}

#[test]
fn kill_and_restart_of_the_payer_while_it_pays_loses_nothing_and_the_sums_are_right() -> Result<()>
{
    let mut house = House::new(288)?;
    let channel = house.connect()?;
    let pause = Duration::from_millis(400);
    let stream = house.download(Load { bytes: None, pause })?;
    let mut paid_before = 0;
    for kill in 0..kills() {
        // Another moment of the payer's second each time.
        std::thread::sleep(Duration::from_millis(kill * 137 % 1_100));
        house.payer.end(Signal::SIGKILL)?;
        house.payer.connect(&house.node, &LIMITS)?;
        let resumed = house.payer.until("resumed", |_| true)?;
        ensure!(resumed["channel"] == channel.as_str(), "another channel: {resumed}");
        let paid = resumed["paid_sat"].as_u64().context("nothing paid")?;
        ensure!(paid >= paid_before, "an update was forgotten: {paid} after {paid_before}");
        paid_before = paid;
        let alone = stream.received();
        house.payer.until("paying", |_| true)?;
        until("the download goes on", || Ok(stream.received() > alone))?;
    }
    stream.abort();
    let closed = house.payer.close()?;
    settles(&house, &closed)
}

/// Bob's other addresses.
const OTHER_MAC: &str = "02:00:00:00:77:2a";
const OTHER_V4: &str = "10.77.0.42/24";

/// What all accounts were charged, in msat.
fn charged_msat(house: &House) -> Result<Vec<u64>> {
    let listed = house.agent.ask(&["accounts"])?;
    let accounts = listed["accounts"].as_array().context("no list")?;
    let charged = accounts.iter().map(|account| account["charged_for_bytes_msat"].as_u64());
    charged.collect::<Option<_>>().with_context(|| format!("no charges: {listed}"))
}

#[test]
fn a_payer_whose_mac_address_changes_takes_its_balance_along_and_goes_on() -> Result<()> {
    let mut house = House::new(288)?;
    let channel = house.connect()?;
    let part = DOWNLOAD_BYTES / 2;
    ensure!(house.download(Load::of(part))?.finish()? == part, "the download ended early");
    let bob = &house.lab.subscriber().namespace;
    bob.ip("addr flush dev eth0 scope global")?;
    bob.ip(&format!("link set eth0 address {OTHER_MAC}"))?;
    bob.ip(&format!("addr add {OTHER_V4} dev eth0"))?;
    bob.ip("route replace default via 10.77.0.1")?;
    let moved = house.payer.until("moved", |_| true)?;
    ensure!(moved["mac"] == OTHER_MAC && moved["channel"] == channel.as_str(), "{moved}");
    ensure!(house.download(Load::of(part))?.finish()? == part, "the download ended early");
    let closed = house.payer.close()?;
    ensure!(closed["channel"] == channel.as_str(), "another channel: {closed}");
    let charged = charged_msat(&house)?;
    ensure!(charged.len() == 2 && charged.iter().all(|msat| *msat > 1_000_000), "{charged:?}");
    let all: u64 = charged.iter().sum();
    // Each line is rounded down, and what a channel leaves behind up.
    let settled = closed["settled_sat"].as_u64().context("no sum")?;
    ensure!((all..=all + 2).any(|msat| msat.div_ceil(1_000) == settled), "{all} msat: {closed}");
    Ok(())
}

#[test]
fn a_refund_waits_for_the_expiry_and_then_needs_no_gateway() -> Result<()> {
    let mut house = House::new(42)?;
    let channel = house.connect()?;
    house.payer.end(Signal::SIGKILL)?;
    house.agent.end(Signal::SIGKILL)?;
    let url = house.node.url();
    let refund = ["refund", &channel, "--node", &url, "--json"];
    let early = house.payer.run(&refund)?;
    let said = String::from_utf8_lossy(&early.stdout).into_owned();
    ensure!(!early.status.success() && said.contains("not_before"), "{said}");
    let told: serde_json::Value = serde_json::from_str(&said)?;
    let first = u32::try_from(told["block"].as_u64().context("no block")?)?;
    house.node.mine(first - 2 - house.node.height()?)?;
    ensure!(!house.payer.run(&refund)?.status.success(), "a block too early");
    house.node.mine(1)?;
    let done = house.payer.run(&refund)?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let told: serde_json::Value = serde_json::from_str(&said)?;
    let tx = house.mined(told["txid"].as_str().context("no txid")?)?;
    ensure!(house.node.height()? == first, "mined in the first block that it can be in");
    let fee = told["fee_sat"].as_u64().context("no fee")?;
    ensure!(tx.output.len() == 1 && tx.output[0].value.to_sat() == BUDGET_SAT - fee, "{tx:?}");
    let all = house.payer.run(&["refund", "--all", "--node", &url, "--json"])?;
    let said = String::from_utf8_lossy(&all.stdout).into_owned();
    ensure!(said.contains("\"nothing\""), "it can't be had twice: {said}");
    Ok(())
}

#[test]
fn a_channel_that_the_payer_left_is_closed_later_by_the_command_that_it_was_told() -> Result<()> {
    let mut house = House::new(288)?;
    house.connect()?;
    house.agent.end(Signal::SIGKILL)?;
    let status = house.payer.end(Signal::SIGINT)?;
    ensure!(!status.success(), "nobody is there to close with");
    let said = house.payer.said();
    ensure!(said.contains("--close`, or refunded from block"), "{said}");
    house.agent.launch(&house.lab.gateway)?;
    house.payer.connect(&house.node, &["--close"])?;
    let closed = house.payer.until("closed", |_| true)?;
    let tx = house.mined(closed["txid"].as_str().context("no txid")?)?;
    ensure!(tx.output.len() == 1, "nothing was used, so nothing is charged: {tx:?}");
    Ok(())
}
