//! The disk's side: batches that become durable one after another, or not at all.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bitmesh_core::wire::ChannelId;
use bitmesh_core::{
    AccountState, BatchId, BootTime, ChannelState, ChannelUpdate, Credit, CreditId, CreditKind,
    Epoch, Mac, MilliSat, Reading, Record, Snapshot, Transfer, Units, Usage,
};
use rand::RngExt as _;
use rand_xorshift::XorShiftRng;

/// A write takes at least this long.
const FASTEST_WRITE: Duration = Duration::from_micros(1);

/// A write takes at most this long.
const SLOWEST_WRITE: Duration = Duration::from_millis(250);

#[derive(Default)]
pub struct Store {
    /// Whether every write fails.
    pub full: bool,
    /// Whether it keeps no usage: a broken store, to see that it is found out.
    pub forgets_usage: bool,
    pub credits: BTreeMap<CreditId, Credit>,
    pub accounts: BTreeMap<Mac, AccountState>,
    pub usages: BTreeMap<(Mac, Epoch), Usage>,
    pub key_index: Option<u32>,
    pub channels: BTreeMap<ChannelId, ChannelState>,
    pub updates: BTreeMap<ChannelId, ChannelUpdate>,
    pub transfers: BTreeMap<(ChannelId, u32), Transfer>,
    sums: BTreeMap<(Mac, CreditKind), u64>,
    /// Accounts that were forgotten, until somebody has noted it.
    pub forgotten: Vec<Mac>,
    queue: VecDeque<(BatchId, Vec<Record>, BootTime)>,
}

impl Store {
    pub fn submit(
        &mut self,
        rng: &mut XorShiftRng,
        now: BootTime,
        batch: BatchId,
        records: Vec<Record>,
    ) {
        // Batches that wait together are committed together.
        let due = now.after(rng.random_range(FASTEST_WRITE..SLOWEST_WRITE));
        let due = self.queue.back().map_or(due, |(_, _, before)| *before);
        self.queue.push_back((batch, records, due));
    }

    /// When the next write is done.
    pub fn next_done(&self) -> Option<BootTime> {
        self.queue.front().map(|(_, _, due)| *due)
    }

    /// The next write that is done, and whether it is durable.
    pub fn done(&mut self, now: BootTime) -> Option<(BatchId, bool)> {
        if self.next_done()? > now {
            return None;
        }
        let (batch, records, _) = self.queue.pop_front()?;
        if !self.full {
            records.into_iter().for_each(|record| self.write(record));
        }
        Some((batch, !self.full))
    }

    /// The writer dies: some of the batches that wait are durable, and nobody was told.
    pub fn crash(&mut self, rng: &mut XorShiftRng) {
        let durable = if self.full { 0 } else { rng.random_range(0..=self.queue.len()) };
        for (_, records, _) in self.queue.drain(..).take(durable).collect::<Vec<_>>() {
            records.into_iter().for_each(|record| self.write(record));
        }
        self.queue.clear();
    }

    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn write(&mut self, record: Record) {
        match record {
            Record::Credit(credit) => {
                if let Entry::Vacant(vacant) = self.credits.entry(credit.id) {
                    vacant.insert(credit);
                    *self.sums.entry((credit.mac, credit.kind)).or_default() += credit.amount.0;
                }
            }
            Record::Account(account) => {
                let held = self.accounts.entry(account.mac).or_insert(account);
                if account.revision >= held.revision {
                    *held = account;
                }
            }
            Record::Usage(_) if self.forgets_usage => {}
            Record::Usage(usage) => {
                let held = self.usages.entry((usage.mac, usage.epoch)).or_insert(usage);
                held.reading = largest(&held.reading, &usage.reading);
                held.time_charged = held.time_charged.max(usage.time_charged);
            }
            Record::KeyIndex(index) => self.key_index = self.key_index.max(Some(index)),
            Record::Channel(state) => {
                let held = self.channels.entry(state.id).or_insert_with(|| (*state).clone());
                if state.revision >= held.revision {
                    *held = *state;
                }
            }
            Record::Update(update) => {
                let held = self.updates.entry(update.channel).or_insert(update);
                if update.change_sat < held.change_sat {
                    *held = update;
                }
            }
            Record::Transfer(transfer) => {
                self.transfers.entry((transfer.channel, transfer.number)).or_insert(transfer);
            }
            Record::Forget(id) if self.updates.contains_key(&id) => {}
            Record::Forget(id) => {
                self.transfers.retain(|(of, _), _| *of != id);
                self.channels.remove(&id);
            }
            Record::ForgetAccount(mac) => self.forget(mac),
        }
    }

    fn forget(&mut self, mac: Mac) {
        self.credits.retain(|_, credit| credit.mac != mac);
        self.accounts.remove(&mac);
        self.usages.retain(|(of, _), _| *of != mac);
        self.sums.retain(|(of, _), _| *of != mac);
        self.forgotten.push(mac);
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            credits: self.credits.values().copied().collect(),
            accounts: self.accounts.values().copied().collect(),
            usages: self.usages.values().copied().collect(),
            key_index: self.key_index,
            channels: self.channels.values().cloned().collect(),
            updates: self.updates.values().copied().collect(),
            transfers: self.transfers.values().copied().collect(),
        }
    }

    /// All that was credited, of one kind or of all.
    pub fn credited(&self, mac: Mac, kind: Option<CreditKind>) -> MilliSat {
        let kinds = (mac, CreditKind::Allowance)..=(mac, CreditKind::Channel);
        let sums = self.sums.range(kinds);
        let sums = sums.filter(|((_, of), _)| kind.is_none_or(|kind| kind == *of));
        MilliSat(sums.map(|(_, sum)| sum).sum())
    }

    fn usages_of(&self, mac: Mac) -> impl Iterator<Item = &Usage> {
        self.usages.range((mac, Epoch(0))..=(mac, Epoch(u64::MAX))).map(|(_, usage)| usage)
    }

    /// What was spent on bytes in other epochs than this.
    pub fn spent_before(&self, mac: Mac, epoch: Epoch) -> Units {
        let earlier = self.usages_of(mac).filter(|usage| usage.epoch != epoch);
        Units(earlier.map(|usage| usage.reading.spent.0).sum())
    }

    /// All that is durable of what was charged for time.
    pub fn time_charged(&self, mac: Mac) -> Units {
        let used = self.usages_of(mac).map(|usage| usage.time_charged);
        let settled = self.accounts.get(&mac).map(|account| account.time_settled);
        used.chain(settled).max().unwrap_or_default()
    }
}

fn largest(a: &Reading, b: &Reading) -> Reading {
    Reading {
        uplink_bytes: a.uplink_bytes.max(b.uplink_bytes),
        uplink_packets: a.uplink_packets.max(b.uplink_packets),
        downlink_bytes: a.downlink_bytes.max(b.downlink_bytes),
        downlink_packets: a.downlink_packets.max(b.downlink_packets),
        spent: a.spent.max(b.spent),
    }
}
