//! What a [`Follower`](super::Follower) asks of a full node.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::{BlockHash, Network, OutPoint, Script, Transaction, Txid};

use super::error::ChainError;
use super::event::{Block, Broadcast, Features, FeeEstimate, Spender, Tip};
use super::watch::WatchList;

/// An output that is not spent, in chain or mempool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Its transaction is in the mempool.
    InMempool,
    /// Its transaction is in this block of the best chain.
    Confirmed(Block),
}

/// What is known of a block's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Whole(bitcoin::Block),
    /// Nothing in it is watched.
    Nothing(Header),
}

impl Content {
    /// The header.
    pub(super) const fn header(&self) -> &Header {
        match self {
            Self::Whole(block) => &block.header,
            Self::Nothing(header) => header,
        }
    }

    /// The transactions, as far as they matter.
    pub(super) fn transactions(&self) -> &[Transaction] {
        match self {
            Self::Whole(block) => &block.txdata,
            Self::Nothing(_) => &[],
        }
    }
}

/// What an index says, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index<T> {
    /// There is none.
    Missing,
    /// This, or that there is nothing.
    Says(Option<T>),
}

/// A node with a whole chain and a mempool: questions that it answers at once, without memory.
///
/// All methods fail with the reason why the node can't answer.
#[allow(clippy::missing_errors_doc)]
pub trait Node {
    /// Makes sure that the node is on this chain and ready.
    fn check(&mut self, network: Network) -> Result<(), ChainError>;

    /// The newest block of the best chain.
    fn tip(&mut self) -> Result<Tip, ChainError>;

    /// What the node can do.
    fn features(&mut self) -> Result<Features, ChainError>;

    /// The block of the best chain at this height, or none above the tip.
    fn hash_at(&mut self, height: u32) -> Result<Option<BlockHash>, ChainError>;

    /// The blocks of the best chain at these heights, in order, up to the tip.
    fn hashes(&mut self, heights: RangeInclusive<u32>) -> Result<Vec<BlockHash>, ChainError> {
        let mut hashes = Vec::new();
        for height in heights {
            let Some(hash) = self.hash_at(height)? else { break };
            hashes.push(hash);
        }
        Ok(hashes)
    }

    /// A block of the best chain; `height` is for the message if it is pruned.
    fn block(&mut self, hash: BlockHash, height: u32) -> Result<bitcoin::Block, ChainError>;

    /// The same, unless it is known beforehand that nothing in it is watched.
    fn content(&mut self, block: Block, watch: &WatchList) -> Result<Content, ChainError> {
        let _ = watch;
        Ok(Content::Whole(self.block(block.hash, block.height)?))
    }

    /// The transactions in the mempool that concern these scripts, and those of `known` that are
    /// still in it. More do no harm: a node without an index gives all that it has.
    fn mempool_txids(
        &mut self,
        scripts: &[&Script],
        known: &BTreeSet<Txid>,
    ) -> Result<Vec<Txid>, ChainError>;

    /// These transactions, as far as they are in the mempool.
    fn mempool_transactions(&mut self, txids: &[Txid]) -> Result<Vec<Transaction>, ChainError>;

    /// The transactions in the mempool that spend these outpoints.
    fn mempool_spenders(&mut self, outpoints: &[OutPoint]) -> Result<Vec<Txid>, ChainError>;

    /// The output, unless it is unknown or spent, be it in the mempool.
    fn unspent(&mut self, outpoint: &OutPoint) -> Result<Option<Output>, ChainError>;

    /// Who spends this output in the best chain, if the node has an index of that. Blocks are
    /// searched without one.
    fn indexed_spender(&mut self, outpoint: &OutPoint) -> Result<Index<Spender>, ChainError> {
        let _ = outpoint;
        Ok(Index::Missing)
    }

    /// How long to wait between two looks at what is new.
    fn poll_every(&self) -> Duration {
        Duration::ZERO
    }

    /// As [`super::ChainSource::fee_rate`].
    fn fee_rate(&mut self, target_blocks: u16) -> Result<FeeEstimate, ChainError>;

    /// As [`super::ChainSource::broadcast`].
    fn broadcast(&mut self, transaction: &Transaction) -> Result<Broadcast, ChainError>;
}
