//! What the gate must know about a LAN interface.

use std::net::IpAddr;

use bitmesh_common::abi::{Lan, MAX_LAN_ADDRESSES, V4Address, V6Address};
use bitmesh_common::gate::open_port;

use super::{LanOptions, MeterError};
use crate::netlink;

/// The index of an interface.
///
/// # Errors
///
/// Fails if there is none with this name.
pub(super) fn index_of(interface: &str) -> Result<u32, MeterError> {
    netlink::ifindex(interface).ok_or_else(|| MeterError::NoInterface(interface.to_owned()))
}

/// The indices of all interfaces.
///
/// # Errors
///
/// As [`index_of`].
pub(super) fn indices(lans: &[LanOptions]) -> Result<Vec<u32>, MeterError> {
    lans.iter().map(|lan| index_of(&lan.interface)).collect()
}

/// Where this interface is in the array, or could be.
pub(super) fn place(held: &[Lan], ifindex: u32) -> Option<usize> {
    let same = held.iter().position(|lan| lan.ifindex == ifindex);
    same.or_else(|| held.iter().position(|lan| lan.ifindex == 0))
}

/// Lets a new record of an interface say how the old one was attached.
pub(super) fn keep_attachment(new: &mut Lan, old: &Lan) {
    new.hook = old.hook;
    new.made_clsact = old.made_clsact;
}

/// The record of an interface with the addresses that it has now.
///
/// # Errors
///
/// Fails if the kernel does not tell them.
pub(super) fn describe(options: &LanOptions, ifindex: u32) -> Result<Lan, MeterError> {
    let mut lan = Lan { ifindex, portal_port: options.portal_port.into(), ..Lan::default() };
    for (place, (protocol, port)) in lan.open_ports.iter_mut().zip(&options.open_ports) {
        *place = open_port(*protocol, *port);
    }
    let addresses = netlink::addresses(ifindex).map_err(MeterError::Netlink)?;
    let v4 = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(v4) => Some(V4Address { octets: v4.octets() }),
        IpAddr::V6(_) => None,
    });
    let v6 = addresses.iter().filter_map(|address| match address {
        IpAddr::V6(v6) => Some(V6Address { octets: v6.octets() }),
        IpAddr::V4(_) => None,
    });
    fill(&options.interface, "IPv4", &mut lan.ipv4, v4);
    fill(&options.interface, "IPv6", &mut lan.ipv6, v6);
    Ok(lan)
}

fn fill<T: Copy>(interface: &str, family: &str, places: &mut [T], found: impl Iterator<Item = T>) {
    for (count, address) in found.enumerate() {
        match places.get_mut(count) {
            Some(place) => *place = address,
            None => {
                tracing::warn!(
                    interface,
                    "more than {MAX_LAN_ADDRESSES} {family} addresses: traffic to the others is billed"
                );
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lan(ifindex: u32) -> Lan {
        Lan { ifindex, ..Lan::default() }
    }

    #[test]
    fn an_interface_keeps_its_place() {
        let held = [lan(4), lan(0), lan(7)];
        assert_eq!(place(&held, 7), Some(2));
        assert_eq!(place(&held, 9), Some(1));
        assert_eq!(place(&[lan(4), lan(7)], 9), None);
    }

    #[test]
    fn open_ports_are_filled_in_order() {
        let lo = netlink::ifindex("lo").expect("every system has lo");
        let options = LanOptions {
            interface: "lo".to_owned(),
            open_ports: vec![(17, 53), (6, 2121)],
            portal_port: 2121,
        };
        let lan = describe(&options, lo).expect("the kernel answers");
        assert_eq!(lan.open_ports[..3], [17 << 16 | 53, 6 << 16 | 2121, 0]);
        assert!(lan.ipv4.contains(&V4Address { octets: [127, 0, 0, 1] }));
    }
}
