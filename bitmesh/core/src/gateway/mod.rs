//! The state machine of the gateway.
//!
//! Its books hold only what is durable: a change is written first and taken over when its batch
//! is known to be. So no batch builds on another whose fate is open, and one that fails changes
//! nothing, whatever came after it.
//!
//! An account goes through one change at a time; its steps are told in `change.rs`.

pub mod allowance;
mod change;
pub mod channels;
mod demand;
mod request;
mod rest;
mod restore;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bitmesh_common::abi::Mac;

use self::allowance::Allowances;
use self::change::{Change, PendingBatch};
use self::channels::Channels;
use self::demand::Demand;
use crate::account::Account;
use crate::io::{Command, Input};
use crate::record::{CreditId, Epoch};
use crate::units::{BootTime, MilliSat};

pub use self::rest::{IDLE_AFTER, MAX_RESTS};
pub use self::restore::RestoreError;

/// Meters are read this often. A batch may have to wait for one on its way to the disk, and what
/// is used must still be durable within a second.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// An open account that the kernel does not hold, for want of room say, is tried again after this
/// long.
pub const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Accounts that are tried again in one go.
pub const MAX_RETRIES: usize = 16;

/// The pause between two such goes.
pub const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Accounts that may be changing at a time. A restart may change more: all that are open.
pub const MAX_CHANGES: usize = 1_024;

/// Accounts in one batch of a restart.
pub const MAX_BATCH_ACCOUNTS: usize = 1_024;

/// Accounts that the ledger holds, closed ones included.
pub const MAX_ACCOUNTS: usize = 1 << 16;

/// Credits that the ledger remembers, so that none counts twice.
pub const MAX_CREDITS: usize = 1 << 20;

/// The gateway's accounts and what is being done about them.
///
/// After each [`Self::handle_input`], take commands from [`Self::poll_command`] until there is
/// none, and come back with [`Input::Tick`] at the latest at [`Self::poll_timeout`]. Each
/// command is carried out in the order in which it came, and each that has an answer is
/// answered; a repeated answer does no harm.
#[derive(Debug)]
pub struct Gateway {
    epoch: Epoch,
    now: BootTime,
    accounts: BTreeMap<Mac, Account>,
    credits: HashMap<CreditId, Known>,
    changes: BTreeMap<Mac, Change>,
    batches: BTreeMap<u64, PendingBatch>,
    next_batch: u64,
    usage_in_flight: bool,
    next_sample: BootTime,
    /// Open accounts that the kernel does not hold, by when they are tried again.
    waiting: BTreeSet<(BootTime, Mac)>,
    next_retry: BootTime,
    allowances: Allowances,
    channels: Channels,
    demand: Demand,
    commands: VecDeque<Command>,
}

/// What is known of a credit.
#[derive(Clone, Copy, Debug)]
struct Known {
    mac: Mac,
    amount: MilliSat,
}

impl Gateway {
    /// A gateway without accounts.
    fn empty(now: BootTime, epoch: Epoch) -> Self {
        Self {
            epoch,
            now,
            accounts: BTreeMap::new(),
            credits: HashMap::new(),
            changes: BTreeMap::new(),
            batches: BTreeMap::new(),
            next_batch: 1,
            usage_in_flight: false,
            next_sample: now.after(SAMPLE_EVERY),
            waiting: BTreeSet::new(),
            next_retry: now,
            allowances: Allowances::default(),
            channels: Channels::new(now),
            demand: Demand::new(now),
            commands: VecDeque::new(),
        }
    }

    /// Takes a fact that was learnt at `now`. Time never runs backwards: an earlier `now` counts
    /// as the latest so far, but for a sample, which says how old it is.
    pub fn handle_input(&mut self, now: BootTime, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Grant { request, id, mac, amount, tariff } => {
                self.grant(request, id, mac, amount, tariff);
            }
            Input::Stop { request, mac } => self.stop(request, mac),
            Input::Sampled(samples) => self.sampled(now, &samples),
            Input::Persisted(batch) => self.persisted(batch),
            Input::PersistFailed(batch) => self.persist_failed(batch),
            Input::Closed(sample) => self.closed(now, &sample),
            Input::AccountSet(mac) => self.account_set(mac),
            Input::NoRoom(mac) => self.no_room(mac),
            Input::MeterDropped(mac) => self.meter_dropped(mac),
            Input::Knocked(macs) => self.knocked(&macs),
            Input::Channel(input) => self.channel_input(input),
            Input::Tick => {}
        }
        self.demand.pass(self.now);
        self.sample_if_due();
        self.retry_if_due();
        self.lapse_if_due();
        self.channels_if_due();
    }

    /// The next obligation of the shell.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When the gateway wants to hear of the time again, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let sample = (!self.accounts.is_empty()).then_some(self.next_sample);
        let retry = self.waiting.first().map(|(at, _)| (*at).max(self.next_retry));
        let alarms = sample.into_iter().chain(retry).chain(self.channels.next_alarm());
        alarms.chain(self.allowances.next_alarm()).min()
    }

    /// The life of the kernel's meters that this gateway counts in.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn books(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    pub(crate) fn book(&self, mac: Mac) -> Option<&Account> {
        self.accounts.get(&mac)
    }

    pub(crate) fn changing(&self) -> usize {
        self.changes.len()
    }

    fn new_batch(&mut self) -> u64 {
        let batch = self.next_batch;
        self.next_batch += 1;
        batch
    }
}
