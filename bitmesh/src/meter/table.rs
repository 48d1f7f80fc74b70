//! The meters, by MAC address.
//!
//! The agent maps them, as it does the directory, so that a sweep over thousands of them calls the
//! kernel not once. A meter is read word by word while the kernel counts: each word is one that the
//! kernel wrote, and none is older than the read.

use std::fmt;

use aya::maps::{Array, Map, MapData, MapError};
use bitmesh_common::abi::{MAX_METERS, Mac, Meter};

use super::MeterError;
use super::directory::Directory;
use super::mapped::MappedArray;

/// The arrays `directory` and `meters`.
pub struct MeterTable {
    directory: Directory,
    meters: MappedArray<Meter>,
    /// The same array, for one that reads by calls.
    array: Array<MapData, Meter>,
}

impl MeterTable {
    /// Takes both maps of a loaded object, or of pins, of the life of the maps that `epoch` names.
    ///
    /// # Errors
    ///
    /// Fails if they are no arrays for mapping, or have other sizes.
    pub fn new(directory: &Map, meters: Map, epoch: u64) -> Result<Self, MeterError> {
        Ok(Self {
            directory: Directory::new(directory, epoch)?,
            meters: MappedArray::new("meters", &meters, MAX_METERS)?,
            array: Array::try_from(meters).map_err(MeterError::map("meters"))?,
        })
    }

    /// The meter of one address.
    #[must_use]
    pub fn get(&self, mac: Mac) -> Option<Meter> {
        self.directory.slot_of(mac).map(|slot| self.meters.read(slot as usize))
    }

    /// Gives a slot to `meter.mac`, which has none. No packet may use that slot: whoever had it has
    /// lost it, and no program that found it still runs.
    ///
    /// # Errors
    ///
    /// [`MeterError::NoRoom`] if too many addresses are where this one would be.
    pub fn insert(&self, slot: u32, meter: &Meter) -> Result<(), MeterError> {
        self.meters.write(slot as usize, meter);
        // The last of all stores: packets find a meter and an account that are complete.
        if self.directory.insert(meter.mac, slot) { Ok(()) } else { Err(MeterError::NoRoom) }
    }

    /// Empties a slot that nobody has. No packet may use it, as for [`Self::insert`].
    pub fn clear(&self, slot: u32) {
        self.meters.write(slot as usize, &Meter::default());
    }

    /// Takes its slot from an address, if it has one. Packets in flight may still use it.
    pub fn remove(&self, mac: Mac) {
        self.directory.remove(mac);
    }

    /// All addresses and their slots.
    pub fn slots(&self) -> impl Iterator<Item = (Mac, u32)> {
        self.directory.all()
    }

    /// All meters.
    #[must_use]
    pub fn read_all(&self) -> Vec<Meter> {
        self.slots().map(|(_, slot)| self.meters.read(slot as usize)).collect()
    }

    /// All meters, with a call of the kernel for each.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn read_one_by_one(&self) -> Result<Vec<Meter>, MapError> {
        self.slots().map(|(_, slot)| self.array.get(&slot, 0)).collect()
    }
}

impl fmt::Debug for MeterTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterTable").field("directory", &self.directory).finish_non_exhaustive()
    }
}
