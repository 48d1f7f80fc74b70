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
const ODHCPD: &str = "bitmesh-odhcpd.conf";

/// Print what tells visitors' devices of the portal: settings for dnsmasq, radvd and odhcpd
///
/// Devices then open the portal's page by themselves (RFC 8910): by DHCP option 114, DHCPv6 option
/// 103 and the router advertisements' option 37. The addresses are those that the LAN interfaces
/// have now; with a certificate in the configuration, devices are told its name.
#[derive(Args)]
pub(super) struct Setup {
    /// The gateway's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Write bitmesh-dnsmasq.conf, bitmesh-radvd.conf and bitmesh-odhcpd.conf there, in place of
    /// printing them
    #[arg(long, value_name = "DIRECTORY")]
    write: Option<PathBuf>,
}

impl Setup {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = Config::load(&self.config)?;
        let tls_port = config.portal.tls.as_ref().map(|tls| tls.port);
        let of = |lan| Portal::of(lan, tls_port);
        let portals = config.lans.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        let (dnsmasq, radvd, odhcpd) = (dnsmasq(&portals), radvd(&portals), odhcpd(&portals));
        let Some(folder) = &self.write else {
            return output::write(&format!("{dnsmasq}\n{radvd}\n{odhcpd}"));
        };
        for (name, text) in [(DNSMASQ, &dnsmasq), (RADVD, &radvd), (ODHCPD, &odhcpd)] {
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
    /// With TLS: its name, and the addresses that the resolver has to give for it.
    name: Option<(String, Vec<IpAddr>)>,
}

impl Portal {
    fn of(lan: &Lan, tls_port: Option<u16>) -> Result<Self, Failure> {
        let Lan { interface, portal_port, names, .. } = lan;
        let ifindex = netlink::ifindex(interface).ok_or_else(|| {
            Failure::Told(format!("there is no interface {interface}: see `ip link`"))
        })?;
        let addresses = netlink::addresses(ifindex)?;
        let plain = Self::at(interface, *portal_port, &addresses).ok_or_else(|| {
            let what = format!("{interface} has no address: give it one, with `ip address add`");
            Failure::Told(what)
        })?;
        Ok(match (tls_port, names.first()) {
            (Some(port), Some(name)) => plain.under(name, port, &addresses),
            _ => plain,
        })
    }

    /// The same over TLS, by its name (RFC 8908 §4.1).
    fn under(self, name: &str, port: u16, addresses: &[IpAddr]) -> Self {
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let url = format!("https://{name}{port}{CAPTIVE_PATH}");
        let own = addresses.iter().filter(|address| is_universal(address)).copied().collect();
        let (v4, v6) = (self.v4.map(|_| url.clone()), self.v6.map(|_| url));
        Self { v4, v6, name: Some((name.to_owned(), own)), ..self }
    }

    /// With the first address of each kind that a device can put into a URL: no link-local one.
    fn at(interface: &str, port: u16, addresses: &[IpAddr]) -> Option<Self> {
        let port = if port == 80 { String::new() } else { format!(":{port}") };
        let url = |host: String| format!("http://{host}{port}{CAPTIVE_PATH}");
        let mut universal = addresses.iter().filter(|address| is_universal(address));
        let v4 = universal.clone().find(|address| address.is_ipv4());
        let v6 = universal.find(|address| address.is_ipv6());
        let v4 = v4.map(|v4| url(v4.to_string()));
        let v6 = v6.map(|v6| url(format!("[{v6}]")));
        let interface = interface.to_owned();
        (v4.is_some() || v6.is_some()).then_some(Self { interface, v4, v6, name: None })
    }
}

const fn is_universal(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    }
}

/// DHCP option 114 and DHCPv6 option 103 (RFC 8910 §2.1 and 2.2). dnsmasq tags each request with
/// the interface that it came by.
fn dnsmasq(portals: &[Portal]) -> String {
    let mut text =
        "# For dnsmasq: put this file into /etc/dnsmasq.d, and restart dnsmasq.\n".to_owned();
    for Portal { interface, v4, v6, name } in portals {
        if let Some((name, addresses)) = name {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            text += &format!("host-record={name},{}\n", addresses.join(","));
        }
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
    for Portal { interface, v4, v6, .. } in portals {
        if let Some(url) = v6.as_ref().or(v4.as_ref()) {
            text += &format!(
                "# interface {interface} {{ …\n    AdvCaptivePortalAPI \"{url}\";\n# }};\n"
            );
        }
    }
    text
}

/// OpenWrt's own: DHCPv4 is dnsmasq's there, DHCPv6 and router advertisements are odhcpd's.
fn odhcpd(portals: &[Portal]) -> String {
    let mut text =
        "# For OpenWrt with odhcpd of 2025-12 or newer: put the lines of each interface into its\n\
                    # section `config dhcp` of /etc/config/dhcp, then `service dnsmasq restart; \
                    service odhcpd restart`.\n"
            .to_owned();
    for Portal { interface, v4, v6, name } in portals {
        text += &format!("# of {interface}\n");
        if let Some(url) = v4 {
            text += &format!("\tlist dhcp_option '114,{url}'\n");
        }
        if let Some(url) = v6.as_ref().or(v4.as_ref()) {
            text += &format!("\toption captive_portal_uri '{url}'\n");
        }
        if let Some((name, addresses)) = name {
            text += &format!("# in sections of their own, for {name}\n");
            for address in addresses {
                text +=
                    &format!("config domain\n\toption name '{name}'\n\toption ip '{address}'\n");
            }
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
        let odhcpd = odhcpd(&portals);
        assert_eq!(
            odhcpd.lines().skip(2).collect::<Vec<_>>(),
            [
                "# of wlan0",
                "\tlist dhcp_option '114,http://192.0.2.1:2121/captive'",
                "\toption captive_portal_uri 'http://[2001:db8::1]:2121/captive'",
                "# of lan1",
                "\tlist dhcp_option '114,http://192.0.2.9/captive'",
                "\toption captive_portal_uri 'http://192.0.2.9/captive'",
            ]
        );
    }

    #[test]
    fn with_a_certificate_devices_are_told_its_name_and_resolvers_its_addresses() {
        let all = addresses(&["fe80::1", "192.0.2.1", "2001:db8::1"]);
        let at = |port| {
            let plain = Portal::at("wlan0", 2121, &all).expect("it has addresses");
            [plain.under("portal.example", port, &all)]
        };
        let said = dnsmasq(&at(2122));
        assert_eq!(
            said.lines().skip(1).collect::<Vec<_>>(),
            [
                "host-record=portal.example,192.0.2.1,2001:db8::1",
                "dhcp-option=tag:wlan0,114,https://portal.example:2122/captive",
                "dhcp-option=tag:wlan0,option6:103,https://portal.example:2122/captive",
            ]
        );
        let url = "https://portal.example/captive";
        assert!(radvd(&at(443)).contains(&format!("AdvCaptivePortalAPI \"{url}\";")));
        let odhcpd = odhcpd(&at(443));
        assert!(odhcpd.contains(&format!("\toption captive_portal_uri '{url}'\n")), "{odhcpd}");
        assert!(odhcpd.contains("\toption name 'portal.example'\n\toption ip '2001:db8::1'\n"));
    }

    #[test]
    fn an_interface_that_no_device_could_name_has_no_portal() {
        assert_eq!(Portal::at("wlan0", 2121, &addresses(&["fe80::1"])), None);
    }
}
