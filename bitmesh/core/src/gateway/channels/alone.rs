//! Closing alone, and seeing to it that closes are confirmed.

use bitcoin::{FeeRate, Transaction};

use super::book::{Channel, Side};
use super::{
    BUMP_BLOCKS, BURIED_BLOCKS, CLOSE_PATIENCE_BLOCKS, ChannelCommand, Purpose, UNKNOWN_HEIGHT,
};
use crate::channel::{CloseError, MAX_FEERATE, MIN_FEERATE, PayeeClosing, SignedClose};
use crate::channel_record::{ChannelEnd, ChannelPhase, ChannelState, CloseTx, SpendKind};
use crate::gateway::Gateway;
use crate::io::Command;
use crate::wire::{ApiError, ChannelId};

impl Gateway {
    /// What falls due with a new block.
    pub(super) fn look_at_deadlines(&mut self, tip: u32, is_new: bool) {
        let ids: Vec<ChannelId> =
            self.channels.all.values().filter(|c| !c.is_over()).map(id_of).collect();
        for id in ids {
            self.look_at_deadline(id, tip, is_new);
        }
    }

    fn look_at_deadline(&mut self, id: ChannelId, tip: u32, is_new: bool) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        if let Some(end) = channel.wanted().end {
            return self.look_at_end(id, &end, tip, is_new);
        }
        if channel.wanted().has_unknown_height() {
            self.want(id, |state| state.set_unknown_heights(tip));
        }
        if self.channels.all.get(&id).is_some_and(|channel| is_overdue(channel, tip)) {
            self.freeze(id, ChannelPhase::ClosingAlone);
        }
        if is_new {
            self.bump(id, tip);
            self.send_close_again(id);
        }
    }

    /// An end that was seen is final when it is buried. One that only the disk knows of may have
    /// been undone while the agent was dead.
    fn look_at_end(&mut self, id: ChannelId, end: &ChannelEnd, tip: u32, is_new: bool) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        let deep = |height: u32| tip.saturating_add(1) >= height.saturating_add(BURIED_BLOCKS);
        if end.buried {
            return;
        }
        if channel.talk.end_seen {
            if deep(end.height) {
                self.want(id, |state| {
                    state.end = state.end.map(|end| ChannelEnd { buried: true, ..end });
                });
            }
            return;
        }
        if deep(*channel.talk.end_sought.get_or_insert(tip)) {
            self.spend_gone(id, end.txid);
        } else if is_new {
            self.send_close_again(id);
        }
    }

    /// Builds the unilateral close, if it is time for one and there is none.
    pub(super) fn close_alone(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get(&id) else { return };
        let wanted = channel.wanted();
        let is_time = wanted.phase == ChannelPhase::ClosingAlone && channel.state.frozen.is_some();
        let has_one = wanted.close.as_ref().is_some_and(|close| close.kind == SpendKind::Alone);
        if is_time && !has_one {
            self.build_alone(id);
        }
    }

    /// Raises the fee of a close that is not confirmed in time, or that the node refuses.
    fn bump(&mut self, id: ChannelId, tip: u32) {
        let Some(channel) = self.channels.all.get(&id) else { return };
        let wanted = channel.wanted();
        if wanted.phase != ChannelPhase::ClosingAlone || channel.state.frozen.is_none() {
            return;
        }
        let is_due = wanted.close.as_ref().is_none_or(|close| {
            let late = tip >= close.height.saturating_add(BUMP_BLOCKS);
            close.kind != SpendKind::Alone || late || channel.talk.close_refused
        });
        if is_due {
            self.build_alone(id);
        }
    }

    /// Another unilateral close, dearer than the close before it, if there was one.
    fn build_alone(&mut self, id: ChannelId) {
        // Until there is a block, nobody knows how long it may take: the first one builds it.
        let Some(height) = self.channels.chain.tip else { return };
        let feerate = self.channels.chain.feerate;
        let Some(channel) = self.channels.all.get(&id) else { return };
        let Side::Closing(closing) = &channel.side else { return };
        let before = channel.wanted().close.as_ref().map(|close| &close.tx);
        if let Some(tx) = build(closing, before, feerate) {
            let close = CloseTx { kind: SpendKind::Alone, tx, height };
            self.want(id, |state| state.close = Some(close));
        }
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
fn is_overdue(channel: &Channel, tip: u32) -> bool {
    if !channel.is_paid() {
        return false;
    }
    let state = channel.wanted();
    let is_last_call = tip >= state.agreement.terms.last_call();
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

/// A close at this feerate, and at a quarter more than the one before, or as much more as a
/// replacement must pay for its relay (BIP 125, rule 4). If that leaves nothing, at half, and so
/// on; one that would not replace the one before is not built.
fn build(
    closing: &PayeeClosing,
    before: Option<&Transaction>,
    feerate: FeeRate,
) -> Option<Transaction> {
    let paid_before = before.map(|tx| fee_of(closing, tx));
    let raised = before.zip(paid_before).map_or(MIN_FEERATE, |(tx, fee)| {
        let before = fee.saturating_mul(1_000) / tx.weight().to_wu().max(1);
        let step = (before / 4).max(MIN_FEERATE.to_sat_per_kwu());
        FeeRate::from_sat_per_kwu(before.saturating_add(step).saturating_add(1))
    });
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
