//! A lab with a node beside the gateway, and an agent that sells channels.

use anyhow::{Context as _, Result};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Address, Amount, Block, Network, OutPoint, ScriptBuf, Transaction, TxOut};
use bitmesh_core::channel::OutputScript;
use serde_json::{Value, json};

use crate::agent::{Agent, Settings, Tariff};
use crate::lab::Lab;
use crate::regtest::Regtest;
use crate::wait::until;

/// The terms, but for the address and how long a channel lives.
const TERMS: &str = "min_capacity_sat = 20000\nmax_capacity_sat = 1000000\nmargin_blocks = 36\n";

/// How long a channel lives, in blocks: its last call comes soon.
const LOCK_BLOCKS: u32 = 60;

/// What a double-spend pays above the first.
const MORE_FEE: Amount = Amount::from_sat(50_000);

/// All of it. The node is in the gateway's namespace.
#[derive(Debug)]
pub struct Market {
    /// The gateway.
    pub agent: Agent,
    /// Its node, whose wallet also pays the fundings.
    pub node: Regtest,
    /// Where closes pay the gateway.
    pub payout: Address,
    /// Where all of them are.
    pub lab: Lab,
}

impl Market {
    /// 1 sat a KiB, both ways: a whole satoshi buys whole bytes.
    pub const TARIFF: Tariff = Tariff::bytes(1_024_000);

    /// What a satoshi buys.
    pub const BYTES_PER_SAT: u64 = 1_024;

    /// A gateway that is ready to sell to so many.
    ///
    /// # Errors
    ///
    /// Fails without root, and without a node.
    pub fn with_subscribers(count: u8) -> Result<Self> {
        Self::with_tables(count, "")
    }

    /// The same with more tables in the configuration.
    ///
    /// # Errors
    ///
    /// Fails without root, and without a node.
    pub fn with_tables(count: u8, tables: &str) -> Result<Self> {
        let terms = format!("lock_blocks = {LOCK_BLOCKS}\n{TERMS}\n{tables}");
        Self::paid_at(count, &terms, |_, payout| Ok(format!("payout_address = \"{payout}\"")))
    }

    /// The same with one subscriber, and channels that live for so many blocks.
    ///
    /// # Errors
    ///
    /// Fails without root, and without a node.
    pub fn with_long_channels(lock_blocks: u32) -> Result<Self> {
        let terms = format!("lock_blocks = {lock_blocks}\n{TERMS}");
        Self::paid_at(1, &terms, |_, payout| Ok(format!("payout_address = \"{payout}\"")))
    }

    /// The same, with a new output of the node's wallet for each channel.
    ///
    /// # Errors
    ///
    /// Fails without root, and without a node.
    pub fn with_descriptor(count: u8) -> Result<Self> {
        let terms = format!("lock_blocks = {LOCK_BLOCKS}\n{TERMS}");
        Self::paid_at(count, &terms, |node, _| {
            Ok(format!("payout_descriptor = {:?}", descriptor(node)?))
        })
    }

    fn paid_at(
        count: u8,
        terms: &str,
        payout_line: impl FnOnce(&Regtest, &Address) -> Result<String> + Send,
    ) -> Result<Self> {
        let lab = Lab::with_subscribers(count)?;
        lab.real_segments()?;
        let node = lab.gateway.enter(Regtest::start)?;
        let payout = lab.gateway.enter(|| native_address(&node))?;
        let payout_line = lab.gateway.enter(|| payout_line(&node, &payout))?;
        let chain = format!(
            "[chain]\nkind = \"bitcoind\"\nurl = {:?}\nnetwork = \"regtest\"\ncookie_file = {:?}\n\n\
             [channels]\n{payout_line}\n{terms}",
            node.url(),
            node.cookie(),
        );
        let agent = Agent::start(&lab, &Settings::new(Self::TARIFF).with(&chain))?;
        let market = Self { agent, node, payout, lab };
        market.chain_is("following")?;
        Ok(market)
    }

    /// Asks the node something, where it is.
    ///
    /// # Errors
    ///
    /// As `ask` does.
    pub fn node<T: Send>(&self, ask: impl FnOnce(&Regtest) -> Result<T> + Send) -> Result<T> {
        self.lab.gateway.enter(|| ask(&self.node))
    }

    /// Mines, and waits until the gateway has seen it.
    ///
    /// # Errors
    ///
    /// Fails if it does not see it.
    pub fn mine(&self, blocks: u32) -> Result<()> {
        self.node(|node| node.mine(blocks))?;
        let height = self.node(Regtest::height)?;
        until("the gateway sees the block", || {
            Ok(self.agent.ask(&["status"])?["chain"]["height"] == height)
        })
    }

    /// Mines one block and gives it.
    ///
    /// # Errors
    ///
    /// As [`Self::mine`].
    pub fn next_block(&self) -> Result<Block> {
        self.mine(1)?;
        let hash = self.node(|node| node.call("getbestblockhash", &json!([])))?;
        let raw = self.node(|node| node.call("getblock", &json!([hash, 0])))?;
        Ok(deserialize_hex(raw.as_str().context("no block")?)?)
    }

    /// Waits until so many transactions, or more, wait at the node.
    ///
    /// # Errors
    ///
    /// Fails if they don't come.
    pub fn node_holds(&self, count: usize) -> Result<()> {
        until("the node has the transactions", || {
            let txids = self.node(|node| node.call("getrawmempool", &json!([])))?;
            Ok(txids.as_array().is_some_and(|txids| txids.len() >= count))
        })
    }

    /// Waits until the gateway says that the chain is so.
    ///
    /// # Errors
    ///
    /// Fails if it does not say so, with what it says.
    pub fn chain_is(&self, state: &str) -> Result<()> {
        let waited = until(&format!("the chain is {state}"), || {
            Ok(self.agent.ask(&["status"])?["chain"]["state"] == state)
        });
        waited.with_context(|| self.agent.said())
    }

    /// A script of the wallet, for change.
    ///
    /// # Errors
    ///
    /// Fails if the node does not answer.
    pub fn script(&self) -> Result<OutputScript> {
        let address = self.node(native_address)?;
        Ok(OutputScript::new(address.script_pubkey())?)
    }

    /// A payment that is signed and not sent. Its coins are set aside.
    ///
    /// # Errors
    ///
    /// Fails if the wallet has too little.
    pub fn signed_payment(&self, to: &Address, amount: Amount) -> Result<Transaction> {
        let outputs = json!({ to.to_string(): amount.to_btc() });
        let options = json!({"add_to_wallet": false, "lock_unspents": true});
        let params = json!([outputs, null, "unset", 2, options]);
        let sent = self.node(|node| node.wallet("send", &params))?;
        Ok(deserialize_hex(sent["hex"].as_str().context("no transaction")?)?)
    }

    /// Broadcasts a transaction, and gives what the node says.
    ///
    /// # Errors
    ///
    /// Fails with the node's words if it refuses.
    pub fn broadcast(&self, tx: &Transaction) -> Result<Value> {
        let raw = bitcoin::consensus::encode::serialize_hex(tx);
        self.node(|node| node.call("sendrawtransaction", &json!([raw])))
    }

    /// Pays the coins of a transaction that is not confirmed to somebody else, for more fee.
    ///
    /// # Errors
    ///
    /// Fails if the node refuses, or if there is not enough for the fee.
    pub fn double_spend(&self, tx: &Transaction) -> Result<()> {
        let coin = |outpoint: OutPoint| json!({"txid": outpoint.txid, "vout": outpoint.vout});
        let inputs: Vec<Value> = tx.input.iter().map(|input| coin(input.previous_output)).collect();
        let out: Amount = tx.output.iter().map(|output| output.value).sum();
        let back = out.checked_sub(MORE_FEE).context("too little for the fee")?;
        let address = self.node(Regtest::address)?.to_string();
        let params = json!([inputs, [{ address: back.to_btc() }]]);
        let raw = self.node(|node| node.call("createrawtransaction", &params))?;
        let params = json!([raw]);
        let signed = self.node(|node| node.wallet("signrawtransactionwithwallet", &params))?;
        let rival: Transaction = deserialize_hex(signed["hex"].as_str().context("not signed")?)?;
        self.broadcast(&rival).map(drop)
    }

    /// Waits until the gateway has a channel in this state, and gives its sentence.
    ///
    /// # Errors
    ///
    /// Fails if it has not, with what it has.
    pub fn ends(&self, channel: &str, state: &str) -> Result<String> {
        let waited = until(&format!("{channel} is {state}"), || {
            Ok(self.row(channel).is_ok_and(|row| row["state"] == state))
        });
        waited.with_context(|| format!("{:?}", self.row(channel)))?;
        Ok(self.row(channel)?["sentence"].as_str().unwrap_or_default().to_owned())
    }

    /// The gateway's row of a channel.
    ///
    /// # Errors
    ///
    /// Fails if it has none.
    pub fn row(&self, channel: &str) -> Result<Value> {
        let listed = self.agent.ask(&["channels"])?;
        let rows = listed["channels"].as_array().context("no list")?;
        let row = rows.iter().find(|row| row["channel"] == channel);
        row.cloned().with_context(|| format!("no such channel: {listed}"))
    }
}

/// An address of the wallet that a close can pay to.
///
/// # Errors
///
/// Fails without a wallet.
pub fn native_address(node: &Regtest) -> Result<Address> {
    let address = node.wallet("getnewaddress", &json!(["", "bech32m"]))?;
    let address: Address<_> = address.as_str().context("no address")?.parse()?;
    Ok(address.require_network(Network::Regtest)?)
}

/// What the wallet receives with, as Taproot outputs: public keys alone.
fn descriptor(node: &Regtest) -> Result<String> {
    let listed = node.wallet("listdescriptors", &json!([]))?;
    let all = listed["descriptors"].as_array().context("no descriptors")?;
    let receives = |entry: &&Value| {
        entry["internal"] == false
            && entry["desc"].as_str().is_some_and(|text| text.starts_with("tr("))
    };
    let found = all.iter().find(receives).and_then(|entry| entry["desc"].as_str());
    Ok(found.context("no Taproot descriptor")?.to_owned())
}

/// What a transaction pays to a script, in satoshi.
#[must_use]
pub fn paid(tx: &Transaction, script: &ScriptBuf) -> u64 {
    let to = |output: &&TxOut| output.script_pubkey == *script;
    tx.output.iter().filter(to).map(|output| output.value.to_sat()).sum()
}

/// The transaction of a block that spends this.
///
/// # Errors
///
/// Fails if none does.
pub fn spender(block: &Block, outpoint: OutPoint) -> Result<Transaction> {
    let spends = |tx: &&Transaction| tx.input.iter().any(|i| i.previous_output == outpoint);
    block.txdata.iter().find(spends).cloned().context("the block does not spend the channel")
}
