//! Reading the meters, writing down what they said, and trying again.

use std::collections::BTreeSet;

use bitmesh_common::abi::Mac;

use super::change::{Asker, Change, Goal, Moment, PendingBatch, Step};
use super::{Gateway, MAX_RETRIES, RETRY_PAUSE, SAMPLE_EVERY};
use crate::io::{Command, Sample};
use crate::record::{Record, Usage};
use crate::units::BootTime;

impl Gateway {
    /// Has the meters read now, or soon if that was asked for already.
    pub(super) fn sample_now(&mut self) {
        if !self.commands.contains(&Command::Sample) {
            self.commands.push_back(Command::Sample);
            self.next_sample = self.now.after(SAMPLE_EVERY);
        }
    }

    pub(super) fn sample_if_due(&mut self) {
        if self.now >= self.next_sample && !self.accounts.is_empty() {
            self.sample_now();
        }
    }

    pub(super) fn sampled(&mut self, now: BootTime, samples: &[Sample]) {
        for sample in samples {
            if let Some(account) = self.accounts.get_mut(&sample.mac) {
                let before = account.reading;
                account.observe(now, sample.reading);
                self.demand.add(before, account.reading);
            }
        }
        self.persist_usage();
        let reading = |change: &Change| change.step == Step::Reading;
        let ready: Vec<_> = if self.changes.values().any(reading) {
            let read: BTreeSet<Mac> = samples.iter().map(|sample| sample.mac).collect();
            let waiting = self.changes.iter();
            let waiting = waiting.filter(|(mac, change)| reading(change) && read.contains(mac));
            waiting.map(|(mac, change)| (*mac, *change)).collect()
        } else {
            Vec::new()
        };
        let at = Moment { read_at: Some(now), ..self.moment() };
        for (mac, change) in ready {
            self.go_on(mac, change, at);
        }
    }

    /// Sends what changed since it was last written to the disk, one batch at a time.
    pub(super) fn persist_usage(&mut self) {
        if self.usage_in_flight {
            return;
        }
        let dirty = self.accounts.values().filter(|account| account.is_dirty());
        let usages: Vec<Usage> = dirty.map(|account| account.usage(self.epoch)).collect();
        if usages.is_empty() {
            return;
        }
        self.usage_in_flight = true;
        let records = usages.iter().copied().map(Record::Usage).collect();
        self.persist(PendingBatch::Usage(usages), records);
    }

    pub(super) fn usage_persisted(&mut self, usages: &[Usage]) {
        self.usage_in_flight = false;
        for usage in usages {
            if let Some(account) = self.accounts.get_mut(&usage.mac) {
                account.persisted = (usage.reading, usage.time_charged);
            }
        }
        self.persist_usage();
    }

    /// Tries a few of the open accounts that the kernel does not hold.
    pub(super) fn retry_if_due(&mut self) {
        if self.now < self.next_retry {
            return;
        }
        let mut tried = 0;
        while tried < MAX_RETRIES {
            let Some(&(at, mac)) = self.waiting.first() else { return };
            if at > self.now {
                return;
            }
            self.waiting.pop_first();
            if self.is_unheld(mac) && !self.changes.contains_key(&mac) {
                self.go_on(mac, Change::new(Asker::Nobody, Goal::Hold), self.moment());
                tried += 1;
            }
            self.next_retry = self.now.after(RETRY_PAUSE);
        }
    }

    /// Whether this account's session is open, but not in the kernel as it is on disk.
    pub(super) fn is_unheld(&self, mac: Mac) -> bool {
        self.accounts.get(&mac).is_some_and(|account| {
            account.state.open
                && account.held_session().is_none_or(|held| held.prepaid != account.prepaid())
        })
    }
}
