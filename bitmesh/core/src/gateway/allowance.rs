//! The pay-allowance: a little credit for who can't pay yet, so that a wallet reaches its peers.
//!
//! It is a credit like any other, consumed first. A station is given one in a span of time, and
//! all stations together have a cap. An account that never had anything else is forgotten when
//! the span is over, whatever is left: so stations that come with ever new addresses fill neither
//! the ledger nor the kernel, and what is left is never money.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bitmesh_common::abi::Mac;

use super::change::{Asker, Change, Goal};
use super::{Gateway, Known, RETRY_AFTER, RETRY_PAUSE};
use crate::account::Money;
use crate::record::{Credit, CreditId, CreditKind, Epoch};
use crate::tariff::Tariff;
use crate::units::{BootTime, MilliSat};

/// A station is given one allowance in this time, and all together as much as the policy says.
pub const ALLOWANCE_EVERY: Duration = Duration::from_secs(3_600);

/// Allowances in [`AllowancePolicy::every`], at most: a quarter of the kernel's meters.
pub const MAX_ALLOWANCES: u64 = 4_096;

/// Accounts that are forgotten in one go.
pub const MAX_LAPSES: usize = 16;

/// What who can't pay is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowancePolicy {
    /// What a station is given.
    pub amount: MilliSat,
    /// What all are given in [`Self::every`], at most: between twice and [`MAX_ALLOWANCES`] times
    /// the amount. Half of it can be given at once.
    pub total: MilliSat,
    /// The prices of its session: only bytes cost something.
    pub tariff: Tariff,
    /// How long a station waits for another one: [`ALLOWANCE_EVERY`].
    pub every: Duration,
}

/// Why an allowance can't be given under a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pay-allowance is above 0, and all are 2 to {MAX_ALLOWANCES} times as much: mend the two"
)]
pub struct AllowanceError;

/// What was given, and what can be.
#[derive(Debug, Default)]
pub(super) struct Allowances {
    policy: Option<AllowancePolicy>,
    /// When all that was given will have been earned again, in ns: see `take_of_total`.
    arrival_ns: u64,
    /// Who was given one, and when. Within the span, so at most [`MAX_ALLOWANCES`].
    recent: BTreeMap<Mac, BootTime>,
    /// When to look at whom again.
    due: BTreeSet<(BootTime, Mac)>,
    next_look: BootTime,
    /// Every allowance in the ledger.
    ids: BTreeSet<(Mac, CreditId)>,
}

impl Allowances {
    /// When there is something to be done.
    pub(super) fn next_alarm(&self) -> Option<BootTime> {
        self.due.first().map(|(at, _)| (*at).max(self.next_look))
    }

    /// Takes note of one that is in the ledger.
    pub(super) fn remember(&mut self, credit: &Credit) {
        if credit.kind == CreditKind::Allowance {
            self.ids.insert((credit.mac, credit.id));
        }
    }

    /// Its place in the total, if it has one: the virtual scheduling of ITU-T I.371, Annex A. What
    /// is given in any span is at most what can be given at once, and what is earned meanwhile:
    /// half the total each.
    fn take_of_total(&self, policy: &AllowancePolicy, now: BootTime) -> Option<u64> {
        let span_ns = policy.every.as_nanos();
        let cost_ns = u128::from(policy.amount.0) * 2 * span_ns / u128::from(policy.total.0.max(1));
        let next = u128::from(self.arrival_ns.max(now.0)) + cost_ns;
        let fits = next <= u128::from(now.0) + span_ns;
        u64::try_from(next).ok().filter(|_| fits)
    }

    fn give(&mut self, policy: &AllowancePolicy, mac: Mac, at: BootTime) -> bool {
        let Some(arrival_ns) = self.take_of_total(policy, at) else { return false };
        self.arrival_ns = arrival_ns;
        self.recent.insert(mac, at);
        self.due.insert((at.after(policy.every), mac));
        true
    }
}

/// The identity of an allowance says when it was given: in which life of the meters (the low 32
/// bits of its epoch), in which of its milliseconds (48 bits), to whom (48 bits).
fn id_of(epoch: Epoch, at: BootTime, mac: Mac) -> CreditId {
    let o = mac.octets;
    let mac = u64::from_be_bytes([0, 0, o[0], o[1], o[2], o[3], o[4], o[5]]);
    let ms = u128::from(at.0 / 1_000_000) & 0xffff_ffff_ffff;
    CreditId(u128::from(epoch.0) << 96 | ms << 48 | u128::from(mac))
}

/// When this allowance was given, if it was in this life of the meters.
fn given_at(id: CreditId, epoch: Epoch) -> Option<BootTime> {
    let of_epoch = id.0 >> 96 == u128::from(epoch.0) & 0xffff_ffff;
    let ms = u64::try_from(id.0 >> 48 & 0xffff_ffff_ffff).ok()?;
    of_epoch.then(|| BootTime(ms.saturating_mul(1_000_000)))
}

impl Gateway {
    /// The gateway gives allowances under this policy, and counts those that it has given.
    ///
    /// # Errors
    ///
    /// [`AllowanceError`] if the policy can't stand.
    pub fn with_allowance(mut self, policy: AllowancePolicy) -> Result<Self, AllowanceError> {
        let AllowancePolicy { amount, total, .. } = policy;
        let fits = amount.0 > 0
            && total.0 >= amount.0.saturating_mul(2)
            && total.0 <= amount.0.saturating_mul(MAX_ALLOWANCES);
        if !fits {
            return Err(AllowanceError);
        }
        self.allowances.policy = Some(policy);
        let now = self.now;
        let at = |(mac, id): &(Mac, CreditId)| Some((given_at(*id, self.epoch)?, *mac));
        let mut given: Vec<(BootTime, Mac)> = self.allowances.ids.iter().filter_map(at).collect();
        given.retain(|(at, _)| at.after(policy.every) > now && *at <= now);
        given.sort_unstable();
        self.allowances.due.clear();
        for (at, mac) in given {
            self.allowances.give(&policy, mac, at);
        }
        self.lapse_all_unknown();
        Ok(self)
    }

    /// Accounts with nothing but allowances of which it is not known when they were given, or that
    /// it is long ago, are looked at soon.
    pub(super) fn lapse_all_unknown(&mut self) {
        let now = self.now;
        let Self { accounts, allowances, .. } = self;
        let only = accounts.iter().filter(|(_, account)| account.credits.are_allowances());
        let old = only.filter(|(mac, _)| !allowances.recent.contains_key(mac));
        allowances.due.extend(old.map(|(mac, _)| (now, *mac)));
    }

    /// Gives an allowance to each of these stations that may have one. The others will knock again.
    pub(super) fn knocked(&mut self, macs: &[Mac]) {
        let Some(policy) = self.allowances.policy else { return };
        for mac in macs {
            if self.may_have_allowance(*mac) {
                self.allow(&policy, *mac);
            }
        }
    }

    /// Who was given none lately, has nothing left, and no channel to pay by.
    fn may_have_allowance(&self, mac: Mac) -> bool {
        !self.allowances.recent.contains_key(&mac)
            && self.accounts.get(&mac).is_none_or(|account| account.is_spent())
            && !self.channels.is_paying(mac)
    }

    fn allow(&mut self, policy: &AllowancePolicy, mac: Mac) {
        let id = id_of(self.epoch, self.now, mac);
        let credit = Credit { id, mac, kind: CreditKind::Allowance, amount: policy.amount };
        let is_new = matches!(self.check_credit(&credit, &policy.tariff), Ok(None));
        if is_new && self.allowances.give(policy, mac, self.now) {
            self.credits.insert(id, Known { mac, amount: policy.amount });
            let goal = Goal::Credit(mac, Money::Credit(credit), policy.tariff);
            self.go_on(mac, Change::new(Asker::Nobody, goal), self.moment());
        }
    }

    /// Forgets some of the accounts whose time is over.
    pub(super) fn lapse_if_due(&mut self) {
        if self.now < self.allowances.next_look {
            return;
        }
        for _ in 0..MAX_LAPSES {
            let Some(&(at, mac)) = self.allowances.due.first() else { return };
            if at > self.now {
                return;
            }
            self.allowances.due.pop_first();
            self.allowances.next_look = self.now.after(RETRY_PAUSE);
            self.lapse(mac);
        }
    }

    fn lapse(&mut self, mac: Mac) {
        let every = self.allowances.policy.map_or(ALLOWANCE_EVERY, |policy| policy.every);
        if self.allowances.recent.get(&mac).is_some_and(|at| at.after(every) > self.now) {
            // It has been given a new one, which has a time of its own.
            return;
        }
        self.allowances.recent.remove(&mac);
        let Some(account) = self.accounts.get(&mac) else { return };
        if !account.credits.are_allowances() {
            return;
        }
        // Should this fail, or somebody pay meanwhile, it is looked at again.
        self.allowances.due.insert((self.now.after(RETRY_AFTER), mac));
        if !self.changes.contains_key(&mac) {
            self.rest(mac, true);
        }
    }

    /// The account is no more, on the disk nor here.
    pub(super) fn account_forgotten(&mut self, mac: Mac) {
        self.accounts.remove(&mac);
        let all = (mac, CreditId(0))..=(mac, CreditId(u128::MAX));
        let ids: Vec<_> = self.allowances.ids.range(all).copied().collect();
        for (mac, id) in ids {
            self.allowances.ids.remove(&(mac, id));
            self.credits.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(amount: u64, total: u64) -> AllowancePolicy {
        let tariff = Tariff::FREE;
        let every = ALLOWANCE_EVERY;
        AllowancePolicy { amount: MilliSat(amount), total: MilliSat(total), tariff, every }
    }

    proptest! {
        #[test]
        fn an_allowance_says_when_it_was_given(
            epoch: u64, ms in 0..1_u64 << 44, octets: [u8; 6], other: u64,
        ) {
            let at = BootTime(ms * 1_000_000);
            let id = id_of(Epoch(epoch), at, Mac::new(octets));
            prop_assert_eq!(given_at(id, Epoch(epoch)), Some(at));
            if other & 0xffff_ffff != epoch & 0xffff_ffff {
                prop_assert_eq!(given_at(id, Epoch(other)), None);
            }
        }

        /// Whoever knocks, however often, with however many addresses.
        #[test]
        fn no_hour_gives_more_than_the_total(
            amount in 1..1_000_000_u64,
            times in 2..=50_u64,
            waits_s in prop::collection::vec(0..400_u64, 1..300),
        ) {
            let policy = policy(amount, amount * times);
            let mut allowances = Allowances::default();
            let mut given = Vec::new();
            let mut now = BootTime(0);
            for (n, wait) in waits_s.iter().enumerate() {
                now = now.after(Duration::from_secs(*wait));
                let mac = Mac::new([2, 0, 0, 0, (n >> 8) as u8, n as u8]);
                if allowances.give(&policy, mac, now) {
                    given.push(now);
                }
                let hour = given.iter().filter(|at| now.since(**at) < ALLOWANCE_EVERY);
                prop_assert!(hour.count() as u64 <= times, "{now:?}");
            }
            // Half of it at once, and some in every hour.
            prop_assert!(!given.is_empty());
        }
    }
}
