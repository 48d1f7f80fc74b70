//! The payer's own count of its traffic, by the kernel, with the code that the gateway bills with.
//!
//! The programs count and never stop anything. They go when the counter is dropped.

use std::net::IpAddr;

use aya::maps::{Array, Map, MapData};
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use bitmesh_common::abi::{Lan, MAX_LAN_ADDRESSES, Tally};
use bitmesh_common::gate::open_port;

/// The programs and where each goes.
const PROGRAMS: [(&str, TcAttachType); 2] =
    [("count_sent", TcAttachType::Egress), ("count_received", TcAttachType::Ingress)];

/// Maps of the gateway's programs in the same object, which a payer needs no room in.
const UNUSED: [&str; 4] = ["directory", "meters", "accounts", "strangers"];

/// DHCP, whose broadcasts a gateway does not bill: protocol and port.
const DHCP: [(u8, u16); 2] = [(17, 67), (17, 547)];

/// Why the payer can't count.
#[derive(Debug, thiserror::Error)]
pub enum CounterError {
    /// The kernel refuses the programs.
    #[error("{interface}: the kernel refused to count: {error}: run as root")]
    Refused {
        /// Where.
        interface: String,
        /// What it said.
        error: String,
    },
    /// A map can't be read.
    #[error("the payer's own count can't be read: {0}")]
    Unreadable(String),
}

/// Counts what one interface exchanges with whoever is beyond a gateway.
pub struct Counter {
    /// Holds the programs and their links.
    _object: Ebpf,
    tally: Array<MapData, Tally>,
}

impl Counter {
    /// Starts to count on `interface`. Traffic with the gateway itself, at its addresses, is free.
    ///
    /// # Errors
    ///
    /// Fails without root, and if the kernel refuses.
    pub fn start(
        interface: &str,
        gateway: &[IpAddr],
        object: &'static [u8],
    ) -> Result<Self, CounterError> {
        let refused = |error: &dyn std::error::Error| CounterError::Refused {
            interface: interface.to_owned(),
            error: error.to_string(),
        };
        let mut loader = EbpfLoader::new();
        loader.verifier_log_level(VerifierLogLevel::STATS);
        for name in UNUSED {
            loader.map_max_entries(name, 1);
        }
        let mut object = loader.load(object).map_err(|e| refused(&e))?;
        let lans = take(&mut object, "lans")?;
        let mut lans: Array<_, Lan> = Array::try_from(lans).map_err(unreadable)?;
        lans.set(0, lan_of(gateway), 0).map_err(unreadable)?;
        for (name, at) in PROGRAMS {
            attach(&mut object, name, interface, at).map_err(|e| refused(&e))?;
        }
        let tally = Array::try_from(take(&mut object, "tally")?).map_err(unreadable)?;
        Ok(Self { _object: object, tally })
    }

    /// What was counted since the start.
    ///
    /// # Errors
    ///
    /// Fails if the kernel does not tell.
    pub fn read(&self) -> Result<Tally, CounterError> {
        self.tally.get(&0, 0).map_err(unreadable)
    }
}

fn unreadable(error: aya::maps::MapError) -> CounterError {
    CounterError::Unreadable(error.to_string())
}

fn take(object: &mut Ebpf, name: &str) -> Result<Map, CounterError> {
    object.take_map(name).ok_or_else(|| CounterError::Unreadable(format!("no map `{name}`")))
}

/// tcx where the kernel has it, else clsact.
fn attach(
    object: &mut Ebpf,
    name: &str,
    interface: &str,
    at: TcAttachType,
) -> Result<(), ProgramError> {
    let missing = || ProgramError::InvalidName { name: name.to_owned() };
    let program: &mut SchedClassifier = object.program_mut(name).ok_or_else(missing)?.try_into()?;
    program.load()?;
    let tcx = TcAttachOptions::TcxOrder(LinkOrder::default());
    if program.attach_with_options(interface, at, tcx).is_ok() {
        return Ok(());
    }
    // It may be there already.
    let _ = qdisc_add_clsact(interface);
    let clsact = TcAttachOptions::Netlink(NlOptions::default());
    program.attach_with_options(interface, at, clsact).map(|_| ())
}

fn lan_of(gateway: &[IpAddr]) -> Lan {
    let mut lan = Lan::default();
    let (mut v4, mut v6) = (0, 0);
    for address in gateway {
        match address {
            IpAddr::V4(address) if v4 < MAX_LAN_ADDRESSES => {
                lan.ipv4[v4].octets = address.octets();
                v4 += 1;
            }
            IpAddr::V6(address) if v6 < MAX_LAN_ADDRESSES => {
                lan.ipv6[v6].octets = address.octets();
                v6 += 1;
            }
            // A gateway has no more addresses that it serves without a price.
            _ => {}
        }
    }
    for (place, (protocol, port)) in lan.open_ports.iter_mut().zip(DHCP) {
        *place = open_port(protocol, port);
    }
    lan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_free_up_to_the_limit() {
        let v4 = (1..=9).map(|last| IpAddr::from([10, 0, 0, last]));
        let all: Vec<IpAddr> = v4.chain(["fd00::1".parse().expect("an address")]).collect();
        let lan = lan_of(&all);
        assert_eq!(lan.ipv4[3].octets, [10, 0, 0, 4]);
        assert_eq!(lan.ipv6[0].octets[..2], [0xfd, 0]);
        assert_eq!(lan.ipv6[1].octets, [0; 16]);
        assert_eq!(lan.open_ports[..3], [17 << 16 | 67, 17 << 16 | 547, 0]);
    }
}
