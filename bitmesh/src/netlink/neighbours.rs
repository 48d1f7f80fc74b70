//! Who is on a LAN, as ARP and neighbour discovery found.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};

use super::{ask, link_layer_address};

/// All neighbours on an interface whose link-layer address is known: addresses and of whom.
///
/// # Errors
///
/// Fails if the kernel does not answer.
pub(crate) fn neighbours(ifindex: u32) -> io::Result<Vec<(IpAddr, [u8; 6])>> {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    let mut found = Vec::new();
    ask(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP, |answer| {
        if let RouteNetlinkMessage::NewNeighbour(neighbour) = answer
            && neighbour.header.ifindex == ifindex
            && let Some(address) = address(&neighbour)
            && let Some(mac) = link_layer_address(&neighbour)
        {
            found.push((address, mac));
        }
    })?;
    Ok(found)
}

fn address(neighbour: &NeighbourMessage) -> Option<IpAddr> {
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some((*v4).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    })
}
