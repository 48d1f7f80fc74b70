//! The array `accounts`, mapped into memory.
//!
//! The kernel reads these words while the agent stores them, so every store is one aligned word.

use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::MapData;
use bitmesh_common::abi::{ACCOUNT_CLOSED, Account, MAX_METERS};
use memmap2::MmapMut;

const WORDS: usize = size_of::<Account>() / 8;
const MAC: usize = offset_of!(Account, mac) / 8;
const STATE: usize = offset_of!(Account, state) / 8;
const PREPAID: usize = offset_of!(Account, prepaid) / 8;
const UPLINK: usize = offset_of!(Account, uplink_msat_per_mib) / 8;
const DOWNLINK: usize = offset_of!(Account, downlink_msat_per_mib) / 8;
const MINUTE: usize = offset_of!(Account, msat_per_minute) / 8;
const START: usize = offset_of!(Account, start_ns) / 8;
const LOW_MARK: usize = offset_of!(Account, low_mark) / 8;
const UPLINK_BYTE_TIME: usize = offset_of!(Account, uplink_byte_time) / 8;
const DOWNLINK_BYTE_TIME: usize = offset_of!(Account, downlink_byte_time) / 8;
const THROTTLED_BYTE_TIME: usize = offset_of!(Account, throttled_byte_time) / 8;
const UPLINK_LIMIT: usize = offset_of!(Account, uplink_kbit_per_s) / 8;
const DOWNLINK_LIMIT: usize = offset_of!(Account, downlink_kbit_per_s) / 8;
const THROTTLE: usize = offset_of!(Account, throttle_kbit_per_s) / 8;

/// The accounts that the kernel reads.
pub(super) struct AccountArray {
    words: MmapMut,
}

impl AccountArray {
    /// Maps the array.
    ///
    /// # Errors
    ///
    /// Fails if the map is not memory-mapped or has another size.
    pub(super) fn map(data: &MapData) -> io::Result<Self> {
        let fd = data.fd().as_fd();
        let mut options = memmap2::MmapOptions::new();
        options.len(MAX_METERS * size_of::<Account>());
        // SAFETY: the kernel keeps the array's pages as long as they are mapped, and nobody can
        // truncate a map. All access goes through atomics.
        #[allow(unsafe_code)]
        let words = unsafe { options.map_mut(&fd) }?;
        Ok(Self { words })
    }

    fn word(&self, slot: usize, field: usize) -> &AtomicU64 {
        // SAFETY: a page is aligned to a word and as long as `MAX_METERS` accounts; an `AtomicU64`
        // has the layout of a word, and whoever else writes these words does so atomically.
        #[allow(unsafe_code)]
        let words = unsafe {
            std::slice::from_raw_parts(self.words.as_ptr().cast::<AtomicU64>(), MAX_METERS * WORDS)
        };
        &words[slot * WORDS + field]
    }

    fn load(&self, slot: usize, field: usize) -> u64 {
        self.word(slot, field).load(Ordering::Acquire)
    }

    fn store(&self, slot: usize, field: usize, value: u64) {
        self.word(slot, field).store(value, Ordering::Release);
    }

    /// What the slot holds.
    pub(super) fn read(&self, slot: usize) -> Account {
        Account {
            mac: self.load(slot, MAC),
            state: self.load(slot, STATE),
            prepaid: self.load(slot, PREPAID),
            uplink_msat_per_mib: self.load(slot, UPLINK),
            downlink_msat_per_mib: self.load(slot, DOWNLINK),
            msat_per_minute: self.load(slot, MINUTE),
            start_ns: self.load(slot, START),
            low_mark: self.load(slot, LOW_MARK),
            uplink_byte_time: self.load(slot, UPLINK_BYTE_TIME),
            downlink_byte_time: self.load(slot, DOWNLINK_BYTE_TIME),
            throttled_byte_time: self.load(slot, THROTTLED_BYTE_TIME),
            uplink_kbit_per_s: self.load(slot, UPLINK_LIMIT),
            downlink_kbit_per_s: self.load(slot, DOWNLINK_LIMIT),
            throttle_kbit_per_s: self.load(slot, THROTTLE),
            zero: [0; 2],
        }
    }

    /// Writes all but the state. Only for a slot whose state is closed and that no packet reads.
    pub(super) fn write(&self, slot: usize, account: &Account) {
        self.store(slot, MAC, account.mac);
        self.store(slot, PREPAID, account.prepaid);
        self.store(slot, UPLINK, account.uplink_msat_per_mib);
        self.store(slot, DOWNLINK, account.downlink_msat_per_mib);
        self.store(slot, MINUTE, account.msat_per_minute);
        self.store(slot, START, account.start_ns);
        self.store(slot, LOW_MARK, account.low_mark);
        self.store(slot, UPLINK_BYTE_TIME, account.uplink_byte_time);
        self.store(slot, DOWNLINK_BYTE_TIME, account.downlink_byte_time);
        self.store(slot, THROTTLED_BYTE_TIME, account.throttled_byte_time);
        self.store(slot, UPLINK_LIMIT, account.uplink_kbit_per_s);
        self.store(slot, DOWNLINK_LIMIT, account.downlink_kbit_per_s);
        self.store(slot, THROTTLE, account.throttle_kbit_per_s);
    }

    /// Changes the balance under traffic: one word decides.
    pub(super) fn set_prepaid(&self, slot: usize, prepaid: u64, low_mark: u64) {
        self.store(slot, LOW_MARK, low_mark);
        self.store(slot, PREPAID, prepaid);
    }

    /// Lets paid packets pass, as this state of an open account says.
    pub(super) fn open(&self, slot: usize, state: u64) {
        self.store(slot, STATE, state);
    }

    /// Lets nothing pass.
    pub(super) fn close(&self, slot: usize) {
        self.store(slot, STATE, ACCOUNT_CLOSED);
    }
}
