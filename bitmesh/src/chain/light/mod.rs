//! A light client (BIP 157 and 158): headers, filters and blocks from peers, and no server.
//!
//! It checks the proof of work of every header, and takes a block's filter only if as many peers as
//! are required say the same of it. A filter tells which blocks to fetch: a block belongs to its
//! header, so a peer can only withhold, never invent. What it can't do, it says in its
//! [`Features`]: it sees no mempool, so nothing is known before it is in a block; it knows no fees
//! but those of the newest blocks and the least that its peers relay; and peers do not say what they
//! make of a transaction.
//!
//! The crate `bip157` speaks to the peers ([`engine`]), and keeps nothing on disk; the headers are
//! kept here, in a file that may be lost at any byte ([`headers`]).

mod engine;
mod fees;
mod filters;
mod headers;
mod outputs;
mod peers;

use std::net::SocketAddr;
use std::path::PathBuf;

use bitcoin::{Network, OutPoint, Script, ScriptBuf, Transaction};

use self::outputs::Outputs;
use self::peers::PeerNode;
use super::ChainSource;
use super::cursor::Cursor;
use super::error::ChainError;
use super::event::{Broadcast, ChainEvent, Features, FeeEstimate, OutpointStatus, Progress, Tip};
use super::follower::Follower;
use super::watch::Full;

pub use self::filters::MAX_FILTERS;
pub use self::headers::MAX_HEADERS;
#[cfg(test)]
pub(super) use self::peers::features;

/// Peers that agree on what is in a block, at least, unless the operator trusts a single one.
pub const MIN_PEERS: u8 = 2;

/// Peers that are asked if none are named: a transaction is offered to all of them.
pub const DEFAULT_PEERS: u8 = 3;

/// Peers that can be named.
pub const MAX_PEERS: usize = 15;

/// Whom a light client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LightConfig {
    /// The chain.
    pub network: Network,
    /// The only peers that are asked; none: those that the network's DNS seeds name.
    pub peers: Vec<SocketAddr>,
    /// How many are connected to, and must agree, if they answer.
    pub wanted: u8,
    /// How many must agree at least.
    pub required: u8,
    /// Where the headers are kept.
    pub folder: PathBuf,
}

/// A light client as a chain source. Ends its connections when it is dropped.
#[derive(Debug)]
pub struct LightClient {
    follower: Follower<PeerNode>,
    outputs: Outputs,
}

impl LightClient {
    /// Follows the chain with these peers. Nobody is asked yet.
    #[must_use]
    pub fn new(config: LightConfig) -> Self {
        let network = config.network;
        let follower = Follower::new(PeerNode::new(config), network);
        Self { follower, outputs: Outputs::default() }
    }
}

impl ChainSource for LightClient {
    fn check(&mut self, network: Network) -> Result<(), ChainError> {
        self.follower.check(network)
    }

    fn tip(&mut self) -> Result<Tip, ChainError> {
        self.follower.tip()
    }

    fn features(&mut self) -> Result<Features, ChainError> {
        self.follower.features()
    }

    fn cursor(&mut self, height: Option<u32>) -> Result<Cursor, ChainError> {
        self.follower.cursor(height)
    }

    fn watch_script(&mut self, script: ScriptBuf) -> Result<(), Full> {
        self.follower.watch_script(script)
    }

    fn watch_outpoint(&mut self, outpoint: OutPoint) -> Result<(), Full> {
        self.follower.watch_outpoint(outpoint)
    }

    fn watch_coin(&mut self, outpoint: OutPoint, script: &Script) -> Result<(), Full> {
        self.follower.watch_coin(outpoint, script)
    }

    fn unwatch_script(&mut self, script: &Script) {
        self.outputs.forget_script(script);
        self.follower.unwatch_script(script);
    }

    fn unwatch_outpoint(&mut self, outpoint: &OutPoint) {
        self.outputs.forget(outpoint);
        self.follower.unwatch_outpoint(outpoint);
    }

    fn blocks(&mut self, cursor: &Cursor) -> Result<Progress, ChainError> {
        let progress = self.follower.blocks(cursor)?;
        progress.events.iter().for_each(|event| self.outputs.learn(event));
        Ok(progress)
    }

    fn mempool(&mut self) -> Result<Vec<ChainEvent>, ChainError> {
        self.follower.mempool()
    }

    fn outpoint(&mut self, outpoint: &OutPoint, since: u32) -> Result<OutpointStatus, ChainError> {
        self.follower.tip()?;
        Ok(self.outputs.status(outpoint, since))
    }

    fn fee_rate(&mut self, target_blocks: u16) -> Result<FeeEstimate, ChainError> {
        self.follower.fee_rate(target_blocks)
    }

    fn broadcast(&mut self, transaction: &Transaction) -> Result<Broadcast, ChainError> {
        self.follower.broadcast(transaction)
    }
}
