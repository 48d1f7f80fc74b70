//! What a LAN interface is, and which hooks it can take.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::thread;

use aya::programs::tc::qdisc_add_clsact;
use aya::programs::{SchedClassifier, TcAttachType};
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};

use super::Check;
use super::system::may_meter;
use crate::netlink::{self, Filter};

/// The names of the programs of BitMesh.
const OWN_PROGRAMS: [&str; 2] = ["uplink", "downlink"];

/// Looks at the interface with this name.
pub(super) fn examine(name: &str) -> Vec<Check> {
    let link = match find(name) {
        Ok(Some(link)) => link,
        Ok(None) => {
            let cure = "see `ip link`, and mend `interface` in the configuration";
            return vec![Check::problem(name, "there is no such interface", cure)];
        }
        Err(error) => {
            let detail = format!("the kernel does not list interfaces: {error}");
            return vec![Check::problem(name, detail, "run as root, outside of containers")];
        }
    };
    let mut checks = vec![what_it_is(name, &link), addresses(name, link.header.index)];
    checks.extend(bridge_port(name, &link));
    if may_meter() {
        checks.push(hooks(name));
        checks.push(other_programs(name, &link));
    } else {
        let check = format!("{name} hooks");
        let detail = "hooks and programs of others can't be seen";
        checks.push(Check::warning(&check, detail, "run as root"));
    }
    checks
}

fn find(name: &str) -> io::Result<Option<LinkMessage>> {
    let mut found = None;
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    netlink::ask(request, NLM_F_DUMP, |answer| {
        if let RouteNetlinkMessage::NewLink(link) = answer
            && link.attributes.iter().any(|a| matches!(a, LinkAttribute::IfName(n) if n == name))
        {
            found = Some(link);
        }
    })?;
    Ok(found)
}

fn what_it_is(name: &str, link: &LinkMessage) -> Check {
    let kind = kind(name, link);
    if link.header.flags.contains(LinkFlags::Up) {
        return Check::ok(name, format!("{kind}, up"));
    }
    Check::warning(name, format!("{kind}, down"), format!("ip link set {name} up"))
}

fn kind(name: &str, link: &LinkMessage) -> String {
    if fs::exists(format!("/sys/class/net/{name}/phy80211")).unwrap_or(false) {
        return "wireless".to_owned();
    }
    let info = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => Some(info),
        _ => None,
    });
    let kind = info.into_iter().flatten().find_map(|part| match part {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        Some(InfoKind::Bridge) => "bridge".to_owned(),
        Some(kind) => kind.to_string(),
        None => "network card".to_owned(),
    }
}

fn addresses(name: &str, ifindex: u32) -> Check {
    let check = format!("{name} addresses");
    let found = match netlink::addresses(ifindex) {
        Ok(found) => found,
        Err(error) => {
            return Check::problem(&check, error.to_string(), "run as root, outside of containers");
        }
    };
    let list = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    if found.iter().any(IpAddr::is_ipv4) {
        return Check::ok(&check, list);
    }
    let detail = if list.is_empty() { "none".to_owned() } else { format!("{list}, no IPv4") };
    Check::warning(&check, detail, format!("ip address add ADDRESS/LENGTH dev {name}"))
}

/// The addresses of a port are those of its bridge, so the gate must stand there.
fn bridge_port(name: &str, link: &LinkMessage) -> Option<Check> {
    let controller = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })?;
    let bridge = netlink::ifname(controller).unwrap_or_else(|| format!("interface {controller}"));
    let detail = format!("belongs to {bridge}, which has its addresses");
    let cure = format!("name {bridge} as `interface` in the configuration");
    Some(Check::warning(&format!("{name} bridge"), detail, cure))
}

fn hooks(name: &str) -> Check {
    let check = format!("{name} hooks");
    let tcx = SchedClassifier::query_tcx(name, TcAttachType::Ingress).is_ok();
    let clsact = has_clsact();
    let listed = match (tcx, clsact) {
        (true, true) => "tcx and clsact",
        (true, false) => "tcx",
        (false, true) => "clsact",
        (false, false) => {
            let cure = "use a kernel with tcx (6.6), or with sch_ingress and cls_bpf";
            return Check::problem(&check, "neither tcx nor clsact", cure);
        }
    };
    Check::ok(&check, format!("{listed}; native XDP is not used yet"))
}

/// Tries clsact where it disturbs nobody: in a network namespace that ends with its thread.
fn has_clsact() -> bool {
    thread::spawn(|| {
        // SAFETY: a network namespace is of this thread alone, and no descriptor is unshared.
        #[allow(unsafe_code)]
        let alone = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) };
        alone.is_ok() && qdisc_add_clsact("lo").is_ok()
    })
    .join()
    .unwrap_or(false)
}

fn other_programs(name: &str, link: &LinkMessage) -> Check {
    let check = format!("{name} programs");
    let mut others: Vec<String> = xdp_program(link).into_iter().collect();
    let ends = [("ingress", TcAttachType::Ingress), ("egress", TcAttachType::Egress)];
    for (end, at) in ends {
        let (_, programs) = SchedClassifier::query_tcx(name, at).unwrap_or_default();
        for program in programs {
            let program_name = program.name_as_str().unwrap_or("?");
            if !OWN_PROGRAMS.contains(&program_name) {
                others.push(format!("{program_name} at tcx {end} (id {})", program.id()));
            }
        }
    }
    others.extend(filters(link.header.index).unwrap_or_default());
    if others.is_empty() {
        return Check::ok(&check, "none of others");
    }
    let cure =
        format!("see `bpftool net show dev {name}`: what stands before the gate is not billed");
    Check::warning(&check, others.join(", "), cure)
}

fn xdp_program(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => xdp.iter().find_map(|part| match part {
            LinkXdp::Attached(XdpAttached::None) => None,
            LinkXdp::Attached(mode) => Some(format!("an XDP program ({mode:?})")),
            _ => None,
        }),
        _ => None,
    })
}

/// Filters of clsact, as far as they are not BitMesh's own.
fn filters(ifindex: u32) -> io::Result<Vec<String>> {
    let others = netlink::filters(ifindex)?.into_iter().filter(|filter| !filter.is_own());
    let shown = |filter: Filter| {
        let end = if filter.ingress { "ingress" } else { "egress" };
        format!("a {} filter at clsact {end}, priority {}", filter.kind, filter.priority)
    };
    Ok(others.map(shown).collect())
}
