//! Bitcoin chain sources: what the chain says about the channels, as facts.
//!
//! A [`ChainSource`] is asked, in turns, for blocks since a [`Cursor`] and for news of its
//! mempool, and answers with [`ChainEvent`]s. The cursor is the caller's: it takes each event in
//! ([`Cursor::apply`]) and is stored together with what the event changed. So a crash loses
//! nothing and repeats at most what was not stored, and a source needs no disk.
//!
//! Calls block: a source lives on a thread of its own.
//!
//! - [`bitcoind`]: a node over JSON-RPC. It may be pruned, and needs no wallet and no index.
//! - [`esplora`]: a server of the Esplora API over HTTP(S), one's own or another's.
//! - [`light`]: a light client that asks peers, and needs no server. It sees no mempool.
//! - `fake`: a chain in memory, for the simulation (feature `fake-chain`).
//!
//! All are a [`Follower`] of a [`Node`], and all keep the promises in `conformance`.

pub mod bitcoind;
mod cursor;
pub mod doctor;
mod error;
pub mod esplora;
mod event;
mod follower;
pub mod light;
mod mempool;
mod node;
mod refusal;
mod watch;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(any(test, feature = "fake-chain"))]
pub mod fake;
use std::time::Duration;

use bitcoin::{FeeRate, Network, OutPoint, ScriptBuf, Transaction};

pub use self::cursor::{CURSOR_BLOCKS, Cursor, CursorError};
pub use self::error::ChainError;
pub use self::event::{
    Block, Broadcast, ChainEvent, Features, FeeEstimate, FeeSource, OutpointStatus, Peers,
    Progress, Refusal, Refused, Spender, Tip, Truc, TxMatch,
};
pub use self::follower::Follower;
pub use self::node::{Content, Index, Node, Output};
pub use self::watch::{Full, WatchList};

/// Blocks that one call of [`ChainSource::blocks`] connects, at most.
pub const MAX_BLOCKS_PER_POLL: u32 = 16;

/// Scripts that are watched at a time, at most.
pub const MAX_WATCHED_SCRIPTS: usize = 16_384;

/// Outpoints that are watched by name at a time, at most.
pub const MAX_WATCHED_OUTPOINTS: usize = 16_384;

/// Outpoints that pay one watched script and are watched without being named, at most. More are
/// somebody's dust: each is reported when it is paid, and can then be watched by name.
pub const MAX_OUTPOINTS_PER_SCRIPT: usize = 16;

/// Transactions that one call of [`ChainSource::mempool`] reads, at most. The rest is read by the
/// calls that follow.
pub const MAX_MEMPOOL_TXS_PER_POLL: usize = 2_000;

/// Blocks that [`ChainSource::outpoint`] reads in search of a spend, at most.
pub const MAX_LOOK_BACK_BLOCKS: u32 = 144;

/// The lowest feerate that is ever estimated: what nodes relay by default.
pub const MIN_FEE_RATE: FeeRate = FeeRate::from_sat_per_vb_u32(1);

/// The highest feerate that is ever believed.
pub const MAX_FEE_RATE: FeeRate = FeeRate::from_sat_per_vb_u32(5_000);

/// What channels need of the chain.
///
/// Every method fails with a [`ChainError`] that says what to do, changes nothing when it fails,
/// and can be called again.
pub trait ChainSource {
    /// Makes sure that this is the right chain, from its genesis block, and that the source is
    /// ready to be asked. The other methods do it by themselves, once a connection.
    ///
    /// # Errors
    ///
    /// [`ChainError::WrongNetwork`], or why it is not ready.
    fn check(&mut self, network: Network) -> Result<(), ChainError>;

    /// The newest block of the best chain.
    ///
    /// # Errors
    ///
    /// Why it can't be known.
    fn tip(&mut self) -> Result<Tip, ChainError>;

    /// What this source can do.
    ///
    /// # Errors
    ///
    /// Why it can't be known.
    fn features(&mut self) -> Result<Features, ChainError>;

    /// A cursor at the block of this height, or at the tip, from which [`Self::blocks`] goes on.
    /// It knows the blocks below, so that a reorganisation of [`CURSOR_BLOCKS`] is seen.
    ///
    /// # Errors
    ///
    /// [`ChainError::NoSuchHeight`], or why it can't be known.
    fn cursor(&mut self, height: Option<u32>) -> Result<Cursor, ChainError>;

    /// From now on reports transactions that pay this script, and what spends those outputs.
    ///
    /// Watch a script before its address is shown, and all scripts before the first call of
    /// [`Self::mempool`]: what was read of the mempool, or is in blocks behind the cursor, is not
    /// read again.
    ///
    /// # Errors
    ///
    /// [`Full`] beyond [`MAX_WATCHED_SCRIPTS`].
    fn watch_script(&mut self, script: ScriptBuf) -> Result<(), Full>;

    /// From now on reports what spends this outpoint.
    ///
    /// # Errors
    ///
    /// [`Full`] beyond [`MAX_WATCHED_OUTPOINTS`].
    fn watch_outpoint(&mut self, outpoint: OutPoint) -> Result<(), Full>;

    /// As [`Self::watch_outpoint`], of an output that pays this script. Who knows the script should
    /// say it: a source that reads filters finds the spend by it, and must read every block whole
    /// without it.
    ///
    /// # Errors
    ///
    /// As [`Self::watch_outpoint`].
    fn watch_coin(&mut self, outpoint: OutPoint, script: &bitcoin::Script) -> Result<(), Full> {
        let _ = script;
        self.watch_outpoint(outpoint)
    }

    /// Forgets a script, and the outpoints that pay it unless they are watched by name.
    fn unwatch_script(&mut self, script: &bitcoin::Script);

    /// Forgets an outpoint that is watched by name.
    fn unwatch_outpoint(&mut self, outpoint: &OutPoint);

    /// What happened to the chain since `cursor`: first the blocks that left it, newest first,
    /// then up to [`MAX_BLOCKS_PER_POLL`] blocks that joined it, each with the transactions that
    /// concern what is watched. Apply each to the cursor, and ask again at once unless
    /// [`Progress::caught_up`].
    ///
    /// # Errors
    ///
    /// Why nothing can be said. [`ChainError::CursorLost`] if no block of the cursor is in the
    /// chain any more.
    fn blocks(&mut self, cursor: &Cursor) -> Result<Progress, ChainError>;

    /// What is new in the mempool about what is watched: transactions that came, and those that
    /// were reported and went, other than into a block. A hint, never money: any of it can be
    /// replaced. A source that sees no mempool reports nothing.
    ///
    /// # Errors
    ///
    /// Why nothing can be said.
    fn mempool(&mut self) -> Result<Vec<ChainEvent>, ChainError>;

    /// What is known of this outpoint now. `since` is the height from which blocks are searched
    /// for a spend; at most [`MAX_LOOK_BACK_BLOCKS`] are, and an older spend is
    /// [`OutpointStatus::Unknown`]: events from a cursor tell of those.
    ///
    /// # Errors
    ///
    /// Why it can't be known.
    fn outpoint(&mut self, outpoint: &OutPoint, since: u32) -> Result<OutpointStatus, ChainError>;

    /// The feerate to confirm within so many blocks (1 to 1,008), between [`MIN_FEE_RATE`] and
    /// [`MAX_FEE_RATE`] and never below what the mempool asks for.
    ///
    /// # Errors
    ///
    /// Why it can't be known.
    fn fee_rate(&mut self, target_blocks: u16) -> Result<FeeEstimate, ChainError>;

    /// Sends a transaction to the network. Sending it again is harmless.
    ///
    /// # Errors
    ///
    /// Why it could not be sent; a refusal is not an error but [`Broadcast::Refused`].
    fn broadcast(&mut self, transaction: &Transaction) -> Result<Broadcast, ChainError>;

    /// How long to wait between two looks at what is new, so that the source goes on answering.
    fn poll_every(&self) -> Duration {
        Duration::ZERO
    }
}
