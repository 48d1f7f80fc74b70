//! What goes past the gate: a card, a table or a program that handles packets before the hooks.

use std::collections::BTreeSet;
use std::path::Path;

use super::Check;
use crate::config::{Config, Hook};
use crate::fence::{FlowTable, flow_tables};
use crate::meter::{own_programs, tcx_programs};
use crate::netlink::{self, CLSACT_PRIORITY, Link};

/// Interfaces below one another that are followed, at most.
const MAX_DEPTH: usize = 8;

/// What takes longer to look at, and changes seldom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ground {
    /// The interfaces that lead to the internet.
    uplinks: BTreeSet<u32>,
    flow_tables: Vec<FlowTable>,
}

impl Ground {
    /// Looks at routes and nftables. What can't be seen is as if it were not there.
    pub(crate) fn look() -> Self {
        let uplinks = netlink::default_routes().unwrap_or_else(|error| {
            tracing::debug!(%error, "the routes can't be seen");
            BTreeSet::new()
        });
        let flow_tables = flow_tables().unwrap_or_else(|error| {
            tracing::debug!(%error, "the flow tables can't be seen");
            Vec::new()
        });
        Self { uplinks, flow_tables }
    }
}

/// The interfaces of this machine, and what leads past the gate on them.
struct Search<'a> {
    links: Vec<Link>,
    ground: &'a Ground,
    own: Vec<u32>,
    hook: Hook,
}

/// Everything that goes past the gate of a configuration.
pub(crate) fn bypasses(config: &Config, ground: &Ground) -> Vec<Check> {
    let Some(search) = Search::new(config, ground) else { return Vec::new() };
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for lan in search.lans(config) {
        found.extend(search.in_front(lan));
        let below = search.below(lan);
        for device in std::iter::once(lan).chain(below.iter().copied()) {
            if seen.insert(device.ifindex) {
                found.extend(search.xdp(device));
                found.extend(offload(device));
            }
        }
        for device in &below {
            found.extend(search.programs_below(lan, device));
        }
        found.extend(search.flow_tables(lan, &below));
    }
    for uplink in search.links.iter().filter(|link| ground.uplinks.contains(&link.ifindex)) {
        if seen.insert(uplink.ifindex) {
            found.extend(search.xdp(uplink));
            found.extend(offload(uplink));
        }
    }
    found
}

/// LAN interfaces through which the internet is reached: the gate would bill the wrong side. There
/// is no way to sell like this.
pub(crate) fn uplinks_in_lan(config: &Config, ground: &Ground) -> Vec<Check> {
    let Some(search) = Search::new(config, ground) else { return Vec::new() };
    search.lans(config).flat_map(|lan| search.uplink_in(lan)).collect()
}

impl<'a> Search<'a> {
    fn new(config: &Config, ground: &'a Ground) -> Option<Self> {
        let links = netlink::links().inspect_err(|error| {
            tracing::debug!(%error, "the interfaces can't be seen");
        });
        let own = own_programs(Path::new(&config.bpffs));
        Some(Self { links: links.ok()?, ground, own, hook: config.hook })
    }

    /// Those of the configuration that are there.
    fn lans<'b>(&'b self, config: &'b Config) -> impl Iterator<Item = &'b Link> {
        let named = |name: &str| self.links.iter().find(|link| link.name == name);
        config.lans.iter().filter_map(move |lan| named(&lan.interface))
    }

    fn at(&self, ifindex: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.ifindex == ifindex)
    }

    /// Ports of a bridge or bond, and what a VLAN device stands on, all the way down.
    fn below(&self, lan: &Link) -> Vec<&Link> {
        let mut found: Vec<&Link> = Vec::new();
        let mut level = vec![lan.ifindex];
        for _ in 0..MAX_DEPTH {
            let ports = self.links.iter().filter(|link| {
                link.controller.is_some_and(|controller| level.contains(&controller))
            });
            let bases = level.iter().filter_map(|index| self.at(self.at(*index)?.stands_on()?));
            let next: Vec<&Link> = ports
                .chain(bases)
                .filter(|link| link.ifindex != lan.ifindex)
                .filter(|link| !found.iter().any(|known| known.ifindex == link.ifindex))
                .collect();
            if next.is_empty() {
                break;
            }
            level = next.iter().map(|link| link.ifindex).collect();
            found.extend(next);
        }
        found
    }

    fn xdp(&self, device: &Link) -> Option<Check> {
        let foreign = device.xdp_programs.iter().find(|id| !self.own.contains(id))?;
        let name = &device.name;
        let detail = format!(
            "the XDP program {foreign} of somebody else is on {name}: what it redirects is not billed"
        );
        let cure = format!("see `bpftool prog show id {foreign}`; `ip link set {name} xdp off`");
        Some(Check::problem(&check_of(name), detail, cure))
    }

    /// Programs of TC on the LAN interface that run before the gate's.
    fn in_front(&self, lan: &Link) -> Vec<Check> {
        let filters = netlink::filters(lan.ifindex).unwrap_or_default();
        let on_clsact = filters.iter().any(netlink::Filter::is_own);
        let name = &lan.name;
        let mut found = Vec::new();
        for (end, programs) in tcx_programs(lan.ifindex).unwrap_or_default() {
            let own = programs.iter().position(|id| self.own.contains(id));
            // All of tcx runs before clsact. A gate that is not there yet will be the first.
            let alone = if on_clsact || self.hook == Hook::Clsact { programs.len() } else { 0 };
            for id in &programs[..own.unwrap_or(alone)] {
                let detail =
                    format!("the program {id} runs before the gate at tcx {end} of {name}");
                let cure = format!(
                    "see `bpftool prog show id {id}`; attach it after the gate, or detach it"
                );
                found.push(Check::problem(&check_of(name), detail, cure));
            }
        }
        let clsact = on_clsact || self.hook == Hook::Clsact;
        let before = |filter: &&netlink::Filter| {
            clsact && !filter.is_own() && filter.priority <= CLSACT_PRIORITY
        };
        for filter in filters.iter().filter(before) {
            let end = if filter.ingress { "ingress" } else { "egress" };
            let (kind, priority) = (&filter.kind, filter.priority);
            let detail =
                format!("a {kind} filter may run before the gate at clsact {end} of {name}");
            let cure = format!(
                "give it a priority above {CLSACT_PRIORITY}: `tc filter del dev {name} {end} pref \
                 {priority}`, and add it anew after the gate"
            );
            found.push(Check::problem(&check_of(name), detail, cure));
        }
        found
    }

    /// Programs that see a subscriber's packet before it is at the LAN interface.
    fn programs_below(&self, lan: &Link, device: &Link) -> Vec<Check> {
        let name = &device.name;
        let programs = tcx_programs(device.ifindex).unwrap_or_default().into_iter();
        let programs = programs.filter(|(end, _)| *end == "ingress").flat_map(|(_, ids)| ids);
        let programs = programs.filter(|id| !self.own.contains(id));
        let mut found: Vec<String> = programs.map(|id| format!("the program {id}")).collect();
        let filters = netlink::filters(device.ifindex).unwrap_or_default().into_iter();
        let filters = filters.filter(|filter| filter.ingress && !filter.is_own());
        found.extend(filters.map(|filter| format!("a {} filter", filter.kind)));
        let complain = |what: String| {
            let detail = format!(
                "{what} sees packets at ingress of {name}, below {}: what it redirects is not billed",
                lan.name
            );
            let cure = format!("see `bpftool net show dev {name}`, and take it off");
            Check::problem(&check_of(&lan.name), detail, cure)
        };
        found.into_iter().map(complain).collect()
    }

    fn flow_tables(&self, lan: &Link, below: &[&Link]) -> Vec<Check> {
        let uplinks = self.ground.uplinks.iter().filter_map(|ifindex| self.at(*ifindex));
        let uplinks: Vec<&str> = uplinks.map(|link| link.name.as_str()).collect();
        let is_lan = |name: &str| name == lan.name || below.iter().any(|link| link.name == name);
        let concerned = self.ground.flow_tables.iter().filter_map(|table| {
            let named = table.devices.iter().find(|name| {
                is_lan(name) || table.in_hardware && uplinks.contains(&name.as_str())
            })?;
            Some((table, named))
        });
        let complain = |(table, device): (&FlowTable, &String)| {
            let how = if table.in_hardware { "in hardware " } else { "" };
            let name = &table.name;
            let detail = format!(
                "the flow table `{name}` of nftables forwards {how}what goes through {device}"
            );
            let cure = format!(
                "take {device} out of its `devices`, or remove it: see `nft list flowtables`"
            );
            Check::problem(&check_of(&lan.name), detail, cure)
        };
        concerned.map(complain).collect()
    }

    fn uplink_in(&self, lan: &Link) -> Option<Check> {
        let uplinks = self.ground.uplinks.iter().filter_map(|ifindex| self.at(*ifindex));
        let name = &lan.name;
        for uplink in uplinks {
            let up = &uplink.name;
            let what = if uplink.ifindex == lan.ifindex {
                format!("the default route leaves through {name} itself")
            } else if self
                .below(lan)
                .iter()
                .any(|port| lan.is_bridge() && self.is_in(uplink, port.ifindex))
            {
                format!("{name} holds {up}, through which the default route leaves")
            } else if self.is_in(uplink, lan.ifindex) {
                format!("{up}, through which the default route leaves, stands on {name}")
            } else {
                continue;
            };
            let detail = format!("{what}: the gate can't tell subscribers from the internet");
            let cure = format!(
                "give subscribers an interface of their own: take the uplink out of {name} (`ip link \
                 set PORT nomaster`), or name another `interface` in the configuration"
            );
            return Some(Check::problem(&format!("{name} uplink"), detail, cure));
        }
        None
    }

    /// Whether an uplink is this interface, or stands on it.
    fn is_in(&self, uplink: &Link, ifindex: u32) -> bool {
        let mut at = Some(uplink);
        for _ in 0..MAX_DEPTH {
            let Some(link) = at else { return false };
            if link.ifindex == ifindex {
                return true;
            }
            at = link.stands_on().and_then(|lower| self.at(lower));
        }
        false
    }
}

fn offload(device: &Link) -> Option<Check> {
    let name = &device.name;
    netlink::offloads_filters(name).unwrap_or(false).then(|| {
        let detail = format!("{name} may forward by itself (hw-tc-offload is on)");
        Check::problem(&check_of(name), detail, format!("ethtool -K {name} hw-tc-offload off"))
    })
}

fn check_of(name: &str) -> String {
    format!("{name} bypass")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ifindex: u32, name: &str) -> Link {
        Link { ifindex, name: name.into(), ..Link::default() }
    }

    fn bridge(ifindex: u32, name: &str) -> Link {
        Link { kind: Some("bridge".into()), ..link(ifindex, name) }
    }

    fn search(links: Vec<Link>, ground: &Ground) -> Search<'_> {
        Search { links, ground, own: vec![7], hook: Hook::Auto }
    }

    fn leading(uplink: u32) -> Ground {
        Ground { uplinks: BTreeSet::from([uplink]), ..Ground::default() }
    }

    #[test]
    fn a_lan_that_holds_the_uplink_is_found_in_every_shape() {
        let lan = bridge(2, "br0");
        let port = Link { controller: Some(2), ..link(3, "eth0") };
        let other = link(4, "eth1");
        let on = |lower| Link { lower: Some(lower), kind: Some("vlan".into()), ..link(5, "v7") };
        for (uplink, links, held) in [
            (2, vec![lan.clone(), port.clone()], true),
            (3, vec![lan.clone(), port.clone()], true),
            (5, vec![lan.clone(), port.clone(), on(3)], true),
            (5, vec![lan.clone(), port.clone(), on(2)], true),
            (4, vec![lan.clone(), port.clone(), other.clone()], false),
            (5, vec![lan.clone(), port.clone(), other.clone(), on(4)], false),
        ] {
            let ground = leading(uplink);
            let found = search(links, &ground).uplink_in(&lan);
            assert_eq!(found.is_some(), held, "{uplink}: {found:?}");
        }
    }

    #[test]
    fn two_vlans_of_one_cable_may_be_lan_and_uplink() {
        let cable = link(2, "eth0");
        let vlan = |ifindex, name| Link { lower: Some(2), ..link(ifindex, name) };
        let lan = vlan(3, "eth0.10");
        let ground = leading(4);
        let search = search(vec![cable, lan.clone(), vlan(4, "eth0.20")], &ground);
        assert_eq!(search.uplink_in(&lan), None);
        assert_eq!(search.below(&lan).len(), 1);
    }

    #[test]
    fn flow_tables_count_where_the_lan_or_what_is_below_it_is_named() {
        let port = Link { controller: Some(2), ..link(3, "eth0") };
        let lan = bridge(2, "br0");
        for (device, in_hardware, counts) in [
            ("br0", false, true),
            ("eth0", false, true),
            ("wan0", false, false),
            ("wan0", true, true),
            ("else0", true, false),
        ] {
            let devices = vec![device.to_owned()];
            let table = FlowTable { name: "ft".into(), devices, in_hardware };
            let ground = Ground { flow_tables: vec![table], ..leading(4) };
            let search = search(vec![lan.clone(), port.clone(), link(4, "wan0")], &ground);
            let found = search.flow_tables(&lan, &search.below(&lan));
            assert_eq!(found.len(), usize::from(counts), "{device}, {in_hardware}");
        }
    }

    #[test]
    fn only_xdp_of_others_counts() {
        let ground = Ground::default();
        let search = search(Vec::new(), &ground);
        let with = |xdp_programs| Link { xdp_programs, ..link(2, "lan0") };
        assert_eq!(search.xdp(&with(vec![])), None);
        assert_eq!(search.xdp(&with(vec![7])), None);
        assert!(search.xdp(&with(vec![8])).is_some());
    }
}
