//! From what the chain says to what the channels must know.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, ScriptBuf, Txid};
use bitmesh_core::ChannelInput;
use bitmesh_core::wire::ChannelId;

use super::orders::Watch;
use crate::chain::{Block, ChainEvent, MAX_OUTPOINTS_PER_SCRIPT, OutpointStatus, TxMatch};

/// An output that pays a channel's script.
#[derive(Clone, Copy, Debug)]
struct Paid {
    channel: ChannelId,
    capacity: Amount,
    height: Option<u32>,
}

/// What is known of the channels' outputs.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    watched: BTreeMap<ChannelId, Watch>,
    by_script: BTreeMap<ScriptBuf, ChannelId>,
    by_outpoint: BTreeMap<OutPoint, ChannelId>,
    paid: BTreeMap<OutPoint, Paid>,
    /// Spends in blocks.
    spent: BTreeMap<ChannelId, (Txid, u32)>,
    /// Outputs whose block left the chain: they may be gone.
    unsure: BTreeSet<OutPoint>,
}

impl Tracker {
    /// Adds a channel, and says whether it is new.
    pub(super) fn watch(&mut self, channel: ChannelId, watch: Watch) -> bool {
        self.by_script.insert(watch.script.clone(), channel);
        if let Some(outpoint) = watch.outpoint {
            self.by_outpoint.insert(outpoint, channel);
        }
        self.watched.insert(channel, watch).is_none()
    }

    /// Forgets a channel.
    pub(super) fn unwatch(&mut self, channel: ChannelId) -> Option<Watch> {
        let watch = self.watched.remove(&channel)?;
        self.by_script.remove(&watch.script);
        self.by_outpoint.retain(|_, of| *of != channel);
        self.paid.retain(|_, paid| paid.channel != channel);
        self.spent.remove(&channel);
        Some(watch)
    }

    /// The height below which no block concerns any channel.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.watched.values().map(|watch| watch.since_height).min()
    }

    /// Whether some channel waits for what is not in a block yet.
    pub(super) fn waits_for_mempool(&self) -> bool {
        let confirmed: BTreeSet<ChannelId> =
            self.paid.values().filter(|paid| paid.height.is_some()).map(|p| p.channel).collect();
        !self.unsure.is_empty()
            || self
                .watched
                .iter()
                .any(|(channel, watch)| watch.outpoint.is_none() && !confirmed.contains(channel))
    }

    /// Takes in an event.
    pub(super) fn learn(&mut self, event: &ChainEvent) -> Vec<ChannelInput> {
        match event {
            ChainEvent::BlockConnected { block, matches, .. } => {
                matches.iter().flat_map(|found| self.found(found, Some(block.height))).collect()
            }
            ChainEvent::BlockDisconnected { block } => self.undone(*block),
            ChainEvent::MempoolSeen(found) => self.found(found, None),
            ChainEvent::MempoolGone { txid } => self.dropped(*txid),
        }
    }

    fn found(&mut self, found: &TxMatch, height: Option<u32>) -> Vec<ChannelInput> {
        let mut facts = Vec::new();
        for (outpoint, output) in found.paid() {
            let Some(&channel) = self.by_script.get(&output.script_pubkey) else { continue };
            if !self.note_output(outpoint, Paid { channel, capacity: output.value, height }) {
                continue;
            }
            let capacity = output.value;
            facts.push(ChannelInput::FundingSeen { channel, outpoint, capacity, height });
        }
        for outpoint in found.spent() {
            let Some(channel) = self.channel_of(&outpoint) else { continue };
            if let Some(height) = height {
                self.spent.insert(channel, (found.txid, height));
            }
            let tx = Box::new(found.transaction.clone());
            facts.push(ChannelInput::SpendSeen { channel, tx, height });
        }
        facts
    }

    /// Whether there is room: more outputs than that to one script are somebody's dust.
    fn note_output(&mut self, outpoint: OutPoint, paid: Paid) -> bool {
        let of_channel = self.paid.values().filter(|other| other.channel == paid.channel).count();
        if of_channel >= MAX_OUTPOINTS_PER_SCRIPT && !self.paid.contains_key(&outpoint) {
            return false;
        }
        self.unsure.remove(&outpoint);
        self.paid.insert(outpoint, paid);
        true
    }

    fn channel_of(&self, outpoint: &OutPoint) -> Option<ChannelId> {
        let paid = self.paid.get(outpoint).map(|paid| paid.channel);
        paid.or_else(|| self.by_outpoint.get(outpoint).copied())
    }

    fn undone(&mut self, block: Block) -> Vec<ChannelInput> {
        let mut facts = Vec::new();
        self.spent.retain(|channel, (txid, height)| {
            let stays = *height != block.height;
            if !stays {
                facts.push(ChannelInput::SpendGone { channel: *channel, txid: *txid });
            }
            stays
        });
        for (outpoint, paid) in &mut self.paid {
            if paid.height == Some(block.height) {
                paid.height = None;
                self.unsure.insert(*outpoint);
                facts.push(ChannelInput::FundingSeen {
                    channel: paid.channel,
                    outpoint: *outpoint,
                    capacity: paid.capacity,
                    height: None,
                });
            }
        }
        // A funding from before the start: in which block it was is not known.
        let unknown = self.by_outpoint.keys().filter(|outpoint| !self.paid.contains_key(outpoint));
        self.unsure.extend(unknown.copied());
        facts
    }

    fn dropped(&mut self, txid: Txid) -> Vec<ChannelInput> {
        let of_tx = |outpoint: &OutPoint| outpoint.txid == txid;
        let gone: Vec<OutPoint> = self
            .paid
            .iter()
            .filter(|(outpoint, paid)| of_tx(outpoint) && paid.height.is_none())
            .map(|(outpoint, _)| *outpoint)
            .collect();
        gone.iter().filter_map(|outpoint| self.gone(outpoint)).collect()
    }

    fn gone(&mut self, outpoint: &OutPoint) -> Option<ChannelInput> {
        let channel = self.channel_of(outpoint)?;
        self.paid.remove(outpoint);
        Some(ChannelInput::FundingGone { channel, outpoint: *outpoint })
    }

    /// Outputs of which it is to be asked whether they are still there.
    pub(super) fn unsure(&self) -> Vec<OutPoint> {
        self.unsure.iter().copied().collect()
    }

    /// Takes in what an output of [`Self::unsure`] has become.
    pub(super) fn settle(
        &mut self,
        outpoint: &OutPoint,
        status: OutpointStatus,
    ) -> Option<ChannelInput> {
        self.unsure.remove(outpoint);
        match status {
            OutpointStatus::Unknown => self.gone(outpoint),
            OutpointStatus::InMempool | OutpointStatus::Confirmed(_) | OutpointStatus::Spent(_) => {
                None
            }
        }
    }
}
