//! A change of an account, step by step.
//!
//! ```text
//! (read the meter) → (close the gate) → make it durable → tell the kernel → reply
//! ```
//!
//! The meter is read first when time is sold and the answer depends on whether the subscriber
//! has been cut off. The gate is closed first when the session ends or gets another tariff.

use bitmesh_common::abi::Mac;

use super::channels::ChannelWrite;
use super::{Gateway, RETRY_AFTER};
use crate::account::{Account, Draft, Freeze, Money};
use crate::io::{AccountImage, Answer, BatchId, Command, Refusal, RequestId, Sample};
use crate::record::{AccountState, Epoch, Record, Usage};
use crate::tariff::Tariff;
use crate::units::{BootTime, MilliSat, Units};
use crate::wire::ChannelId;

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
    /// Those who wait for this channel.
    Channel(ChannelId),
}

/// What a change is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// More credit, from this account's subscriber or for it, and a session under this tariff.
    Credit(Mac, Money, Tariff),
    /// No session, and no updates on this channel any more, which has this credit.
    Freeze(ChannelId, MilliSat),
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

/// The next thing to do for a change.
#[derive(Clone, Debug)]
enum Next {
    Read,
    Close,
    Drop,
    Persist(Box<Draft>),
    Set,
    Finish,
}

/// When and with how fresh a reading a change is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The life of the meters.
    pub(super) epoch: Epoch,
    /// Now: when a new session starts.
    pub(super) now: BootTime,
    /// An instant before the meter was read, if it has just been.
    pub(super) read_at: Option<BootTime>,
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

    fn next(&self, account: Option<&Account>, at: Moment) -> Next {
        match (account, self.goal) {
            (None, Goal::Credit(mac, money, tariff)) => {
                Next::Persist(Box::new(opening(mac, money, tariff, at)))
            }
            (None, Goal::Freeze(..) | Goal::Stop | Goal::Hold | Goal::Rest { .. }) => Next::Finish,
            (Some(account), Goal::Credit(_, money, tariff)) => {
                crediting(account, money, tariff, at)
            }
            (Some(account), Goal::Freeze(channel, credit)) => {
                freezing(account, channel, credit, at)
            }
            (Some(account), Goal::Stop) => stopping(account, at),
            (Some(account), Goal::Hold) => self.holding(account, at),
            (Some(account), Goal::Rest { forget }) => self.resting(account, forget, at),
        }
    }

    /// As in [`stopping`]; then the meter goes, whose last reading is durable, and the account.
    fn resting(&self, account: &Account, forget: bool, at: Moment) -> Next {
        if account.held.is_some() || account.state.open {
            return stopping(account, at);
        }
        if account.is_dirty() {
            let usage = Some(account.usage(at.epoch));
            return Next::Persist(Box::new(Draft { usage, ..Draft::default() }));
        }
        if account.is_metered && !self.meter_is_gone {
            return Next::Drop;
        }
        if forget && account.credits.are_allowances() {
            let forget = Some(account.state.mac);
            return Next::Persist(Box::new(Draft { forget, ..Draft::default() }));
        }
        Next::Finish
    }

    fn holding(&self, account: &Account, at: Moment) -> Next {
        if !account.state.open {
            return Next::Finish;
        }
        if self.start_stands {
            return Next::Set;
        }
        match cut_off(account, at) {
            CutOff::Unknown if account.is_consumed(at.now) => Next::Read,
            CutOff::Yes if !account.stays_consumed() => {
                let state = account.settled(at.epoch, at.now);
                settling(None, account, state, at)
            }
            _ => Next::Set,
        }
    }
}

/// Whether the kernel serves nothing to this open session.
enum CutOff {
    No,
    Yes,
    /// The meter must be read first.
    Unknown,
}

fn cut_off(account: &Account, at: Moment) -> CutOff {
    if account.held_session().is_none() {
        return CutOff::Yes;
    }
    match at.read_at {
        _ if !account.is_timed() => CutOff::No,
        None => CutOff::Unknown,
        Some(read_at) if account.is_consumed(read_at) => CutOff::Yes,
        Some(_) => CutOff::No,
    }
}

/// The first credit of an account.
fn opening(mac: Mac, money: Money, tariff: Tariff, at: Moment) -> Draft {
    let state = AccountState {
        mac,
        revision: 1,
        session: 1,
        open: true,
        tariff,
        epoch: at.epoch,
        start: at.now,
        time_settled: Units(0),
    };
    Draft { state: Some(state), money: Some(money), ..Draft::default() }
}

fn crediting(account: &Account, money: Money, tariff: Tariff, at: Moment) -> Next {
    if !account.state.open || account.state.tariff != tariff {
        if account.held.is_some() {
            return Next::Close;
        }
        let state = account.reopened(at.epoch, at.now, tariff);
        return settling(Some(money), account, state, at);
    }
    match cut_off(account, at) {
        CutOff::Unknown => Next::Read,
        CutOff::No => {
            let money = Some(money);
            Next::Persist(Box::new(Draft { money, ..Draft::default() }))
        }
        CutOff::Yes => {
            let state = account.settled(at.epoch, at.now);
            settling(Some(money), account, state, at)
        }
    }
}

fn stopping(account: &Account, at: Moment) -> Next {
    if account.held.is_some() {
        return Next::Close;
    }
    if !account.state.open {
        return Next::Finish;
    }
    let state = AccountState { open: false, ..account.settled(at.epoch, at.now) };
    settling(None, account, state, at)
}

/// The session ends as in [`stopping`]; in the same batch the channel learns what it owes.
fn freezing(account: &Account, channel: ChannelId, credit: MilliSat, at: Moment) -> Next {
    if account.held.is_some() {
        return Next::Close;
    }
    let charged = account.charged_to_channel(credit);
    let freeze = Some(Freeze { channel, charged, meter: account.meter() });
    let ended = || AccountState { open: false, ..account.settled(at.epoch, at.now) };
    let state = account.state.open.then(ended);
    let usage = Some(account.usage(at.epoch));
    Next::Persist(Box::new(Draft { state, usage, freeze, ..Draft::default() }))
}

/// A new state, and in the same batch the usage up to it.
fn settling(money: Option<Money>, account: &Account, state: AccountState, at: Moment) -> Next {
    let usage = Some(account.usage(at.epoch));
    Next::Persist(Box::new(Draft { state: Some(state), money, usage, ..Draft::default() }))
}

impl Gateway {
    /// The present, without a new reading.
    pub(super) const fn moment(&self) -> Moment {
        Moment { epoch: self.epoch, now: self.now, read_at: None }
    }

    /// Goes on with a change as far as it goes without an answer of the shell.
    pub(super) fn go_on(&mut self, mac: Mac, change: Change, at: Moment) {
        if let Some(draft) = self.step(mac, change, at) {
            self.persist_changes(vec![(mac, draft)]);
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
                let mut account = Account::new(state);
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
        if let Some(Money::Credit(credit)) = &draft.money {
            self.allowances.remember(credit);
        }
        if let Some(mac) = draft.forget {
            self.account_forgotten(mac);
        }
        let Some(mut change) = self.changes.remove(&mac) else { return };
        change.start_stands |= draft.state.is_some();
        match change.goal {
            Goal::Credit(..) => change.goal = Goal::Hold,
            Goal::Freeze(..) => change.goal = Goal::Stop,
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
        let Some(account) = self.accounts.get(&mac) else { return self.next_turn(mac) };
        let balance = account.statement().balance;
        let answer = match change.goal {
            Goal::Stop | Goal::Freeze(..) | Goal::Rest { .. } => Answer::Stopped { balance },
            Goal::Credit(..) | Goal::Hold => Answer::Granted { balance },
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
        }
    }
}
