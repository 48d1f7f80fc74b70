//! A lab with a node beside the gateway, and an agent that sells channels.

use anyhow::{Context as _, Result};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Address, Amount, Block, Network, ScriptBuf, Transaction, TxOut};
use bitmesh_core::channel::OutputScript;
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::lab::Lab;
use bitmesh_tests::regtest::Regtest;
use serde_json::{Value, json};

/// 1 sat a KiB, both ways.
pub(crate) const TARIFF: Tariff = Tariff::bytes(1_024_000);

/// The terms, but for the address.
const TERMS: &str = "min_capacity_sat = 20000\nmax_capacity_sat = 1000000\n\
                     lock_blocks = 60\nmargin_blocks = 36\n";

/// All of it.
pub(crate) struct World {
    pub(crate) agent: Agent,
    pub(crate) node: Regtest,
    pub(crate) payout: Address,
    pub(crate) lab: Lab,
}

impl World {
    pub(crate) fn with_subscribers(count: u8) -> Result<Self> {
        let lab = Lab::with_subscribers(count)?;
        let node = lab.gateway.enter(Regtest::start)?;
        let payout = lab.gateway.enter(|| native_address(&node))?;
        let chain = format!(
            "[chain]\nkind = \"bitcoind\"\nurl = {:?}\nnetwork = \"regtest\"\ncookie_file = {:?}\n\n\
             [channels]\npayout_address = \"{payout}\"\n{TERMS}",
            node.url(),
            node.cookie(),
        );
        let agent = Agent::start(&lab, &Settings::new(TARIFF).with(&chain))?;
        let world = Self { agent, node, payout, lab };
        world.chain_is("following")?;
        Ok(world)
    }

    /// Asks the node something, where it is.
    pub(crate) fn node<T: Send>(
        &self,
        ask: impl FnOnce(&Regtest) -> Result<T> + Send,
    ) -> Result<T> {
        self.lab.gateway.enter(|| ask(&self.node))
    }

    /// Mines, and waits until the gateway has seen it.
    pub(crate) fn mine(&self, blocks: u32) -> Result<()> {
        self.node(|node| node.mine(blocks))?;
        let height = self.node(Regtest::height)?;
        bitmesh_tests::wait::until("the gateway sees the block", || {
            Ok(self.agent.ask(&["status"])?["chain"]["height"] == height)
        })
    }

    /// Mines one block and gives it.
    pub(crate) fn next_block(&self) -> Result<Block> {
        self.mine(1)?;
        let hash = self.node(|node| node.call("getbestblockhash", &json!([])))?;
        let raw = self.node(|node| node.call("getblock", &json!([hash, 0])))?;
        Ok(deserialize_hex(raw.as_str().context("no block")?)?)
    }

    pub(crate) fn chain_is(&self, state: &str) -> Result<()> {
        let waited = bitmesh_tests::wait::until(&format!("the chain is {state}"), || {
            Ok(self.agent.ask(&["status"])?["chain"]["state"] == state)
        });
        waited.with_context(|| self.agent.said())
    }

    /// A script of the wallet, for change.
    pub(crate) fn script(&self) -> Result<OutputScript> {
        let address = self.node(native_address)?;
        Ok(OutputScript::new(address.script_pubkey())?)
    }

    /// A payment that is signed and not sent.
    pub(crate) fn signed_payment(&self, to: &Address, amount: Amount) -> Result<Transaction> {
        let outputs = json!({ to.to_string(): amount.to_btc() });
        let options = json!({"add_to_wallet": false});
        let params = json!([outputs, null, "unset", 2, options]);
        let sent = self.node(|node| node.wallet("send", &params))?;
        Ok(deserialize_hex(sent["hex"].as_str().context("no transaction")?)?)
    }

    /// The row of a channel.
    pub(crate) fn row(&self, channel: &str) -> Result<Value> {
        let listed = self.agent.ask(&["channels"])?;
        let rows = listed["channels"].as_array().context("no list")?;
        let row = rows.iter().find(|row| row["channel"] == channel);
        row.cloned().with_context(|| format!("no such channel: {listed}"))
    }
}

/// An address of the wallet that a close can pay to.
fn native_address(node: &Regtest) -> Result<Address> {
    let address = node.wallet("getnewaddress", &json!(["", "bech32m"]))?;
    let address: Address<_> = address.as_str().context("no address")?.parse()?;
    Ok(address.require_network(Network::Regtest)?)
}

/// What a transaction of a block pays to a script.
pub(crate) fn paid(tx: &Transaction, script: &ScriptBuf) -> u64 {
    let to = |output: &&TxOut| output.script_pubkey == *script;
    tx.output.iter().filter(to).map(|output| output.value.to_sat()).sum()
}

/// The transaction of a block that spends this.
pub(crate) fn spender(block: &Block, outpoint: bitcoin::OutPoint) -> Result<Transaction> {
    let spends = |tx: &&Transaction| tx.input.iter().any(|i| i.previous_output == outpoint);
    block.txdata.iter().find(spends).cloned().context("the block does not spend the channel")
}
