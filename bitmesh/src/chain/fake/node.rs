//! The node of the fake chain.

use std::collections::BTreeSet;

use bitcoin::constants::genesis_block;
use bitcoin::{BlockHash, Network, OutPoint, Script, Transaction, Txid};

use super::{FakeChain, Health, State};
use crate::chain::bitcoind::DEFAULT_TIMEOUT;
use crate::chain::event::{Block, Broadcast, Features, FeeEstimate, FeeSource, Tip};
use crate::chain::{ChainError, MAX_FEE_RATE, MIN_FEE_RATE, Node, Output};

/// The node of a [`FakeChain`].
#[derive(Debug)]
pub struct FakeNode(FakeChain);

impl FakeNode {
    pub(super) const fn new(chain: FakeChain) -> Self {
        Self(chain)
    }

    /// Asks it, if it answers.
    fn ask<T>(
        &self,
        method: &'static str,
        question: impl FnOnce(&mut State) -> T,
    ) -> Result<T, ChainError> {
        let mut state = self.0.state();
        match state.health {
            Health::Up | Health::Syncing { .. } => Ok(question(&mut state)),
            Health::Down => Err(ChainError::Down {
                url: "fake chain".to_owned(),
                reason: "it is switched off".to_owned(),
            }),
            Health::Slow => Err(ChainError::Slow { method, after: DEFAULT_TIMEOUT }),
            Health::WarmingUp => Err(ChainError::WarmingUp("Loading block index…".to_owned())),
        }
    }
}

impl Node for FakeNode {
    fn check(&mut self, network: Network) -> Result<(), ChainError> {
        let genesis = genesis_block(network).block_hash();
        if self.hash_at(0)? != Some(genesis) {
            return Err(ChainError::WrongNetwork { expected: network });
        }
        self.tip().map(drop)
    }

    fn tip(&mut self) -> Result<Tip, ChainError> {
        self.ask("tip", |state| {
            let (tip, blocks) = (state.ledger.tip(), state.ledger.height());
            match state.health {
                Health::Syncing { behind } => {
                    let headers = blocks.saturating_add(behind);
                    Err(ChainError::Syncing { blocks, headers })
                }
                _ => Ok(tip),
            }
        })?
    }

    fn features(&mut self) -> Result<Features, ChainError> {
        self.ask("features", |state| Features {
            name: format!("fake {}", state.network),
            sees_mempool: state.peers.is_none(),
            knows_fees: state.peers.is_none(),
            truc: state.truc,
            pruned_below: (state.pruned_below > 0).then_some(state.pruned_below),
            knows_all_outputs: state.peers.is_none(),
            peers: state.peers,
        })
    }

    fn hash_at(&mut self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        self.ask("hash_at", |state| state.ledger.hash_at(height))
    }

    fn block(&mut self, hash: BlockHash, height: u32) -> Result<bitcoin::Block, ChainError> {
        self.ask("block", |state| {
            if height < state.pruned_below {
                return Err(ChainError::Pruned { height });
            }
            let block = state.ledger.block(height).filter(|block| block.block_hash() == hash);
            block.cloned().ok_or_else(|| ChainError::Refused {
                method: "block",
                code: -5,
                message: "Block not found".to_owned(),
            })
        })?
    }

    fn mempool_txids(
        &mut self,
        _scripts: &[&Script],
        _known: &BTreeSet<Txid>,
    ) -> Result<Vec<Txid>, ChainError> {
        self.ask("mempool_txids", |state| {
            let seen = state.ledger.mempool().iter().filter(|_| state.peers.is_none());
            seen.map(Transaction::compute_txid).collect()
        })
    }

    fn mempool_transactions(&mut self, txids: &[Txid]) -> Result<Vec<Transaction>, ChainError> {
        self.ask("mempool_transactions", |state| {
            let mempool = state.ledger.mempool().iter();
            mempool.filter(|tx| txids.contains(&tx.compute_txid())).cloned().collect()
        })
    }

    fn mempool_spenders(&mut self, outpoints: &[OutPoint]) -> Result<Vec<Txid>, ChainError> {
        self.ask("mempool_spenders", |state| {
            let seen = outpoints.iter().filter(|_| state.peers.is_none());
            let spender = |outpoint| state.ledger.spender_in_mempool(outpoint);
            seen.filter_map(spender).map(Transaction::compute_txid).collect()
        })
    }

    fn unspent(&mut self, outpoint: &OutPoint) -> Result<Option<Output>, ChainError> {
        self.ask("unspent", |state| {
            let ledger = &state.ledger;
            if state.peers.is_some() || ledger.spender_in_mempool(outpoint).is_some() {
                return None;
            }
            if let Some(coin) = ledger.confirmed(outpoint) {
                let hash = ledger.hash_at(coin.height)?;
                return Some(Output::Confirmed(Block { height: coin.height, hash }));
            }
            let parent = ledger.mempool().iter().find(|tx| tx.compute_txid() == outpoint.txid)?;
            let vout = usize::try_from(outpoint.vout).ok()?;
            parent.output.get(vout).map(|_| Output::InMempool)
        })
    }

    fn fee_rate(&mut self, _target_blocks: u16) -> Result<FeeEstimate, ChainError> {
        self.ask("fee_rate", |state| match state.estimate {
            Some(rate) => FeeEstimate {
                rate: rate.clamp(MIN_FEE_RATE, MAX_FEE_RATE),
                source: FeeSource::Estimate,
            },
            None => FeeEstimate { rate: MIN_FEE_RATE, source: FeeSource::MempoolMinimum },
        })
    }

    fn broadcast(&mut self, transaction: &Transaction) -> Result<Broadcast, ChainError> {
        self.ask("broadcast", |state| {
            let answer = state.ledger.accept(transaction);
            state.peers.map_or(answer, |peers| Broadcast::Offered { peers: peers.connected })
        })
    }
}
