//! The questions of a follower, in the words of a node.

use std::collections::BTreeSet;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::constants::genesis_block;
use bitcoin::{Amount, BlockHash, FeeRate, Network, OutPoint, Script, Transaction, Txid};
use serde_json::{Value, json};

use super::answers::{
    ChainInfo, HeaderInfo, MempoolInfo, NetworkInfo, SmartFee, Spending, TxOutInfo,
};
use super::rpc::{Rpc, nonsense, refused};
use crate::chain::event::{Block, Broadcast, Features, FeeEstimate, FeeSource, Tip, Truc};
use crate::chain::refusal::refusal;
use crate::chain::{ChainError, MAX_FEE_RATE, MIN_FEE_RATE, Node, Output};

/// Outpoints in one question, at most.
const MAX_OUTPOINTS: usize = 1_000;

/// How often an output is looked up anew because the chain changed meanwhile.
const MAX_LOOK_UPS: usize = 3;

/// Blocks within which an estimate can be asked for, at most.
const MAX_TARGET_BLOCKS: u16 = 1_008;

/// The first version of Bitcoin Core that relays and limits version-3 transactions.
const FIRST_TRUC: u32 = 280_000;

/// RPC error: a block is unknown or not there.
const MISC_ERROR: i64 = -1;
/// RPC error: no such transaction or block.
const NOT_FOUND: i64 = -5;
/// RPC error: the height is above the tip.
const INVALID_PARAMETER: i64 = -8;

/// A node over JSON-RPC.
#[derive(Debug)]
pub struct RpcNode {
    rpc: Rpc,
}

impl RpcNode {
    /// This node.
    #[must_use]
    pub const fn new(rpc: Rpc) -> Self {
        Self { rpc }
    }

    fn chain_info(&self) -> Result<ChainInfo, ChainError> {
        self.rpc.call("getblockchaininfo", &json!([]))
    }

    fn mempool_info(&self) -> Result<MempoolInfo, ChainError> {
        self.rpc.call("getmempoolinfo", &json!([]))
    }

    fn hash_at(&self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        const METHOD: &str = "getblockhash";
        match self.rpc.ask(METHOD, &json!([height]))? {
            Ok(hash) => Ok(Some(read(METHOD, hash)?)),
            Err(error) if error.code == INVALID_PARAMETER => Ok(None),
            Err(error) => Err(refused(METHOD, error)),
        }
    }

    /// The block of an output with so many confirmations under this tip, unless the chain
    /// changed.
    fn block_of(&self, output: &TxOutInfo) -> Result<Option<Block>, ChainError> {
        let header = || self.rpc.call::<HeaderInfo>("getblockheader", &json!([output.tip]));
        let depth = output.confirmations.saturating_sub(1);
        let Some(height) = header()?.height.checked_sub(depth) else { return Ok(None) };
        let hash = self.hash_at(height)?;
        // Only while that tip is in the chain is this block below it.
        let valid = header()?.confirmations > 0;
        Ok(hash.filter(|_| valid).map(|hash| Block { height, hash }))
    }
}

impl Node for RpcNode {
    fn check(&mut self, network: Network) -> Result<(), ChainError> {
        if self.hash_at(0)? != Some(genesis_block(network).block_hash()) {
            return Err(ChainError::WrongNetwork { expected: network });
        }
        self.tip().map(drop)
    }

    fn tip(&mut self) -> Result<Tip, ChainError> {
        let info = self.chain_info()?;
        if info.catching_up {
            return Err(ChainError::Syncing { blocks: info.blocks, headers: info.headers });
        }
        Ok(Tip { block: Block { height: info.blocks, hash: info.best }, time: info.time })
    }

    fn features(&mut self) -> Result<Features, ChainError> {
        let network: NetworkInfo = self.rpc.call("getnetworkinfo", &json!([]))?;
        let policy = self.mempool_info()?.truc_policy;
        Ok(Features {
            truc: truc(policy.as_deref(), &network),
            name: network.subversion,
            // -blocksonly: nobody tells it of transactions, so it can't learn fees either.
            sees_mempool: network.relays,
            knows_fees: network.relays,
            pruned_below: self.chain_info()?.pruned_below,
            knows_all_outputs: true,
            peers: None,
        })
    }

    fn hash_at(&mut self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        Self::hash_at(self, height)
    }

    fn block(&mut self, hash: BlockHash, height: u32) -> Result<bitcoin::Block, ChainError> {
        const METHOD: &str = "getblock";
        let answer = match self.rpc.ask(METHOD, &json!([hash, 0]))? {
            Ok(answer) => answer,
            Err(error) if error.code == MISC_ERROR && error.message.contains("pruned") => {
                return Err(ChainError::Pruned { height });
            }
            Err(error) => return Err(refused(METHOD, error)),
        };
        let block: bitcoin::Block = decode(METHOD, &answer)?;
        if block.block_hash() != hash || !block.check_merkle_root() {
            return Err(nonsense(METHOD, "it is not the block that was asked for"));
        }
        Ok(block)
    }

    fn mempool_txids(
        &mut self,
        _scripts: &[&Script],
        _known: &BTreeSet<Txid>,
    ) -> Result<Vec<Txid>, ChainError> {
        self.rpc.call("getrawmempool", &json!([]))
    }

    fn mempool_transactions(&mut self, txids: &[Txid]) -> Result<Vec<Transaction>, ChainError> {
        const METHOD: &str = "getrawtransaction";
        let said = self.rpc.ask_each(METHOD, txids.iter().map(|txid| json!([txid])))?;
        let mut transactions = Vec::with_capacity(said.len());
        for answer in said {
            match answer {
                Ok(hex) => transactions.push(decode(METHOD, &hex)?),
                // It left the mempool.
                Err(error) if error.code == NOT_FOUND => {}
                Err(error) => return Err(refused(METHOD, error)),
            }
        }
        Ok(transactions)
    }

    fn mempool_spenders(&mut self, outpoints: &[OutPoint]) -> Result<Vec<Txid>, ChainError> {
        let mut spenders = Vec::new();
        for some in outpoints.chunks(MAX_OUTPOINTS) {
            let list: Vec<Value> =
                some.iter().map(|o| json!({"txid": o.txid, "vout": o.vout})).collect();
            let spent: Vec<Spending> = self.rpc.call("gettxspendingprevout", &json!([list]))?;
            spenders.extend(spent.into_iter().filter_map(|spending| spending.by));
        }
        Ok(spenders)
    }

    fn unspent(&mut self, outpoint: &OutPoint) -> Result<Option<Output>, ChainError> {
        let params = json!([outpoint.txid, outpoint.vout, true]);
        for _ in 0..MAX_LOOK_UPS {
            let found: Option<TxOutInfo> = self.rpc.call("gettxout", &params)?;
            let Some(found) = found else { return Ok(None) };
            if found.confirmations == 0 {
                return Ok(Some(Output::InMempool));
            }
            if let Some(block) = self.block_of(&found)? {
                return Ok(Some(Output::Confirmed(block)));
            }
        }
        Err(ChainError::Busy)
    }

    fn fee_rate(&mut self, target_blocks: u16) -> Result<FeeEstimate, ChainError> {
        let target = target_blocks.clamp(1, MAX_TARGET_BLOCKS);
        let estimate: SmartFee = self.rpc.call("estimatesmartfee", &json!([target]))?;
        let pool = self.mempool_info()?;
        let minimum = rate(pool.min_fee.max(pool.min_relay_fee));
        let (rate, source) = match estimate.feerate {
            Some(btc) => (rate(btc).max(minimum), FeeSource::Estimate),
            None => (minimum, FeeSource::MempoolMinimum),
        };
        Ok(FeeEstimate { rate: rate.clamp(MIN_FEE_RATE, MAX_FEE_RATE), source })
    }

    fn broadcast(&mut self, transaction: &Transaction) -> Result<Broadcast, ChainError> {
        let known = self.rpc.ask("getmempoolentry", &json!([transaction.compute_txid()]))?.is_ok();
        match self.rpc.ask("sendrawtransaction", &json!([serialize_hex(transaction)]))? {
            Ok(_) if known => Ok(Broadcast::AlreadyInMempool),
            Ok(_) => Ok(Broadcast::Accepted),
            Err(error) => Ok(refusal(error.code, error.message)),
        }
    }
}

fn truc(policy: Option<&str>, network: &NetworkInfo) -> Truc {
    match policy {
        Some("enforce") => Truc::Enforced,
        Some("accept") => Truc::NotEnforced,
        Some("reject") => Truc::Refused,
        Some(_) => Truc::Unknown,
        // Bitcoin Core has no choice of policy.
        None if is_core(&network.subversion) && network.version >= FIRST_TRUC => Truc::Enforced,
        None if is_core(&network.subversion) => Truc::Refused,
        None => Truc::Unknown,
    }
}

/// Whether this is Bitcoin Core: others add their name behind it.
fn is_core(subversion: &str) -> bool {
    let name = subversion.split('(').next().unwrap_or_default().trim_end_matches('/');
    name.strip_prefix("/Satoshi:").is_some_and(|version| !version.contains('/'))
}

/// BTC for 1,000 vB. What is no amount is 0, and then the minimum.
fn rate(btc_per_kvb: f64) -> FeeRate {
    let per_kvb = Amount::from_btc(btc_per_kvb.max(0.0)).unwrap_or(Amount::ZERO);
    // 1,000 vB are 4,000 weight units.
    FeeRate::from_sat_per_kwu(per_kvb.to_sat().div_ceil(4))
}

fn read<T: serde::de::DeserializeOwned>(
    method: &'static str,
    value: Value,
) -> Result<T, ChainError> {
    serde_json::from_value(value).map_err(|error| nonsense(method, &error.to_string()))
}

fn decode<T: bitcoin::consensus::Decodable>(
    method: &'static str,
    hex: &Value,
) -> Result<T, ChainError> {
    let hex = hex.as_str().ok_or_else(|| nonsense(method, "it is no text"))?;
    deserialize_hex(hex).map_err(|error| nonsense(method, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(version: u32, subversion: &str) -> NetworkInfo {
        NetworkInfo { version, subversion: subversion.to_owned(), relays: true }
    }

    #[test]
    fn a_node_that_does_not_enforce_truc_is_told_from_one_that_does() {
        let knots = network(290_403, "/Satoshi:29.4.3/Knots:20260508/");
        assert_eq!(truc(Some("accept"), &knots), Truc::NotEnforced);
        assert_eq!(truc(Some("enforce"), &knots), Truc::Enforced);
        assert_eq!(truc(Some("reject"), &knots), Truc::Refused);
        assert_eq!(truc(None, &knots), Truc::Unknown);
        assert_eq!(truc(None, &network(280_000, "/Satoshi:28.0.0/")), Truc::Enforced);
        assert_eq!(truc(None, &network(290_000, "/Satoshi:29.0.0(a/b)/")), Truc::Enforced);
        assert_eq!(truc(None, &network(270_100, "/Satoshi:27.1.0/")), Truc::Refused);
    }

    #[test]
    fn feerates_are_read_exactly_and_rounded_up() {
        assert_eq!(rate(0.000_01), FeeRate::from_sat_per_vb_u32(1));
        assert_eq!(rate(0.000_001_01), FeeRate::from_sat_per_kwu(26));
        assert_eq!(rate(0.1), FeeRate::from_sat_per_vb_u32(10_000));
        assert_eq!(rate(-1.0), FeeRate::ZERO);
        assert_eq!(rate(f64::NAN), FeeRate::ZERO);
    }
}
