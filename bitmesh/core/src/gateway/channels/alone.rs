//! Closing alone in time, and seeing to it that closes are confirmed.

use bitcoin::{FeeRate, Transaction};

use super::book::Channel;
use super::{
    BUMP_BLOCKS, BURIED_BLOCKS, CLOSE_PATIENCE_BLOCKS, ChannelCommand, Purpose, SOUGHT_BLOCKS,
    UNKNOWN_HEIGHT,
};
use crate::channel::{CloseError, MAX_FEERATE, MIN_FEERATE, PayeeClosing, SignedClose};
use crate::channel_record::{ChannelEnd, ChannelPhase, ChannelState, SpendKind};
use crate::gateway::Gateway;
use crate::io::Command;
use crate::wire::{ApiError, ChannelId};

impl Gateway {
    /// What falls due with a new block.
    pub(super) fn look_at_deadlines(&mut self, tip: u32, is_new: bool) {
        let ids: Vec<ChannelId> =
            self.channels.all.values().filter(|c| !c.is_over()).map(id_of).collect();
        let closing_height = self.closing_height(tip);
        for id in &ids {
            self.look_at_deadline(*id, tip, closing_height);
        }
        if is_new {
            self.bump(tip);
        }
        // Blocks that are not seen count here, too: what was sent may not have come through.
        let looked_at = std::mem::replace(&mut self.channels.chain.looked_at, closing_height);
        if is_new || looked_at != closing_height {
            ids.into_iter().for_each(|id| self.send_close_again(id));
        }
    }

    fn look_at_deadline(&mut self, id: ChannelId, tip: u32, closing_height: u32) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        if let Some(end) = channel.wanted().end {
            return self.look_at_end(id, &end, tip);
        }
        if channel.wanted().has_unknown_height() {
            self.want(id, |state| state.set_unknown_heights(tip));
        }
        if self.channels.all.get(&id).is_some_and(|c| is_overdue(c, tip, closing_height)) {
            self.freeze(id, ChannelPhase::ClosingAlone);
        }
    }

    /// An end that was seen is final when it is buried. One that only the disk knows of may have
    /// been undone while the agent was dead.
    fn look_at_end(&mut self, id: ChannelId, end: &ChannelEnd, tip: u32) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        let deep = |height: u32, blocks| tip.saturating_add(1) >= height.saturating_add(blocks);
        if end.buried {
            return;
        }
        if channel.talk.end_seen {
            if deep(end.height, BURIED_BLOCKS) {
                self.want(id, |state| {
                    state.end = state.end.map(|end| ChannelEnd { buried: true, ..end });
                });
            }
            return;
        }
        if deep(*channel.talk.end_sought.get_or_insert(tip), SOUGHT_BLOCKS) {
            self.spend_gone(id, end.txid);
        }
    }

    /// Raises the fees of closes that are not confirmed in time, or that the node refuses, and
    /// builds those that are not there yet.
    fn bump(&mut self, tip: u32) {
        let due = self.channels.all.values().filter(|channel| is_due(channel, tip)).map(id_of);
        let due = due.collect();
        self.build_closes(due);
    }

    /// Gives the close to the node, once it is durable.
    pub(super) fn send_close(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        let state = &channel.state;
        let Some(close) = &state.close else { return };
        let txid = close.tx.compute_txid();
        let is_sent = channel.talk.sent == Some(txid);
        let is_over = state.end.is_some() && channel.talk.end_seen;
        if is_over || state.phase == ChannelPhase::Lost || is_sent {
            return;
        }
        let purpose = match close.kind {
            SpendKind::Together => Purpose::CooperativeClose,
            _ => Purpose::UnilateralClose,
        };
        let tx = Box::new(close.tx.clone());
        channel.talk.sent = Some(txid);
        channel.talk.close_refused = false;
        let command = ChannelCommand::Broadcast { channel: id, purpose, tx };
        self.commands.push_back(Command::Channel(command));
    }

    fn send_close_again(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.all.get_mut(&id) {
            channel.talk.sent = None;
            self.send_close(id);
        }
    }

    pub(super) fn broadcast_refused(&mut self, id: ChannelId, purpose: Purpose, why: String) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        match purpose {
            Purpose::Funding => {
                let error = ApiError::new("funding_refused", why);
                channel.talk.notice = Some(error.message);
            }
            Purpose::CooperativeClose | Purpose::UnilateralClose => {
                channel.talk.close_refused = true;
            }
        }
    }

    /// Looks again at channels for which it is time: rows that were not written, a grace that
    /// ends.
    pub(in crate::gateway) fn channels_if_due(&mut self) {
        while let Some(&(at, id)) = self.channels.alarms.first() {
            if at > self.now {
                return;
            }
            self.channels.alarms.pop_first();
            self.look_again(id);
        }
    }

    fn look_again(&mut self, id: ChannelId) {
        let now = self.now;
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        let mac = channel.mac();
        let over = channel.talk.grace_until.take_if(|until| *until <= now).is_some();
        let again = channel.talk.grace_until;
        let waits = channel.to_freeze.is_some() && channel.freezing.is_none();
        let without_close = channel.wanted().close.is_none() && channel.wanted().end.is_none();
        if let Some(again) = again {
            self.channels.alarm(again, id);
        }
        self.write_row(id);
        if self.channels.ready.contains(&id) {
            self.build_ready();
        }
        if over && without_close {
            self.freeze(id, ChannelPhase::ClosingAlone);
        } else if waits {
            self.channels.due.insert((mac, id));
            self.next_turn(mac);
        }
    }
}

impl ChannelState {
    /// Whether something happened to it before the gateway knew of any block.
    fn has_unknown_height(&self) -> bool {
        self.frozen.is_some_and(|frozen| frozen.height == UNKNOWN_HEIGHT)
            || self.close.as_ref().is_some_and(|close| close.height == UNKNOWN_HEIGHT)
    }

    fn set_unknown_heights(&mut self, tip: u32) {
        let frozen = self.frozen.as_mut().map(|frozen| &mut frozen.height);
        let close = self.close.as_mut().map(|close| &mut close.height);
        for height in frozen.into_iter().chain(close) {
            if *height == UNKNOWN_HEIGHT {
                *height = tip;
            }
        }
    }
}

fn id_of(channel: &Channel) -> ChannelId {
    channel.state.id
}

/// Whether the gateway must close alone: the expiry is near, or closing together takes too long.
fn is_overdue(channel: &Channel, tip: u32, closing_height: u32) -> bool {
    if !channel.is_paid() {
        return false;
    }
    let state = channel.wanted();
    let is_last_call = closing_height >= state.agreement.terms.last_call();
    match state.phase {
        ChannelPhase::Live => is_last_call,
        ChannelPhase::Closing => {
            let closed = state.close.as_ref().map(|close| close.height);
            let since = closed.or(state.frozen.map(|frozen| frozen.height)).unwrap_or(tip);
            tip >= since.saturating_add(CLOSE_PATIENCE_BLOCKS)
                || (is_last_call && state.close.is_none())
        }
        ChannelPhase::ClosingAlone | ChannelPhase::Lost | ChannelPhase::Ended => false,
    }
}

/// Whether its unilateral close is to be built, or built anew.
fn is_due(channel: &Channel, tip: u32) -> bool {
    let wanted = channel.wanted();
    let is_time = wanted.phase == ChannelPhase::ClosingAlone && channel.state.frozen.is_some();
    is_time
        && wanted.end.is_none()
        && wanted.close.as_ref().is_none_or(|close| {
            let late = tip >= close.height.saturating_add(BUMP_BLOCKS);
            close.kind != SpendKind::Alone || late || channel.talk.close_refused
        })
}

/// A quarter more than this transaction pays, or as much more as a replacement must pay for its
/// relay (BIP 125, rule 4).
pub(super) fn raised(before: &Transaction, fee: u64) -> FeeRate {
    let before = fee.saturating_mul(1_000) / before.weight().to_wu().max(1);
    let step = (before / 4).max(MIN_FEERATE.to_sat_per_kwu());
    FeeRate::from_sat_per_kwu(before.saturating_add(step).saturating_add(1))
}

/// A close at this feerate, and dearer than the one before ([`raised`]). If that leaves nothing, at half, and so
/// on; one that would not replace the one before is not built.
pub(super) fn build(
    closing: &PayeeClosing,
    before: Option<&Transaction>,
    feerate: FeeRate,
) -> Option<Transaction> {
    // A batch that can't be confirmed any more is nothing to replace.
    let before = before.filter(|tx| tx.input.len() == 1);
    let paid_before = before.map(|tx| fee_of(closing, tx));
    let raised = before.zip(paid_before).map_or(MIN_FEERATE, |(tx, fee)| raised(tx, fee));
    let mut feerate = feerate.max(raised).clamp(MIN_FEERATE, MAX_FEERATE);
    let payout = &closing.channel().terms().payout_script;
    loop {
        match closing.unilateral(payout, feerate) {
            Ok(SignedClose { tx, fee, .. }) => {
                let relay = u64::try_from(tx.vsize()).unwrap_or(u64::MAX);
                let least = paid_before.map_or(0, |before| before.saturating_add(relay));
                return (fee.to_sat() >= least).then_some(tx);
            }
            Err(CloseError::FeeTooHigh { .. }) if feerate > MIN_FEERATE => {
                let half = FeeRate::from_sat_per_kwu(feerate.to_sat_per_kwu() / 2);
                feerate = half.max(MIN_FEERATE);
            }
            Err(_) => return None,
        }
    }
}

/// What a close of this channel pays, in satoshi.
fn fee_of(closing: &PayeeClosing, tx: &Transaction) -> u64 {
    let out: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    closing.channel().capacity().to_sat().saturating_sub(out)
}
