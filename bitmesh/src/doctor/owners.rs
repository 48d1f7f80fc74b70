//! Whether anything says whose an address is.

use super::Check;
use crate::config::Config;
use crate::{leases, netlink};

const CHECK: &str = "anti_spoof";

/// Counts what the gate learns owners of addresses from.
pub(super) fn examine(config: &Config) -> Check {
    if !config.anti_spoof {
        let detail = "off: who pays may send from another device's address";
        return Check::warning(CHECK, detail, "set `anti_spoof = true`, or leave the line out");
    }
    let found = netlink::links().unwrap_or_default();
    let of_lan = |name: &str| config.lans.iter().any(|lan| lan.interface == name);
    let lans = found.iter().filter(|link| of_lan(&link.name));
    let neighbours: usize = lans
        .map(|link| netlink::neighbours(link.ifindex).map_or(0, |neighbours| neighbours.len()))
        .sum();
    let leases = match &config.dhcp_leases {
        None => 0,
        Some(path) => match leases::read(path) {
            Ok(leases) => leases.len(),
            Err(error) => {
                let detail = format!("no leases from {}: {error}", path.display());
                let cure = "name dnsmasq's file of leases (its `dhcp-leasefile`) in \
                            `dhcp_leases`, readable by all, or remove the line";
                return Check::problem(CHECK, detail, cure);
            }
        },
    };
    if neighbours + leases > 0 {
        return Check::ok(CHECK, format!("{neighbours} neighbours and {leases} leases say whose"));
    }
    let detail = "neither a neighbour nor a lease says whose an address is, so each is free to \
                  send from";
    let cure = if config.dhcp_leases.is_some() {
        "look again when a device is on the LAN; if nothing has changed, see whether dnsmasq \
         writes the file that `dhcp_leases` names"
    } else {
        "look again when a device is on the LAN; if nothing has changed, name dnsmasq's file of \
         leases with `dhcp_leases = \"PATH\"`"
    };
    Check::warning(CHECK, detail, cure)
}
