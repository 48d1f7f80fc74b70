//! What the kernel knows of interfaces, their addresses, their neighbours and routes.

mod features;
mod filters;
mod links;
mod neighbours;
mod routes;
mod watch;

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::tc::{TcHandle, TcMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::{AddressFamily as Family, SocketType, netdevice, socket};

pub(crate) use self::features::offloads_filters;
pub(crate) use self::filters::{CLSACT_HANDLE, CLSACT_PRIORITY, Filter, filters};
pub(crate) use self::links::{Link, links};
pub(crate) use self::neighbours::neighbours;
pub(crate) use self::routes::default_routes;
pub(crate) use self::watch::Watch;

/// Datagrams of one dump that are read, at most.
const MAX_DATAGRAMS: usize = 1_024;

/// The index of the interface with this name, if there is one.
pub(crate) fn ifindex(name: &str) -> Option<u32> {
    let any = socket(Family::INET, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(&any, name).ok()
}

/// The name of the interface with this index, if there is one.
pub(crate) fn ifname(ifindex: u32) -> Option<String> {
    let any = socket(Family::INET, SocketType::DGRAM, None).ok()?;
    netdevice::index_to_name(&any, ifindex).ok()
}

/// The addresses of an interface.
///
/// # Errors
///
/// Fails if the kernel does not answer.
pub(crate) fn addresses(ifindex: u32) -> io::Result<Vec<IpAddr>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let mut found = Vec::new();
    ask(request, NLM_F_DUMP, |answer| {
        if let RouteNetlinkMessage::NewAddress(message) = answer
            && message.header.index == ifindex
        {
            found.extend(own_address(&message));
        }
    })?;
    Ok(found)
}

/// On a point-to-point link `Address` is the peer's, and `Local` the own one.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

/// The link-layer address of a neighbour on this interface, if the kernel has one that was not
/// found to be wrong.
///
/// # Errors
///
/// Fails if the kernel does not answer.
pub(crate) fn neighbour(ifindex: u32, address: IpAddr) -> io::Result<Option<[u8; 6]>> {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    let destination = match address {
        IpAddr::V4(v4) => {
            message.header.family = AddressFamily::Inet;
            NeighbourAddress::Inet(v4)
        }
        IpAddr::V6(v6) => {
            message.header.family = AddressFamily::Inet6;
            NeighbourAddress::Inet6(v6)
        }
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    let mut found = None;
    let asked = ask_one(RouteNetlinkMessage::GetNeighbour(message), |answer| {
        if let RouteNetlinkMessage::NewNeighbour(neighbour) = answer {
            found = link_layer_address(&neighbour);
        }
    });
    match asked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        asked => asked.map(|()| found),
    }
}

fn link_layer_address(neighbour: &NeighbourMessage) -> Option<[u8; 6]> {
    let unsure = [NeighbourState::None, NeighbourState::Incomplete, NeighbourState::Failed];
    if unsure.contains(&neighbour.header.state) {
        return None;
    }
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    })
}

/// Removes the clsact qdisc, and all filters on it, from an interface.
///
/// # Errors
///
/// Fails if there is none, or without the right to do so.
pub(crate) fn remove_clsact(ifindex: u32) -> io::Result<()> {
    let mut message = TcMessage::default();
    message.header.family = AddressFamily::Unspec;
    message.header.index = i32::try_from(ifindex).map_err(io::Error::other)?;
    message.header.handle = TcHandle { major: 0xffff, minor: 0 };
    message.header.parent = TcHandle { major: 0xffff, minor: 0xfff1 };
    ask(RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK, |_| ())
}

/// Sends a request and hands each answer to `take`, until the kernel says that it is done.
pub(crate) fn ask(
    request: RouteNetlinkMessage,
    flags: u16,
    mut take: impl FnMut(RouteNetlinkMessage),
) -> io::Result<()> {
    let socket = send(request, flags)?;
    for _ in 0..MAX_DATAGRAMS {
        let (datagram, _) = socket.recv_from_full()?;
        if read_datagram(&datagram, &mut take)? {
            return Ok(());
        }
    }
    Err(io::Error::other("the kernel's answer does not end"))
}

/// Sends a request whose answer is one message, or an error.
fn ask_one(
    request: RouteNetlinkMessage,
    mut take: impl FnMut(RouteNetlinkMessage),
) -> io::Result<()> {
    let (datagram, _) = send(request, 0)?.recv_from_full()?;
    read_datagram(&datagram, &mut take).map(drop)
}

fn send(request: RouteNetlinkMessage, flags: u16) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    Ok(socket)
}

/// Whether the answer ends with this datagram.
fn read_datagram(datagram: &[u8], take: &mut impl FnMut(RouteNetlinkMessage)) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
        let length = usize::try_from(message.header.length).map_err(io::Error::other)?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::InnerMessage(inner) => take(inner),
            _ => {}
        }
        // Messages are aligned to four bytes (RFC 3549 §2.2).
        rest = rest.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_address() {
        let lo = ifindex("lo").expect("every system has lo");
        assert_eq!(ifname(lo).as_deref(), Some("lo"));
        let found = addresses(lo).expect("the kernel answers");
        assert!(found.contains(&"127.0.0.1".parse().expect("an address")), "{found:?}");
    }

    #[test]
    fn an_interface_that_does_not_exist_has_no_index() {
        assert_eq!(ifindex("no-such-if"), None);
    }
}
