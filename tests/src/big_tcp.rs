//! BIG TCP over IPv4, which Debian's `ip` is too old to switch on.

use anyhow::{Context as _, Result, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::net::if_::if_nametoindex;

use crate::namespace::Namespace;

/// Lets super-packets over IPv4 grow to so many bytes, sent (`IFLA_GSO_IPV4_MAX_SIZE`) and merged
/// (`IFLA_GRO_IPV4_MAX_SIZE`).
///
/// # Errors
///
/// Fails without such a device, and where the kernel knows no such sizes (before 6.3) or refuses.
pub fn over_ipv4(namespace: &Namespace, device: &str, bytes: u32) -> Result<()> {
    namespace.enter(|| {
        let mut link = LinkMessage::default();
        link.header.index = if_nametoindex(device).with_context(|| device.to_owned())?;
        link.attributes =
            vec![LinkAttribute::GsoIpv4MaxSize(bytes), LinkAttribute::GroIpv4MaxSize(bytes)];
        set(link).with_context(|| format!("BIG TCP over IPv4 on {device}"))
    })
}

fn set(link: LinkMessage) -> Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let request = RouteNetlinkMessage::SetLink(link);
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
        NetlinkPayload::Error(error) => Err(error.to_io().into()),
        other => bail!("the kernel answers {other:?}"),
    }
}
