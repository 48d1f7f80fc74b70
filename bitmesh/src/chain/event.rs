//! What a chain says.

use bitcoin::{BlockHash, FeeRate, OutPoint, Transaction, TxOut, Txid};
use serde::{Deserialize, Serialize};

/// A block, by height and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Block {
    /// Blocks below it.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
}

/// The newest block of the best chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The block.
    pub block: Block,
    /// What its header says, in seconds since 1970. Miners may be two hours off.
    pub time: u32,
}

/// A transaction that concerns what is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxMatch {
    /// Its id.
    pub txid: Txid,
    /// All of it.
    pub transaction: Transaction,
    /// Its outputs that pay a watched script, by index.
    pub pays: Vec<u32>,
    /// Its inputs that spend a watched outpoint, by index.
    pub spends: Vec<u32>,
}

impl TxMatch {
    /// The outputs that pay a watched script.
    pub fn paid(&self) -> impl Iterator<Item = (OutPoint, &TxOut)> {
        self.pays.iter().filter_map(|&vout| {
            let output = self.transaction.output.get(usize::try_from(vout).ok()?)?;
            Some((OutPoint::new(self.txid, vout), output))
        })
    }

    /// The watched outpoints that it spends.
    pub fn spent(&self) -> impl Iterator<Item = OutPoint> {
        self.spends.iter().filter_map(|&input| {
            Some(self.transaction.input.get(usize::try_from(input).ok()?)?.previous_output)
        })
    }
}

/// A fact about the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainEvent {
    /// A block joined the best chain, on top of the one before.
    BlockConnected {
        /// The block.
        block: Block,
        /// What its header says, in seconds since 1970.
        time: u32,
        /// Its transactions that concern what is watched, in its order.
        matches: Vec<TxMatch>,
    },
    /// The newest block left the best chain: what it confirmed is confirmed no more.
    BlockDisconnected {
        /// The block.
        block: Block,
    },
    /// The mempool has a transaction that concerns what is watched.
    MempoolSeen(TxMatch),
    /// A transaction that was reported by [`Self::MempoolSeen`] is gone, and in no block: it was
    /// replaced or forgotten.
    MempoolGone {
        /// Its id.
        txid: Txid,
    },
}

/// A step along the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What happened, in order.
    pub events: Vec<ChainEvent>,
    /// Whether these events lead to the tip.
    pub caught_up: bool,
}

/// Who spends an outpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spender {
    /// The transaction.
    pub txid: Txid,
    /// Its block, or none while it is in the mempool.
    pub block: Option<Block>,
}

/// What is known of an outpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutpointStatus {
    /// Neither unspent nor seen to be spent.
    Unknown,
    /// Made by a transaction in the mempool, and unspent.
    InMempool,
    /// In a block, and unspent.
    Confirmed(Block),
    /// Spent.
    Spent(Spender),
}

/// Whether a node enforces TRUC (BIP 431) on version-3 transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truc {
    /// It does: a close can't be pinned by its other side.
    Enforced,
    /// It takes version 3 like any other version.
    NotEnforced,
    /// It does not relay version 3 at all: no close would leave it.
    Refused,
    /// It does not say.
    Unknown,
}

/// What a source can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// What it calls itself.
    pub name: String,
    /// Whether it reports what is not in a block yet. Without it, credit before confirmation is
    /// not possible.
    pub sees_mempool: bool,
    /// Whether it can estimate fees by itself.
    pub knows_fees: bool,
    /// Whether it protects closes from pinning.
    pub truc: Truc,
    /// The oldest block that it still has, if it is pruned.
    pub pruned_below: Option<u32>,
    /// Whether it can say what became of any output. Without it, only those that are watched are
    /// known, from their blocks.
    pub knows_all_outputs: bool,
    /// The peers that a light client asks; none if there is a node of ours. Peers do not say what
    /// they make of a transaction, and may withhold blocks.
    pub peers: Option<Peers>,
}

/// The peers of a light client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers {
    /// Those that it is connected to.
    pub connected: usize,
    /// Those that must agree on what is in a block.
    pub required: usize,
}

/// Where a feerate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeeSource {
    /// An estimate from what was confirmed.
    Estimate,
    /// What the newest blocks were paid, as a whole.
    Blocks,
    /// Nothing could be estimated: it is the least that the mempool takes.
    MempoolMinimum,
}

/// A feerate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeEstimate {
    /// How much, between [`super::MIN_FEE_RATE`] and [`super::MAX_FEE_RATE`].
    pub rate: FeeRate,
    /// How it is known.
    pub source: FeeSource,
}

/// What became of a transaction that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// It is in the mempool now.
    Accepted,
    /// It was in the mempool already, maybe with another witness, and was announced again.
    AlreadyInMempool,
    /// It is in a block.
    AlreadyConfirmed,
    /// It was offered to so many peers. They do not say what they make of it: only a block does.
    Offered {
        /// How many.
        peers: usize,
    },
    /// The node does not take it.
    Refused(Refused),
}

/// A refusal, with the node's own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node refuses the transaction: {reason}")]
pub struct Refused {
    /// Of what kind it is.
    pub kind: Refusal,
    /// What the node says.
    pub reason: String,
}

/// Why a transaction is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An input does not exist or is spent in a block.
    MissingInputs,
    /// Its lock time or relative lock is not reached: try again later.
    NotFinal,
    /// The fee is below what the mempool takes: raise it.
    FeeTooLow,
    /// It conflicts with another transaction and does not pay enough to replace it.
    Conflict,
    /// A script or signature is wrong: it will never be valid.
    Invalid,
    /// Anything else: a matter of the node's policy.
    Policy,
}
