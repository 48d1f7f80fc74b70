//! What every store promises, as checks that any store can be held to.
//!
//! Each check takes a new, empty store, and panics with a sentence if a promise is broken.

#![allow(clippy::expect_used, clippy::panic)]

pub mod channels;

use std::collections::BTreeMap;

use bitmesh_common::abi::Mac;
use bitmesh_core::{
    AccountState, BatchId, BootTime, Credit, CreditId, CreditKind, Epoch, MilliSat, Reading,
    Record, Snapshot, Tariff, Units, Usage,
};

/// A store, as the checks see it.
pub trait Durable: Sized {
    /// Makes a life of the meters the current one.
    fn begin_epoch(&mut self, epoch: Epoch);
    /// The current life of the meters.
    fn current_epoch(&self) -> Option<Epoch>;
    /// Writes the batches together; each tells whether it is durable.
    fn commit(&mut self, group: &[(BatchId, Vec<Record>)]) -> Vec<(BatchId, bool)>;
    /// All that is durable.
    fn load(&self) -> Snapshot;
    /// The machine dies, and the store is opened again.
    fn crash(self) -> Self;
}

/// The epoch of these checks.
pub const EPOCH: Epoch = Epoch(u64::MAX - 7);

/// A credit of `amount` msat to the account number `who`.
#[must_use]
pub fn credit(id: u128, who: u8, amount: u64) -> Credit {
    let kind = CreditKind::Grant;
    Credit { id: CreditId(id), mac: mac(who), kind, amount: MilliSat(amount) }
}

/// The account number `who` in its `revision`.
#[must_use]
pub fn account(who: u8, revision: u64) -> AccountState {
    AccountState {
        mac: mac(who),
        revision,
        session: revision,
        open: revision % 2 == 1,
        tariff: Tariff {
            uplink_msat_per_mib: revision,
            downlink_msat_per_mib: u64::MAX,
            msat_per_minute: 0,
            uplink_kbit_per_s: 1,
            downlink_kbit_per_s: u64::MAX,
            throttle_kbit_per_s: 3,
        },
        epoch: EPOCH,
        start: BootTime(u64::MAX - revision),
        time_settled: Units(revision),
    }
}

/// Usage of the account number `who` with every counter at `count`.
#[must_use]
pub fn usage(who: u8, count: u64) -> Usage {
    Usage {
        mac: mac(who),
        epoch: EPOCH,
        reading: Reading {
            uplink_bytes: count,
            uplink_packets: count,
            downlink_bytes: count,
            downlink_packets: count,
            spent: Units(count),
        },
        time_charged: Units(count),
    }
}

/// A record that no store takes: usage of a life of the meters that was never begun.
#[must_use]
pub fn unwritable() -> Record {
    Record::Usage(Usage { epoch: Epoch(404), ..usage(1, 1) })
}

/// An account that never had anything but allowances can be forgotten; none that was paid for can.
pub fn only_what_was_given_is_forgotten<S: Durable>(mut store: S) {
    store.begin_epoch(EPOCH);
    let gift = |id, who| Credit { kind: CreditKind::Allowance, ..credit(id, who, 5) };
    let all_of = |who| [Record::Account(account(who, 1)), Record::Usage(usage(who, 1))];
    let mut records = vec![Record::Credit(gift(1, 1)), Record::Credit(gift(2, 2))];
    records.extend(all_of(1).into_iter().chain(all_of(2)));
    records.push(Record::Credit(credit(3, 2, 7)));
    write(&mut store, records);
    let before = store.load();
    let forget = [1, 2, 3].map(|who| Record::ForgetAccount(mac(who)));
    write(&mut store, forget.to_vec());
    let mut store = store.crash();
    let of_two = Snapshot {
        credits: before.credits.into_iter().filter(|credit| credit.mac == mac(2)).collect(),
        accounts: vec![account(2, 1)],
        usages: vec![usage(2, 1)],
        ..Snapshot::default()
    };
    assert_eq!(of_two.credits.len(), 2, "what was paid and what was given");
    assert_eq!(store.load(), of_two, "the account that was paid for is whole");
    // It comes back as a new one.
    write(&mut store, vec![Record::Credit(gift(1, 1)), Record::Account(account(1, 1))]);
    assert_eq!(store.load().accounts.len(), 2, "a station that was forgotten is a new one");
}

const fn mac(who: u8) -> Mac {
    Mac::new([0x02, 0, 0, 0, 0, who])
}

fn write<S: Durable>(store: &mut S, records: Vec<Record>) {
    let batch = BatchId(1);
    assert_eq!(store.commit(&[(batch, records)]), [(batch, true)], "a good batch is durable");
}

/// What was reported durable is there after a crash; nothing else is.
pub fn what_is_durable_survives_a_crash<S: Durable>(mut store: S) {
    assert_eq!(store.load(), Snapshot::default(), "a new store is empty");
    assert_eq!(store.current_epoch(), None, "a new store has no epoch");
    store.begin_epoch(EPOCH);
    let (credit, account, usage) = (credit(1, 1, 5), account(1, 1), usage(1, 9));
    let records = vec![Record::Credit(credit), Record::Account(account), Record::Usage(usage)];
    write(&mut store, records);
    let store = store.crash();
    let expected = Snapshot {
        credits: vec![credit],
        accounts: vec![account],
        usages: vec![usage],
        ..Snapshot::default()
    };
    assert_eq!(store.load(), expected, "all of the batch survives");
    assert_eq!(store.current_epoch(), Some(EPOCH), "the epoch survives");
}

/// Every number comes back as it was.
pub fn the_largest_numbers_come_back<S: Durable>(mut store: S) {
    store.begin_epoch(EPOCH);
    for (number, who) in [0, 1, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX].iter().zip(0_u8..) {
        let id = u128::MAX - u128::from(who);
        let records = [
            Record::Credit(credit(id, who, *number)),
            Record::Account(account(who, *number)),
            Record::Usage(usage(who, *number)),
        ];
        write(&mut store, records.to_vec());
        let loaded = store.load();
        assert!(loaded.credits.contains(&credit(id, who, *number)), "credit of {number}");
        assert!(loaded.accounts.contains(&account(who, *number)), "account with {number}");
        assert!(loaded.usages.contains(&usage(who, *number)), "usage of {number}");
    }
    let mut store = store.crash();
    store.begin_epoch(Epoch(u64::MAX));
    assert_eq!(store.current_epoch(), Some(Epoch(u64::MAX)), "an epoch of all ones");
}

/// A credit counts once, as it was first written.
pub fn a_repeated_credit_counts_once<S: Durable>(mut store: S) {
    write(&mut store, vec![Record::Credit(credit(7, 1, 100))]);
    write(&mut store, vec![Record::Credit(credit(7, 1, 100)), Record::Credit(credit(8, 1, 1))]);
    write(&mut store, vec![Record::Credit(credit(7, 2, 999))]);
    let mut credits = store.load().credits;
    credits.sort_by_key(|credit| credit.id);
    assert_eq!(credits, [credit(7, 1, 100), credit(8, 1, 1)]);
}

/// An account never goes back to an older revision, in whatever order they come.
pub fn the_newest_revision_of_an_account_stays<S: Durable>(mut store: S) {
    for revision in [3, 1, i64::MAX as u64 + 2, 2, i64::MAX as u64, 0] {
        write(&mut store, vec![Record::Account(account(1, revision))]);
    }
    assert_eq!(store.load().accounts, [account(1, i64::MAX as u64 + 2)]);
}

/// Usage never goes back, and each epoch keeps its own.
pub fn usage_never_goes_backwards<S: Durable>(mut store: S) {
    store.begin_epoch(EPOCH);
    for count in [5, 4, u64::MAX, 0, i64::MAX as u64] {
        write(&mut store, vec![Record::Usage(usage(1, count))]);
    }
    let next = Epoch(EPOCH.0 + 1);
    store.begin_epoch(next);
    let first_of_next = Usage { epoch: next, ..usage(1, 2) };
    write(&mut store, vec![Record::Usage(first_of_next)]);
    let found: BTreeMap<_, _> = store.load().usages.into_iter().map(|u| (u.epoch, u)).collect();
    assert_eq!(found.get(&EPOCH), Some(&usage(1, u64::MAX)));
    assert_eq!(found.get(&next), Some(&first_of_next));
    assert_eq!(found.len(), 2);
}

/// One bad batch is not written at all, and undoes no other.
pub fn a_bad_batch_fails_alone_and_whole<S: Durable>(mut store: S) {
    store.begin_epoch(EPOCH);
    let group = [
        (BatchId(1), vec![Record::Credit(credit(1, 1, 1))]),
        (BatchId(2), vec![Record::Credit(credit(2, 1, 1)), unwritable()]),
        (BatchId(3), vec![Record::Credit(credit(3, 1, 1))]),
    ];
    let reports = store.commit(&group);
    assert_eq!(reports, [(BatchId(1), true), (BatchId(2), false), (BatchId(3), true)]);
    let store = store.crash();
    let mut credits = store.load().credits;
    credits.sort_by_key(|credit| credit.id);
    assert_eq!(credits, [credit(1, 1, 1), credit(3, 1, 1)]);
}

/// Reports come in the order of the batches, and later batches see earlier ones.
pub fn batches_are_written_in_their_order<S: Durable>(mut store: S) {
    let batches = 100_u64;
    // The same revision each time: the last write wins only if the order is kept.
    let at = |n| AccountState { time_settled: Units(n), ..account(1, 1) };
    let group: Vec<_> = (0..batches).map(|n| (BatchId(n), vec![Record::Account(at(n))])).collect();
    let expected: Vec<_> = (0..batches).map(|n| (BatchId(n), true)).collect();
    assert_eq!(store.commit(&group), expected);
    assert_eq!(store.load().accounts, [at(batches - 1)]);
}

/// Beginning the current epoch again changes nothing.
pub fn an_epoch_that_is_begun_again_stays_current<S: Durable>(mut store: S) {
    store.begin_epoch(Epoch(1));
    store.begin_epoch(EPOCH);
    store.begin_epoch(EPOCH);
    assert_eq!(store.crash().current_epoch(), Some(EPOCH));
}
