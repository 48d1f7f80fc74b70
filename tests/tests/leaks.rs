//! Whatever a stranger puts on the wire, the internet hears nothing of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::counter::Counter;
use bitmesh_tests::frames::{V4, extension, tcp, udp, v6};
use bitmesh_tests::hooks;
use bitmesh_tests::lab::{ETH, GATEWAY_MAC, LAN, Lab, SERVER_V4, SERVER_V6};
use bitmesh_tests::mixed::addressed;
use bitmesh_tests::wire::Wire;

const BOB_MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 10];
const BOB_V4: IpAddr = v4(10, 77, 0, 10);
const BOB_V6: IpAddr = v6_of(0xfd77, 0x10);
const GROUP_MAC: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
const ALL: [u8; 6] = [0xff; 6];

/// Every address that the frames below come from. Nothing else comes from them to the internet.
const SOURCES: [&str; 6] =
    ["10.77.0.0/24", "10.99.0.1/32", "192.0.2.0/24", "fd77::/64", "fe80::/10", "2001:db8::/32"];
const SERVERS: [&str; 3] = ["10.99.0.2", "10.99.0.255", "fd99::2"];
/// Everybody on the server's link: directed broadcast (RFC 1812 §4.2.2.11).
const ALL_OF_SERVERS: IpAddr = v4(10, 99, 0, 255);

/// How long frames may take through the lab.
const SETTLED: Duration = Duration::from_millis(30);

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6_of(first: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last))
}

struct Frame {
    name: &'static str,
    bytes: Vec<u8>,
    /// Whether the gateway forwards it for somebody who pays: else the test could not fail.
    forwarded: bool,
}

/// How a frame is addressed.
#[derive(Clone, Copy)]
struct Link {
    to: [u8; 6],
    from: [u8; 6],
    tags: &'static [u16],
}

const PLAIN: Link = Link { to: GATEWAY_MAC, from: BOB_MAC, tags: &[] };

impl Link {
    fn frame(self, ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let mut frame = [self.to, self.from].concat();
        for tag in self.tags {
            frame.extend([0x81, 0]);
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(packet);
        frame.resize(frame.len().max(60), 0);
        frame
    }

    fn v4(self, header: V4, payload: &[u8], from: IpAddr, to: IpAddr) -> Vec<u8> {
        self.frame(0x0800, &addressed(header.packet(payload), from, to))
    }

    fn v6(self, next: u8, hops: u8, payload: &[u8], from: IpAddr, to: IpAddr) -> Vec<u8> {
        self.frame(0x86dd, &addressed(v6([0; 16], next, hops, payload), from, to))
    }
}

fn frame(name: &'static str, forwarded: bool, bytes: Vec<u8>) -> Frame {
    Frame { name, bytes, forwarded }
}

const fn carrying(protocol: u8) -> V4 {
    V4::new([0; 4], protocol)
}

/// A first packet of a connection.
fn syn(port: u16) -> Vec<u8> {
    let mut segment = tcp(port, 5, 0);
    segment[13] = 2;
    segment
}

fn over_v4() -> Vec<Frame> {
    let sent = |header: V4, payload: &[u8]| PLAIN.v4(header, payload, BOB_V4, SERVER_V4);
    let first = V4 { fragment: 0x2000, ..carrying(17) };
    let later = V4 { fragment: 0x00b9, ..carrying(17) };
    let options = V4 { option_words: 2, ..carrying(17) };
    vec![
        frame("UDP", true, sent(carrying(17), &udp(7_777, 40))),
        frame("UDP to port 53 of a stranger", true, sent(carrying(17), &udp(53, 40))),
        frame("UDP to port 67 of a stranger", true, sent(carrying(17), &udp(67, 240))),
        frame("a SYN to port 443", true, sent(carrying(6), &syn(443))),
        frame("a SYN to port 80", true, sent(carrying(6), &syn(80))),
        frame("the middle of a connection to port 80", true, sent(carrying(6), &tcp(80, 5, 99))),
        frame("TCP to the portal's port of a stranger", true, sent(carrying(6), &syn(2_121))),
        frame("a first fragment to port 53", true, sent(first, &udp(53, 64))),
        frame("a later fragment", true, sent(later, &[0xaa; 64])),
        frame("options", true, sent(options, &udp(53, 20))),
        frame("an echo", true, sent(carrying(1), &[8, 0, 0xf7, 0xff, 0, 0, 0, 0])),
        frame("IGMP", true, sent(carrying(2), &[0x16, 0, 0, 0, 224, 0, 0, 9])),
        frame("ESP", true, sent(carrying(50), &[0x55; 64])),
        frame("IPv4 in IPv4", true, sent(carrying(4), &carrying(17).packet(&udp(9, 9)))),
    ]
}

fn over_v6() -> Vec<Frame> {
    let sent = |next: u8, payload: &[u8]| PLAIN.v6(next, 64, payload, BOB_V6, SERVER_V6);
    let hidden = extension(60, 0, &extension(17, 0, &udp(53, 20)));
    vec![
        frame("UDP over IPv6", true, sent(17, &udp(7_777, 40))),
        frame("UDP to port 547 of a stranger", true, sent(17, &udp(547, 40))),
        frame("a SYN to port 80 over IPv6", true, sent(6, &syn(80))),
        frame("a fragment over IPv6", true, sent(44, &extension(17, 0, &udp(53, 24)))),
        frame("port 53 behind extension headers", true, sent(0, &hidden)),
        frame("an echo over IPv6", true, sent(58, &[128, 0, 0, 0, 0, 0, 0, 0])),
        frame("a listener report to a stranger", true, sent(58, &[143, 0, 0, 0, 0, 0, 0, 0])),
        frame("ESP over IPv6", true, sent(50, &[0x55; 64])),
    ]
}

/// Senders and links that are not what they seem.
fn strange() -> Vec<Frame> {
    let datagram = udp(7_777, 40);
    let from4 = |link: Link, from: IpAddr| link.v4(carrying(17), &datagram, from, SERVER_V4);
    let from6 = |link: Link, from: IpAddr| link.v6(17, 255, &datagram, from, SERVER_V6);
    let to_servers = PLAIN.v4(carrying(17), &datagram, BOB_V4, ALL_OF_SERVERS);
    let to_dns = PLAIN.v4(carrying(17), &udp(53, 40), BOB_V4, ALL_OF_SERVERS);
    let as_gateway = Link { from: GATEWAY_MAC, ..PLAIN };
    let as_group = Link { from: GROUP_MAC, ..PLAIN };
    let to_all = Link { to: ALL, ..PLAIN };
    let tagged = Link { tags: &[7], ..PLAIN };
    let twice = Link { tags: &[7, 8], ..PLAIN };
    vec![
        frame("another device's address", true, from4(PLAIN, v4(10, 77, 0, 99))),
        frame("an address of the internet", false, from4(PLAIN, v4(192, 0, 2, 7))),
        frame("the gateway's address", false, from4(PLAIN, v4(10, 77, 0, 1))),
        frame("the gateway's outer address", false, from4(PLAIN, v4(10, 99, 0, 1))),
        frame("the gateway's address over IPv6", false, from6(PLAIN, v6_of(0xfd77, 1))),
        frame("a link-local address", false, from6(PLAIN, v6_of(0xfe80, 0x10))),
        frame(
            "an address of the internet over IPv6",
            false,
            from6(PLAIN, IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7))),
        ),
        frame("directed broadcast", true, to_servers),
        frame("directed broadcast to port 53", true, to_dns),
        frame("the gateway's MAC address", false, from4(as_gateway, BOB_V4)),
        frame("a group's MAC address", false, from4(as_group, BOB_V4)),
        frame("to all on the link", false, from4(to_all, BOB_V4)),
        frame("a tag", false, from4(tagged, BOB_V4)),
        frame("two tags over IPv6", false, from6(twice, BOB_V6)),
    ]
}

/// Sends each and says which of them were heard.
fn heard(lab: &Lab) -> Result<Vec<(&'static str, bool, bool)>> {
    // Routers need not forward directed broadcast (RFC 2644). One that does is the worse case.
    for device in ["all", LAN] {
        lab.gateway.sysctl(&format!("ipv4/conf/{device}/bc_forwarding"), "1")?;
    }
    let counter = Counter::arriving_at(&lab.internet, ETH, &SOURCES, &SERVERS)?;
    let wire = Wire::open(&lab.subscriber().namespace, ETH)?;
    let mut before = counter.read()?.packets;
    let mut found = Vec::new();
    for Frame { name, bytes, forwarded } in over_v4().into_iter().chain(over_v6()).chain(strange())
    {
        wire.send(&bytes)?;
        std::thread::sleep(SETTLED);
        let now = counter.read()?.packets;
        found.push((name, forwarded, now != before));
        before = now;
    }
    Ok(found)
}

#[test]
fn no_frame_of_a_stranger_gets_out() -> Result<()> {
    for hook in hooks::had_of(&["tcx", "clsact", "xdp"]) {
        let lab = Lab::new()?;
        let _agent = Agent::start(&lab, &Settings::new(Tariff::bytes(1_000)).on_hook(hook))?;
        for (name, _, got_out) in heard(&lab)? {
            ensure!(!got_out, "{hook}: {name} got out");
        }
    }
    Ok(())
}

#[test]
fn no_frame_of_who_ran_dry_gets_out() -> Result<()> {
    let lab = Lab::new()?;
    // At this price, a packet costs more than one msat.
    let agent = Agent::start(&lab, &Settings::new(Tariff::bytes(1_000_000)))?;
    agent.grant(lab.subscriber(), 1)?;
    for (name, _, got_out) in heard(&lab)? {
        ensure!(!got_out, "{name} got out");
    }
    Ok(())
}

#[test]
fn the_same_frames_get_out_when_they_are_paid_for() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(Tariff::bytes(1_000)))?;
    agent.grant(lab.subscriber(), 1_000_000)?;
    for (name, forwarded, got_out) in heard(&lab)? {
        ensure!(!forwarded || got_out, "{name} did not get out: the test above proves nothing");
    }
    Ok(())
}
