//! What is known of a node's mempool.

use std::collections::BTreeSet;

use bitcoin::{BlockHash, Transaction, Txid};

use super::MAX_MEMPOOL_TXS_PER_POLL;
use super::error::ChainError;
use super::event::ChainEvent;
use super::node::Node;
use super::watch::WatchList;

/// What was read and what was reported. Ordered, so that a simulation replays.
#[derive(Debug, Default)]
pub(super) struct Mempool {
    /// Transactions that were looked at, and may be in the mempool still.
    read: BTreeSet<Txid>,
    /// Those that were reported and are in the mempool.
    reported: BTreeSet<Txid>,
}

impl Mempool {
    /// A block has these transactions: should they return to the mempool, that is news.
    pub(super) fn confirmed(&mut self, transactions: &[Transaction]) {
        if self.read.is_empty() && self.reported.is_empty() {
            return;
        }
        for txid in transactions.iter().map(Transaction::compute_txid) {
            self.read.remove(&txid);
            self.reported.remove(&txid);
        }
    }

    /// What is new. `followed` is the block up to which the chain was read.
    pub(super) fn poll(
        &mut self,
        node: &mut impl Node,
        watch: &mut WatchList,
        followed: Option<BlockHash>,
    ) -> Result<Vec<ChainEvent>, ChainError> {
        let present = self.present(node, watch)?;
        let mut wanted = BTreeSet::new();
        if watch.has_scripts() {
            self.read.retain(|txid| present.contains(txid));
            wanted.extend(present.difference(&self.read).take(MAX_MEMPOOL_TXS_PER_POLL).copied());
        }
        let outpoints: Vec<_> = watch.outpoints().collect();
        if !outpoints.is_empty() {
            wanted.extend(node.mempool_spenders(&outpoints)?);
        }
        let wanted: Vec<Txid> = wanted.difference(&self.reported).copied().collect();
        let transactions = node.mempool_transactions(&wanted)?;
        // A block that was not read yet may hold what is gone: then a later call tells.
        let settled = Some(node.tip()?.block.hash) == followed;
        // Nothing fails from here on, so nothing is reported by halves.
        let mut events = if settled { self.take_gone(&present) } else { Vec::new() };
        self.read.extend(wanted);
        for found in transactions.iter().filter_map(|transaction| watch.matches(transaction)) {
            self.reported.insert(found.txid);
            events.push(ChainEvent::MempoolSeen(found));
        }
        Ok(events)
    }

    /// The mempool, as far as it may matter; only what was reported if nothing else can, since a
    /// whole mempool is much to read.
    fn present(
        &self,
        node: &mut impl Node,
        watch: &WatchList,
    ) -> Result<BTreeSet<Txid>, ChainError> {
        if watch.has_scripts() {
            let scripts: Vec<_> = watch.scripts().collect();
            return Ok(node.mempool_txids(&scripts, &self.reported)?.into_iter().collect());
        }
        let reported: Vec<Txid> = self.reported.iter().copied().collect();
        let left = node.mempool_transactions(&reported)?;
        Ok(left.iter().map(Transaction::compute_txid).collect())
    }

    fn take_gone(&mut self, present: &BTreeSet<Txid>) -> Vec<ChainEvent> {
        let gone: BTreeSet<Txid> = self.reported.difference(present).copied().collect();
        self.reported.retain(|txid| present.contains(txid));
        // Should it come back, it is news.
        self.read.retain(|txid| !gone.contains(txid));
        gone.into_iter().map(|txid| ChainEvent::MempoolGone { txid }).collect()
    }
}
