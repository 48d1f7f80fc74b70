//! Whose an address is, so that nobody sends from another's.
//!
//! What the kernel found by ARP and neighbour discovery is a hint: anybody on the LAN can change
//! it. So an address stays with who had it first, until that station has been silent for
//! [`MAX_SILENCE`]; and nobody holds more than a few. What a DHCP server says outranks it: an
//! address that it leases is the lessee's at once, whoever had it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use bitmesh_common::abi::MAX_OWNERS;
use bitmesh_core::{BootTime, Mac};

use super::AgentError;
use super::guard::Ear;
use crate::leases::Leases;
use crate::meter::{MeterError, Meters};
use crate::netlink::{self, Watch};

/// Between two looks at the neighbours.
const MIN_BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// An address is its owner's as long as it was seen with it, or billed a packet, in this time.
const MAX_SILENCE: Duration = Duration::from_secs(300);

/// Addresses of one station, at most: who claims more holds no others back.
const MAX_V4_OF_STATION: usize = 4;
/// The same of IPv6, of which an honest device makes new ones.
const MAX_V6_OF_STATION: usize = 16;

/// Addresses of the gateway itself that find room beside those of stations.
const MAX_OWN: usize = 64;

/// A change of the kernel's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Set(IpAddr, Mac),
    Remove(IpAddr),
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    mac: Mac,
    /// When neighbours or leases last showed the address with this station.
    seen: BootTime,
}

/// Who owns what: facts in, changes out.
#[derive(Debug, Default)]
struct Table(HashMap<IpAddr, Owner>);

impl Table {
    /// Takes in what neighbours and leases are now. `billed` tells when a station was last billed.
    fn follow(
        &mut self,
        now: BootTime,
        neighbours: &[(IpAddr, Mac)],
        leases: &[(IpAddr, Mac)],
        billed: impl Fn(Mac) -> Option<BootTime>,
    ) -> Vec<Change> {
        for (address, mac) in neighbours.iter().chain(leases) {
            if let Some(owner) = self.0.get_mut(address).filter(|owner| owner.mac == *mac) {
                owner.seen = now;
            }
        }
        let mut changes = Vec::new();
        self.0.retain(|address, owner| {
            let last = billed(owner.mac).map_or(owner.seen, |billed| billed.max(owner.seen));
            let holds = now.since(last) < MAX_SILENCE;
            if !holds {
                changes.push(Change::Remove(*address));
            }
            holds
        });
        for (address, mac) in leases {
            let other = self.0.get(address).filter(|owner| owner.mac != *mac);
            if other.is_some() && self.has_room(*address, *mac) {
                self.0.insert(*address, Owner { mac: *mac, seen: now });
                changes.extend([Change::Remove(*address), Change::Set(*address, *mac)]);
            }
        }
        for (address, mac) in leases.iter().chain(neighbours) {
            if !self.0.contains_key(address) && self.has_room(*address, *mac) {
                self.0.insert(*address, Owner { mac: *mac, seen: now });
                changes.push(Change::Set(*address, *mac));
            }
        }
        changes
    }

    fn has_room(&self, address: IpAddr, mac: Mac) -> bool {
        let most = if address.is_ipv4() { MAX_V4_OF_STATION } else { MAX_V6_OF_STATION };
        let held = self
            .0
            .iter()
            .filter(|(other, owner)| owner.mac == mac && other.is_ipv4() == address.is_ipv4());
        held.count() < most && self.0.len() + MAX_OWN < MAX_OWNERS
    }
}

/// Follows the neighbours.
pub(super) struct Owners {
    /// Nothing if nobody asks whose an address is.
    ear: Option<Ear>,
    leases: Option<Leases>,
    /// Whether the operator knows that there are no leases to be read.
    has_complained: bool,
    table: Table,
    own: Vec<IpAddr>,
    has_told: bool,
}

impl Owners {
    /// Begins with what a former agent found.
    ///
    /// # Errors
    ///
    /// Fails if the kernel tells nothing of neighbours.
    pub(super) fn new(
        is_wanted: bool,
        leases: Option<&Path>,
        meters: &Meters,
    ) -> Result<Self, AgentError> {
        let mut this = Self {
            ear: None,
            leases: leases.map(|path| Leases::of(path.to_owned())),
            has_complained: false,
            table: Table::default(),
            own: Vec::new(),
            has_told: false,
        };
        if is_wanted {
            let watch = Watch::neighbours().map_err(AgentError::Runtime)?;
            this.ear = Some(Ear::new(watch, MIN_BETWEEN_LOOKS)?);
            let now = super::now();
            for (address, mac) in meters.owners()? {
                this.table.0.insert(address, Owner { mac, seen: now });
            }
        }
        Ok(this)
    }

    /// Waits until neighbours have changed.
    pub(super) async fn stirred(&mut self) -> Result<(), AgentError> {
        match &mut self.ear {
            Some(ear) => ear.stirred().await,
            None => std::future::pending().await,
        }
    }

    /// Looks at the neighbours, and tells the kernel what has changed.
    pub(super) fn look(&mut self, meters: &mut Meters, now: BootTime) {
        let looked = match &mut self.ear {
            Some(ear) => {
                ear.take();
                self.follow(meters, now)
            }
            None => meters.forget_owners(),
        };
        if let Err(error) = looked {
            tracing::warn!(%error, "whose the addresses are stays as it was told last");
        }
    }

    /// Leases change without a sound: looks at them, if there are any.
    pub(super) fn look_for_leases(&mut self, meters: &mut Meters, now: BootTime) {
        if self.leases.is_some() {
            self.look(meters, now);
        }
    }

    /// What the DHCP server says now; nothing if it can't be heard.
    fn leases(&mut self) -> Vec<(IpAddr, Mac)> {
        let Some(leases) = &mut self.leases else { return Vec::new() };
        let looked = leases.look();
        if let Err(error) = &looked
            && !self.has_complained
        {
            tracing::warn!(%error, "no leases: only neighbours say whose an address is");
        }
        self.has_complained = looked.is_err();
        looked.map(<[_]>::to_vec).unwrap_or_default()
    }

    fn follow(&mut self, meters: &mut Meters, now: BootTime) -> Result<(), MeterError> {
        let own = meters.own_addresses()?;
        let mut neighbours = Vec::new();
        for ifindex in meters.guarded_interfaces() {
            let found = netlink::neighbours(ifindex).map_err(MeterError::Netlink)?;
            neighbours.extend(found.into_iter().map(|(address, mac)| (address, Mac::new(mac))));
        }
        let mut leases = self.leases();
        for found in [&mut neighbours, &mut leases] {
            found.retain(|(address, mac)| {
                !mac.is_group() && !address.is_multicast() && !own.contains(address)
            });
        }
        let changes = self.table.follow(now, &neighbours, &leases, |mac| meters.last_seen(mac));
        if changes.is_empty() && self.own == own && self.has_told {
            return Ok(());
        }
        for address in self.own.iter().filter(|address| !own.contains(address)) {
            meters.remove_owner(*address)?;
        }
        for change in &changes {
            match change {
                Change::Set(address, mac) => meters.set_owner(*address, Some(*mac))?,
                Change::Remove(address) => meters.remove_owner(*address)?,
            }
        }
        for address in own.iter().take(MAX_OWN) {
            meters.set_owner(*address, None)?;
        }
        self.own = own;
        meters.tell_owners(now)?;
        self.has_told = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Mac = Mac::new([2, 0, 0, 0, 0, 0xa]);
    const BOB: Mac = Mac::new([2, 0, 0, 0, 0, 0xb]);

    fn at(seconds: u64) -> BootTime {
        BootTime(seconds * 1_000_000_000)
    }

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    const fn never(_: Mac) -> Option<BootTime> {
        None
    }

    #[test]
    fn an_address_stays_with_who_had_it_first_while_that_one_is_there() {
        let mut table = Table::default();
        assert_eq!(table.follow(at(0), &[(v4(7), ALICE)], &[], never), [Change::Set(v4(7), ALICE)]);
        // The kernel believes Bob now; Alice still sends.
        let sends = |mac| (mac == ALICE).then_some(at(900));
        assert_eq!(table.follow(at(1_000), &[(v4(7), BOB)], &[], sends), []);
        assert_eq!(table.follow(at(1_100), &[(v4(7), ALICE)], &[], never), []);
    }

    #[test]
    fn an_address_passes_on_when_its_owner_is_silent() {
        let mut table = Table::default();
        table.follow(at(0), &[(v4(7), ALICE)], &[], never);
        assert_eq!(table.follow(at(299), &[(v4(7), BOB)], &[], never), []);
        let passed = [Change::Remove(v4(7)), Change::Set(v4(7), BOB)];
        assert_eq!(table.follow(at(300), &[(v4(7), BOB)], &[], never), passed);
        assert_eq!(table.follow(at(900), &[], &[], never), [Change::Remove(v4(7))]);
    }

    #[test]
    fn an_address_is_the_lessees_whoever_had_it_and_whatever_arp_says() {
        let mut table = Table::default();
        table.follow(at(0), &[(v4(7), BOB)], &[], never);
        let leased = [(v4(7), ALICE)];
        let changes = [Change::Remove(v4(7)), Change::Set(v4(7), ALICE)];
        assert_eq!(table.follow(at(1), &[(v4(7), BOB)], &leased, |_| Some(at(1))), changes);
        // Also after she was silent for long, and if the file is away for a moment.
        assert_eq!(table.follow(at(900), &[(v4(7), BOB)], &leased, never), []);
        assert_eq!(table.follow(at(901), &[(v4(7), BOB)], &[], never), []);
        // A station has room for a few leases, and no more.
        let many: Vec<_> = (11..=19).map(|last| (v4(last), BOB)).collect();
        assert_eq!(table.follow(at(902), &[], &many, never).len(), MAX_V4_OF_STATION);
    }

    #[test]
    fn nobody_holds_all_addresses_of_a_lan() {
        let mut table = Table::default();
        let all: Vec<_> = (1..=250).map(|last| (v4(last), BOB)).collect();
        assert_eq!(table.follow(at(0), &all, &[], never).len(), MAX_V4_OF_STATION);
        let alice = [(v4(200), ALICE)];
        assert_eq!(table.follow(at(1), &alice, &[], never), [Change::Set(v4(200), ALICE)]);
    }

    #[test]
    fn a_crowd_finds_no_more_room_than_the_kernel_has() {
        let mut table = Table::default();
        let many: Vec<_> = (0..u32::try_from(MAX_OWNERS).expect("few") + 9)
            .map(|n| {
                let [_, b, c, d] = n.to_be_bytes();
                (IpAddr::from([10, b, c, d]), Mac::new([2, 0, 0, b, c, d]))
            })
            .collect();
        assert_eq!(table.follow(at(0), &many, &[], never).len(), MAX_OWNERS - MAX_OWN);
    }
}
