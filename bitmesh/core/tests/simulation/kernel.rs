//! The kernel's side: meters, gates and verdicts, and the truth about what was served.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use bitmesh_common::gate::{Direction, Shared, charge};
use bitmesh_common::money::{UNITS_PER_MSAT, bytes_cost};
use bitmesh_core::{
    AccountImage, BootTime, Epoch, Gate, Held, Mac, Reading, Sample, Tariff, Units,
};

/// The maps of one epoch.
pub struct Kernel {
    pub epoch: Epoch,
    /// Meters that there is room for.
    pub room: usize,
    slots: BTreeMap<Mac, Slot>,
    /// Meters that were given up: the truth about what they counted.
    dropped: BTreeMap<Mac, Slot>,
}

#[derive(Default)]
struct Slot {
    reading: Reading,
    gate: Option<AccountImage>,
    /// What the time cost that was served, by the start of the session.
    served: BTreeMap<BootTime, Units>,
}

struct Meter(Cell<u64>);

impl Shared for Meter {
    fn load(&self) -> u64 {
        self.0.get()
    }

    fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64> {
        match self.0.get() {
            found if found == current => {
                self.0.set(new);
                Ok(())
            }
            found => Err(found),
        }
    }
}

impl Slot {
    /// What the time of the open session costs: none is served beyond what is prepaid.
    fn serving(&self, now: BootTime) -> Option<(BootTime, Units)> {
        let image = self.gate?;
        let left = image.prepaid.saturating_sub(self.reading.spent);
        Some((image.start, image.tariff.time_due(image.start, now).min(left)))
    }

    fn note_served(&mut self, now: BootTime) {
        if let Some((start, due)) = self.serving(now) {
            let served = self.served.entry(start).or_default();
            *served = due.max(*served);
        }
    }

    fn packet(&mut self, now: BootTime, direction: Direction, bytes: u64) -> bool {
        let Some(image) = self.gate else { return false };
        let Tariff { uplink_msat_per_mib, downlink_msat_per_mib, .. } = image.tariff;
        let price = match direction {
            Direction::Uplink => uplink_msat_per_mib,
            Direction::Downlink => downlink_msat_per_mib,
        };
        let due = image.tariff.time_due(image.start, now);
        let meter = Meter(Cell::new(self.reading.spent.0));
        if charge(&meter, image.prepaid.0, due.0, bytes_cost(bytes, price)).is_err() {
            return false;
        }
        self.reading.spent = Units(meter.0.get());
        match direction {
            Direction::Uplink => {
                self.reading.uplink_bytes += bytes;
                self.reading.uplink_packets += 1;
            }
            Direction::Downlink => {
                self.reading.downlink_bytes += bytes;
                self.reading.downlink_packets += 1;
            }
        }
        true
    }

    /// For how long nothing has been served for want of money, in ms.
    fn cut_off_ms(&self, now: BootTime) -> u64 {
        let Some(image) = self.gate else { return 0 };
        let rate = image.tariff.msat_per_minute;
        let left = image.prepaid.saturating_sub(self.reading.spent);
        if rate == 0 {
            return 0;
        }
        let paid_ms = u128::from(left.0) * 60_000 / u128::from(rate * UNITS_PER_MSAT);
        let elapsed_ms = now.since(image.start).as_millis();
        u64::try_from(elapsed_ms.saturating_sub(paid_ms)).unwrap_or(u64::MAX)
    }
}

impl Kernel {
    pub fn new(epoch: Epoch, room: usize) -> Self {
        Self { epoch, room, slots: BTreeMap::new(), dropped: BTreeMap::new() }
    }

    pub fn packet(&mut self, now: BootTime, mac: Mac, direction: Direction, bytes: u64) -> bool {
        self.slots.get_mut(&mac).is_some_and(|slot| slot.packet(now, direction, bytes))
    }

    /// Holds the image, if there is room; a new meter begins with this reading. Gives for how long the subscriber was cut off in a
    /// session that goes on: time that is billed although it was not served.
    pub fn set(&mut self, now: BootTime, image: AccountImage, reading: Reading) -> Option<u64> {
        if !self.slots.contains_key(&image.mac) {
            if self.slots.len() >= self.room {
                return None;
            }
            let slot = self.dropped.remove(&image.mac).unwrap_or_default();
            self.slots.insert(image.mac, Slot { reading, ..slot });
        }
        let slot = self.slots.entry(image.mac).or_default();
        slot.note_served(now);
        let goes_on =
            slot.gate.is_some_and(|old| old.start == image.start && old.prepaid < image.prepaid);
        let gap = if goes_on { slot.cut_off_ms(now) } else { 0 };
        slot.gate = Some(image);
        Some(gap)
    }

    pub fn close(&mut self, now: BootTime, mac: Mac) -> Sample {
        let Some(slot) = self.slots.get_mut(&mac) else {
            return Sample { mac, reading: Reading::default() };
        };
        slot.note_served(now);
        slot.gate = None;
        Sample { mac, reading: slot.reading }
    }

    /// Gives up the meter of a closed gate.
    pub fn drop_meter(&mut self, mac: Mac) {
        if let Some(slot) = self.slots.remove(&mac) {
            self.dropped.insert(mac, slot);
        }
    }

    /// The account is no more: what its meter counted was given away.
    pub fn forget(&mut self, mac: Mac) {
        self.dropped.remove(&mac);
    }

    /// Who has a meter, or had one.
    pub fn known(&self) -> BTreeSet<Mac> {
        self.slots.keys().chain(self.dropped.keys()).copied().collect()
    }

    pub fn has_meter(&self, mac: Mac) -> bool {
        self.slots.contains_key(&mac)
    }

    /// The meter, or what became of it.
    fn slot(&self, mac: Mac) -> Option<&Slot> {
        self.slots.get(&mac).or_else(|| self.dropped.get(&mac))
    }

    pub fn sample(&self) -> Vec<Sample> {
        self.slots.iter().map(|(mac, slot)| Sample { mac: *mac, reading: slot.reading }).collect()
    }

    pub fn held(&self) -> Vec<Held> {
        let held = |(mac, slot): (&Mac, &Slot)| Held {
            sample: Sample { mac: *mac, reading: slot.reading },
            gate: slot.gate.map_or(Gate::Closed, Gate::Open),
        };
        self.slots.iter().map(held).collect()
    }

    pub fn gate(&self, mac: Mac) -> Option<AccountImage> {
        self.slots.get(&mac)?.gate
    }

    pub fn open_gates(&self) -> impl Iterator<Item = (AccountImage, Reading)> {
        self.slots.values().filter_map(|slot| Some((slot.gate?, slot.reading)))
    }

    pub fn reading(&self, mac: Mac) -> Reading {
        self.slot(mac).map(|slot| slot.reading).unwrap_or_default()
    }

    /// What all the time cost that was served in this epoch, by its session's start.
    pub fn served(&self, now: BootTime, mac: Mac) -> Units {
        let Some(slot) = self.slot(mac) else { return Units(0) };
        let noted = slot.served.values().fold(Units(0), |sum, due| sum.saturating_add(*due));
        let Some((start, due)) = slot.serving(now) else { return noted };
        let of_this = slot.served.get(&start).copied().unwrap_or_default();
        noted.saturating_add(due.saturating_sub(of_this))
    }
}
