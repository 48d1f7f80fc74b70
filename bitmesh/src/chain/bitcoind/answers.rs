//! What of a node's answers is read.

use bitcoin::{BlockHash, Txid};
use serde::Deserialize;

/// Of `getblockchaininfo`.
#[derive(Deserialize)]
pub(super) struct ChainInfo {
    pub(super) blocks: u32,
    pub(super) headers: u32,
    #[serde(rename = "bestblockhash")]
    pub(super) best: BlockHash,
    /// Since version 23.
    pub(super) time: u32,
    #[serde(rename = "initialblockdownload")]
    pub(super) catching_up: bool,
    #[serde(rename = "pruneheight")]
    pub(super) pruned_below: Option<u32>,
}

/// Of `getmempoolinfo`. In BTC for 1,000 vB.
#[derive(Deserialize)]
pub(super) struct MempoolInfo {
    #[serde(rename = "mempoolminfee")]
    pub(super) min_fee: f64,
    #[serde(rename = "minrelaytxfee")]
    pub(super) min_relay_fee: f64,
    /// Bitcoin Knots: `enforce`, `accept` or `reject`.
    pub(super) truc_policy: Option<String>,
}

/// Of `getnetworkinfo`.
#[derive(Deserialize)]
pub(super) struct NetworkInfo {
    pub(super) version: u32,
    pub(super) subversion: String,
    #[serde(rename = "localrelay")]
    pub(super) relays: bool,
}

/// Of `estimatesmartfee`. In BTC for 1,000 vB; none if nothing could be estimated.
#[derive(Deserialize)]
pub(super) struct SmartFee {
    pub(super) feerate: Option<f64>,
}

/// Of `gettxout`.
#[derive(Deserialize)]
pub(super) struct TxOutInfo {
    #[serde(rename = "bestblock")]
    pub(super) tip: BlockHash,
    pub(super) confirmations: u32,
}

/// Of `getblockheader`.
#[derive(Deserialize)]
pub(super) struct HeaderInfo {
    pub(super) height: u32,
    /// -1 off the best chain.
    pub(super) confirmations: i64,
}

/// Of `gettxspendingprevout`.
#[derive(Deserialize)]
pub(super) struct Spending {
    #[serde(rename = "spendingtxid")]
    pub(super) by: Option<Txid>,
}
