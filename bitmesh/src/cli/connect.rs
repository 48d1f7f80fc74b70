//! `bitmesh connect`

use std::net::IpAddr;
use std::path::PathBuf;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, Network};
use bitmesh_common::abi::Tally;
use bitmesh_core::payer::Limits;
use clap::Args;

use super::failure::Failure;
use super::interrupt::ask_on_interrupt;
use super::node::{NodeAuth, script_of};
use super::told::Told;
use crate::payer::counter::{Counter, CounterError};
use crate::payer::route::{DefaultRoute, default_routes, interface_name, station};
use crate::payer::{
    Agent, DEFAULT_PORT, Gateway, Meter, Setup, State, Stop, Wallet, default_directory,
};

/// Connect to a gateway as its subscriber: pay for what passes, as it passes
///
/// Finds the gateway by the default route, takes its offer if it is within the limits, has a
/// channel funded, and pays a second or two ahead of what this machine itself counts. Ctrl-C
/// closes the channel: what was not used comes back. A channel of an earlier run goes on.
#[derive(Args)]
pub(super) struct Connect {
    /// The gateway, as http://HOST:PORT; an IPv6 address in brackets, a link-local one with its
    /// interface: http://[fe80::1%wlan0] [default: the default route's, port 2121]
    #[arg(long, value_name = "URL")]
    gateway: Option<Gateway>,
    /// The interface that leads to it [default: the default route's]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// The most for a MiB, either way
    #[arg(long, value_name = "MSAT", default_value_t = 10_000)]
    max_msat_per_mib: u64,
    /// The most for a minute
    #[arg(long, value_name = "MSAT", default_value_t = 10_000)]
    max_msat_per_minute: u64,
    /// Bid this share of the list price at first, in percent, and bargain from there
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=99))]
    bid: Option<u32>,
    /// What goes into the channel, and is paid at most
    #[arg(long, value_name = "SAT", default_value_t = 50_000)]
    budget_sat: u64,
    /// The most that is paid first, and that a close may cost
    #[arg(long, value_name = "SAT", default_value_t = 5_000)]
    max_first_update_sat: u64,
    /// The longest time until coins can be taken back without the gateway
    #[arg(long, value_name = "BLOCKS", default_value_t = 1_008)]
    max_lock_blocks: u32,
    /// How far ahead to pay [default: two seconds at the rate seen]
    #[arg(long, value_name = "SAT", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    step_sat: Option<u64>,
    /// The chain: bitcoin, testnet4, signet or regtest
    #[arg(long, value_name = "NAME", default_value_t = Network::Bitcoin)]
    network: Network,
    /// Where what is not used goes [default: a new address of --fund-from]
    #[arg(long, value_name = "ADDRESS")]
    change_to: Option<Address<NetworkUnchecked>>,
    /// Pay from the wallet of this node, as http://HOST:PORT or http://HOST:PORT/wallet/NAME
    #[arg(long, value_name = "URL")]
    fund_from: Option<String>,
    #[command(flatten)]
    auth: NodeAuth,
    /// The height of the chain, if no node tells it
    #[arg(long, value_name = "HEIGHT")]
    tip_height: Option<u32>,
    /// Where keys and channels are kept [default: ~/.local/share/bitmesh]
    #[arg(long, value_name = "DIRECTORY", env = "BITMESH_STATE")]
    state: Option<PathBuf>,
    /// Close the channel with this gateway, and open none
    #[arg(long)]
    close: bool,
    /// Print a line of JSON for each thing that happens
    #[arg(long)]
    json: bool,
}

impl Connect {
    pub(super) fn run(self, object: &'static [u8]) -> Result<(), Failure> {
        let way = Way::find(self.gateway.as_ref(), self.interface.as_deref())?;
        let directory = self.state.clone().map_or_else(default_directory, Ok)?;
        let state = State::open(&directory)?;
        let wallet = match &self.fund_from {
            Some(url) => {
                let node = self.auth.connect(url, self.network)?;
                Some(Box::new(node) as Box<dyn Wallet>)
            }
            None => None,
        };
        let counter = Counter::start(&way.interface, &way.free, object)?;
        let (stop, mut watch) = (Stop::default(), Told::new(self.json));
        ask_on_interrupt(stop.clone())?;
        let meter = Box::new(Counting(counter));
        let setup = self.setup(way.gateway)?;
        let interface = way.interface;
        let station = Box::new(move || station(&interface));
        Ok(Agent { setup, state, wallet, meter, station, watch: &mut watch, stop }.run()?)
    }

    fn setup(&self, gateway: Gateway) -> Result<Setup, Failure> {
        let to = self.change_to.as_ref();
        Ok(Setup {
            gateway,
            limits: Limits {
                network: self.network,
                max_msat_per_mib: self.max_msat_per_mib,
                max_msat_per_minute: self.max_msat_per_minute,
                budget: Amount::from_sat(self.budget_sat),
                max_first_update: Amount::from_sat(self.max_first_update_sat),
                max_lock_blocks: self.max_lock_blocks,
            },
            bid_percent: self.bid,
            step: self.step_sat.map(Amount::from_sat),
            change_script: to.map(|to| script_of(to, self.network)).transpose()?,
            tip_height: self.tip_height,
            only_close: self.close,
        })
    }
}

struct Counting(Counter);

impl Meter for Counting {
    fn read(&mut self) -> Result<Tally, CounterError> {
        self.0.read()
    }
}

/// The way to the gateway.
#[derive(Debug, PartialEq, Eq)]
struct Way {
    gateway: Gateway,
    interface: String,
    /// Addresses of the gateway, whose traffic costs nothing.
    free: Vec<IpAddr>,
}

impl Way {
    fn find(gateway: Option<&Gateway>, interface: Option<&str>) -> Result<Self, Failure> {
        let named = |route: DefaultRoute| Some((route, interface_name(route.ifindex)?));
        let routes: Vec<_> = default_routes()?.into_iter().filter_map(named).collect();
        Self::among(&routes, gateway, interface)
    }

    fn among(
        routes: &[(DefaultRoute, String)],
        gateway: Option<&Gateway>,
        interface: Option<&str>,
    ) -> Result<Self, Failure> {
        let fits = |name: &str| interface.is_none_or(|interface| interface == name);
        let first = routes.iter().find(|(_, name)| fits(name));
        let interface = match (interface, first) {
            (Some(name), _) => name.to_owned(),
            (None, Some((_, name))) => name.clone(),
            (None, None) => {
                let what = "there is no default route: join the gateway's network, or give \
                            --gateway and --interface";
                return Err(Failure::Told(what.to_owned()));
            }
        };
        let gateway = match (gateway, first) {
            (Some(gateway), _) => gateway.clone(),
            (None, Some((route, name))) => url_of(route.gateway, name).parse()?,
            (None, None) => {
                let what = format!("no default route leads through {interface}: give --gateway");
                return Err(Failure::Told(what));
            }
        };
        let here = routes.iter().filter(|(_, name)| *name == interface);
        let mut free: Vec<IpAddr> = here.map(|(route, _)| route.gateway).collect();
        free.extend(gateway.address());
        free.sort();
        free.dedup();
        Ok(Self { gateway, interface, free })
    }
}

/// A link-local address means nothing without the interface: most IPv6 routers are known by one.
fn url_of(address: IpAddr, interface: &str) -> String {
    match address {
        IpAddr::V4(v4) => format!("http://{v4}:{DEFAULT_PORT}"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            format!("http://[{v6}%{interface}]:{DEFAULT_PORT}")
        }
        IpAddr::V6(v6) => format!("http://[{v6}]:{DEFAULT_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Vec<(DefaultRoute, String)> {
        let route = |gateway: &str, ifindex| DefaultRoute {
            gateway: gateway.parse().unwrap(),
            ifindex,
            metric: 0,
        };
        vec![
            (route("192.0.2.1", 2), "wlan0".to_owned()),
            (route("198.51.100.1", 3), "eth0".to_owned()),
            (route("fd77::1", 2), "wlan0".to_owned()),
            (route("fe80::1", 4), "wlan1".to_owned()),
        ]
    }

    fn way(gateway: Option<&str>, interface: Option<&str>) -> Option<(String, String, usize)> {
        let gateway = gateway.map(|url| url.parse().unwrap());
        let way = Way::among(&routes(), gateway.as_ref(), interface).ok()?;
        Some((way.gateway.to_string(), way.interface, way.free.len()))
    }

    #[test]
    fn the_first_default_route_is_the_gateway_and_all_its_addresses_are_free() {
        let found = way(None, None).unwrap();
        assert_eq!(found, ("http://192.0.2.1:2121".into(), "wlan0".into(), 2));
        let found = way(None, Some("eth0")).unwrap();
        assert_eq!(found, ("http://198.51.100.1:2121".into(), "eth0".into(), 1));
        let found = way(None, Some("wlan1")).unwrap();
        assert_eq!(found, ("http://[fe80::1%wlan1]:2121".into(), "wlan1".into(), 1));
        let found = way(Some("http://192.0.2.9"), None).unwrap();
        assert_eq!(found, ("http://192.0.2.9:2121".into(), "wlan0".into(), 3));
    }

    #[test]
    fn without_a_route_the_gateway_and_the_interface_must_be_named() {
        let nowhere = Way::among(&[], None, None).unwrap_err();
        assert!(
            matches!(nowhere, Failure::Told(line) if line.contains("--gateway and --interface"))
        );
        assert!(way(None, Some("eth9")).is_none());
        assert!(way(Some("http://192.0.2.9"), Some("eth9")).is_some());
    }
}
