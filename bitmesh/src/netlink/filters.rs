//! Filters of clsact.

use std::io;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

/// Priority of BitMesh's own filters: before everybody else's.
pub(crate) const CLSACT_PRIORITY: u16 = 1;
/// Handle of BitMesh's own filters, by which a later agent finds and replaces them.
pub(crate) const CLSACT_HANDLE: (u16, u16) = (0, 0xb17);

/// The two ends of clsact (`TC_H_CLSACT` with `TC_H_MIN_INGRESS`, `TC_H_MIN_EGRESS`).
const PARENTS: [(bool, u16); 2] = [(true, 0xfff2), (false, 0xfff3)];

/// One filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// At ingress rather than egress.
    pub(crate) ingress: bool,
    /// The lowest has the first word.
    pub(crate) priority: u16,
    /// Its handle, in two halves.
    handle: (u16, u16),
    /// What it matches with: `bpf`, `flower`, `u32`.
    pub(crate) kind: String,
}

impl Filter {
    /// Whether it is BitMesh's.
    pub(crate) fn is_own(&self) -> bool {
        self.handle == CLSACT_HANDLE && self.priority == CLSACT_PRIORITY && self.kind == "bpf"
    }

    fn new(message: &TcMessage, ingress: bool) -> Option<Self> {
        let TcHandle { major, minor } = message.header.handle;
        // A classifier without a filter yet is listed with handle 0.
        if (major, minor) == (0, 0) {
            return None;
        }
        let kind = message.attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.clone()),
            _ => None,
        });
        // The upper half is the priority (`TC_H_MAJ` of `tcm_info`).
        let priority = (message.header.info >> 16) as u16;
        Some(Self { ingress, priority, handle: (major, minor), kind: kind.unwrap_or_default() })
    }
}

/// All filters at the two ends of an interface's clsact qdisc; none without the qdisc.
///
/// # Errors
///
/// Fails if the kernel does not answer.
pub(crate) fn filters(ifindex: u32) -> io::Result<Vec<Filter>> {
    let mut found = Vec::new();
    for (ingress, minor) in PARENTS {
        let mut message = TcMessage::default();
        message.header.index = i32::try_from(ifindex).map_err(io::Error::other)?;
        message.header.parent = TcHandle { major: 0xffff, minor };
        let request = RouteNetlinkMessage::GetTrafficFilter(message);
        super::ask(request, NLM_F_DUMP, |answer| {
            if let RouteNetlinkMessage::NewTrafficFilter(filter) = answer {
                found.extend(Filter::new(&filter, ingress));
            }
        })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_filter_is_known_by_handle_and_priority() {
        let own = Filter { ingress: true, priority: 1, handle: (0, 0xb17), kind: "bpf".into() };
        assert!(own.is_own());
        assert!(!Filter { priority: 2, ..own.clone() }.is_own());
        assert!(!Filter { handle: (0, 1), ..own.clone() }.is_own());
        assert!(!Filter { kind: "u32".into(), ..own }.is_own());
    }

    #[test]
    fn an_interface_without_clsact_has_no_filters() {
        let lo = crate::netlink::ifindex("lo").expect("every system has lo");
        assert_eq!(filters(lo).unwrap_or_default(), []);
    }
}
