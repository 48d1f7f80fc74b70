//! The second act: Bob pays through a channel, with nobody in between.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::show::grouped;
use super::stage::{Stage, Table};
use super::visitor::{Purse, Visitor};
use crate::lab::SERVER_V4;
use crate::pins::Pins;
use crate::tcp::{Ends, Load, Stream};
use crate::wait::{until, until_within};

/// What a channel of the play holds.
const BUDGET_SAT: u64 = 100_000;
/// More than the price.
const MAX_MSAT_PER_MIB: u64 = 2_000_000;

/// 24 MiB in about six seconds; payments stop after a third of it.
const LONG: Load = Load { bytes: Some(24 << 20), pause: Duration::from_millis(60) };
const PAUSE_AT_BYTES: u64 = 8 << 20;
/// What the second session downloads.
const SHORT: Load = Load { bytes: Some(4 << 20), pause: Duration::from_millis(60) };

/// How long the gateway may take to close alone: it gives the payer half of that.
const CLOSE_PATIENCE: Duration = Duration::from_secs(60);

/// What came out of the channels.
#[derive(Clone, Debug, Default)]
pub struct Trade {
    /// What went into them.
    pub funded_sat: u64,
    /// What the gateway got.
    pub settled_sat: u64,
    /// What Bob got back.
    pub returned_sat: u64,
    /// What the miners got.
    pub fee_sat: u64,
    /// How many updates Bob signed.
    pub updates: u64,
    /// Everything that differs from what it must be.
    pub faults: Vec<String>,
}

impl Trade {
    fn hold(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(fault());
        }
    }

    /// Adds a closed channel, with what the mined transaction really pays.
    fn settle(&mut self, line: &Value, mined: Mined) {
        let number = |key: &str| line[key].as_u64().unwrap_or_default();
        let said = [number("settled_sat"), number("returned_sat"), number("fee_sat")];
        let found = [mined.to_gateway, mined.to_bob, mined.fee];
        self.hold(said == found, || format!("the gateway says {said:?}, the block {found:?}"));
        let all: u64 = found.iter().sum();
        self.hold(all == number("capacity_sat"), || format!("{all} sat of {line}"));
        self.funded_sat += number("capacity_sat");
        self.settled_sat += mined.to_gateway;
        self.returned_sat += mined.to_bob;
        self.fee_sat += mined.fee;
    }
}

/// What a transaction in a block pays, read from the block alone.
#[derive(Clone, Copy, Debug)]
struct Mined {
    to_gateway: u64,
    to_bob: u64,
    fee: u64,
}

impl Stage<'_> {
    /// Two sessions: one that both sides close, and one that the gateway closes alone.
    ///
    /// # Errors
    ///
    /// Fails if something could not be done; a wrong amount is an outcome.
    pub fn trade(&self) -> Result<Trade> {
        let state = TempDir::with_prefix("bitmesh-bob-")?;
        let mut trade = Trade::default();
        let pins = self.agent.pins()?;
        self.show.say("second-act", "\nNow Bob pays himself, through a channel of bitcoin");
        let visitor = self.connect(&state)?;
        self.pause_and_resume(&visitor, &pins, &mut trade)?;
        self.close_together(visitor, &mut trade)?;
        let visitor = self.connect(&state)?;
        self.close_alone(visitor, &pins, &mut trade)?;
        Ok(trade)
    }

    /// Bob connects, his channel is funded and mined, and his first payment opens the gate.
    fn connect(&self, state: &TempDir) -> Result<Visitor> {
        let height = self.at_node(|node| node.height())?;
        let purse = Purse {
            max_msat_per_mib: MAX_MSAT_PER_MIB,
            budget_sat: BUDGET_SAT,
            change_to: &self.wallets.bob,
            tip_height: height,
        };
        let bob = &self.lab.subscriber().namespace;
        let mut visitor = Visitor::start(bob, state.path(), &purse)?;
        let fund = visitor.wait_for("fund", |_| true)?;
        let (address, amount) = (fund["address"].clone(), BUDGET_SAT as f64 / 1e8);
        let text = format!(
            "Bob took the offer; his wallet pays {} sat to the channel's address",
            grouped(BUDGET_SAT)
        );
        self.show.say("fund", &text);
        self.at_node(|node| {
            node.wallet("sendtoaddress", &json!([address, amount]))?;
            node.mine(1)
        })?;
        let paid = |event: &Value| event["paid_sat"].as_u64() > Some(0);
        let paying = visitor.wait_for("paying", paid)?;
        let text = format!(
            "a block confirms it, the first update pays {} sat: the gate is open",
            paying["paid_sat"]
        );
        self.show.say("paying", &text);
        Ok(visitor)
    }

    /// Payments stop in the middle of a download, and so does the download; both go on.
    fn pause_and_resume(&self, visitor: &Visitor, pins: &Pins, trade: &mut Trade) -> Result<()> {
        let bob = self.lab.subscriber();
        let ends = Ends { client: &bob.namespace, server: &self.lab.internet, address: SERVER_V4 };
        self.show.say("download", "a download, and an update for each bit of it");
        self.show.heads();
        let mut table = Table::new(self, pins);
        let dropped = pins.meter(bob)?.dropped_unpaid;
        let download = Stream::download(ends, LONG)?;
        while download.received() < PAUSE_AT_BYTES {
            table.wait()?;
        }
        visitor.signal(Signal::SIGSTOP)?;
        self.show.say("payments-stop", "Bob's payments stop (SIGSTOP)");
        while pins.meter(bob)?.dropped_unpaid == dropped {
            table.wait()?;
        }
        table.wait()?;
        let (meter, account) = (pins.meter(bob)?, pins.account(bob)?);
        trade.hold(meter.spent <= account.prepaid, || format!("overdrawn: {meter:?}"));
        trade.hold(download.received() < 24 << 20, || "the download never stalled".to_owned());
        self.show.say("closed", "the gate closed at the packet that was not paid for");
        visitor.signal(Signal::SIGCONT)?;
        self.show.say("payments-resume", "his payments resume, and so does the same download");
        while download.received() < LONG.bytes.unwrap_or(0) {
            table.wait()?;
        }
        let got = download.finish()?;
        ensure!(Some(got) == LONG.bytes, "the download ended after {got} bytes");
        Ok(())
    }

    /// Ctrl-C: both sign one transaction, and a block confirms it.
    fn close_together(&self, visitor: Visitor, trade: &mut Trade) -> Result<()> {
        self.count_updates(&visitor, trade);
        let closed = visitor.close()?;
        let channel = closed["channel"].as_str().context("no channel")?.to_owned();
        self.at_node(|node| node.mine(1))?;
        let line = self.channel(&channel, "closed_together")?;
        let mined = self.mined(&line)?;
        let charged_sat = line["charged_msat"].as_u64().unwrap_or_default().div_ceil(1_000);
        trade.hold(mined.to_gateway == charged_sat, || {
            format!("{charged_sat} sat are due, the block pays {}", mined.to_gateway)
        });
        trade.settle(&line, mined);
        self.show_settled("closed-together", "Bob closes: in one transaction", mined);
        Ok(())
    }

    /// Bob is gone for good; the gateway closes with his newest update.
    fn close_alone(&self, visitor: Visitor, pins: &Pins, trade: &mut Trade) -> Result<()> {
        let bob = self.lab.subscriber();
        let ends = Ends { client: &bob.namespace, server: &self.lab.internet, address: SERVER_V4 };
        self.show.heads();
        let mut table = Table::new(self, pins);
        let download = Stream::download(ends, SHORT)?;
        while download.received() < SHORT.bytes.unwrap_or(0) {
            table.wait()?;
        }
        download.finish()?;
        self.count_updates(&visitor, trade);
        let fund = visitor.newest("fund").context("no funding")?;
        let channel = fund["channel"].as_str().context("no channel")?.to_owned();
        drop(visitor);
        self.show.say("gone", "Bob's device is gone; the operator closes the channel alone");
        self.agent.ask(&["close", &channel])?;
        self.show.say("grace", "it waits half a minute for Bob, since closing together is cheaper");
        until_within(CLOSE_PATIENCE, "the close is in the mempool", || {
            self.at_node(|node| Ok(node.call("getrawmempool", &json!([]))? != json!([])))
        })?;
        self.at_node(|node| node.mine(1))?;
        let line = self.channel(&channel, "closed_alone")?;
        let mined = self.mined(&line)?;
        trade.settle(&line, mined);
        self.show_settled("closed-alone", "the gateway closed with Bob's newest update", mined);
        Ok(())
    }

    fn show_settled(&self, event: &str, what: &str, mined: Mined) {
        let [gateway, bob, fee] = [mined.to_gateway, mined.to_bob, mined.fee].map(grouped);
        let text =
            format!("{what}: {gateway} sat to the gateway, {bob} sat back to Bob, {fee} sat fee");
        self.show.say(event, &text);
    }

    fn count_updates(&self, visitor: &Visitor, trade: &mut Trade) {
        let newest = visitor.newest("paying");
        trade.updates += newest.and_then(|event| event["updates"].as_u64()).unwrap_or_default();
    }

    /// The gateway's line of a channel, once it is in this state.
    fn channel(&self, channel: &str, state: &str) -> Result<Value> {
        let mut found = Value::Null;
        until(&format!("the channel is {state}"), || {
            if self.interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            let listed = self.agent.ask(&["channels"])?;
            let lines = listed["channels"].as_array().context("no channels")?;
            let line = lines.iter().find(|line| line["channel"] == channel);
            found = line.cloned().unwrap_or_default();
            Ok(found["state"] == state)
        })
        .with_context(|| found.to_string())?;
        Ok(found)
    }

    /// What the newest block says of the transaction that closed this channel.
    fn mined(&self, line: &Value) -> Result<Mined> {
        let block = self.at_node(|node| {
            let tip = node.call("getbestblockhash", &json!([]))?;
            node.call("getblock", &json!([tip, 2]))
        })?;
        let txs = block["tx"].as_array().context("no transactions")?;
        let tx = txs.iter().find(|tx| tx["txid"] == line["closing_txid"]);
        let outputs = tx.context("the close is not in the block")?["vout"].clone();
        let paid = |to: &str| -> u64 {
            let own = |output: &&Value| output["scriptPubKey"]["address"] == to;
            let sat = |output: &Value| (output["value"].as_f64().unwrap_or_default() * 1e8).round();
            outputs.as_array().into_iter().flatten().filter(own).map(|o| sat(o) as u64).sum()
        };
        let (to_gateway, to_bob) = (paid(&self.wallets.gateway), paid(&self.wallets.bob));
        let capacity = line["capacity_sat"].as_u64().unwrap_or_default();
        let fee = capacity.checked_sub(to_gateway + to_bob).context("it pays too much")?;
        Ok(Mined { to_gateway, to_bob, fee })
    }
}
