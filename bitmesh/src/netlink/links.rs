//! Interfaces, and how they stand on each other.

use std::io;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
};

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its index.
    pub(crate) ifindex: u32,
    /// Its name.
    pub(crate) name: String,
    /// Whether it is up.
    pub(crate) up: bool,
    /// What it is, in the words of the kernel: `veth`, `bridge`, `vlan`; nothing for a card.
    pub(crate) kind: Option<String>,
    /// The bridge or bond that it is a port of.
    pub(crate) controller: Option<u32>,
    /// The interface that it stands on, as a VLAN device does, or the far end of a veth in this
    /// namespace.
    pub(crate) lower: Option<u32>,
    /// Its MAC address, if it has one.
    pub(crate) mac: Option<[u8; 6]>,
    /// Its XDP programs.
    pub(crate) xdp_programs: Vec<u32>,
}

impl Link {
    fn new(message: &LinkMessage) -> Self {
        let mut link = Self {
            ifindex: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(address) => link.mac = address.as_slice().try_into().ok(),
                LinkAttribute::Controller(index) => link.controller = Some(*index),
                LinkAttribute::Link(index) => link.lower = Some(*index).filter(|index| *index != 0),
                LinkAttribute::Xdp(parts) => link.xdp_programs = xdp_programs(parts),
                LinkAttribute::LinkInfo(parts) => link.kind = kind(parts),
                _ => {}
            }
        }
        link
    }

    /// Whether it is a bridge.
    pub(crate) fn is_bridge(&self) -> bool {
        self.kind.as_deref() == Some("bridge")
    }

    /// Whether it is the end of a virtual cable: then `lower` is its far end, not below it.
    fn is_cable(&self) -> bool {
        self.kind.as_deref() == Some("veth")
    }

    /// The interface that its packets go through, for a VLAN device and its like.
    pub(crate) fn stands_on(&self) -> Option<u32> {
        self.lower.filter(|lower| !self.is_cable() && *lower != self.ifindex)
    }
}

fn kind(parts: &[LinkInfo]) -> Option<String> {
    parts.iter().find_map(|part| match part {
        LinkInfo::Kind(InfoKind::Bridge) => Some("bridge".to_owned()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

/// The one program is listed by its mode and once more without.
fn xdp_programs(parts: &[LinkXdp]) -> Vec<u32> {
    let mut found: Vec<u32> = parts
        .iter()
        .filter_map(|part| match part {
            LinkXdp::ProgId(id)
            | LinkXdp::DrvProgId(id)
            | LinkXdp::SkbProgId(id)
            | LinkXdp::HwProgId(id) => Some(*id),
            _ => None,
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// All interfaces of this network namespace.
///
/// # Errors
///
/// Fails if the kernel does not answer.
pub(crate) fn links() -> io::Result<Vec<Link>> {
    let mut found = Vec::new();
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    super::ask(request, NLM_F_DUMP, |answer| {
        if let RouteNetlinkMessage::NewLink(message) = answer {
            found.push(Link::new(&message));
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed_and_stands_on_nothing() {
        let all = links().expect("the kernel answers");
        let lo = all.iter().find(|link| link.name == "lo").expect("every system has lo");
        assert_eq!((lo.controller, lo.stands_on()), (None, None));
        assert!(lo.xdp_programs.is_empty());
        assert!(lo.ifindex != 0 && !lo.is_bridge());
    }

    #[test]
    fn the_far_end_of_a_cable_is_not_below_it() {
        let vlan =
            Link { ifindex: 7, lower: Some(3), kind: Some("vlan".into()), ..Link::default() };
        assert_eq!(vlan.stands_on(), Some(3));
        let cable = Link { kind: Some("veth".into()), ..vlan };
        assert_eq!(cable.stands_on(), None);
    }
}
