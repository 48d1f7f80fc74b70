//! What became of the outputs that are watched, as far as their blocks were read.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Script, ScriptBuf};

use crate::chain::event::{Block, ChainEvent, OutpointStatus, Spender};
use crate::chain::{MAX_WATCHED_OUTPOINTS, TxMatch};

/// Outputs that are remembered, at most. Of more, nothing is known.
const MAX_OUTPUTS: usize = 2 * MAX_WATCHED_OUTPOINTS;

#[derive(Debug, Default)]
struct Output {
    script: Option<ScriptBuf>,
    paid: Option<Block>,
    spent: Option<Spender>,
}

/// By outpoint.
#[derive(Debug, Default)]
pub(super) struct Outputs(BTreeMap<OutPoint, Output>);

impl Outputs {
    pub(super) fn learn(&mut self, event: &ChainEvent) {
        match event {
            ChainEvent::BlockConnected { block, matches, .. } => {
                matches.iter().for_each(|found| self.found(*block, found));
            }
            ChainEvent::BlockDisconnected { block } => self.undo(*block),
            ChainEvent::MempoolSeen(_) | ChainEvent::MempoolGone { .. } => {}
        }
    }

    fn found(&mut self, block: Block, found: &TxMatch) {
        for (outpoint, output) in found.paid() {
            if let Some(known) = self.entry(outpoint) {
                known.script = Some(output.script_pubkey.clone());
                known.paid = Some(block);
            }
        }
        for outpoint in found.spent() {
            if let Some(known) = self.entry(outpoint) {
                known.spent = Some(Spender { txid: found.txid, block: Some(block) });
            }
        }
    }

    fn entry(&mut self, outpoint: OutPoint) -> Option<&mut Output> {
        let has_room = self.0.len() < MAX_OUTPUTS || self.0.contains_key(&outpoint);
        has_room.then(|| self.0.entry(outpoint).or_default())
    }

    fn undo(&mut self, block: Block) {
        for output in self.0.values_mut() {
            output.paid.take_if(|paid| *paid == block);
            output.spent.take_if(|spent| spent.block == Some(block));
        }
        self.0.retain(|_, output| output.paid.is_some() || output.spent.is_some());
    }

    pub(super) fn forget(&mut self, outpoint: &OutPoint) {
        self.0.remove(outpoint);
    }

    pub(super) fn forget_script(&mut self, script: &Script) {
        self.0.retain(|_, output| output.script.as_deref() != Some(script));
    }

    /// As [`crate::chain::ChainSource::outpoint`].
    pub(super) fn status(&self, outpoint: &OutPoint, since: u32) -> OutpointStatus {
        match self.0.get(outpoint) {
            Some(Output { spent: Some(spender), .. }) => match spender.block {
                Some(block) if block.height >= since => OutpointStatus::Spent(*spender),
                _ => OutpointStatus::Unknown,
            },
            Some(Output { paid: Some(block), .. }) => OutpointStatus::Confirmed(*block),
            _ => OutpointStatus::Unknown,
        }
    }
}
