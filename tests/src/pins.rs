//! The pinned maps of a gate: what the kernel says, whatever the agent does.

use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, Map, MapData};
use bitmesh::meter::MeterTable;
use bitmesh_common::abi::{Account, House, Mac, Meter, Stranger};
use bitmesh_common::money::time_due;

use crate::lab::Subscriber;

/// `meters`, `accounts` and `strangers`.
pub struct Pins {
    meters: MeterTable,
    accounts: Array<MapData, Account>,
    strangers: HashMap<MapData, Mac, Stranger>,
}

impl Pins {
    /// Opens the maps under this directory.
    ///
    /// # Errors
    ///
    /// Fails if they are not there, or without root.
    pub fn open(bpffs: &Path) -> Result<Self> {
        let pinned = |name: &str| {
            MapData::from_pin(bpffs.join(name)).with_context(|| format!("no pinned map {name}"))
        };
        let directory = Map::Array(pinned("directory")?);
        let house: Array<_, House> = Array::try_from(Map::Array(pinned("house")?))?;
        let epoch = house.get(&0, 0)?.epoch;
        Ok(Self {
            meters: MeterTable::new(&directory, Map::Array(pinned("meters")?), epoch)?,
            accounts: Array::try_from(Map::Array(pinned("accounts")?))?,
            strangers: HashMap::try_from(Map::LruHashMap(pinned("strangers")?))?,
        })
    }

    /// All meters.
    #[must_use]
    pub fn into_meters(self) -> MeterTable {
        self.meters
    }

    /// What the kernel counts for a subscriber.
    ///
    /// # Errors
    ///
    /// Fails if it has no meter.
    pub fn meter(&self, of: &Subscriber) -> Result<Meter> {
        let meter = self.meters.get(Mac::new(of.mac()));
        meter.with_context(|| format!("no meter of {}", of.mac_text()))
    }

    /// What the subscriber has prepaid.
    ///
    /// # Errors
    ///
    /// Fails if it has no meter.
    pub fn account(&self, of: &Subscriber) -> Result<Account> {
        self.account_of(of.mac())
    }

    /// What the station with this MAC address has prepaid.
    ///
    /// # Errors
    ///
    /// Fails if it has no meter.
    pub fn account_of(&self, mac: [u8; 6]) -> Result<Account> {
        let mut slots = self.meters.slots();
        let (_, slot) =
            slots.find(|(of, _)| *of == Mac::new(mac)).context("the station has no meter")?;
        Ok(self.accounts.get(&slot, 0)?)
    }

    /// How many stations without a meter are remembered.
    #[must_use]
    pub fn strangers(&self) -> usize {
        self.strangers.keys().flatten().count()
    }
}

/// What the bytes of a meter cost under the prices of an account, in units.
#[must_use]
pub const fn cost(uplink_bytes: u64, downlink_bytes: u64, account: &Account) -> u64 {
    uplink_bytes * account.uplink_msat_per_mib + downlink_bytes * account.downlink_msat_per_mib
}

/// What time costs from the start of the session to an instant of CLOCK_BOOTTIME, in units.
#[must_use]
pub fn due_at(boottime_ns: u64, account: &Account) -> u64 {
    time_due(boottime_ns.saturating_sub(account.start_ns), account.msat_per_minute)
}
