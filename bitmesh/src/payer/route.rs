//! Where the default route leads: that is the gateway.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};

use bitmesh_core::Mac;

use crate::netlink;

/// Default routes that are looked at, at most.
const MAX_ROUTES: usize = 64;

/// A default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The router.
    pub gateway: IpAddr,
    /// The interface that leads there.
    pub ifindex: u32,
    /// Its rank: the lowest is taken.
    pub metric: u32,
}

/// The default routes, in the order in which the kernel takes them, IPv4 before IPv6.
///
/// # Errors
///
/// Fails if the kernel does not answer.
pub fn default_routes() -> io::Result<Vec<DefaultRoute>> {
    let mut routes = Vec::new();
    let all = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    netlink::ask(all, NLM_F_DUMP, |answer| {
        if let RouteNetlinkMessage::NewRoute(message) = answer
            && routes.len() < MAX_ROUTES
        {
            routes.extend(default_route(&message));
        }
    })?;
    routes.sort_by_key(|route| (route.gateway.is_ipv6(), route.metric));
    Ok(routes)
}

fn default_route(message: &RouteMessage) -> Option<DefaultRoute> {
    let is_main = message.header.table == RouteHeader::RT_TABLE_MAIN;
    if message.header.destination_prefix_length != 0 || !is_main {
        return None;
    }
    let (mut gateway, mut ifindex, mut metric) = (None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    Some(DefaultRoute { gateway: gateway?, ifindex: ifindex?, metric })
}

/// The name of an interface, if there is one with this index.
#[must_use]
pub fn interface_name(ifindex: u32) -> Option<String> {
    netlink::ifname(ifindex)
}

/// The MAC address of the interface with this name: what a gateway on its network sees.
#[must_use]
pub fn station(name: &str) -> Option<Mac> {
    let links = netlink::links().ok()?;
    let link = links.into_iter().find(|link| link.name == name)?;
    link.mac.map(Mac::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(prefix: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.destination_prefix_length = prefix;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.attributes = attributes;
        message
    }

    #[test]
    fn only_a_route_to_everywhere_through_a_router_is_one() {
        let router = RouteAttribute::Gateway(RouteAddress::Inet([192, 0, 2, 1].into()));
        let attributes = vec![router.clone(), RouteAttribute::Oif(3), RouteAttribute::Priority(7)];
        let gateway = IpAddr::from([192, 0, 2, 1]);
        let found = default_route(&message(0, attributes.clone()));
        assert_eq!(found, Some(DefaultRoute { gateway, ifindex: 3, metric: 7 }));
        assert_eq!(default_route(&message(24, attributes)), None);
        assert_eq!(default_route(&message(0, vec![RouteAttribute::Oif(3)])), None);
        assert_eq!(default_route(&message(0, vec![router])), None);
    }

    #[test]
    fn the_kernel_answers() {
        default_routes().expect("the kernel answers");
    }
}
