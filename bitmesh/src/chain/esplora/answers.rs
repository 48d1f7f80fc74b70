//! What of a server's answers is read.

use std::collections::BTreeMap;

use bitcoin::{BlockHash, Txid};
use serde::Deserialize;

use crate::chain::event::Block;

/// Of `GET /block/:hash`, and of each block in `GET /blocks/:height`.
#[derive(Deserialize)]
pub(super) struct BlockSummary {
    pub(super) id: BlockHash,
    pub(super) height: u32,
    pub(super) timestamp: u32,
}

/// Where a transaction is.
#[derive(Deserialize)]
pub(super) struct Status {
    confirmed: bool,
    block_height: Option<u32>,
    block_hash: Option<BlockHash>,
}

impl Status {
    /// Its block, or none while it is in the mempool.
    pub(super) fn block(&self) -> Option<Block> {
        let block = Block { height: self.block_height?, hash: self.block_hash? };
        self.confirmed.then_some(block)
    }

    /// It says where its block is, or that there is none.
    pub(super) fn is_whole(&self) -> bool {
        !self.confirmed || self.block().is_some()
    }
}

/// Of `GET /tx/:txid`, and of each transaction in `GET /scripthash/:hash/txs/mempool`.
#[derive(Deserialize)]
pub(super) struct TxSummary {
    pub(super) txid: Txid,
    pub(super) vout: Vec<serde::de::IgnoredAny>,
    pub(super) status: Status,
}

/// Of `GET /tx/:txid/outspend/:vout`.
#[derive(Deserialize)]
pub(super) struct Outspend {
    pub(super) spent: bool,
    pub(super) txid: Option<Txid>,
    pub(super) status: Option<Status>,
}

/// Of `GET /fee-estimates`: sat/vB for each number of blocks. Empty if nothing is known.
pub(super) type FeeEstimates = BTreeMap<u16, f64>;
