//! A change of an account, step by step.
//!
//! ```text
//! (read the meter) → (close the gate) → make it durable → tell the kernel → reply
//! ```
//!
//! The meter is read first when time is sold and the answer depends on whether the subscriber
//! has been cut off. The gate is closed first when the session ends or gets another tariff.
//!
//! A channel that goes from one account to another changes both in one batch: `channels/resume.rs`.

mod next;

use bitmesh_common::abi::Mac;

use super::channels::ChannelWrite;
use super::{Gateway, RETRY_AFTER};
use crate::account::{Account, Draft, Money};
use crate::io::{AccountImage, Answer, BatchId, Command, Refusal, RequestId, Sample};
use crate::record::{Record, Usage};
use crate::tariff::Tariff;
use crate::units::{BootTime, MilliSat};
use crate::wire::ChannelId;

use self::next::Next;
pub(super) use self::next::{Leaving, Moment, arriving};

/// A change under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// Who gets the reply.
    pub(super) asker: Asker,
    /// What it is for.
    pub(super) goal: Goal,
    /// What it waits for.
    pub(super) step: Step,
    /// Whether the session's start is to be kept as it is on disk: it was written by this
    /// change, or this change failed and puts things back.
    pub(super) start_stands: bool,
    /// Whether it had the gate closed.
    closed_gate: bool,
    /// Whether the kernel has no meter of it any more.
    pub(super) meter_is_gone: bool,
}

/// Who wants to know what becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// Nobody.
    Nobody,
    /// Somebody who asked once.
    Request(RequestId),
    /// Those who wait for an update of this channel.
    Channel(ChannelId),
    /// Those who wait for this channel to come to another account.
    Resume(ChannelId),
}

/// What a change is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// More credit, from this account's subscriber or for it, and a session under this tariff.
    Credit(Mac, Money, Tariff),
    /// No session, and no updates on this channel any more, which has this credit.
    Freeze(ChannelId, MilliSat),
    /// No session, and this channel, which has this credit here, goes to another account.
    Leave(ChannelId, MilliSat),
    /// This channel comes from another account, and if it was paid on, a session at its prices.
    Arrive(ChannelId, Option<Tariff>),
    /// No session.
    Stop,
    /// No session and no meter.
    Rest {
        /// And no account.
        forget: bool,
    },
    /// The kernel holds the session that is on disk.
    Hold,
}

/// What a change waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The meters to be read.
    Reading,
    /// The gate to be closed.
    Closing,
    /// The disk.
    Persisting,
    /// The other account that the change is about.
    Other,
    /// The kernel to have no meter of it.
    Dropping,
    /// The kernel to hold this.
    Setting(AccountImage),
}

/// A batch on its way to the disk.
#[derive(Clone, Debug)]
pub(super) enum PendingBatch {
    /// What the meters said.
    Usage(Vec<Usage>),
    /// Changes of accounts.
    Changes(Vec<(Mac, Draft)>),
    /// Rows of channels.
    Channel(ChannelWrite),
}

impl Change {
    pub(super) const fn new(asker: Asker, goal: Goal) -> Self {
        Self {
            asker,
            goal,
            step: Step::Reading,
            start_stands: false,
            closed_gate: false,
            meter_is_gone: false,
        }
    }
}

impl Gateway {
    /// The present, without a new reading.
    pub(super) const fn moment(&self) -> Moment {
        Moment { epoch: self.epoch, now: self.now, read_at: None }
    }

    /// Goes on with a change as far as it goes without an answer of the shell.
    pub(super) fn go_on(&mut self, mac: Mac, change: Change, at: Moment) {
        if let Some(draft) = self.step(mac, change, at) {
            let arrival = self.arrival(&draft);
            self.persist_changes([(mac, draft)].into_iter().chain(arrival).collect());
        }
    }

    /// One step of a change; what it needs to be durable, if that is the step.
    pub(super) fn step(&mut self, mac: Mac, mut change: Change, at: Moment) -> Option<Draft> {
        let account = self.accounts.get(&mac);
        match change.next(account, at) {
            Next::Read => {
                change.step = Step::Reading;
                self.changes.insert(mac, change);
                self.sample_now();
            }
            Next::Close => {
                change.step = Step::Closing;
                self.changes.insert(mac, change);
                self.commands.push_back(Command::CloseAccount(mac));
            }
            Next::Drop => {
                change.step = Step::Dropping;
                self.changes.insert(mac, change);
                self.commands.push_back(Command::DropMeter(mac));
            }
            Next::Persist(draft) => {
                change.step = Step::Persisting;
                self.changes.insert(mac, change);
                return Some(*draft);
            }
            Next::Leave(leaving) => {
                change.step = Step::Persisting;
                self.changes.insert(mac, change);
                return Some(self.leave_draft(mac, &leaving));
            }
            Next::Depart(channel) => {
                change.step = Step::Other;
                self.changes.insert(mac, change);
                self.depart(channel);
            }
            Next::Set => {
                let image = account?.image(at.now);
                change.step = Step::Setting(image);
                self.changes.insert(mac, change);
                self.commands.push_back(Command::SetAccount(image));
            }
            Next::Finish => self.finish(mac, change),
        }
        None
    }

    /// Sends these changes to the disk, all in one batch.
    pub(super) fn persist_changes(&mut self, drafts: Vec<(Mac, Draft)>) {
        let mut records: Vec<Record> =
            drafts.iter().flat_map(|(_, draft)| draft.records()).collect();
        let freezes = drafts.iter().filter_map(|(_, draft)| draft.freeze);
        records.extend(freezes.filter_map(|freeze| self.frozen_row(&freeze)));
        self.persist(PendingBatch::Changes(drafts), records);
    }

    pub(super) fn persist(&mut self, pending: PendingBatch, records: Vec<Record>) {
        let batch = self.new_batch();
        self.batches.insert(batch, pending);
        self.commands.push_back(Command::Persist { batch: BatchId(batch), records });
    }

    pub(super) fn persisted(&mut self, batch: BatchId) {
        match self.batches.remove(&batch.0) {
            None => {}
            Some(PendingBatch::Usage(usages)) => self.usage_persisted(&usages),
            Some(PendingBatch::Channel(write)) => self.channel_written(write),
            Some(PendingBatch::Changes(drafts)) => {
                for (mac, draft) in drafts {
                    self.change_persisted(mac, &draft);
                }
            }
        }
    }

    fn change_persisted(&mut self, mac: Mac, draft: &Draft) {
        match (self.accounts.get_mut(&mac), draft.state) {
            (Some(account), _) => account.apply(draft),
            (None, Some(state)) => {
                let mut account = Account { since: state.start, ..Account::new(state) };
                account.apply(draft);
                self.accounts.insert(mac, account);
            }
            (None, None) => {}
        }
        if let Some(Money::Update { update, .. }) = &draft.money {
            self.update_durable(update);
        }
        if let Some(freeze) = &draft.freeze {
            self.freeze_durable(freeze);
        }
        if let Some(leave) = &draft.leave {
            self.transfer_durable(&leave.transfer);
        }
        if let Some(Money::Credit(credit)) = &draft.money {
            self.allowances.remember(credit);
        }
        if let Some(mac) = draft.forget {
            self.account_forgotten(mac);
        }
        let Some(mut change) = self.changes.remove(&mac) else { return };
        change.start_stands |= draft.state.is_some();
        match change.goal {
            Goal::Credit(..) | Goal::Arrive(..) => change.goal = Goal::Hold,
            Goal::Freeze(..) | Goal::Leave(..) => change.goal = Goal::Stop,
            Goal::Stop | Goal::Hold | Goal::Rest { .. } => {}
        }
        self.go_on(mac, change, self.moment());
    }

    pub(super) fn persist_failed(&mut self, batch: BatchId) {
        match self.batches.remove(&batch.0) {
            None => {}
            Some(PendingBatch::Usage(_)) => self.usage_in_flight = false,
            Some(PendingBatch::Channel(write)) => self.channel_not_written(write),
            Some(PendingBatch::Changes(drafts)) => {
                for (mac, draft) in drafts {
                    self.change_failed(mac, &draft);
                }
            }
        }
    }

    /// The books are as before. If the gate was closed for this change, it opens again.
    fn change_failed(&mut self, mac: Mac, draft: &Draft) {
        if let Some(Money::Credit(credit)) = draft.money {
            self.credits.remove(&credit.id);
        }
        if let Some(freeze) = &draft.freeze {
            self.freeze_failed(freeze);
        }
        let Some(change) = self.changes.remove(&mac) else { return };
        // For a goal of `Hold` with an asker the credit is durable. What failed is to settle the
        // time while it was not: that moment is billed.
        let is_credited = matches!(change.goal, Goal::Hold) && change.asker != Asker::Nobody;
        if !is_credited {
            self.reply(change.asker, Err(Refusal::NotDurable));
        }
        if change.closed_gate || is_credited {
            let asker = if is_credited { change.asker } else { Asker::Nobody };
            let back = Change { start_stands: true, ..Change::new(asker, Goal::Hold) };
            return self.go_on(mac, back, self.moment());
        }
        if self.is_unheld(mac) {
            self.try_later(mac);
        }
        self.next_turn(mac);
    }

    pub(super) fn closed(&mut self, now: BootTime, sample: &Sample) {
        let Some(account) = self.accounts.get_mut(&sample.mac) else { return };
        account.observe(now, sample.reading);
        let closing = |change: &&Change| change.step == Step::Closing;
        let change = self.changes.get(&sample.mac).filter(closing).copied();
        let Some(mut change) = change else { return };
        account.held = None;
        change.closed_gate = true;
        let at = Moment { read_at: Some(now), ..self.moment() };
        self.go_on(sample.mac, change, at);
    }

    pub(super) fn account_set(&mut self, mac: Mac) {
        let Some(change) = self.changes.get(&mac).copied() else { return };
        let Step::Setting(image) = change.step else { return };
        if let Some(account) = self.accounts.get_mut(&mac) {
            account.held = Some(image);
            account.is_metered = true;
        }
        self.finish(mac, change);
    }

    pub(super) fn no_room(&mut self, mac: Mac) {
        let Some(change) = self.changes.get(&mac).copied() else { return };
        let Step::Setting(_) = change.step else { return };
        if let Some(account) = self.accounts.get_mut(&mac) {
            account.held = None;
        }
        self.changes.remove(&mac);
        self.try_later(mac);
        self.reply(change.asker, Err(Refusal::NoRoom));
        self.next_turn(mac);
        self.make_room();
    }

    /// Tries soon to have the kernel hold this account as it is on disk.
    pub(super) fn try_later(&mut self, mac: Mac) {
        if !self.waiting.iter().any(|(_, waiting)| *waiting == mac) {
            self.waiting.insert((self.now.after(RETRY_AFTER), mac));
        }
    }

    fn finish(&mut self, mac: Mac, change: Change) {
        self.changes.remove(&mac);
        let account = self.accounts.get(&mac);
        let balance = account.map_or(MilliSat(0), |account| account.statement().balance);
        let answer = match change.goal {
            Goal::Stop | Goal::Freeze(..) | Goal::Leave(..) | Goal::Rest { .. } => {
                Answer::Stopped { balance }
            }
            Goal::Credit(..) | Goal::Arrive(..) | Goal::Hold => Answer::Granted { balance },
        };
        self.reply(change.asker, Ok(answer));
        self.next_turn(mac);
    }

    pub(super) fn reply(&mut self, asker: Asker, result: Result<Answer, Refusal>) {
        match asker {
            Asker::Nobody => {}
            Asker::Request(request) => {
                self.commands.push_back(Command::Reply { request, result });
            }
            Asker::Channel(channel) => self.change_answered(channel, result),
            Asker::Resume(channel) => self.resume_answered(channel, result),
        }
    }
}
