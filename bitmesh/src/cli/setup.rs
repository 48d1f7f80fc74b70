//! `bitmesh setup`

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use super::output;
use crate::config::{Config, Lan};
use crate::netlink;
use crate::portal::CAPTIVE_PATH;

const DNSMASQ: &str = "bitmesh-dnsmasq.conf";
const RADVD: &str = "bitmesh-radvd.conf";

/// Print what tells visitors' devices of the portal: settings for dnsmasq and radvd
///
/// Devices then open the portal's page by themselves (RFC 8910): by DHCP option 114, DHCPv6 option
/// 103 and the router advertisements' option 37. The addresses are those that the LAN interfaces
/// have now.
#[derive(Args)]
pub(super) struct Setup {
    /// The gateway's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Write bitmesh-dnsmasq.conf and bitmesh-radvd.conf there, in place of printing them
    #[arg(long, value_name = "DIRECTORY")]
    write: Option<PathBuf>,
}

impl Setup {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = Config::load(&self.config)?;
        let portals = config.lans.iter().map(Portal::of).collect::<Result<Vec<_>, _>>()?;
        let (dnsmasq, radvd) = (dnsmasq(&portals), radvd(&portals));
        let Some(folder) = &self.write else {
            return output::write(&format!("{dnsmasq}\n{radvd}"));
        };
        for (name, text) in [(DNSMASQ, &dnsmasq), (RADVD, &radvd)] {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| unwritten(&path, &error))?;
            output::write(&format!("written: {}\n", path.display()))?;
        }
        Ok(())
    }
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Told(format!("{}: {error}: give a directory that can be written", path.display()))
}

/// Where the captive portal API is on one LAN interface.
#[derive(Debug, PartialEq, Eq)]
struct Portal {
    interface: String,
    v4: Option<String>,
    v6: Option<String>,
}

impl Portal {
    fn of(lan: &Lan) -> Result<Self, Failure> {
        let Lan { interface, portal_port, .. } = lan;
        let ifindex = netlink::ifindex(interface).ok_or_else(|| {
            Failure::Told(format!("there is no interface {interface}: see `ip link`"))
        })?;
        let addresses = netlink::addresses(ifindex)?;
        Self::at(interface, *portal_port, &addresses).ok_or_else(|| {
            let what = format!("{interface} has no address: give it one, with `ip address add`");
            Failure::Told(what)
        })
    }

    /// With the first address of each kind that a device can put into a URL: no link-local one.
    fn at(interface: &str, port: u16, addresses: &[IpAddr]) -> Option<Self> {
        let port = if port == 80 { String::new() } else { format!(":{port}") };
        let url = |host: String| format!("http://{host}{port}{CAPTIVE_PATH}");
        let v4 = addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) if !v4.is_link_local() => Some(url(v4.to_string())),
            _ => None,
        });
        let v6 = addresses.iter().find_map(|address| match address {
            IpAddr::V6(v6) if !v6.is_unicast_link_local() => Some(url(format!("[{v6}]"))),
            _ => None,
        });
        (v4.is_some() || v6.is_some()).then(|| Self { interface: interface.to_owned(), v4, v6 })
    }
}

/// DHCP option 114 and DHCPv6 option 103 (RFC 8910 §2.1 and 2.2). dnsmasq tags each request with
/// the interface that it came by.
fn dnsmasq(portals: &[Portal]) -> String {
    let mut text =
        "# For dnsmasq: put this file into /etc/dnsmasq.d, and restart dnsmasq.\n".to_owned();
    for Portal { interface, v4, v6 } in portals {
        if let Some(url) = v4 {
            text += &format!("dhcp-option=tag:{interface},114,{url}\n");
        }
        if let Some(url) = v6 {
            text += &format!("dhcp-option=tag:{interface},option6:103,{url}\n");
        }
    }
    text
}

/// The captive portal option of router advertisements, 37 (RFC 8910 §2.3). One address is enough
/// there: who gets it has IPv6.
fn radvd(portals: &[Portal]) -> String {
    let mut text = "# For radvd 2.20 or newer: put each line into the block of its interface in \
                    /etc/radvd.conf.\n"
        .to_owned();
    for Portal { interface, v4, v6 } in portals {
        if let Some(url) = v6.as_ref().or(v4.as_ref()) {
            text += &format!(
                "# interface {interface} {{ …\n    AdvCaptivePortalAPI \"{url}\";\n# }};\n"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn both_families_are_told_by_the_options_of_rfc_8910() {
        let all = addresses(&["fe80::1", "169.254.0.1", "192.0.2.1", "2001:db8::1", "192.0.2.2"]);
        let lan = Portal::at("wlan0", 2121, &all).expect("it has addresses");
        let portals = [lan, Portal::at("lan1", 80, &addresses(&["192.0.2.9"])).expect("one")];
        assert_eq!(
            dnsmasq(&portals).lines().skip(1).collect::<Vec<_>>(),
            [
                "dhcp-option=tag:wlan0,114,http://192.0.2.1:2121/captive",
                "dhcp-option=tag:wlan0,option6:103,http://[2001:db8::1]:2121/captive",
                "dhcp-option=tag:lan1,114,http://192.0.2.9/captive",
            ]
        );
        let radvd = radvd(&portals);
        assert!(radvd.contains("    AdvCaptivePortalAPI \"http://[2001:db8::1]:2121/captive\";\n"));
        assert!(radvd.contains("    AdvCaptivePortalAPI \"http://192.0.2.9/captive\";\n"));
    }

    #[test]
    fn an_interface_that_no_device_could_name_has_no_portal() {
        assert_eq!(Portal::at("wlan0", 2121, &addresses(&["fe80::1"])), None);
    }
}
