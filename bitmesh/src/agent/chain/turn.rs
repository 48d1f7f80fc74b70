//! What the thread does in one turn.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bitcoin::Transaction;
use bitmesh_core::wire::ChannelId;
use bitmesh_core::{ChannelInput, Purpose};
use tokio::sync::mpsc;

use super::orders::{Todo, Watch};
use super::tracker::Tracker;
use super::{News, POLL_EVERY};
use crate::chain::{
    Broadcast, CURSOR_BLOCKS, ChainError, ChainSource, Cursor, OutpointStatus, Peers, Refusal,
};
use crate::control::{ChainState, ChainStatus, PeersStatus};

/// Within how many blocks a close is to be confirmed.
const TARGET_BLOCKS: u16 = 6;

/// How often the feerate is asked for.
const FEE_EVERY: Duration = Duration::from_secs(30);

/// How often the mempool is read, while somebody waits for it.
const MEMPOOL_EVERY: Duration = Duration::from_secs(2);

/// The core hears of the tip at least this often.
const TIP_EVERY: Duration = Duration::from_secs(20);

/// A cursor is settled after this time: what it stands for is durable by then.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// Blocks that are read again after a restart: what they said can still be undone, and only who
/// has read them knows what that undoes.
pub(super) const REPLAYED_BLOCKS: usize = 12;

/// A chain, and what is to be done with it.
pub(super) struct Turn<S> {
    source: S,
    tracker: Tracker,
    /// Where it was after the last run.
    stored: Option<Cursor>,
    cursor: Option<Cursor>,
    /// A cursor that waits until it is settled.
    ageing: Option<(Instant, Cursor)>,
    /// Go back to this height first: a channel's blocks may have been read without it.
    back_to: Option<u32>,
    broadcasts: BTreeMap<(ChannelId, Purpose), Transaction>,
    caught_up: bool,
    told: Option<ChainStatus>,
    next_fee: Instant,
    next_mempool: Instant,
    next_tip: Instant,
    tip: Option<u32>,
    /// Those of a light client; unknown until it was asked.
    peers: Option<Option<Peers>>,
}

impl<S: ChainSource> Turn<S> {
    pub(super) fn new(source: S, stored: Option<Cursor>) -> Self {
        let now = Instant::now();
        Self {
            source,
            tracker: Tracker::default(),
            stored,
            cursor: None,
            ageing: None,
            back_to: None,
            broadcasts: BTreeMap::new(),
            caught_up: true,
            told: None,
            next_fee: now,
            next_mempool: now,
            next_tip: now,
            tip: None,
            peers: None,
        }
    }

    /// Until the next turn.
    pub(super) fn pause(&self) -> Duration {
        let waiting = self.told.is_some() && self.caught_up;
        if waiting { POLL_EVERY.max(self.source.poll_every()) } else { Duration::ZERO }
    }

    /// The next turn reads everything, however short the last is ago.
    #[cfg(test)]
    pub(super) fn hurry(&mut self) {
        self.next_mempool = Instant::now();
        self.next_fee = self.next_mempool;
    }

    /// One turn. What there is to tell is told; if nobody listens, it is lost.
    pub(super) fn take(&mut self, todo: Todo, tell: &mpsc::Sender<News>) {
        let mut facts = Vec::new();
        self.obey(todo);
        let outcome = self.look(&mut facts);
        let status = self.status(outcome.as_ref().err());
        if let Err(error) = outcome {
            // There is no hurry to ask again.
            self.caught_up = true;
            facts.push(ChannelInput::ChainDown);
            if self.told.as_ref() != Some(&status) {
                tracing::warn!(%error, "the chain can't be seen");
            }
        }
        for fact in facts {
            let _ = tell.blocking_send(News::Fact(Box::new(fact)));
        }
        if let Some(settled) = self.age() {
            let _ = tell.blocking_send(News::Settled(settled));
        }
        if self.told.as_ref() != Some(&status) {
            let _ = tell.blocking_send(News::Status(status.clone()));
            self.told = Some(status);
        }
    }

    fn obey(&mut self, todo: Todo) {
        for (channel, watch) in todo.watches {
            match watch {
                Some(watch) => self.watch(channel, watch),
                None => self.unwatch(channel),
            }
        }
        self.broadcasts.extend(todo.broadcasts);
    }

    fn watch(&mut self, channel: ChannelId, watch: Watch) {
        let since = watch.since_height;
        let mut added = self.source.watch_script(watch.script.clone());
        if let Some(outpoint) = watch.outpoint {
            added = added.and(self.source.watch_coin(outpoint, &watch.script));
        }
        if let Err(error) = added {
            tracing::error!(%channel, %error, "a channel is not watched");
            return;
        }
        let is_new = self.tracker.watch(channel, watch);
        let at = self.cursor.as_ref().and_then(Cursor::newest).map(|block| block.height);
        if is_new && at.is_some_and(|at| at > since) {
            self.back_to = Some(self.back_to.map_or(since, |other| other.min(since)));
        }
    }

    fn unwatch(&mut self, channel: ChannelId) {
        if let Some(watch) = self.tracker.unwatch(channel) {
            self.source.unwatch_script(&watch.script);
            if let Some(outpoint) = watch.outpoint {
                self.source.unwatch_outpoint(&outpoint);
            }
        }
        self.broadcasts.retain(|(of, _), _| *of != channel);
    }

    /// Looks at the chain; what was learnt before it failed is kept.
    fn look(&mut self, facts: &mut Vec<ChannelInput>) -> Result<(), ChainError> {
        self.find_cursor()?;
        self.read_blocks(facts)?;
        if !self.caught_up {
            return Ok(());
        }
        self.read_mempool(facts)?;
        self.read_fee(facts)?;
        self.send(facts)?;
        self.say_tip(facts)
    }

    fn find_cursor(&mut self) -> Result<(), ChainError> {
        if let Some(height) = self.back_to {
            self.cursor = Some(self.source.cursor(Some(height))?);
            self.back_to = None;
        }
        if self.cursor.is_none() {
            self.cursor = match self.stored.take().and_then(earlier) {
                Some(cursor) => Some(cursor),
                None => Some(self.source.cursor(self.tracker.oldest())?),
            };
        }
        Ok(())
    }

    fn read_blocks(&mut self, facts: &mut Vec<ChannelInput>) -> Result<(), ChainError> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let progress = match self.source.blocks(cursor) {
            Err(ChainError::CursorLost) => {
                tracing::warn!("the chain is not the one that was known: it is read anew");
                self.cursor = None;
                self.caught_up = false;
                return Ok(());
            }
            progress => progress?,
        };
        for event in &progress.events {
            if let Err(error) = cursor.apply(event) {
                tracing::warn!(%error, "the chain is read anew");
                self.cursor = None;
                self.caught_up = false;
                return Ok(());
            }
            facts.extend(self.tracker.learn(event));
        }
        self.caught_up = progress.caught_up;
        Ok(())
    }

    fn read_mempool(&mut self, facts: &mut Vec<ChannelInput>) -> Result<(), ChainError> {
        let now = Instant::now();
        if now < self.next_mempool || !self.tracker.waits_for_mempool() {
            return Ok(());
        }
        for event in self.source.mempool()? {
            facts.extend(self.tracker.learn(&event));
        }
        for outpoint in self.tracker.unsure() {
            let status = self.source.outpoint(&outpoint, 0)?;
            // It may be in a mempool that the source does not see. A block will tell.
            if status == OutpointStatus::Unknown && !self.source.features()?.knows_all_outputs {
                continue;
            }
            facts.extend(self.tracker.settle(&outpoint, status));
        }
        self.next_mempool = now + MEMPOOL_EVERY.max(self.source.poll_every());
        Ok(())
    }

    fn read_fee(&mut self, facts: &mut Vec<ChannelInput>) -> Result<(), ChainError> {
        let now = Instant::now();
        if now >= self.next_fee {
            facts.push(ChannelInput::FeeRate(self.source.fee_rate(TARGET_BLOCKS)?.rate));
            self.next_fee = now + FEE_EVERY;
        }
        Ok(())
    }

    /// What can't be sent now is sent at the next turn.
    fn send(&mut self, facts: &mut Vec<ChannelInput>) -> Result<(), ChainError> {
        while let Some(((channel, purpose), tx)) = self.broadcasts.pop_first() {
            match self.source.broadcast(&tx) {
                Ok(Broadcast::Refused(refused)) => {
                    tracing::warn!(%channel, ?purpose, %refused, "a transaction is not taken");
                    // The node will take it by itself when its time has come.
                    if refused.kind == Refusal::NotFinal {
                        continue;
                    }
                    let why = refused.reason;
                    facts.push(ChannelInput::BroadcastRefused { channel, purpose, why });
                }
                Ok(_) => {
                    // Now the mempool has it.
                    self.next_mempool = Instant::now();
                }
                Err(error) => {
                    self.broadcasts.insert((channel, purpose), tx);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn say_tip(&mut self, facts: &mut Vec<ChannelInput>) -> Result<(), ChainError> {
        let now = Instant::now();
        let Some(block) = self.cursor.as_ref().and_then(Cursor::newest) else { return Ok(()) };
        let down = self.told.as_ref().is_some_and(|told| told.state != ChainState::Following);
        if down || self.tip != Some(block.height) || now >= self.next_tip {
            self.count_peers()?;
            let withheld = self.peers.flatten().is_some();
            let block_unix_s =
                withheld.then(|| self.source.tip()).transpose()?.map(|tip| tip.time.into());
            let (height, unix_s) = (block.height, unix_s());
            facts.push(ChannelInput::Tip { height, unix_s, block_unix_s });
            self.next_tip = now + TIP_EVERY;
            self.tip = Some(block.height);
        }
        Ok(())
    }

    fn count_peers(&mut self) -> Result<(), ChainError> {
        // A node of ours has none, and stays one.
        if self.peers != Some(None) {
            self.peers = Some(self.source.features()?.peers);
        }
        Ok(())
    }

    fn status(&self, error: Option<&ChainError>) -> ChainStatus {
        let height = self.cursor.as_ref().and_then(Cursor::newest).map(|block| block.height);
        let state = match error {
            Some(_) => ChainState::Unavailable,
            None if self.caught_up => ChainState::Following,
            None => ChainState::CatchingUp,
        };
        let peers = self.peers.flatten().map(|Peers { connected, required }| PeersStatus {
            connected: connected as u64,
            required: required as u64,
        });
        ChainStatus {
            state,
            height,
            why: error.map(ToString::to_string),
            peers,
            silent_minutes: None,
        }
    }

    /// A cursor that is old enough to go on from.
    fn age(&mut self) -> Option<Cursor> {
        let now = Instant::now();
        let is_old = |at: &Instant| now.duration_since(*at) >= SETTLED_AFTER;
        let settled = self.ageing.take_if(|(at, _)| is_old(at)).map(|(_, cursor)| cursor);
        if self.ageing.is_none() && self.caught_up {
            self.ageing = self.cursor.clone().map(|cursor| (now, cursor));
        }
        settled
    }
}

/// The same cursor a few blocks ago.
fn earlier(cursor: Cursor) -> Option<Cursor> {
    let blocks: Vec<_> = cursor.blocks().collect();
    let kept = blocks.len().saturating_sub(REPLAYED_BLOCKS).min(CURSOR_BLOCKS);
    Cursor::new(blocks.into_iter().take(kept).collect()).ok()
}

/// Seconds since 1970, by the machine's clock.
pub(in crate::agent) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
