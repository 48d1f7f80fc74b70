//! The records of a subscriber.

use bitmesh_common::abi::{Account, Meter};
use bitmesh_common::directory::{bucket_of, find};

use crate::maps::{ACCOUNTS, DIRECTORY, METERS, multiplier};

/// What the gate holds for one MAC address. Both are elements of arrays, which live as long as their
/// maps; the kernel alone changes a meter whose slot was given away.
#[derive(Clone, Copy)]
pub struct Held {
    /// What it has used.
    pub meter: *mut Meter,
    /// What it has prepaid.
    pub account: *const Account,
}

impl Held {
    /// The records of this address, a word of [`bitmesh_common::abi::Mac`].
    #[inline(always)]
    pub fn by(mac: u64) -> Option<Self> {
        let bucket = DIRECTORY.get_ptr(bucket_of(mac, multiplier()))?;
        let slot = find(mac, |place| {
            // SAFETY: a place of an element of an array. The agent stores whole words, so a volatile
            // load sees one that it stored.
            unsafe { (&raw const (*bucket).entries[place]).read_volatile() }
        })?;
        Some(Self { meter: METERS.get_ptr_mut(slot)?, account: ACCOUNTS.get_ptr(slot)? })
    }
}
