//! The machine is gone, and all there is are the seed and what was backed up.

use bitmesh_core::backup::{BackedUp, BackupError, BackupLine};
use bitmesh_core::channel::Seed;
use bitmesh_core::wire::ChannelWord;
use bitmesh_core::{Epoch, Gateway, Record};

use super::*;
use crate::kernel::Kernel;
use crate::store::Store;

impl World {
    fn backup(&self) -> Vec<BackupLine> {
        self.gateway.as_ref().unwrap().backup_lines()
    }

    /// Another machine with this store, to which the backup is brought.
    fn on_a_new_machine(&mut self, store: Store, lines: Vec<BackupLine>) -> usize {
        self.kill_agent();
        self.store = store;
        self.kernel = Kernel::new(Epoch(self.kernel.epoch.0.wrapping_add(1)), 100);
        let held = self.kernel.held();
        let epoch = self.kernel.epoch;
        let books = Gateway::restore(self.now, epoch, self.store.snapshot(), held).unwrap();
        let from = books.taken_from_backup(lines, &self.policy().seed);
        assert_eq!(from.refused, []);
        from.records.into_iter().for_each(|record| self.store.write(record));
        self.start_agent().unwrap();
        self.pass(SECOND).unwrap();
        from.taken.len()
    }

    fn channel_line(&self, id: ChannelId) -> BackedUp {
        let line = self.gateway.as_ref().unwrap().backup_line(id);
        let Some(BackupLine::Channel(line)) = line else { panic!("{line:?}") };
        *line
    }
}

#[test]
fn a_seed_and_a_backup_close_what_is_open_and_return_what_was_not_used() {
    let (mut world, id) = paid(BYTES, 50_000);
    assert!(world.use_bytes(0, 12_345_678));
    world.pass(SECOND).unwrap();
    ok(world.pay(0, 1_000));
    let lines = world.backup();
    assert_eq!(world.on_a_new_machine(Store::default(), lines), 1);
    world.mined(1);
    let view = world.view(id);
    assert_eq!(view.state, ChannelWord::ClosedAlone);
    assert_eq!((view.credit_msat.0, view.charged_msat.0), (51_000_000, 12_345_678));
    let end = world.store.channels[&id].end.unwrap();
    // The output that returns costs 43 vB.
    assert_eq!(end.returned.to_sat(), 51_000 - 12_346 - 43);
    let account = world.account(0);
    assert!(!account.open);
    assert_eq!(account.balance.0, 0);
}

#[test]
fn an_old_database_and_a_newer_backup_close_with_the_newest_update_and_charge_what_was_used() {
    let (mut world, id) = paid(BYTES, 20_000);
    assert!(world.use_bytes(0, 5_000_000));
    world.pass(SECOND).unwrap();
    let mut old = Store::default();
    let snapshot = world.store.snapshot();
    let records = (snapshot.credits.into_iter().map(Record::Credit))
        .chain(snapshot.accounts.into_iter().map(Record::Account))
        .chain(snapshot.usages.into_iter().map(Record::Usage))
        .chain(snapshot.channels.into_iter().map(|state| Record::Channel(Box::new(state))))
        .chain(snapshot.updates.into_iter().map(Record::Update));
    records.for_each(|record| old.write(record));
    ok(world.pay(0, 40_000));
    assert!(world.use_bytes(0, 25_000_000));
    world.pass(SECOND).unwrap();
    let lines = world.backup();
    assert_eq!(world.on_a_new_machine(old, lines.clone()), 1);
    let view = world.view(id);
    assert_eq!((view.credit_msat.0, view.charged_msat.0), (60_000_000, 30_000_000));
    world.mined(1);
    assert_eq!(world.view(id).state, ChannelWord::ClosedAlone);
    assert_eq!(world.account(0).balance.0, 0);
    // The backup says nothing that these books don't know.
    let seed = world.policy().seed;
    let again = world.gateway.as_ref().unwrap().taken_from_backup(lines, &seed);
    assert_eq!(again.taken, []);
}

#[test]
fn of_many_lines_the_newest_counts_in_whatever_order_they_come() {
    let (mut world, id) = paid(BYTES, 5_000);
    let mut lines = world.backup();
    for _ in 0..2 {
        ok(world.pay(0, 1_000));
        lines.extend(world.backup());
    }
    lines.reverse();
    let again = lines.clone();
    assert_eq!(world.on_a_new_machine(Store::default(), lines), 1);
    assert_eq!(world.view(id).credit_msat.0, 7_000_000);
    world.promised.clear();
    let over = again.into_iter().rev().chain([BackupLine::Over { channel: id }]);
    assert_eq!(world.on_a_new_machine(Store::default(), over.collect()), 0);
    assert!(world.store.channels.is_empty());
    assert_eq!(world.store.key_index, Some(0), "its keys are not used again");
}

#[test]
fn a_line_that_was_changed_or_is_of_another_seed_is_refused_and_says_why() {
    let (world, id) = paid(BYTES, 5_000);
    let gateway = world.gateway.as_ref().unwrap();
    let empty = |line: BackedUp, seed: &Seed| {
        let from = gateway.taken_from_backup([BackupLine::Channel(Box::new(line))], seed);
        assert_eq!(from.taken, []);
        from.refused.into_iter().map(|(_, error)| error).next()
    };
    let (seed, line) = (world.policy().seed, world.channel_line(id));
    assert_eq!(empty(line.clone(), &seed), None, "the books know it");
    assert_eq!(empty(line.clone(), &Seed::new([1; 32])), Some(BackupError::OtherSeed));
    let format = BackedUp { format: 2, ..line.clone() };
    assert_eq!(empty(format, &seed), Some(BackupError::Format(2)));
    let mut other = line.clone();
    other.agreement.terms.expiry_height += 1;
    assert_eq!(empty(other, &seed), Some(BackupError::Agreement));
    let mut greedy = line;
    greedy.newest.change_sat -= 1;
    assert_eq!(empty(greedy, &seed), Some(BackupError::Update));
}
