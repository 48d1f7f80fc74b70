//! What keeps the LAN alive passes for who has not paid, and nothing beside it reaches the gateway.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::counter::Counter;
use bitmesh_tests::frames::{V4, extension, tcp, udp, v6};
use bitmesh_tests::lab::{ETH, GATEWAY_MAC, GATEWAY_V4, LAN, Lab, SERVER_V4, SERVER_V6};
use bitmesh_tests::mixed::addressed;
use bitmesh_tests::wire::Wire;

const TARIFF: Tariff = Tariff::bytes(1_000_000);
const GATEWAY_V6: IpAddr = v6_of([0xfd77, 0, 0, 0, 0, 0, 0, 1]);
const LINK_LOCAL: IpAddr = v6_of([0xfe80, 0, 0, 0, 0, 0, 0, 0x99]);
const ALL_NODES: IpAddr = v6_of([0xff02, 0, 0, 0, 0, 0, 0, 1]);
const ALL_ROUTERS: IpAddr = v6_of([0xff02, 0, 0, 0, 0, 0, 0, 2]);
const DHCP_SERVERS: IpAddr = v6_of([0xff02, 0, 0, 0, 0, 0, 1, 2]);
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ALL: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);
const IGMP_ROUTERS: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 22));

/// Sources and destinations of the frames below. Nobody else in the lab uses these sources.
const FROM: [&str; 4] = ["0.0.0.0/32", "10.77.0.66/32", "fd77::66/128", "fe80::99/128"];
const TO: [&str; 9] = [
    "255.255.255.255",
    "224.0.0.22",
    "10.77.0.1",
    "10.99.0.2",
    "fd77::1",
    "fd99::2",
    "ff02::1",
    "ff02::2",
    "ff02::1:2",
];
const OWN_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 66));
const OWN_V6: IpAddr = v6_of([0xfd77, 0, 0, 0, 0, 0, 0, 0x66]);

/// How long frames may take through the lab.
const SETTLED: Duration = Duration::from_millis(30);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

const fn v6_of(words: [u16; 8]) -> IpAddr {
    let [a, b, c, d, e, f, g, h] = words;
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
}

/// Who gets a frame past the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// Everybody.
    All,
    /// Who can pay.
    Payers,
}

fn frames() -> Vec<(&'static str, For, u16, Vec<u8>)> {
    use For::{All, Payers};
    let v4 = |name, whom, header: V4, payload: &[u8], from, to| {
        (name, whom, 0x0800, addressed(header.packet(payload), from, to))
    };
    let v6 = |name, whom, next, hops, payload: &[u8], from, to| {
        (name, whom, 0x86dd, addressed(v6([0; 16], next, hops, payload), from, to))
    };
    let of = |protocol| V4::new([0; 4], protocol);
    let icmpv6 = |kind: u8| [kind, 0, 0, 0, 0, 0, 0, 0];
    let report = extension(58, 0, &icmpv6(143));
    let igmp = V4 { ttl: 1, ..of(2) };
    let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    let listen = &[0x22, 0, 0xdd, 0xff, 0, 0, 0, 0];
    vec![
        v4("DHCP of who has no address", All, of(17), &udp(67, 240), NOBODY, ALL),
        v4("DHCP to the gateway", All, of(17), &udp(67, 240), OWN_V4, GATEWAY_V4),
        v4("a question to the resolver", All, of(17), &udp(53, 30), OWN_V4, GATEWAY_V4),
        v4("the portal", All, of(6), &tcp(2_121, 5, 0), OWN_V4, GATEWAY_V4),
        v4("IGMP", All, igmp, listen, OWN_V4, IGMP_ROUTERS),
        v4("an echo to the gateway", Payers, of(1), &echo, OWN_V4, GATEWAY_V4),
        v4("another port of the gateway", Payers, of(17), &udp(22, 30), OWN_V4, GATEWAY_V4),
        v4("UDP to a stranger", Payers, of(17), &udp(53, 30), OWN_V4, SERVER_V4),
        v6("a router solicitation", All, 58, 255, &icmpv6(133), LINK_LOCAL, ALL_ROUTERS),
        v6("a solicitation to all", All, 58, 255, &icmpv6(135), LINK_LOCAL, ALL_NODES),
        v6("a solicitation to the gateway", All, 58, 255, &icmpv6(135), OWN_V6, GATEWAY_V6),
        v6("an advertisement", All, 58, 255, &icmpv6(136), OWN_V6, GATEWAY_V6),
        v6("DHCPv6", All, 17, 1, &udp(547, 90), LINK_LOCAL, DHCP_SERVERS),
        v6("a listener report", All, 0, 1, &report, LINK_LOCAL, ALL_ROUTERS),
        v6("a question over IPv6", All, 17, 64, &udp(53, 30), OWN_V6, GATEWAY_V6),
        v6("an echo over IPv6", Payers, 58, 64, &icmpv6(128), OWN_V6, GATEWAY_V6),
        v6("UDP over IPv6 to a stranger", Payers, 17, 64, &udp(53, 30), OWN_V6, SERVER_V6),
    ]
}

/// Sends each, and says which of them the gateway's stack was given.
fn given(lab: &Lab) -> Result<Vec<(&'static str, For, bool)>> {
    let bob = lab.subscriber();
    // At the same device, behind the gate: the hook of nftables comes after those of TC and XDP.
    let counter = Counter::arriving_at(&lab.gateway, LAN, &FROM, &TO)?;
    let wire = Wire::open(&bob.namespace, ETH)?;
    let mut before = counter.read()?.packets;
    let mut found = Vec::new();
    for (name, whom, ethertype, packet) in frames() {
        let ethertype = u16::to_be_bytes(ethertype);
        wire.send(&[&GATEWAY_MAC[..], &bob.mac(), &ethertype, &packet].concat())?;
        std::thread::sleep(SETTLED);
        let now = counter.read()?.packets;
        found.push((name, whom, now != before));
        before = now;
    }
    Ok(found)
}

#[test]
fn who_has_not_paid_keeps_the_lan_alive_and_gets_no_further() -> Result<()> {
    for hook in ["tcx", "clsact", "xdp"] {
        let lab = Lab::new()?;
        let agent = Agent::start(&lab, &Settings::new(TARIFF).on_hook(hook))?;
        for (name, whom, passed) in given(&lab)? {
            ensure!(passed == (whom == For::All), "{hook}, unpaid: {name} passed: {passed}");
        }
        agent.grant(lab.subscriber(), 1_000_000)?;
        for (name, _, passed) in given(&lab)? {
            ensure!(passed, "{hook}, paid: {name} did not pass");
        }
    }
    Ok(())
}

#[test]
fn who_has_not_paid_finds_the_gateway_and_hears_its_errors_and_advertisements() -> Result<()> {
    let lab = Lab::new()?;
    let _agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let bob = lab.subscriber();
    // ARP and neighbour discovery, both ways: neither knows the other's MAC address any more.
    bob.namespace.ip("neigh flush dev eth0")?;
    lab.gateway.ip("neigh flush dev lan0")?;
    for gateway in [GATEWAY_V4, GATEWAY_V6] {
        let portal = SocketAddr::new(gateway, 2_121);
        let stream = bob.namespace.enter(|| Ok(TcpStream::connect_timeout(&portal, PATIENCE)));
        ensure!(stream?.is_ok(), "the portal at {gateway} is out of reach");
        // Nobody serves DHCP here, and the gateway's ICMP says so (RFC 1122 §3.2.2.1).
        let any = if gateway.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = bob.namespace.enter(|| Ok(UdpSocket::bind(any)?))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect((gateway, if gateway.is_ipv4() { 67 } else { 547 }))?;
        socket.send(&[0; 240])?;
        let said = socket.recv(&mut [0; 16]).map_err(|error| error.kind());
        ensure!(said == Err(ErrorKind::ConnectionRefused), "{gateway}: {said:?}");
    }
    let heard = Counter::arriving_at(&bob.namespace, ETH, &["fe80::99/128"], &["ff02::1"])?;
    let wire = Wire::open(&lab.gateway, LAN)?;
    let packet = v6([0; 16], 58, 255, &[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    let packet = addressed(packet, LINK_LOCAL, ALL_NODES);
    let to = [0x33, 0x33, 0, 0, 0, 1];
    wire.send(&[&to[..], &GATEWAY_MAC, &[0x86, 0xdd], &packet].concat())?;
    ensure!(heard.settled()?.packets == 1, "an advertisement of the gateway's is not heard");
    Ok(())
}
