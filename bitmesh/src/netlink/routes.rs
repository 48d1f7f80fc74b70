//! Which interfaces lead to the internet.

use std::collections::BTreeSet;
use std::io;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

/// The interfaces of all default routes, IPv4 and IPv6.
///
/// # Errors
///
/// Fails if the kernel does not answer.
pub(crate) fn default_routes() -> io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        super::ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP, |answer| {
            if let RouteNetlinkMessage::NewRoute(route) = answer {
                found.extend(interfaces(&route));
            }
        })?;
    }
    Ok(found)
}

/// A default route that throws packets away leads nowhere.
fn interfaces(route: &RouteMessage) -> Vec<u32> {
    let header = &route.header;
    if header.destination_prefix_length != 0 || header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let each = route.attributes.iter().map(|attribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    });
    each.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: u8, kind: RouteType) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.destination_prefix_length = prefix;
        route.header.kind = kind;
        route.attributes.push(RouteAttribute::Oif(4));
        route
    }

    #[test]
    fn only_routes_to_everywhere_count() {
        assert_eq!(interfaces(&route(0, RouteType::Unicast)), [4]);
        assert!(interfaces(&route(24, RouteType::Unicast)).is_empty());
        assert!(interfaces(&route(0, RouteType::Unreachable)).is_empty());
    }

    #[test]
    fn the_kernel_lists_its_routes() {
        default_routes().expect("the kernel answers");
    }
}
