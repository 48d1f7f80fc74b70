//! The questions of a follower, in the words of the API.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use bitcoin::consensus::encode::{deserialize, serialize_hex};
use bitcoin::constants::genesis_block;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::{BlockHash, FeeRate, Network, OutPoint, Script, ScriptBuf, Transaction, Txid};

use super::answers::{BlockSummary, FeeEstimates, Outspend, TxSummary};
use super::client::{Client, MAX_BLOCK_BYTES, MAX_TEXT_BYTES, Said, nonsense};
use super::work::has_work;
use super::{EsploraConfig, broadcast};
use crate::chain::event::{Block, Broadcast, Features, FeeEstimate, FeeSource, Spender, Tip, Truc};
use crate::chain::{ChainError, Index, MAX_FEE_RATE, MIN_FEE_RATE, Node, Output};

/// Scripts whose mempool is asked for in one look, at most. The others have their turn at the
/// looks that follow.
pub const MAX_SCRIPTS_PER_POLL: usize = 32;

/// Transactions of one script in the mempool that are read, at most: a channel has its funding
/// and its close, and the rest is somebody's dust. The API gives up to fifty.
pub const MAX_TXS_PER_SCRIPT: usize = 8;

/// Outpoints whose spends are asked for in one look, at most. As with scripts.
const MAX_OUTPOINTS_PER_POLL: usize = 32;

/// How long a public server is left alone between two looks. One's own (plain HTTP) is asked as
/// often as a node.
pub const PUBLIC_POLL_EVERY: Duration = Duration::from_secs(10);

/// Questions for a run of blocks, at most: the API gives ten in an answer.
const MAX_BLOCK_PAGES: usize = 64;

/// A server of the Esplora API.
#[derive(Debug)]
pub struct EsploraNode {
    client: Client,
    network: Network,
    /// The newest block that was seen: what is known of a block does not change.
    tip: Option<Tip>,
    /// What was last seen of each script in the mempool.
    seen: BTreeMap<ScriptBuf, Vec<Txid>>,
    /// Where the next look at scripts and at outpoints begins.
    next_script: usize,
    next_outpoint: usize,
}

impl EsploraNode {
    /// The server at this address. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// As [`super::Esplora::to`].
    pub fn new(config: &EsploraConfig, network: Network) -> Result<Self, ChainError> {
        let client = Client::new(config)?;
        let seen = BTreeMap::new();
        Ok(Self { client, network, tip: None, seen, next_script: 0, next_outpoint: 0 })
    }

    fn transaction(&mut self, txid: Txid) -> Result<Option<TxSummary>, ChainError> {
        const METHOD: &str = "GET /tx/:txid";
        let found: Option<TxSummary> = self.client.json(METHOD, &format_args!("/tx/{txid}"))?;
        match found {
            Some(found) if found.txid != txid || !found.status.is_whole() => {
                Err(nonsense(METHOD, "it is not the transaction that was asked for"))
            }
            found => Ok(found),
        }
    }

    fn is_in_mempool(&mut self, txid: Txid) -> Result<bool, ChainError> {
        Ok(self.transaction(txid)?.is_some_and(|found| found.status.block().is_none()))
    }

    fn spender(&mut self, outpoint: &OutPoint) -> Result<Option<Spender>, ChainError> {
        const METHOD: &str = "GET /tx/:txid/outspend/:vout";
        let OutPoint { txid, vout } = outpoint;
        let path = format_args!("/tx/{txid}/outspend/{vout}");
        let Some(spend) = self.client.json::<Outspend>(METHOD, &path)? else { return Ok(None) };
        match spend {
            Outspend { spent: false, .. } => Ok(None),
            Outspend { txid: Some(txid), status: Some(status), .. } if status.is_whole() => {
                Ok(Some(Spender { txid, block: status.block() }))
            }
            _ => Err(nonsense(METHOD, "it does not say by what it is spent")),
        }
    }

    fn txids_of(&mut self, script: &Script) -> Result<Vec<Txid>, ChainError> {
        const METHOD: &str = "GET /scripthash/:hash/txs/mempool";
        let hash = sha256::Hash::hash(script.as_bytes());
        let path = format_args!("/scripthash/{hash}/txs/mempool");
        let found: Vec<TxSummary> = match self.client.json(METHOD, &path) {
            // A crowd: its blocks tell.
            Err(ChainError::TooLong { .. }) => Vec::new(),
            found => found?.unwrap_or_default(),
        };
        Ok(found.into_iter().take(MAX_TXS_PER_SCRIPT).map(|found| found.txid).collect())
    }

    /// Looks at the scripts whose turn it is.
    fn look_at(&mut self, scripts: &[&Script]) -> Result<(), ChainError> {
        let watched: BTreeSet<&Script> = scripts.iter().copied().collect();
        self.seen.retain(|script, _| watched.contains(script.as_script()));
        for script in turn(scripts, &mut self.next_script, MAX_SCRIPTS_PER_POLL) {
            let txids = self.txids_of(script)?;
            self.seen.insert((*script).to_owned(), txids);
        }
        Ok(())
    }

    fn raw_transaction(&mut self, txid: Txid) -> Result<Option<Transaction>, ChainError> {
        const METHOD: &str = "GET /tx/:txid/raw";
        let path = format_args!("/tx/{txid}/raw");
        let Some(bytes) = self.client.get(METHOD, &path, MAX_BLOCK_BYTES)? else { return Ok(None) };
        let tx: Transaction =
            deserialize(&bytes).map_err(|error| nonsense(METHOD, &error.to_string()))?;
        if tx.compute_txid() == txid {
            Ok(Some(tx))
        } else {
            Err(nonsense(METHOD, "it is not the transaction that was asked for"))
        }
    }

    /// It was there a moment ago: another server answered, or the chain changed.
    fn gone(&self) -> ChainError {
        ChainError::Unwell { url: self.client.place(), status: 404 }
    }
}

impl Node for EsploraNode {
    fn check(&mut self, network: Network) -> Result<(), ChainError> {
        self.network = network;
        if self.hash_at(0)? != Some(genesis_block(network).block_hash()) {
            return Err(ChainError::WrongNetwork { expected: network });
        }
        self.tip().map(drop)
    }

    fn tip(&mut self) -> Result<Tip, ChainError> {
        const METHOD: &str = "GET /blocks/tip/hash";
        let text = self.client.get(METHOD, &"/blocks/tip/hash", MAX_TEXT_BYTES)?;
        let hash = hash(METHOD, &text.ok_or_else(|| self.gone())?)?;
        if let Some(tip) = self.tip.filter(|tip| tip.block.hash == hash) {
            return Ok(tip);
        }
        const BLOCK: &str = "GET /block/:hash";
        let found: Option<BlockSummary> =
            self.client.json(BLOCK, &format_args!("/block/{hash}"))?;
        let BlockSummary { id, height, timestamp } = found.ok_or_else(|| self.gone())?;
        if id != hash {
            return Err(nonsense(BLOCK, "it is not the block that was asked for"));
        }
        let tip = Tip { block: Block { height, hash }, time: timestamp };
        self.tip = Some(tip);
        Ok(tip)
    }

    fn features(&mut self) -> Result<Features, ChainError> {
        let _ = self.tip()?;
        Ok(Features {
            name: format!("Esplora at {}", self.client.place()),
            sees_mempool: true,
            knows_fees: true,
            // The API does not say which node is behind it.
            truc: Truc::Unknown,
            pruned_below: None,
            knows_all_outputs: true,
            peers: None,
        })
    }

    fn hash_at(&mut self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        const METHOD: &str = "GET /block-height/:height";
        let path = format_args!("/block-height/{height}");
        let text = self.client.get(METHOD, &path, MAX_TEXT_BYTES)?;
        text.map(|text| hash(METHOD, &text)).transpose()
    }

    fn hashes(&mut self, heights: RangeInclusive<u32>) -> Result<Vec<BlockHash>, ChainError> {
        const METHOD: &str = "GET /blocks/:height";
        let (first, last) = heights.into_inner();
        // Newest first, as they come.
        let mut hashes = Vec::new();
        let mut next = Some(last).filter(|last| *last >= first);
        for _ in 0..MAX_BLOCK_PAGES {
            let Some(height) = next else { break };
            let path = format_args!("/blocks/{height}");
            let page: Option<Vec<BlockSummary>> = self.client.json(METHOD, &path)?;
            let Some(page) = page else { return Ok(Vec::new()) };
            let follows =
                (0..=height).rev().zip(&page).all(|(height, block)| block.height == height);
            if page.is_empty() || !follows {
                return Err(nonsense(METHOD, "its blocks do not follow each other"));
            }
            let wanted = page.iter().take_while(|block| block.height >= first);
            hashes.extend(wanted.map(|block| block.id));
            let oldest = page.last().map_or(0, |block| block.height);
            next = oldest.checked_sub(1).filter(|next| *next >= first);
        }
        hashes.reverse();
        Ok(hashes)
    }

    fn block(&mut self, hash: BlockHash, _height: u32) -> Result<bitcoin::Block, ChainError> {
        const METHOD: &str = "GET /block/:hash/raw";
        let path = format_args!("/block/{hash}/raw");
        let bytes = self.client.get(METHOD, &path, MAX_BLOCK_BYTES)?.ok_or_else(|| self.gone())?;
        let block: bitcoin::Block =
            deserialize(&bytes).map_err(|error| nonsense(METHOD, &error.to_string()))?;
        if block.block_hash() != hash || !block.check_merkle_root() {
            return Err(nonsense(METHOD, "it is not the block that was asked for"));
        }
        if !has_work(&block.header, self.network) {
            return Err(nonsense(METHOD, "nobody has worked enough for this block: it is forged"));
        }
        Ok(block)
    }

    fn mempool_txids(
        &mut self,
        scripts: &[&Script],
        known: &BTreeSet<Txid>,
    ) -> Result<Vec<Txid>, ChainError> {
        self.look_at(scripts)?;
        let mut txids: BTreeSet<Txid> = self.seen.values().flatten().copied().collect();
        let others: Vec<Txid> = known.difference(&txids).copied().collect();
        for (number, txid) in others.into_iter().enumerate() {
            // Those beyond the limit are taken to be where they were.
            if number >= MAX_OUTPOINTS_PER_POLL || self.is_in_mempool(txid)? {
                txids.insert(txid);
            }
        }
        Ok(txids.into_iter().collect())
    }

    fn mempool_transactions(&mut self, txids: &[Txid]) -> Result<Vec<Transaction>, ChainError> {
        let mut transactions = Vec::new();
        for txid in txids {
            if !self.is_in_mempool(*txid)? {
                continue;
            }
            transactions.extend(self.raw_transaction(*txid)?);
        }
        Ok(transactions)
    }

    fn mempool_spenders(&mut self, outpoints: &[OutPoint]) -> Result<Vec<Txid>, ChainError> {
        let mut spenders = Vec::new();
        for outpoint in turn(outpoints, &mut self.next_outpoint, MAX_OUTPOINTS_PER_POLL) {
            let spender = self.spender(outpoint)?.filter(|spender| spender.block.is_none());
            spenders.extend(spender.map(|spender| spender.txid));
        }
        Ok(spenders)
    }

    fn unspent(&mut self, outpoint: &OutPoint) -> Result<Option<Output>, ChainError> {
        let Some(found) = self.transaction(outpoint.txid)? else { return Ok(None) };
        // The API calls an output unspent that there never was.
        let exists = usize::try_from(outpoint.vout).is_ok_and(|vout| vout < found.vout.len());
        if !exists || self.spender(outpoint)?.is_some() {
            return Ok(None);
        }
        Ok(Some(found.status.block().map_or(Output::InMempool, Output::Confirmed)))
    }

    fn indexed_spender(&mut self, outpoint: &OutPoint) -> Result<Index<Spender>, ChainError> {
        let spender = self.spender(outpoint)?;
        Ok(Index::Says(spender.filter(|spender| spender.block.is_some())))
    }

    fn poll_every(&self) -> Duration {
        if self.client.is_secure() { PUBLIC_POLL_EVERY } else { Duration::ZERO }
    }

    fn fee_rate(&mut self, target_blocks: u16) -> Result<FeeEstimate, ChainError> {
        let estimates: Option<FeeEstimates> =
            self.client.json("GET /fee-estimates", &"/fee-estimates")?;
        Ok(estimate(&estimates.unwrap_or_default(), target_blocks))
    }

    fn broadcast(&mut self, transaction: &Transaction) -> Result<Broadcast, ChainError> {
        const METHOD: &str = "POST /tx";
        let known = self.transaction(transaction.compute_txid())?;
        if known.as_ref().is_some_and(|known| known.status.block().is_some()) {
            return Ok(Broadcast::AlreadyConfirmed);
        }
        let hex = serialize_hex(transaction);
        match self.client.ask(METHOD, &"/tx", Some(hex), MAX_TEXT_BYTES)? {
            Said::Body(_) if known.is_some() => Ok(Broadcast::AlreadyInMempool),
            Said::Body(_) => Ok(Broadcast::Accepted),
            Said::No(words) => Ok(broadcast::refused(&words)),
            Said::NotFound => Err(self.gone()),
        }
    }
}

/// The rate for so many blocks: the estimate for as many, or for the next fewer.
fn estimate(estimates: &FeeEstimates, target_blocks: u16) -> FeeEstimate {
    let fewer = estimates.range(..=target_blocks.max(1)).next_back();
    let found = fewer.or_else(|| estimates.first_key_value()).map(|(_, rate)| *rate);
    match found.filter(|rate| rate.is_finite() && *rate > 0.0) {
        Some(rate) => {
            // In sat for 1,000 weight units, which are 250 vB; too much is bounded by the cast.
            let rate = FeeRate::from_sat_per_kwu((rate * 250.0).ceil() as u64);
            let rate = rate.clamp(MIN_FEE_RATE, MAX_FEE_RATE);
            FeeEstimate { rate, source: FeeSource::Estimate }
        }
        None => FeeEstimate { rate: MIN_FEE_RATE, source: FeeSource::MempoolMinimum },
    }
}

fn hash(method: &'static str, text: &[u8]) -> Result<BlockHash, ChainError> {
    let text = std::str::from_utf8(text).map_err(|error| nonsense(method, &error.to_string()))?;
    text.trim().parse().map_err(|_| nonsense(method, "it is no hash of a block"))
}

/// Those whose turn it is, at most `most` of them, going round.
fn turn<'a, T>(all: &'a [T], next: &mut usize, most: usize) -> Vec<&'a T> {
    let start = if *next < all.len() { *next } else { 0 };
    let count = all.len().min(most);
    *next = if count == all.len() { 0 } else { (start + count) % all.len() };
    all.iter().cycle().skip(start).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn() {
        let (all, mut next) = ([0, 1, 2, 3, 4], 0);
        assert_eq!(turn(&all, &mut next, 2), [&0, &1]);
        assert_eq!(turn(&all, &mut next, 2), [&2, &3]);
        assert_eq!(turn(&all, &mut next, 2), [&4, &0]);
        assert_eq!(turn(&all[..1], &mut next, 2), [&0], "they became fewer");
        assert_eq!(turn(&all, &mut next, 9).len(), 5);
        assert_eq!(turn(&all[..0], &mut next, 2).len(), 0);
    }

    #[test]
    fn the_estimate_of_the_next_fewer_blocks_serves_and_absurd_ones_do_not() {
        let estimates = FeeEstimates::from([(2, 20.1), (6, 10.0), (144, 1e300)]);
        let rate = |target| estimate(&estimates, target).rate.to_sat_per_kwu();
        assert_eq!(
            (rate(0), rate(2), rate(5), rate(6), rate(143)),
            (5_025, 5_025, 5_025, 2_500, 2_500)
        );
        assert_eq!(estimate(&estimates, 144).rate, MAX_FEE_RATE);
        for nothing in [f64::NAN, -1.0, 0.0] {
            let found = estimate(&FeeEstimates::from([(1, nothing)]), 6);
            assert_eq!((found.rate, found.source), (MIN_FEE_RATE, FeeSource::MempoolMinimum));
        }
    }
}
