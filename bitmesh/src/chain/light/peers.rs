//! The peers, as the node that a [`Follower`](crate::chain::Follower) asks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bip157::Requester;
use bitcoin::{BlockHash, Network, OutPoint, Script, Transaction, Txid};
use tokio::runtime::Handle;

use super::engine::{Down, Engine, Shared, State};
use super::fees::{EVERY_BLOCKS, Fees};
use super::{LightConfig, filters};
use crate::chain::event::{Block, Broadcast, Features, FeeEstimate, FeeSource, Peers, Tip, Truc};
use crate::chain::node::{Content, Node, Output};
use crate::chain::watch::WatchList;
use crate::chain::{ChainError, MAX_FEE_RATE, MIN_FEE_RATE};

/// How long the first peer is waited for.
const FIRST_PATIENCE: Duration = Duration::from_secs(20);

/// How long new connections are waited for, after the last ones ended.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a filter is waited for.
const FILTER_PATIENCE: Duration = Duration::from_secs(25);

/// How long a block is waited for: two peers may fail.
const BLOCK_PATIENCE: Duration = Duration::from_secs(60);

/// How often an answer is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How often a transaction is offered, each time to one of the peers by chance: with three peers,
/// all of them hear of it in 199 of 200 cases.
const MAX_OFFERS: u32 = 16;

/// How long a peer may take to ask for what it was offered. One that has it does not ask.
const OFFER_PATIENCE: Duration = Duration::from_millis(100);

/// The peers.
#[derive(Debug)]
pub(super) struct PeerNode {
    config: LightConfig,
    engine: Option<Engine>,
    fees: Fees,
}

impl PeerNode {
    pub(super) fn new(config: LightConfig) -> Self {
        Self { config, engine: None, fees: Fees::default() }
    }

    /// What the peers say, once they say anything.
    fn shared(&mut self) -> Result<Arc<Shared>, ChainError> {
        let engine = match &mut self.engine {
            Some(engine) => engine,
            engine @ None => engine.insert(Engine::start(&self.config)?),
        };
        let shared = Arc::clone(&engine.shared);
        let begun = Instant::now();
        let found = shared.wait(FIRST_PATIENCE, |state| {
            let is_late = begun.elapsed() >= PATIENCE;
            if state.is_ready {
                return Some(Ok(()));
            }
            state.is_down.clone().filter(|_| is_late).map(Err)
        });
        match found {
            Some(Ok(())) => Ok(shared),
            Some(Err(Down { answered: 0, why, .. })) => {
                Err(ChainError::NoPeers { network: self.config.network, why: why.to_owned() })
            }
            Some(Err(Down { answered, .. })) => {
                let required = usize::from(self.config.required);
                Err(ChainError::FewPeers { connected: answered.min(required - 1), required })
            }
            None => Err(self.unready(&shared.lock())),
        }
    }

    /// Why nothing can be said yet.
    fn unready(&self, state: &State) -> ChainError {
        let required = usize::from(self.config.required);
        let blocks = state.headers.tip().height;
        match state.connected {
            0 => ChainError::NoPeers {
                network: self.config.network,
                why: format!("none was found in {} s", FIRST_PATIENCE.as_secs()),
            },
            connected if connected < required => ChainError::FewPeers { connected, required },
            _ => ChainError::Syncing { blocks, headers: blocks },
        }
    }

    fn requester(&mut self) -> Result<(Requester, Handle), ChainError> {
        let shared = self.shared()?;
        let peers = shared.lock().peers.clone();
        peers.ok_or_else(|| ChainError::NoPeers {
            network: self.config.network,
            why: "the connections are made anew".to_owned(),
        })
    }

    /// The block whole, with its witnesses checked.
    fn fetch(&mut self, block: Block) -> Result<bitcoin::Block, ChainError> {
        const WHAT: &str = "getdata";
        let (requester, _) = self.requester()?;
        let deadline = Instant::now() + BLOCK_PATIENCE;
        let gone = |_| ChainError::Slow { method: WHAT, after: BLOCK_PATIENCE };
        let mut answer = requester.request_block(block.hash).map_err(|_| gone(()))?;
        while Instant::now() < deadline {
            match answer.try_recv() {
                Ok(Ok(found)) if found.block.check_witness_commitment() => return Ok(found.block),
                // Another peer may have the right ones.
                Ok(Ok(_)) => answer = requester.request_block(block.hash).map_err(|_| gone(()))?,
                Ok(Err(_)) | Err(tokio::sync::oneshot::error::TryRecvError::Closed) => {
                    return Err(ChainError::Slow { method: WHAT, after: BLOCK_PATIENCE });
                }
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => {
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        }
        Err(ChainError::Slow { method: WHAT, after: BLOCK_PATIENCE })
    }

    /// Whether a block has to be fetched, once its filter is there.
    fn may_matter(&mut self, block: Block, watch: &WatchList) -> Result<bool, ChainError> {
        let shared = self.shared()?;
        let Some(scripts) = watch.filter_scripts() else { return Ok(true) };
        if scripts.is_empty() {
            return Ok(false);
        }
        shared.want(block.height);
        let found = shared.wait(FILTER_PATIENCE, |state| {
            if state.headers.hash_at(block.height) != Some(block.hash) {
                // It left the chain: its header tells the follower.
                return Some(false);
            }
            let filter = state.filters.get(block)?;
            let found = filters::may_have(filter, &block.hash, scripts.iter().copied());
            state.filters.was_read(block.height);
            Some(found)
        });
        found.ok_or_else(|| match self.unready(&shared.lock()) {
            ChainError::Syncing { headers, .. } => {
                ChainError::Syncing { blocks: block.height.saturating_sub(1), headers }
            }
            error => error,
        })
    }
}

/// What a light client with these peers can do.
pub(in crate::chain) fn features(peers: Peers) -> Features {
    Features {
        name: "light client".to_owned(),
        sees_mempool: false,
        knows_fees: false,
        truc: Truc::Unknown,
        pruned_below: None,
        knows_all_outputs: false,
        peers: Some(peers),
    }
}

impl Node for PeerNode {
    fn check(&mut self, network: Network) -> Result<(), ChainError> {
        if network != self.config.network {
            return Err(ChainError::WrongNetwork { expected: network });
        }
        self.shared().map(drop)
    }

    fn tip(&mut self) -> Result<Tip, ChainError> {
        let shared = self.shared()?;
        let state = shared.lock();
        Ok(Tip { block: state.headers.tip(), time: state.headers.time() })
    }

    fn features(&mut self) -> Result<Features, ChainError> {
        let shared = self.shared()?;
        let state = shared.lock();
        let required = usize::from(self.config.required);
        Ok(features(Peers { connected: state.connected, required }))
    }

    fn hash_at(&mut self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        let shared = self.shared()?;
        let state = shared.lock();
        let oldest = state.headers.oldest();
        if height < oldest && height > 0 {
            return Err(ChainError::TooOldBlock { height, oldest });
        }
        Ok(state.headers.hash_at(height))
    }

    fn block(&mut self, hash: BlockHash, height: u32) -> Result<bitcoin::Block, ChainError> {
        self.fetch(Block { height, hash })
    }

    fn content(&mut self, block: Block, watch: &WatchList) -> Result<Content, ChainError> {
        if self.may_matter(block, watch)? {
            return Ok(Content::Whole(self.fetch(block)?));
        }
        let header = self.shared()?.lock().headers.header(block);
        // It left the chain meanwhile.
        let left = ChainError::Syncing { blocks: block.height, headers: block.height };
        header.map(Content::Nothing).ok_or(left)
    }

    fn mempool_txids(
        &mut self,
        _: &[&Script],
        _: &BTreeSet<Txid>,
    ) -> Result<Vec<Txid>, ChainError> {
        self.shared().map(|_| Vec::new())
    }

    fn mempool_transactions(&mut self, _: &[Txid]) -> Result<Vec<Transaction>, ChainError> {
        self.shared().map(|_| Vec::new())
    }

    fn mempool_spenders(&mut self, _: &[OutPoint]) -> Result<Vec<Txid>, ChainError> {
        self.shared().map(|_| Vec::new())
    }

    fn unspent(&mut self, _: &OutPoint) -> Result<Option<Output>, ChainError> {
        self.shared().map(|_| None)
    }

    fn fee_rate(&mut self, _: u16) -> Result<FeeEstimate, ChainError> {
        let shared = self.shared()?;
        let (tip, minimum) = {
            let state = shared.lock();
            let height = state.headers.tip().height / EVERY_BLOCKS * EVERY_BLOCKS;
            (state.headers.hash_at(height).map(|hash| Block { height, hash }), state.relay_minimum)
        };
        if let Some(block) = tip.filter(|block| block.height > 0 && !self.fees.knows(block.hash)) {
            let content = self.fetch(block)?;
            self.fees.learn(self.config.network, block.height, &content);
        }
        let (rate, source) = match self.fees.estimate() {
            Some(rate) => (rate.max(minimum), FeeSource::Blocks),
            None => (minimum, FeeSource::MempoolMinimum),
        };
        Ok(FeeEstimate { rate: rate.clamp(MIN_FEE_RATE, MAX_FEE_RATE), source })
    }

    fn broadcast(&mut self, transaction: &Transaction) -> Result<Broadcast, ChainError> {
        let (requester, handle) = self.requester()?;
        let peers = self.shared()?.lock().connected.max(1);
        let offers = if peers == 1 { 1 } else { MAX_OFFERS };
        for _ in 0..offers {
            let (requester, transaction) = (requester.clone(), transaction.clone());
            let asked = handle.spawn(async move { requester.submit_package(transaction).await });
            let deadline = Instant::now() + OFFER_PATIENCE;
            while !asked.is_finished() && Instant::now() < deadline {
                std::thread::sleep(LOOK_EVERY);
            }
            asked.abort();
        }
        Ok(Broadcast::Offered { peers })
    }
}
