//! The array `directory`: who has which slot.
//!
//! A word gives a slot away, and a word takes it back: see [`bitmesh_common::directory`].

use aya::maps::Map;
use bitmesh_common::abi::{BUCKETS, Bucket, Mac, PLACES};
use bitmesh_common::directory::{NOBODY, bucket_of, entry, find, multiplier, owner};

use super::MeterError;
use super::mapped::MappedArray;

const WORD: usize = size_of::<u64>();

/// The directory that the kernel reads.
#[derive(Debug)]
pub(super) struct Directory {
    buckets: MappedArray<Bucket>,
    multiplier: u64,
}

impl Directory {
    /// Maps the array of the life of the maps that `epoch` names.
    ///
    /// # Errors
    ///
    /// Fails if the map is not memory-mapped or has another size.
    pub(super) fn new(map: &Map, epoch: u64) -> Result<Self, MeterError> {
        let buckets = MappedArray::new("directory", map, BUCKETS)?;
        Ok(Self { buckets, multiplier: multiplier(epoch) })
    }

    /// The slot of an address.
    pub(super) fn slot_of(&self, mac: Mac) -> Option<u32> {
        let bucket = self.bucket_of(mac);
        find(mac.word(), |place| self.at(bucket, place))
    }

    /// Gives a slot to an address that has none, at once and for all packets to come. `false` if the
    /// address's bucket is full.
    pub(super) fn insert(&self, mac: Mac, slot: u32) -> bool {
        let bucket = self.bucket_of(mac);
        let free = (0..PLACES).find(|place| self.at(bucket, *place) == NOBODY);
        if let Some(place) = free {
            self.buckets.store(bucket, place * WORD, entry(mac, slot));
        }
        free.is_some()
    }

    /// Takes its slot from an address, if it has one. A packet in flight may still use it.
    pub(super) fn remove(&self, mac: Mac) {
        let bucket = self.bucket_of(mac);
        for place in 0..PLACES {
            if owner(self.at(bucket, place)).is_some_and(|(found, _)| found == mac) {
                self.buckets.store(bucket, place * WORD, NOBODY);
            }
        }
    }

    /// All addresses and their slots.
    pub(super) fn all(&self) -> impl Iterator<Item = (Mac, u32)> {
        let places = (0..BUCKETS).flat_map(|bucket| (0..PLACES).map(move |place| (bucket, place)));
        places.filter_map(|(bucket, place)| owner(self.at(bucket, place)))
    }

    fn bucket_of(&self, mac: Mac) -> usize {
        bucket_of(mac.word(), self.multiplier) as usize
    }

    fn at(&self, bucket: usize, place: usize) -> u64 {
        self.buckets.load(bucket, place * WORD)
    }
}
