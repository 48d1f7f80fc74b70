//! Small packets through a lab, from random clients, as fast as one CPU makes and forwards them.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context, Result};
use bitmesh_common::gate::Direction;
use nix::net::if_::if_nametoindex;
use serde_json::Value;

use super::bpf::{Kind, Program};
use super::program::{HEAD_BYTES, Places, flood};
use super::turns::Run;
use crate::lab::{ETH, GATEWAY_MAC, LAN, Lab, WAN};
use crate::namespace::Namespace;

/// The number of the first client. Client `n` has the MAC address `02:00:00:78:…` and the IPv4
/// address `10.78.….…`, both ending in its number.
pub(super) const FIRST_CLIENT: u16 = 256;

/// Bytes of a frame: the shortest that Ethernet knows, without its check sequence.
const FRAME_BYTES: usize = 60;

/// Somebody beyond the internet's router, which is nobody: what arrives is dropped there at once.
const BEYOND: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
const BEYOND_MAC: &str = "02:00:00:98:00:01";

/// UDP's discard port.
const PORT: u16 = 9;

/// The MAC address of a client.
#[must_use]
pub(super) const fn client_mac(number: u16) -> [u8; 6] {
    let [high, low] = number.to_be_bytes();
    [2, 0, 0, 0x78, high, low]
}

/// The IPv4 address of a client.
#[must_use]
pub(super) const fn client_v4(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 78, high, low)
}

/// As `ip` and `nft` take it.
#[must_use]
pub(super) fn text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Gives a lab its clients and somebody to talk to: routes, and neighbours that need no asking.
///
/// # Errors
///
/// Fails if `ip` does.
pub(super) fn prepare(lab: &Lab, clients: u16) -> Result<()> {
    let gateway = &lab.gateway;
    gateway.ip(&format!("route add 10.78.0.0/16 dev {LAN}"))?;
    gateway.ip(&format!("route add {BEYOND}/32 dev {WAN}"))?;
    lab.add_default_route()?;
    let mut neighbours =
        format!("neigh add {BEYOND} lladdr {BEYOND_MAC} nud permanent dev {WAN}\n");
    for number in FIRST_CLIENT..FIRST_CLIENT + clients {
        let (v4, mac) = (client_v4(number), text(client_mac(number)));
        neighbours += &format!("neigh add {v4} lladdr {mac} nud permanent dev {LAN}\n");
    }
    let folder = tempfile::TempDir::with_prefix("bitmesh-bench-")?;
    let file = folder.path().join("neighbours");
    fs::write(&file, neighbours)?;
    gateway.run("ip", &["-batch", file.to_str().context("a path of text")?])?;
    // A veth takes frames of XDP only if it polls, which is what GRO makes it do.
    gateway.offloads(LAN, "gro on")?;
    gateway.offloads(WAN, "gro on")
}

/// Small packets one way.
#[derive(Debug)]
pub(super) struct Flood<'a> {
    from: &'a Namespace,
    to: &'a Namespace,
    program: Program,
    frame: Vec<u8>,
}

impl<'a> Flood<'a> {
    /// From or to random ones of so many clients.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses the generator.
    pub(super) fn new(lab: &'a Lab, direction: Direction, clients: u16) -> Result<Self> {
        let subscriber = &lab.subscriber().namespace;
        let (from, to, device, places) = match direction {
            Direction::Uplink => {
                (subscriber, &lab.internet, LAN, Places { mac: Some(10), ipv4: 28 })
            }
            Direction::Downlink => (&lab.internet, subscriber, WAN, Places { mac: None, ipv4: 32 }),
        };
        let frame = frame(direction, mac_of(&lab.gateway, device)?);
        let head = frame.first_chunk::<HEAD_BYTES>().context("a frame with a head")?;
        let code = flood(head, places, FIRST_CLIENT, clients);
        Ok(Self { from, to, program: Program::load(Kind::Xdp, &code)?, frame })
    }

    /// Sends so many. Gives thousands a second, if all of them arrived.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub(super) fn run(&self, packets: u32) -> Result<Run> {
        let (before, squeezed) = (arrived(self.to)?, backlog_drops()?);
        let seconds = self.from.enter(|| {
            let ifindex = if_nametoindex(ETH)?;
            let start = Instant::now();
            self.program.transmit(ifindex, &self.frame, packets)?;
            Ok(start.elapsed().as_secs_f64())
        })?;
        let arrived = arrived(self.to)? - before;
        if arrived < u64::from(packets) {
            return Ok(Run::Invalid(format!("{arrived} of {packets} small packets arrived")));
        }
        if backlog_drops()? > squeezed {
            return Ok(Run::Invalid("a backlog of the kernel was full".to_owned()));
        }
        Ok(Run::Valid(f64::from(packets) / seconds / 1_000.0))
    }
}

/// A packet of no content; what varies is written by the generator.
fn frame(direction: Direction, to: [u8; 6]) -> Vec<u8> {
    let (client, beyond) = (client_v4(0).octets(), BEYOND.octets());
    let (source, destination) = match direction {
        Direction::Uplink => (client, beyond),
        Direction::Downlink => (beyond, client),
    };
    let mut frame = [to, client_mac(0)].concat();
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((FRAME_BYTES as u16 - 14).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(source);
    frame.extend(destination);
    frame.extend([0, 0]);
    frame.extend(PORT.to_be_bytes());
    frame.extend((FRAME_BYTES as u16 - 34).to_be_bytes());
    frame.resize(FRAME_BYTES, 0);
    frame
}

/// The frame that the mean client sends, for a program that runs alone.
#[must_use]
pub(super) fn sample(direction: Direction, client: u16) -> Vec<u8> {
    let mut frame = frame(direction, GATEWAY_MAC);
    let place = if direction == Direction::Uplink { 6 } else { 0 };
    frame[place..place + 6].copy_from_slice(&client_mac(client));
    frame
}

fn link(namespace: &Namespace, device: &str) -> Result<Value> {
    let said = namespace.ip(&format!("-json -s link show {device}"))?;
    serde_json::from_str(&said).with_context(|| format!("ip says of {device}: {said}"))
}

fn mac_of(namespace: &Namespace, device: &str) -> Result<[u8; 6]> {
    let link = link(namespace, device)?;
    let text = link[0]["address"].as_str().context("a link has an address")?;
    let octets: Vec<u8> =
        text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect::<Result<_, _>>()?;
    octets.try_into().map_err(|_| anyhow::anyhow!("{text} is no MAC address"))
}

/// Packets that the edge of the lab has received.
fn arrived(at: &Namespace) -> Result<u64> {
    link(at, ETH)?[0]["stats64"]["rx"]["packets"].as_u64().context("a link counts packets")
}

/// Packets that the kernel had no room for between two devices.
fn backlog_drops() -> Result<u64> {
    let said = fs::read_to_string("/proc/net/softnet_stat")?;
    let dropped = said.lines().filter_map(|line| line.split(' ').nth(1));
    dropped.map(|word| Ok(u64::from_str_radix(word, 16)?)).sum()
}
