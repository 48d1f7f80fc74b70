//! Subscribers, a gateway and an internet, each in a network namespace of its own.
//!
//! ```text
//! subscriber 0   eth0 ─── lan0 ┐
//! 10.77.0.10, fd77::10         │ gateway                        internet
//!                              ├ 10.77.0.1, fd77::1
//! subscriber 1   eth0 ─ port1 ─┤ 10.99.0.1, fd99::1  wan0 ─── eth0  10.99.0.2, fd99::2
//! 10.77.0.11, fd77::11         ┘
//! ```
//!
//! One subscriber has a cable to `lan0`; several share a bridge `lan0`. There may be VLAN devices on
//! the cables, see [`Medium`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::counter::Counter;
use crate::namespace::Namespace;
use crate::radio::Air;
use crate::vlan::{self, Tag};
use crate::wait::until;

/// The LAN interface in the gateway's namespace.
pub const LAN: &str = "lan0";
/// The gateway's interface to the internet.
pub const WAN: &str = "wan0";
/// The only interface of a subscriber, and of the internet.
pub const ETH: &str = "eth0";

/// The gateway's address on the LAN.
pub const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
/// The gateway's MAC address on the LAN.
pub const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 1];
/// A server on the internet.
pub const SERVER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 2));
/// The same server.
pub const SERVER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2));

/// Where the packets come from and go to that cross the gateway.
pub const INTERNET: [&str; 2] = ["10.99.0.2/32", "fd99::2/128"];

/// What makes a device cut super-packets before it sends, as `ethtool -K` takes it.
pub const SEGMENTS: &str = "tso off gso off tx-udp-segmentation off tx-gso-list off";

/// Subscribers in one lab, at most: their addresses end in 10 and more.
pub const MAX_SUBSCRIBERS: u8 = 64;

/// How long one try for the first answer may take.
const FIRST_ANSWER: Duration = Duration::from_millis(100);

/// Someone with a device.
#[derive(Debug)]
pub struct Subscriber {
    /// Where the device is.
    pub namespace: Namespace,
    number: u8,
}

impl Subscriber {
    /// Its MAC address.
    #[must_use]
    pub const fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0x77, 10 + self.number]
    }

    /// Its MAC address as the command line takes it.
    #[must_use]
    pub fn mac_text(&self) -> String {
        format!("02:00:00:00:77:{:02x}", 10 + self.number)
    }

    /// Its IPv4 address.
    #[must_use]
    pub const fn v4(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, 10 + self.number))
    }

    /// Its IPv6 address.
    #[must_use]
    pub const fn v6(&self) -> IpAddr {
        // Written in decimal digits, as the IPv4 address: `fd77::10` is its first.
        let digits = (10 + self.number) as u16;
        IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, ((digits / 10) << 4) | (digits % 10)))
    }

    /// Brings its end of the cable up, with its addresses.
    fn configure(&self) -> Result<()> {
        let Self { namespace, .. } = self;
        namespace.ip(&format!("link set eth0 address {} up", self.mac_text()))?;
        quiet(namespace, ETH)?;
        namespace.ip(&format!("addr add {}/24 dev eth0", self.v4()))?;
        namespace.ip(&format!("addr add {}/64 dev eth0 nodad", self.v6()))?;
        namespace.ip("route add default via 10.77.0.1")?;
        namespace.ip("route add default via fd77::1")?;
        Ok(())
    }

    /// Counts what arrives from the internet. Segments are real ones if [`Lab::real_segments`] was
    /// called.
    ///
    /// # Errors
    ///
    /// Fails if `nft` does.
    pub fn count_downlink(&self) -> Result<Counter> {
        Counter::arriving(&self.namespace, ETH, &INTERNET)
    }

    /// Counts what leaves for the internet, before the gateway sees it: packets as the sender's
    /// stack made them, so TCP uploads show as super-packets here.
    ///
    /// # Errors
    ///
    /// Fails if `nft` does.
    pub fn count_uplink(&self) -> Result<Counter> {
        Counter::leaving(&self.namespace, ETH, &INTERNET)
    }
}

/// What lies between a subscriber and the gateway.
#[derive(Clone, Copy, Debug, Default)]
pub enum Medium {
    /// A cable, and a bridge if there are several.
    #[default]
    Cable,
    /// A cable that carries a VLAN. `lan0` is the VLAN's device, as are `eth0` and, with tags of its
    /// own, `wan0`.
    Tagged {
        /// On the way to the subscriber, outermost first.
        lan: &'static [Tag],
        /// On the way to the internet.
        wan: &'static [Tag],
    },
    /// The same, but `lan0` is the cable: frames come to it with their tags. The addresses are
    /// those of [`ABOVE_LAN`].
    Trunk {
        /// Outermost first.
        lan: &'static [Tag],
    },
    /// Wi-Fi: `lan0` is the access point's, `eth0` a station's.
    Air,
}

/// The device with the addresses of the LAN where `lan0` is the cable below it.
pub const ABOVE_LAN: &str = "vlan0";

/// The three sides.
#[derive(Debug)]
pub struct Lab {
    /// Who pays.
    pub subscribers: Vec<Subscriber>,
    /// Who is paid.
    pub gateway: Namespace,
    /// Who is to be reached.
    pub internet: Namespace,
    /// The radios, if the LAN is Wi-Fi.
    pub air: Option<Air>,
    medium: Medium,
}

impl Lab {
    /// One subscriber with a cable to the gateway.
    ///
    /// # Errors
    ///
    /// Fails without root, or without `ip`.
    pub fn new() -> Result<Self> {
        Self::with_subscribers(1)
    }

    /// Several subscribers on one bridge, or one on a cable.
    ///
    /// # Errors
    ///
    /// As [`Self::new`], and for more than [`MAX_SUBSCRIBERS`] or none.
    pub fn with_subscribers(count: u8) -> Result<Self> {
        Self::make(count, Medium::Cable)
    }

    /// One subscriber, over this.
    ///
    /// # Errors
    ///
    /// As [`Self::new`], and on a kernel without it.
    pub fn over(medium: Medium) -> Result<Self> {
        Self::make(1, medium)
    }

    fn make(count: u8, medium: Medium) -> Result<Self> {
        ensure!((1..=MAX_SUBSCRIBERS).contains(&count), "a lab has 1 to {MAX_SUBSCRIBERS}");
        let gateway = Namespace::new("gateway")?;
        let internet = Namespace::new("internet")?;
        let mut subscribers = Vec::new();
        for number in 0..count {
            let namespace = Namespace::new(&format!("sub{number}"))?;
            subscribers.push(Subscriber { namespace, number });
        }
        let air = match medium {
            Medium::Air => Some(Air::new(&gateway, &subscribers[0].namespace)?),
            _ => None,
        };
        let lab = Self { subscribers, gateway, internet, air, medium };
        lab.connect_lan()?;
        lab.connect_wan()?;
        lab.transmit()?;
        lab.wait_until_it_carries()?;
        Ok(lab)
    }

    /// Starts the access point and the station, if there are any.
    fn transmit(&self) -> Result<()> {
        let Some(air) = &self.air else { return Ok(()) };
        let station = &self.subscribers[0].namespace;
        // The access point takes the device down before it begins.
        self.gateway.sysctl("ipv6/conf/lan0/keep_addr_on_down", "1")?;
        air.start_point(&self.gateway)?;
        air.start_station(station)?;
        air.wait_until_joined(station)
    }

    /// Ends the access point as a restart of its service does, and starts it again. The station
    /// joins again by itself.
    ///
    /// # Errors
    ///
    /// Fails if there is none, and if it does not end or start.
    pub fn restart_access_point(&self) -> Result<()> {
        let air = self.air.as_ref().context("the LAN is a cable")?;
        air.stop_point()?;
        air.start_point(&self.gateway)?;
        air.wait_until_joined(&self.subscribers[0].namespace)
    }

    /// The first subscriber.
    #[must_use]
    pub fn subscriber(&self) -> &Subscriber {
        &self.subscribers[0]
    }

    /// From whom to whom and to which address packets of a subscriber go: up and down, IPv4 and IPv6.
    #[must_use]
    pub fn ways<'a>(&'a self, bob: &'a Subscriber) -> [(&'a Namespace, &'a Namespace, IpAddr); 4] {
        let (here, there) = (&bob.namespace, &self.internet);
        [
            (here, there, SERVER_V4),
            (here, there, SERVER_V6),
            (there, here, bob.v4()),
            (there, here, bob.v6()),
        ]
    }

    fn connect_lan(&self) -> Result<()> {
        for subscriber in &self.subscribers {
            let (port, far) = (self.port_of(subscriber), &subscriber.namespace);
            match self.medium {
                Medium::Cable => self.cable(&port, far, ETH)?,
                // Made already.
                Medium::Air => {}
                Medium::Tagged { lan, .. } => self.tagged_cable(LAN, far, lan)?,
                Medium::Trunk { lan } => {
                    self.cable(LAN, far, vlan::FAR_CABLE)?;
                    vlan::stand(&self.gateway, LAN, ABOVE_LAN, lan)?;
                    vlan::switch(far)?;
                    vlan::stand(far, vlan::BEHIND_SWITCH, ETH, lan)?;
                }
            }
            subscriber.configure()?;
        }
        self.make_lan()
    }

    fn is_bridged(&self) -> bool {
        self.subscribers.len() > 1
    }

    /// The gateway's device at the other end of a subscriber's cable.
    fn port_of(&self, subscriber: &Subscriber) -> String {
        if self.is_bridged() { format!("port{}", subscriber.number) } else { LAN.to_owned() }
    }

    /// Makes the bridge, if there is one, and gives the LAN interface its addresses.
    fn make_lan(&self) -> Result<()> {
        if self.is_bridged() {
            self.gateway.ip("link add lan0 type bridge mcast_snooping 0")?;
            for subscriber in &self.subscribers {
                let port = self.port_of(subscriber);
                self.gateway.ip(&format!("link set {port} master lan0 up"))?;
            }
        }
        let device = if matches!(self.medium, Medium::Trunk { .. }) { ABOVE_LAN } else { LAN };
        self.gateway.ip(&format!("link set {device} address 02:00:00:00:77:01 up"))?;
        quiet(&self.gateway, device)?;
        self.gateway.ip(&format!("addr add 10.77.0.1/24 dev {device}"))?;
        self.gateway.ip(&format!("addr add fd77::1/64 dev {device} nodad"))?;
        Ok(())
    }

    /// Replaces the VLAN devices by others, with other tags, where `lan0` stays what it is: those
    /// above it, or those to the internet.
    ///
    /// # Errors
    ///
    /// Fails if `ip` does, and if there are no such devices.
    pub fn retag(&mut self, medium: Medium) -> Result<()> {
        let station = &self.subscribers[0];
        match (self.medium, medium) {
            (Medium::Trunk { lan: old }, Medium::Trunk { lan }) => {
                vlan::fall(&self.gateway, ABOVE_LAN, old)?;
                vlan::fall(&station.namespace, ETH, old)?;
                vlan::stand(&self.gateway, LAN, ABOVE_LAN, lan)?;
                vlan::stand(&station.namespace, vlan::BEHIND_SWITCH, ETH, lan)?;
                station.configure()?;
                self.make_lan()?;
            }
            (Medium::Tagged { wan: old, .. }, Medium::Tagged { wan, .. }) => {
                vlan::fall(&self.gateway, WAN, old)?;
                vlan::fall(&self.internet, ETH, old)?;
                vlan::stand(&self.gateway, &cable_of(WAN), WAN, wan)?;
                vlan::stand(&self.internet, vlan::FAR_CABLE, ETH, wan)?;
                self.make_wan()?;
            }
            (from, to) => bail!("no way from {from:?} to {to:?}"),
        }
        self.medium = medium;
        Ok(())
    }

    /// Takes the LAN interface away: the cable, or the bridge.
    ///
    /// # Errors
    ///
    /// Fails if `ip` does.
    pub fn unplug(&self) -> Result<()> {
        match &self.air {
            Some(air) => air.unplug(&self.gateway),
            None => self.gateway.ip("link del lan0").map(drop),
        }
    }

    /// Brings the LAN interface back under its name: another device, with another index.
    ///
    /// # Errors
    ///
    /// Fails if `ip` does.
    pub fn plug(&self) -> Result<()> {
        if let Some(air) = &self.air {
            air.plug(&self.gateway)?;
            self.make_lan()?;
            self.gateway.sysctl("ipv6/conf/lan0/keep_addr_on_down", "1")?;
            return air.start_point(&self.gateway);
        }
        if self.is_bridged() { self.make_lan() } else { self.connect_lan() }
    }

    fn connect_wan(&self) -> Result<()> {
        match self.medium {
            Medium::Tagged { wan, .. } => self.tagged_cable(WAN, &self.internet, wan)?,
            _ => self.cable(WAN, &self.internet, ETH)?,
        }
        self.make_wan()
    }

    /// Gives the gateway a default route, as every router has one.
    ///
    /// # Errors
    ///
    /// Fails if `ip` does.
    pub fn add_default_route(&self) -> Result<()> {
        self.gateway.ip("route add default via 10.99.0.2").map(drop)
    }

    /// Gives both ends of the way to the internet their addresses.
    fn make_wan(&self) -> Result<()> {
        for (namespace, device, v4, v6) in [
            (&self.gateway, WAN, "10.99.0.1/24", "fd99::1/64"),
            (&self.internet, ETH, "10.99.0.2/24", "fd99::2/64"),
        ] {
            namespace.ip(&format!("link set {device} up"))?;
            quiet(namespace, device)?;
            namespace.ip(&format!("addr add {v4} dev {device}"))?;
            namespace.ip(&format!("addr add {v6} dev {device} nodad"))?;
        }
        self.internet.ip("route add 10.77.0.0/24 via 10.99.0.1")?;
        self.internet.ip("route add fd77::/64 via fd99::1")?;
        self.gateway.sysctl("ipv4/ip_forward", "1")?;
        self.gateway.sysctl("ipv6/conf/all/forwarding", "1")
    }

    /// Waits until each subscriber reaches the internet: the kernel may take a second until a new
    /// cable carries IPv6. An agent must not be there yet.
    ///
    /// # Errors
    ///
    /// Fails if one does not.
    pub fn wait_until_it_carries(&self) -> Result<()> {
        for server in [SERVER_V4, SERVER_V6] {
            let listener = self.internet.enter(|| Ok(TcpListener::bind((server, 0))?))?;
            let address = listener.local_addr()?;
            for subscriber in &self.subscribers {
                subscriber.namespace.enter(|| {
                    until("the lab carries packets", || {
                        Ok(TcpStream::connect_timeout(&address, FIRST_ANSWER).is_ok())
                    })
                })?;
            }
        }
        Ok(())
    }

    /// A cable from a device of the gateway to one of another namespace.
    fn cable(&self, device: &str, to: &Namespace, far: &str) -> Result<()> {
        let peer = format!("peer name {far} netns {}", to.name());
        self.gateway.ip(&format!("link add {device} type veth {peer}"))?;
        Ok(())
    }

    /// A cable with VLAN devices at both ends: `device`, and `eth0` of another namespace.
    fn tagged_cable(&self, device: &str, to: &Namespace, tags: &[Tag]) -> Result<()> {
        let cable = cable_of(device);
        self.cable(&cable, to, vlan::FAR_CABLE)?;
        vlan::stand(&self.gateway, &cable, device, tags)?;
        vlan::stand(to, vlan::FAR_CABLE, ETH, tags)
    }

    /// Leaves everything in place: nobody removes it now.
    pub fn keep(self) {
        let Self { subscribers, gateway, internet, air, .. } = self;
        std::mem::forget(air);
        gateway.keep();
        internet.keep();
        for subscriber in subscribers {
            subscriber.namespace.keep();
        }
    }

    /// Lets every counter at an edge see segments as they would be on a wire, while the gateway
    /// still handles super-packets: it segments when it sends.
    ///
    /// # Errors
    ///
    /// Fails if `ethtool` does.
    pub fn real_segments(&self) -> Result<()> {
        // A trunk has a switch behind it, which does it.
        if !matches!(self.medium, Medium::Trunk { .. }) {
            for device in self.lan_devices() {
                self.gateway.offloads(&device, SEGMENTS)?;
            }
        }
        self.gateway.offloads(WAN, SEGMENTS)
    }

    /// The devices of the gateway whose far end is a subscriber.
    #[must_use]
    pub fn lan_devices(&self) -> Vec<String> {
        self.subscribers.iter().map(|subscriber| self.port_of(subscriber)).collect()
    }

    /// Counts what arrives at the internet from one subscriber: what the gate let through.
    ///
    /// # Errors
    ///
    /// Fails if `nft` does.
    pub fn count_arrived(&self, from: &Subscriber) -> Result<Counter> {
        let sources = [format!("{}/32", from.v4()), format!("{}/128", from.v6())];
        Counter::arriving(&self.internet, ETH, &[&sources[0], &sources[1]])
    }
}

/// The cable on which a VLAN device of the gateway stands.
fn cable_of(device: &str) -> String {
    format!("{device}-cable")
}

/// No router solicitations and no temporary addresses: nothing that a test did not send.
fn quiet(namespace: &Namespace, device: &str) -> Result<()> {
    namespace.sysctl(&format!("ipv6/conf/{device}/accept_ra"), "0")?;
    namespace.sysctl(&format!("ipv6/conf/{device}/router_solicitations"), "0")
}
