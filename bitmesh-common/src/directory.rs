//! Where the account of a MAC address is: a table of [`crate::abi::Bucket`]s.
//!
//! The agent writes it, a word at a time, and the kernel reads it. A look-up is a multiplication and,
//! nearly always, one cache line; what it finds is an index, so that the records of an account are
//! loaded beside each other rather than one behind the other. A hash of the kernel takes a call, and
//! a line for each element of a chain.
//!
//! An entry holds an address and the number of a slot in one word: whoever reads it has both, or
//! neither.

use crate::abi::{BUCKETS, Mac, PLACES};

/// The six bytes of an entry that are the address, moved out at the other end.
const ADDRESS_BITS: u32 = 48;
/// What is left of a word.
const SLOT_BITS: u32 = u64::BITS - ADDRESS_BITS;
/// The number of a bucket.
const BUCKET_BITS: u32 = BUCKETS.trailing_zeros();

/// An entry that nobody is found by.
pub const NOBODY: u64 = 0;

/// What the addresses are multiplied by, in one life of the maps: nobody can choose addresses that
/// meet in one bucket without knowing it (Dietzfelbinger et al., "A reliable randomized algorithm for
/// the closest-pair problem", 1997, §2: multiply-shift).
#[must_use]
pub const fn multiplier(epoch: u64) -> u64 {
    epoch | 1
}

/// The bucket of an address, a [`Mac::word`].
#[inline(always)]
#[must_use]
pub const fn bucket_of(mac: u64, multiplier: u64) -> u32 {
    (mac.wrapping_mul(multiplier) >> (u64::BITS - BUCKET_BITS)) as u32
}

/// The entry that leads from an address to a slot. Slots are below [`crate::abi::MAX_METERS`].
#[must_use]
pub const fn entry(mac: Mac, slot: u32) -> u64 {
    mac.word() | ((slot as u64 + 1) << ADDRESS_BITS).to_le()
}

/// Whom an entry is of, and the slot that it leads to; none if it is nobody's.
#[must_use]
pub const fn owner(entry: u64) -> Option<(Mac, u32)> {
    let number = entry.to_le() >> ADDRESS_BITS;
    if number == 0 {
        return None;
    }
    let mac = Mac::from_word((entry.to_le() << SLOT_BITS >> SLOT_BITS).to_le());
    Some((mac, number as u32 - 1))
}

/// The slot of an address, a [`Mac::word`], in its bucket. `load` gives the entry at a place, which may
/// change at any time.
#[inline(always)]
pub fn find(mac: u64, load: impl Fn(usize) -> u64) -> Option<u32> {
    let mut place = 0;
    while place < PLACES {
        // The bytes of the address vanish if they are the same, and the number stays.
        let found = (load(place) ^ mac).to_le();
        if found << SLOT_BITS == 0 && found != NOBODY {
            return Some((found >> ADDRESS_BITS) as u32 - 1);
        }
        place += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::abi::MAX_METERS;

    proptest! {
        #[test]
        fn an_entry_says_what_it_was_made_of(octets: [u8; 6], slot in 0..MAX_METERS as u32) {
            prop_assert_eq!(owner(entry(Mac::new(octets), slot)), Some((Mac::new(octets), slot)));
        }

        #[test]
        fn an_address_is_found_among_others_and_no_other_is(
            octets: [u8; 6],
            others in prop::collection::vec((any::<[u8; 6]>(), 0..MAX_METERS as u32), PLACES - 1),
            place in 0..PLACES,
            slot in 0..MAX_METERS as u32,
        ) {
            let mac = Mac::new(octets);
            let others = others.into_iter().filter(|(other, _)| *other != octets);
            let mut bucket: Vec<u64> =
                others.map(|(other, slot)| entry(Mac::new(other), slot)).collect();
            bucket.resize(PLACES, NOBODY);
            bucket[place] = NOBODY;
            prop_assert_eq!(find(mac.word(), |at| bucket[at]), None);
            bucket[place] = entry(mac, slot);
            prop_assert_eq!(find(mac.word(), |at| bucket[at]), Some(slot));
        }

        #[test]
        fn every_address_has_a_bucket(octets: [u8; 6], epoch: u64) {
            let bucket = bucket_of(Mac::new(octets).word(), multiplier(epoch));
            prop_assert!((bucket as usize) < BUCKETS);
        }
    }

    #[test]
    fn an_empty_place_is_nobody_s() {
        assert_eq!(owner(NOBODY), None);
        assert_eq!(find(Mac::default().word(), |_| NOBODY), None);
    }

    /// Addresses one after the other, as the devices of one maker have them.
    #[test]
    fn a_full_gate_finds_a_place_for_everybody() {
        let mut taken = vec![0; BUCKETS];
        for number in 0..MAX_METERS as u32 {
            let [_, high, middle, low] = number.to_be_bytes();
            let mac = Mac::new([2, 0, 0, high, middle, low]).word();
            taken[bucket_of(mac, multiplier(0x9e37_79b9_7f4a_7c15)) as usize] += 1;
        }
        assert!(taken.iter().all(|taken| *taken <= PLACES), "{:?}", taken.iter().max());
    }
}
