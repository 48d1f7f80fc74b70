//! What the server knows of the chain: the real one has an index of its own too.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hashes::Hash as _;
use bitcoin::{Block, BlockHash, OutPoint, Script, Transaction, TxOut, Txid};
use bitmesh::chain::bitcoind::{Rpc, RpcConfig};
use serde_json::{Value, json};

/// Transactions of the mempool that are remembered, at most; more are a mistake of the test.
const MAX_REMEMBERED: usize = 10_000;

/// A transaction, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) tx: Transaction,
    /// Height and hash of its block, or none in the mempool.
    pub(super) block: Option<(usize, BlockHash)>,
}

/// Best chain and mempool.
#[derive(Debug)]
pub(super) struct Index {
    rpc: Rpc,
    blocks: HashMap<BlockHash, Arc<Block>>,
    /// By height.
    pub(super) best: Vec<BlockHash>,
    txs: HashMap<Txid, Transaction>,
    pub(super) mempool: Vec<Txid>,
    /// Blocks at the top that it has not read yet.
    pub(super) lag: usize,
}

impl Index {
    pub(super) fn new(config: RpcConfig) -> Result<Self> {
        let rpc = Rpc::new(config)?;
        let (blocks, txs) = (HashMap::new(), HashMap::new());
        Ok(Self { rpc, blocks, best: Vec::new(), txs, mempool: Vec::new(), lag: 0 })
    }

    /// Asks the node anything.
    pub(super) fn call(
        &self,
        method: &'static str,
        params: &Value,
    ) -> Result<Value, bitmesh::chain::ChainError> {
        self.rpc.call(method, params)
    }

    /// Reads on.
    pub(super) fn update(&mut self) -> Result<()> {
        let tip: BlockHash = serde_json::from_value(self.call("getbestblockhash", &json!([]))?)?;
        if self.best.last() != Some(&tip) || self.lag > 0 {
            self.best = self.chain_to(tip)?;
            self.best.truncate(self.best.len().saturating_sub(self.lag));
        }
        self.mempool = serde_json::from_value(self.call("getrawmempool", &json!([]))?)?;
        if self.txs.len() > MAX_REMEMBERED {
            self.txs.clear();
        }
        for txid in self.mempool.clone() {
            if !self.txs.contains_key(&txid) {
                // It may have left meanwhile.
                let Ok(hex) = self.call("getrawtransaction", &json!([txid])) else { continue };
                self.txs.insert(txid, deserialize_hex(hex.as_str().context("no hex")?)?);
            }
        }
        let txs = &self.txs;
        self.mempool.retain(|txid| txs.contains_key(txid));
        Ok(())
    }

    fn chain_to(&mut self, tip: BlockHash) -> Result<Vec<BlockHash>> {
        let (mut chain, mut hash) = (Vec::new(), tip);
        while hash != BlockHash::all_zeros() {
            if !self.blocks.contains_key(&hash) {
                let hex = self.call("getblock", &json!([hash, 0]))?;
                let block: Block = deserialize_hex(hex.as_str().context("no hex")?)?;
                self.blocks.insert(hash, Arc::new(block));
            }
            chain.push(hash);
            hash = self.blocks[&hash].header.prev_blockhash;
        }
        chain.reverse();
        Ok(chain)
    }

    pub(super) fn block(&self, hash: &BlockHash) -> Option<(usize, Arc<Block>)> {
        let height = self.best.iter().position(|other| other == hash)?;
        Some((height, Arc::clone(self.blocks.get(hash)?)))
    }

    /// All blocks of the best chain, newest first.
    fn newest_first(&self) -> impl Iterator<Item = (usize, BlockHash, &Block)> {
        let numbered = self.best.iter().enumerate().rev();
        numbered.map(|(height, hash)| (height, *hash, &*self.blocks[hash]))
    }

    /// A transaction in the best chain or the mempool.
    pub(super) fn tx(&self, txid: &Txid) -> Option<Found> {
        if self.mempool.contains(txid) {
            return Some(Found { tx: self.txs.get(txid)?.clone(), block: None });
        }
        self.newest_first().find_map(|(height, hash, block)| {
            let tx = block.txdata.iter().find(|tx| tx.compute_txid() == *txid)?;
            Some(Found { tx: tx.clone(), block: Some((height, hash)) })
        })
    }

    /// Who spends it, and with which input.
    pub(super) fn spend(&self, outpoint: &OutPoint) -> Option<(Found, usize)> {
        let by = |tx: &Transaction| tx.input.iter().position(|i| i.previous_output == *outpoint);
        let in_chain = self.newest_first().find_map(|(height, hash, block)| {
            let (tx, vin) = block.txdata.iter().find_map(|tx| Some((tx, by(tx)?)))?;
            Some((Found { tx: tx.clone(), block: Some((height, hash)) }, vin))
        });
        in_chain.or_else(|| {
            self.mempool_txs().find_map(|tx| {
                let vin = by(tx)?;
                Some((Found { tx: tx.clone(), block: None }, vin))
            })
        })
    }

    /// The output that an input spends.
    pub(super) fn output(&self, outpoint: &OutPoint) -> Option<TxOut> {
        let found = self.tx(&outpoint.txid)?;
        found.tx.output.get(usize::try_from(outpoint.vout).ok()?).cloned()
    }

    fn mempool_txs(&self) -> impl Iterator<Item = &Transaction> {
        self.mempool.iter().filter_map(|txid| self.txs.get(txid))
    }

    /// The transactions in the mempool that pay from or to a script of which this is true.
    pub(super) fn mempool_of(&self, is: impl Fn(&Script) -> bool) -> Vec<Transaction> {
        let concerns = |tx: &&Transaction| {
            tx.output.iter().any(|output| is(&output.script_pubkey))
                || tx.input.iter().any(|input| {
                    self.output(&input.previous_output).is_some_and(|o| is(&o.script_pubkey))
                })
        };
        self.mempool_txs().filter(concerns).cloned().collect()
    }
}
