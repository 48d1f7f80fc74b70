//! Whose an address is, told to the kernel.

use std::net::IpAddr;

use aya::maps::{HashMap, Map, MapData};
use bitmesh_common::abi::{Lan, Mac, V6Address};
use bitmesh_core::BootTime;

use super::{MeterError, Meters};

/// The owner of the gateway's own addresses: nobody on the LAN.
const NOBODY: u64 = 0;

/// The kernel's map, and the generation that it is told of.
pub(super) struct OwnerMap {
    map: HashMap<MapData, V6Address, u64>,
    /// 0 until the agent has told who is whose, and for as long as nobody asks.
    generation: u64,
}

impl OwnerMap {
    pub(super) fn new(map: Map) -> Result<Self, MeterError> {
        let map = HashMap::try_from(map).map_err(MeterError::map("owners"))?;
        Ok(Self { map, generation: 0 })
    }

    /// The record of an interface with the generation in it. What a former agent told holds until
    /// this one has looked.
    pub(super) const fn told(&self, lan: Lan) -> Lan {
        let owners = if self.generation == 0 { lan.owners } else { self.generation };
        Lan { owners, ..lan }
    }
}

impl Meters {
    /// Whose addresses are, as the kernel was told; the gateway's own left out.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn owners(&self) -> Result<Vec<(IpAddr, Mac)>, MeterError> {
        let mut owners = Vec::new();
        for entry in self.owners.map.iter() {
            let (address, mac) = entry.map_err(MeterError::map("owners"))?;
            if mac != NOBODY {
                owners.push((IpAddr::from(address.octets).to_canonical(), Mac::from_word(mac)));
            }
        }
        Ok(owners)
    }

    /// Makes the kernel take packets from this address of this station only; of nobody, if it is
    /// the gateway's own.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses, for want of room for example.
    pub fn set_owner(&mut self, address: IpAddr, mac: Option<Mac>) -> Result<(), MeterError> {
        let owner = mac.map_or(NOBODY, Mac::word);
        let set = self.owners.map.insert(key(address), owner, 0);
        set.map_err(MeterError::map("owners"))
    }

    /// Makes the kernel take packets from this address of anybody.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn remove_owner(&mut self, address: IpAddr) -> Result<(), MeterError> {
        self.owners.map.remove(&key(address)).map_err(MeterError::map("owners"))
    }

    /// Makes the kernel look again at the next packet from each address. It never was told of so
    /// late a generation before: not by a former agent either.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn tell_owners(&mut self, now: BootTime) -> Result<(), MeterError> {
        let told = self.read_lans()?.iter().map(|lan| lan.owners).max().unwrap_or(0);
        self.owners.generation = now.0.max(told + 1).max(self.owners.generation + 1);
        for (index, lan) in self.read_lans()?.into_iter().enumerate() {
            if lan.ifindex != 0 {
                self.write_lan(index, lan)?;
            }
        }
        Ok(())
    }

    /// Makes the kernel ask no more.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn forget_owners(&mut self) -> Result<(), MeterError> {
        self.owners.generation = 0;
        for (index, lan) in self.read_lans()?.into_iter().enumerate() {
            if lan.owners != 0 {
                self.write_lan(index, Lan { owners: 0, ..lan })?;
            }
        }
        Ok(())
    }

    /// The addresses of the LAN interfaces.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn own_addresses(&self) -> Result<Vec<IpAddr>, MeterError> {
        let of = |lan: &Lan| {
            let v4 = lan.ipv4.map(|address| IpAddr::from(address.octets));
            let v6 = lan.ipv6.map(|address| IpAddr::from(address.octets));
            v4.into_iter().chain(v6).filter(|address| !address.is_unspecified()).collect::<Vec<_>>()
        };
        Ok(self.read_lans()?.iter().flat_map(of).collect())
    }

    /// When the kernel last billed a packet of this station.
    #[must_use]
    pub fn last_seen(&self, mac: Mac) -> Option<BootTime> {
        let meter = self.meters.get(mac)?;
        (meter.last_seen_ns != 0).then_some(BootTime(meter.last_seen_ns))
    }
}

fn key(address: IpAddr) -> V6Address {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    V6Address { octets }
}
