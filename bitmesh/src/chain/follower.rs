//! Follows the chain of a full node, block by block.

use std::time::Duration;

use bitcoin::{BlockHash, Network, OutPoint, Script, ScriptBuf, Transaction, Txid};

use super::cursor::{CURSOR_BLOCKS, Cursor};
use super::error::ChainError;
use super::event::{
    Block, Broadcast, ChainEvent, Features, FeeEstimate, OutpointStatus, Progress, Spender, Tip,
};
use super::mempool::Mempool;
use super::node::{Content, Index, Node, Output};
use super::watch::{Full, WatchList};
use super::{ChainSource, MAX_BLOCKS_PER_POLL, MAX_LOOK_BACK_BLOCKS};

/// A full node as a chain source: reads whole blocks and matches them here, so that the node
/// needs neither wallet nor index, and may be pruned.
#[derive(Debug)]
pub struct Follower<N> {
    node: N,
    network: Network,
    /// Whether the node was found to be ready since it last failed.
    checked: bool,
    watch: WatchList,
    mempool: Mempool,
    /// The tip, if the caller was led to it.
    followed: Option<BlockHash>,
}

impl<N: Node> Follower<N> {
    /// Follows `node`, which must be on `network`. Nothing is asked yet.
    #[must_use]
    pub fn new(node: N, network: Network) -> Self {
        let (watch, mempool) = (WatchList::default(), Mempool::default());
        Self { node, network, checked: false, watch, mempool, followed: None }
    }

    /// Asks the node, which is ready; after a failure it may be another one, and is checked anew.
    fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut Self) -> Result<T, ChainError>,
    ) -> Result<T, ChainError> {
        if !self.checked {
            self.node.check(self.network)?;
            self.checked = true;
        }
        let answer = question(self);
        self.checked = answer.as_ref().err().is_none_or(|error| !error.is_transient());
        answer
    }

    fn collect_blocks(
        &mut self,
        mut cursor: Cursor,
        events: &mut Vec<ChainEvent>,
    ) -> Result<bool, ChainError> {
        self.followed = None;
        let tip = self.node.tip()?.block;
        self.roll_back(&mut cursor, tip, events)?;
        for _ in 0..MAX_BLOCKS_PER_POLL {
            let newest = cursor.newest().ok_or(ChainError::CursorLost)?;
            if newest.hash == tip.hash {
                break;
            }
            let height = newest.height.saturating_add(1);
            let Some(hash) = self.node.hash_at(height)? else { break };
            let block = Block { height, hash };
            let content = self.node.content(block, &self.watch)?;
            // The chain changed between two answers: the next call sees how.
            if content.header().prev_blockhash != newest.hash {
                break;
            }
            let event = self.connected(block, &content);
            cursor.apply(&event).map_err(|_| ChainError::CursorLost)?;
            events.push(event);
        }
        let caught_up = cursor.newest().map(|block| block.hash) == Some(tip.hash);
        self.followed = caught_up.then_some(tip.hash);
        Ok(caught_up)
    }

    fn roll_back(
        &mut self,
        cursor: &mut Cursor,
        tip: Block,
        events: &mut Vec<ChainEvent>,
    ) -> Result<(), ChainError> {
        let stale_from = events.len();
        let known = cursor.newest().ok_or(ChainError::CursorLost)?;
        if known == tip {
            return Ok(());
        }
        // The best chain gets no shorter. One of several servers behind an address may lag.
        if cursor.blocks().any(|block| block == tip) {
            return Err(ChainError::Behind { height: tip.height, known: known.height });
        }
        while let Some(block) = cursor.newest() {
            match self.node.hash_at(block.height)? {
                Some(hash) if hash == block.hash => return Ok(()),
                None if block.height <= tip.height => {
                    return Err(ChainError::Behind { height: tip.height, known: known.height });
                }
                _ => {}
            }
            let event = ChainEvent::BlockDisconnected { block };
            if cursor.apply(&event).is_err() {
                // Not even the oldest is in the chain: tell nothing rather than half of it.
                events.truncate(stale_from);
                return Err(ChainError::CursorLost);
            }
            events.push(event);
        }
        Err(ChainError::CursorLost)
    }

    fn connected(&mut self, block: Block, content: &Content) -> ChainEvent {
        let transactions = content.transactions();
        let matches = transactions.iter().filter_map(|tx| self.watch.matches(tx)).collect();
        self.mempool.confirmed(transactions);
        ChainEvent::BlockConnected { block, time: content.header().time, matches }
    }

    fn spender_in_blocks(
        &mut self,
        outpoint: &OutPoint,
        since: u32,
    ) -> Result<Option<Spender>, ChainError> {
        let tip = self.node.tip()?.block.height;
        let oldest = since.max(tip.saturating_sub(MAX_LOOK_BACK_BLOCKS - 1));
        for height in (oldest..=tip).rev() {
            let Some(hash) = self.node.hash_at(height)? else { continue };
            let block = self.node.block(hash, height)?;
            if let Some(spender) = block.txdata.iter().find(|tx| spends(tx, outpoint)) {
                let block = Some(Block { height, hash });
                return Ok(Some(Spender { txid: spender.compute_txid(), block }));
            }
        }
        Ok(None)
    }

    fn status(&mut self, outpoint: &OutPoint, since: u32) -> Result<OutpointStatus, ChainError> {
        match self.node.unspent(outpoint)? {
            Some(Output::InMempool) => return Ok(OutpointStatus::InMempool),
            Some(Output::Confirmed(block)) => return Ok(OutpointStatus::Confirmed(block)),
            None => {}
        }
        let in_mempool: Option<Txid> = self.node.mempool_spenders(&[*outpoint])?.pop();
        if let Some(txid) = in_mempool {
            return Ok(OutpointStatus::Spent(Spender { txid, block: None }));
        }
        let spender = match self.node.indexed_spender(outpoint)? {
            Index::Missing => self.spender_in_blocks(outpoint, since)?,
            Index::Says(spender) => {
                spender.filter(|spender| spender.block.is_none_or(|block| block.height >= since))
            }
        };
        Ok(spender.map_or(OutpointStatus::Unknown, OutpointStatus::Spent))
    }
}

fn spends(transaction: &Transaction, outpoint: &OutPoint) -> bool {
    transaction.input.iter().any(|input| input.previous_output == *outpoint)
}

impl<N: Node> ChainSource for Follower<N> {
    fn check(&mut self, network: Network) -> Result<(), ChainError> {
        self.network = network;
        self.checked = false;
        self.ask(|_| Ok(()))
    }

    fn tip(&mut self) -> Result<Tip, ChainError> {
        self.ask(|this| this.node.tip())
    }

    fn features(&mut self) -> Result<Features, ChainError> {
        self.ask(|this| this.node.features())
    }

    fn cursor(&mut self, height: Option<u32>) -> Result<Cursor, ChainError> {
        self.ask(|this| {
            let tip = this.node.tip()?.block.height;
            let height = height.unwrap_or(tip);
            let depth = u32::try_from(CURSOR_BLOCKS - 1).unwrap_or(u32::MAX);
            let oldest = height.saturating_sub(depth);
            let hashes = this.node.hashes(oldest..=height)?;
            let blocks: Vec<Block> = (oldest..=height)
                .zip(hashes)
                .map(|(height, hash)| Block { height, hash })
                .collect();
            if blocks.last().map(|block| block.height) != Some(height) {
                return Err(ChainError::NoSuchHeight { height, tip });
            }
            Cursor::new(blocks).map_err(|_| ChainError::CursorLost)
        })
    }

    fn watch_script(&mut self, script: ScriptBuf) -> Result<(), Full> {
        self.watch.add_script(script)
    }

    fn watch_outpoint(&mut self, outpoint: OutPoint) -> Result<(), Full> {
        self.watch.add_outpoint(outpoint)
    }

    fn watch_coin(&mut self, outpoint: OutPoint, script: &Script) -> Result<(), Full> {
        self.watch.add_coin(outpoint, script)
    }

    fn unwatch_script(&mut self, script: &Script) {
        self.watch.remove_script(script);
    }

    fn unwatch_outpoint(&mut self, outpoint: &OutPoint) {
        self.watch.remove_outpoint(outpoint);
    }

    fn blocks(&mut self, cursor: &Cursor) -> Result<Progress, ChainError> {
        self.ask(|this| {
            let mut events = Vec::new();
            match this.collect_blocks(cursor.clone(), &mut events) {
                Ok(caught_up) => Ok(Progress { events, caught_up }),
                Err(error) if events.is_empty() => Err(error),
                // What was learnt counts; the next call says what is wrong, if it still is.
                Err(_) => Ok(Progress { events, caught_up: false }),
            }
        })
    }

    fn mempool(&mut self) -> Result<Vec<ChainEvent>, ChainError> {
        self.ask(|this| this.mempool.poll(&mut this.node, &mut this.watch, this.followed))
    }

    fn outpoint(&mut self, outpoint: &OutPoint, since: u32) -> Result<OutpointStatus, ChainError> {
        self.ask(|this| this.status(outpoint, since))
    }

    fn fee_rate(&mut self, target_blocks: u16) -> Result<FeeEstimate, ChainError> {
        self.ask(|this| this.node.fee_rate(target_blocks))
    }

    fn broadcast(&mut self, transaction: &Transaction) -> Result<Broadcast, ChainError> {
        self.ask(|this| this.node.broadcast(transaction))
    }

    fn poll_every(&self) -> Duration {
        self.node.poll_every()
    }
}
