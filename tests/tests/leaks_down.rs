//! Whatever the internet or another subscriber sends, who has not paid hears nothing of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::counter::Counter;
use bitmesh_tests::frames::{V4, extension, tcp, udp, v6};
use bitmesh_tests::lab::{ETH, GATEWAY_MAC, GATEWAY_V4, LAN, Lab, SERVER_V4, SERVER_V6, WAN};
use bitmesh_tests::mixed::addressed;
use bitmesh_tests::wire::Wire;

const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));
const LINK_LOCAL: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99));
/// Another host of the internet's network.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 77));

/// Every address that the frames below come from.
const SOURCES: [&str; 5] =
    ["10.99.0.0/24", "10.77.0.1/32", "fd99::/64", "fd77::1/128", "fe80::99/128"];

/// How long frames may take through the lab.
const SETTLED: Duration = Duration::from_millis(30);

/// A price at which one msat pays for no packet.
const TARIFF: Tariff = Tariff::bytes(1_000_000);

struct Packet {
    name: &'static str,
    ethertype: u16,
    bytes: Vec<u8>,
    /// Whether the gateway forwards it to somebody who pays: else the test could not fail.
    forwarded: bool,
}

/// From this port instead.
fn from_port(port: u16, mut datagram: Vec<u8>) -> Vec<u8> {
    datagram[..2].copy_from_slice(&port.to_be_bytes());
    datagram
}

fn over_v4(to: IpAddr) -> Vec<Packet> {
    let sent = |name, forwarded, header: V4, payload: &[u8], from| {
        let bytes = addressed(header.packet(payload), from, to);
        Packet { name, ethertype: 0x0800, bytes, forwarded }
    };
    let of = |protocol| V4::new([0; 4], protocol);
    let server = SERVER_V4;
    let first = V4 { fragment: 0x2000, ..of(17) };
    let later = V4 { fragment: 0x00b9, ..of(17) };
    let options = V4 { option_words: 2, ..of(17) };
    let unreachable = [&[3, 3, 0xfc, 0xfc, 0, 0, 0, 0][..], &of(17).packet(&udp(9, 0))].concat();
    vec![
        sent("UDP", true, of(17), &udp(7_777, 40), server),
        sent("an answer of another resolver", true, of(17), &from_port(53, udp(9, 90)), server),
        sent("an offer of another DHCP server", true, of(17), &from_port(67, udp(68, 240)), server),
        sent("a page of another server", true, of(6), &from_port(80, tcp(9, 5, 99)), server),
        sent("another portal", true, of(6), &from_port(2_121, tcp(9, 5, 99)), server),
        sent("a first fragment", true, first, &from_port(53, udp(9, 64)), server),
        sent("a later fragment", true, later, &[0xaa; 64], server),
        sent("options", true, options, &from_port(53, udp(9, 20)), server),
        sent("an echo", true, of(1), &[8, 0, 0xf7, 0xff, 0, 0, 0, 0], server),
        sent("an error from elsewhere", true, of(1), &unreachable, ELSEWHERE),
        sent("IGMP", true, of(2), &[0x11, 0, 0xee, 0xff, 0, 0, 0, 0], server),
        sent("ESP", true, of(50), &[0x55; 64], server),
        sent("the gateway's address", false, of(17), &from_port(53, udp(9, 40)), GATEWAY_V4),
    ]
}

fn over_v6(to: IpAddr) -> Vec<Packet> {
    let sent = |name, forwarded, next, hops, payload: &[u8], from| {
        let bytes = addressed(v6([0; 16], next, hops, payload), from, to);
        Packet { name, ethertype: 0x86dd, bytes, forwarded }
    };
    let server = SERVER_V6;
    let answer = from_port(53, udp(9, 20));
    let hidden = extension(60, 0, &extension(17, 0, &answer));
    vec![
        sent("UDP over IPv6", true, 17, 64, &udp(7_777, 40), server),
        sent("an answer over IPv6", true, 17, 64, &answer, server),
        sent("DHCPv6 of another server", true, 17, 64, &from_port(547, udp(546, 90)), server),
        sent("TCP over IPv6", true, 6, 64, &from_port(2_121, tcp(9, 5, 60)), server),
        sent("a fragment over IPv6", true, 44, 64, &extension(17, 0, &answer), server),
        sent("an answer behind extension headers", true, 0, 64, &hidden, server),
        sent("an echo over IPv6", true, 58, 64, &[128, 0, 0, 0, 0, 0, 0, 0], server),
        sent("a router that is none", true, 58, 255, &[134, 0, 0, 0, 0, 0, 0, 0], server),
        sent("the gateway's address over IPv6", true, 17, 64, &answer, GATEWAY_V6),
        sent("a link-local address", false, 17, 255, &answer, LINK_LOCAL),
    ]
}

/// Bob's packets from the internet.
fn to_bob(lab: &Lab) -> Vec<Packet> {
    let bob = lab.subscriber();
    over_v4(bob.v4()).into_iter().chain(over_v6(bob.v6())).collect()
}

/// Sends each from the internet and says which of them Bob heard.
fn heard(lab: &Lab) -> Result<Vec<(Packet, bool)>> {
    let bob = lab.subscriber();
    // So that the gateway asks for no neighbour meanwhile: it would from one of these addresses.
    for address in [bob.v4(), bob.v6()] {
        let neighbour = format!("neigh replace {address} lladdr {} dev {LAN}", bob.mac_text());
        lab.gateway.ip(&format!("{neighbour} nud permanent"))?;
    }
    let own = [bob.v4().to_string(), bob.v6().to_string()];
    let counter = Counter::arriving_at(&bob.namespace, ETH, &SOURCES, &[&own[0], &own[1]])?;
    let wire = Wire::open(&lab.internet, ETH)?;
    let (to, from) = (Wire::open(&lab.gateway, WAN)?.mac()?, wire.mac()?);
    let mut before = counter.read()?.packets;
    let mut found = Vec::new();
    for packet in to_bob(lab) {
        let ethertype = packet.ethertype.to_be_bytes();
        wire.send(&[&to[..], &from, &ethertype, &packet.bytes].concat())?;
        std::thread::sleep(SETTLED);
        let now = counter.read()?.packets;
        found.push((packet, now != before));
        before = now;
    }
    Ok(found)
}

#[test]
fn no_packet_reaches_a_stranger_or_who_ran_dry() -> Result<()> {
    for hook in ["tcx", "clsact"] {
        for msat in [0, 1] {
            let lab = Lab::new()?;
            let agent = Agent::start(&lab, &Settings::new(TARIFF).on_hook(hook))?;
            if msat > 0 {
                agent.grant(lab.subscriber(), msat)?;
            }
            for (packet, arrived) in heard(&lab)? {
                ensure!(!arrived, "{hook}: {} reached who has {msat} msat", packet.name);
            }
        }
    }
    Ok(())
}

#[test]
fn the_same_packets_arrive_when_they_are_paid_for_and_none_is_free() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    agent.grant(lab.subscriber(), 1_000_000)?;
    let (mut packets, mut bytes) = (0, 0);
    for (packet, arrived) in heard(&lab)? {
        let Packet { name, forwarded, .. } = packet;
        ensure!(!forwarded || arrived, "{name} did not arrive: the test above proves nothing");
        if arrived {
            (packets, bytes) = (packets + 1, bytes + packet.bytes.len() as u64);
        }
    }
    let meter = agent.pins()?.meter(lab.subscriber())?;
    ensure!((meter.downlink_packets, meter.downlink_bytes) == (packets, bytes), "{meter:?}");
    Ok(())
}

/// Routed from one subscriber to another: each side pays its own direction.
#[test]
fn nothing_goes_from_subscriber_to_subscriber_unless_both_pay() -> Result<()> {
    for (bob_pays, carol_pays) in [(false, false), (true, false), (false, true), (true, true)] {
        let lab = Lab::with_subscribers(2)?;
        let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
        let (bob, carol) = (&lab.subscribers[0], &lab.subscribers[1]);
        for (pays, who) in [(bob_pays, bob), (carol_pays, carol)] {
            if pays {
                agent.grant(who, 1_000_000)?;
            }
        }
        let (from, to) = (bob.v4().to_string(), carol.v4().to_string());
        let (from6, to6) = (bob.v6().to_string(), carol.v6().to_string());
        let counter = Counter::arriving_at(&carol.namespace, ETH, &[&from, &from6], &[&to, &to6])?;
        let wire = Wire::open(&bob.namespace, ETH)?;
        let packet4 = addressed(V4::new([0; 4], 17).packet(&udp(9, 100)), bob.v4(), carol.v4());
        let packet6 = addressed(v6([0; 16], 17, 64, &udp(9, 100)), bob.v6(), carol.v6());
        for (ethertype, packet) in [([8, 0], packet4), ([0x86, 0xdd], packet6)] {
            wire.send(&[&GATEWAY_MAC[..], &bob.mac(), &ethertype, &packet].concat())?;
        }
        let arrived = counter.settled()?;
        let both = bob_pays && carol_pays;
        let expected = if both { 2 } else { 0 };
        ensure!(arrived.packets == expected, "{bob_pays}, {carol_pays}: {arrived:?}");
        if both {
            let (up, down) = (agent.pins()?.meter(bob)?, agent.pins()?.meter(carol)?);
            ensure!(up.uplink_bytes == arrived.bytes, "{up:?}");
            ensure!(down.downlink_bytes == arrived.bytes, "{down:?}");
        }
    }
    Ok(())
}
