//! The array `accounts`.

use std::mem::offset_of;

use aya::maps::Map;
use bitmesh_common::abi::{ACCOUNT_CLOSED, Account, MAX_METERS};

use super::MeterError;
use super::mapped::MappedArray;

const STATE: usize = offset_of!(Account, state);
const PREPAID: usize = offset_of!(Account, prepaid);
const LOW_MARK: usize = offset_of!(Account, low_mark);

/// The accounts that the kernel reads.
pub(super) struct AccountArray(MappedArray<Account>);

impl AccountArray {
    /// Maps the array.
    ///
    /// # Errors
    ///
    /// Fails if the map is not memory-mapped or has another size.
    pub(super) fn new(map: &Map) -> Result<Self, MeterError> {
        MappedArray::new("accounts", map, MAX_METERS).map(Self)
    }

    /// What the slot holds.
    pub(super) fn read(&self, slot: usize) -> Account {
        self.0.read(slot)
    }

    /// Writes all but the state. Only for a slot whose state is closed and that no packet reads.
    pub(super) fn write(&self, slot: usize, account: &Account) {
        self.0.write(slot, &Account { state: ACCOUNT_CLOSED, ..*account });
    }

    /// Changes the balance under traffic: one word decides.
    pub(super) fn set_prepaid(&self, slot: usize, prepaid: u64, low_mark: u64) {
        self.0.store(slot, LOW_MARK, low_mark);
        self.0.store(slot, PREPAID, prepaid);
    }

    /// Lets paid packets pass, as this state of an open account says.
    pub(super) fn open(&self, slot: usize, state: u64) {
        self.0.store(slot, STATE, state);
    }

    /// Lets nothing pass.
    pub(super) fn close(&self, slot: usize) {
        self.0.store(slot, STATE, ACCOUNT_CLOSED);
    }
}
