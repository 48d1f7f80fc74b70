//! What a LAN interface is, and which hooks it can take.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::thread;

use aya::programs::tc::qdisc_add_clsact;
use aya::programs::{SchedClassifier, TcAttachType};

use super::Check;
use super::system::may_meter;
use crate::netlink::{self, Filter, Link};

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
    let mut checks = vec![what_it_is(name, &link), addresses(name, link.ifindex)];
    checks.extend(bridge_port(name, &link));
    checks.extend(isolation(name, &link));
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

fn find(name: &str) -> io::Result<Option<Link>> {
    Ok(netlink::links()?.into_iter().find(|link| link.name == name))
}

fn what_it_is(name: &str, link: &Link) -> Check {
    let kind = match &link.kind {
        _ if is_wireless(name) => "wireless",
        Some(kind) => kind,
        None => "network card",
    };
    if link.up {
        return Check::ok(name, format!("{kind}, up"));
    }
    Check::warning(name, format!("{kind}, down"), format!("ip link set {name} up"))
}

fn is_wireless(name: &str) -> bool {
    fs::exists(format!("/sys/class/net/{name}/phy80211")).unwrap_or(false)
}

/// An access point hands packets from station to station by itself, unless it is told not to; the
/// kernel does not say whether it was.
fn isolation(name: &str, link: &Link) -> Option<Check> {
    let links = netlink::links().unwrap_or_default();
    let mut ports = links.iter().filter(|port| port.controller == Some(link.ifindex));
    let access_point = std::iter::once(name)
        .find(|name| is_wireless(name))
        .or_else(|| ports.find(|port| is_wireless(&port.name)).map(|port| port.name.as_str()))?;
    let detail = format!("stations of {access_point} may talk to each other past the gate");
    let cure = "make sure that hostapd has ap_isolate=1 (nobody but hostapd can tell)";
    Some(Check::warning(&format!("{name} isolation"), detail, cure))
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
fn bridge_port(name: &str, link: &Link) -> Option<Check> {
    let controller = link.controller?;
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
    Check::ok(&check, format!("{listed}; native XDP with `hook = \"xdp\"`, if the driver has it"))
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

fn other_programs(name: &str, link: &Link) -> Check {
    let check = format!("{name} programs");
    let mut others = Vec::new();
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
    others.extend(filters(link.ifindex).unwrap_or_default());
    if others.is_empty() {
        return Check::ok(&check, "none of others");
    }
    let cure = format!(
        "see `bpftool net show dev {name}`: what stands behind the gate does no harm, what goes past \
         it is listed as a bypass"
    );
    Check::warning(&check, others.join(", "), cure)
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
