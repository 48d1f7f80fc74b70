//! Rows of channels on their way to the disk.
//!
//! A row is always written whole, so a later one may be on its way before the fate of an earlier
//! one is known. What follows from a row happens when it is durable.

use bitmesh_common::abi::Mac;

use super::UNKNOWN_HEIGHT;
use super::book::{Channel, Side};
use super::refusal::Refused;
use crate::account::Freeze;
use crate::channel_record::{ChannelPhase, ChannelState, Frozen};
use crate::gateway::change::PendingBatch;
use crate::gateway::{Gateway, RETRY_AFTER};
use crate::io::RequestId;
use crate::ledger::Withdrawals;
use crate::record::Record;
use crate::wire::ChannelId;

/// A row on its way.
#[derive(Clone, Debug)]
pub(in crate::gateway) enum ChannelWrite {
    /// A new channel.
    Open(RequestId, Box<ChannelState>),
    /// A change of one.
    Row(Box<ChannelState>),
    /// The end of one that never had an update.
    Forget(ChannelId),
}

impl Gateway {
    /// Changes what is to be on disk, and writes it; `false` if nothing changes.
    pub(super) fn want(&mut self, id: ChannelId, change: impl FnOnce(&mut ChannelState)) -> bool {
        let Some(channel) = self.channels.all.get_mut(&id) else { return false };
        let mut next = channel.wanted().clone();
        change(&mut next);
        if next == *channel.wanted() {
            return false;
        }
        next.revision = next.revision.saturating_add(1);
        channel.next = Some(Box::new(next));
        self.write_row(id);
        true
    }

    /// Writes what is to be on disk. While a change of the account carries the row, it waits.
    pub(super) fn write_row(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get(&id) else { return };
        if let (Some(next), None) = (&channel.next, &channel.freezing) {
            let (row, record) = (next.clone(), Record::Channel(next.clone()));
            self.persist(PendingBatch::Channel(ChannelWrite::Row(row)), vec![record]);
        }
    }

    pub(in crate::gateway) fn channel_written(&mut self, write: ChannelWrite) {
        match write {
            ChannelWrite::Open(request, state) => self.opened(request, *state),
            ChannelWrite::Forget(id) => self.forgotten(id),
            ChannelWrite::Row(row) => {
                let id = row.id;
                let Some(channel) = self.channels.all.get_mut(&id) else { return };
                take_over(channel, *row);
                self.proceed(id);
            }
        }
    }

    pub(in crate::gateway) fn channel_not_written(&mut self, write: ChannelWrite) {
        match write {
            ChannelWrite::Open(request, state) => self.not_opened(request, &state),
            ChannelWrite::Forget(id) => {
                if let Some(channel) = self.channels.all.get_mut(&id) {
                    channel.talk.is_forgotten = false;
                }
                self.refuse_operators(id);
            }
            ChannelWrite::Row(row) => self.row_not_written(&row),
        }
    }

    /// Whoever waits is told, and the row is tried again, unless a newer one is on its way.
    fn row_not_written(&mut self, row: &ChannelState) {
        let Some(channel) = self.channels.all.get_mut(&row.id) else { return };
        if channel.next.as_ref().is_none_or(|next| next.revision != row.revision) {
            return;
        }
        let mut askers = std::mem::take(&mut channel.talk.funders);
        askers.extend(channel.talk.closer.take().map(|closer| closer.request));
        if let Some(completer) = channel.talk.completer.take() {
            askers.push(completer);
            // Nothing was changed, says the answer: the payer signs another close.
            if let Some(next) = &mut channel.next {
                next.close = channel.state.close.clone();
            }
        }
        self.channels.alarm(self.now.after(RETRY_AFTER), row.id);
        self.refuse_all(askers, Refused::NotDurable);
        self.refuse_operators(row.id);
    }

    /// The row of a channel whose account's last sample is final, for the same batch.
    pub(in crate::gateway) fn frozen_row(&mut self, freeze: &Freeze) -> Option<Record> {
        let height = self.channels.chain.tip.unwrap_or(UNKNOWN_HEIGHT);
        let channel = self.channels.all.get_mut(&freeze.channel)?;
        let mut next = channel.wanted().clone();
        next.revision = next.revision.saturating_add(1);
        next.phase = channel.to_freeze?;
        let charged = channel.place.kept.units().saturating_add(freeze.charged);
        next.frozen = Some(Frozen { charged, meter: freeze.meter, height });
        channel.freezing = Some(Box::new(next.clone()));
        channel.next = Some(Box::new(next.clone()));
        Some(Record::Channel(Box::new(next)))
    }

    pub(in crate::gateway) fn freeze_durable(&mut self, freeze: &Freeze) {
        let Some(channel) = self.channels.all.get_mut(&freeze.channel) else { return };
        let Some(row) = channel.freezing.take() else { return };
        take_over(channel, *row);
        let (phase, target) = (channel.state.phase, channel.to_freeze.take());
        self.recount(channel_mac(self.channels.all.get(&freeze.channel)));
        // It may have been hurried meanwhile.
        let hurried = self.want(freeze.channel, |state| state.phase = target.unwrap_or(phase));
        if !hurried {
            self.write_row(freeze.channel);
        }
        self.proceed(freeze.channel);
    }

    /// The books are as before, and so is the row. Unless only the payer asked for it, it is tried
    /// again.
    pub(in crate::gateway) fn freeze_failed(&mut self, freeze: &Freeze) {
        let Some(channel) = self.channels.all.get_mut(&freeze.channel) else { return };
        channel.freezing = None;
        let (phase, frozen) = (channel.state.phase, channel.state.frozen);
        if let Some(next) = &mut channel.next {
            next.phase = phase;
            next.frozen = frozen;
            let unchanged = ChannelState { revision: next.revision, ..channel.state.clone() };
            if **next == unchanged {
                channel.next = None;
            }
        }
        let talk = &mut channel.talk;
        let closer = talk.closer.take();
        let for_payer = closer.is_some() && talk.grace_until.is_none() && talk.spend.is_none();
        if for_payer && channel.to_freeze == Some(ChannelPhase::Closing) {
            channel.to_freeze = None;
        }
        self.channels.alarm(self.now.after(RETRY_AFTER), freeze.channel);
        self.write_row(freeze.channel);
        self.refuse_all(
            closer.map(|closer| closer.request).into_iter().collect(),
            Refused::NotDurable,
        );
        self.refuse_operators(freeze.channel);
    }

    /// Adds up anew what closes took out of this account.
    pub(super) fn recount(&mut self, mac: Option<Mac>) {
        let Some(mac) = mac else { return };
        let lines = self.channels.of(mac).filter_map(Channel::withdrawals);
        let sum = lines.fold(Withdrawals::default(), |sum, line| sum.plus(&line));
        if let Some(account) = self.accounts.get_mut(&mac) {
            account.withdrawals = sum;
        }
    }
}

fn channel_mac(channel: Option<&Channel>) -> Option<Mac> {
    channel.map(Channel::mac)
}

/// An older row never replaces a newer one.
fn take_over(channel: &mut Channel, row: ChannelState) {
    if channel.next.as_ref().is_some_and(|next| next.revision == row.revision) {
        channel.next = None;
    }
    if row.revision > channel.state.revision {
        channel.state = row;
    }
    if channel.is_over() {
        channel.side = Side::None;
    }
}
