//! Who pays sends from its own address: not from that of another device.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::counter::Counter;
use bitmesh_tests::frames::{V4, tcp, udp, v6};
use bitmesh_tests::lab::{ETH, GATEWAY_MAC, GATEWAY_V4, Lab, SERVER_V4, SERVER_V6, Subscriber};
use bitmesh_tests::mixed::addressed;
use bitmesh_tests::wait::until;
use bitmesh_tests::wire::Wire;

const PORT: u16 = 7_777;

const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));

/// How long an answer of the portal's may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long frames may take through the lab.
const SETTLED: Duration = Duration::from_millis(100);

/// Frames with Bob's MAC address from this device's addresses, and how many.
fn frames(bob: &Subscriber, from: [IpAddr; 2]) -> Vec<Vec<u8>> {
    let framed = |ethertype: u16, packet: Vec<u8>| {
        [&GATEWAY_MAC[..], &bob.mac(), &ethertype.to_be_bytes(), &packet].concat()
    };
    let over_v4 = |header: V4, payload: &[u8]| {
        framed(0x0800, addressed(header.packet(payload), from[0], SERVER_V4))
    };
    let over_v6 = |next: u8, payload: &[u8]| {
        framed(0x86dd, addressed(v6([0; 16], next, 64, payload), from[1], SERVER_V6))
    };
    let later = V4 { fragment: 0x00b9, ..V4::new([0; 4], 17) };
    vec![
        over_v4(V4::new([0; 4], 17), &udp(PORT, 40)),
        over_v4(V4::new([0; 4], 6), &tcp(443, 5, 40)),
        over_v4(later, &[0xaa; 64]),
        over_v6(17, &udp(PORT, 40)),
        over_v6(6, &tcp(443, 5, 40)),
    ]
}

/// Sends from the addresses of a device, and gives how many packets arrive and how many were sent.
fn sent(lab: &Lab, bob: &Subscriber, from: [IpAddr; 2]) -> Result<(u64, u64)> {
    let networks = [format!("{}/32", from[0]), format!("{}/128", from[1])];
    let counter = Counter::arriving(&lab.internet, ETH, &[&networks[0], &networks[1]])?;
    let wire = Wire::open(&bob.namespace, ETH)?;
    let frames = frames(bob, from);
    for frame in &frames {
        wire.send(frame)?;
    }
    std::thread::sleep(SETTLED);
    Ok((counter.settled()?.packets, frames.len() as u64))
}

/// The packets of IPv4 among them that arrive.
fn sent_over_v4(lab: &Lab, bob: &Subscriber, from: [IpAddr; 2]) -> Result<u64> {
    let counter = Counter::arriving(&lab.internet, ETH, &[&format!("{}/32", from[0])])?;
    sent(lab, bob, from)?;
    Ok(counter.settled()?.packets)
}

fn of(subscriber: &Subscriber) -> [IpAddr; 2] {
    [subscriber.v4(), subscriber.v6()]
}

/// Two who have paid; the gateway has heard of both. Where an agent takes long to start, the kernel
/// has given them up by then.
fn two_who_paid(lab: &Lab, settings: &Settings) -> Result<Agent> {
    let agent = Agent::start(lab, settings)?;
    for subscriber in &lab.subscribers {
        agent.grant(subscriber, 1_000_000)?;
        for gateway in [GATEWAY_V4, GATEWAY_V6] {
            let portal = SocketAddr::new(gateway, 2_121);
            subscriber.namespace.enter(|| Ok(TcpStream::connect_timeout(&portal, PATIENCE)?))?;
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    Ok(agent)
}

#[test]
fn what_comes_from_anothers_address_is_dropped_and_not_charged() -> Result<()> {
    for hook in ["tcx", "clsact"] {
        let lab = Lab::with_subscribers(2)?;
        let agent = two_who_paid(&lab, &Settings::new(Tariff::bytes(1_000)).on_hook(hook))?;
        let [bob, alice] = [&lab.subscribers[0], &lab.subscribers[1]];
        let pins = agent.pins()?;
        let (arrived, all) = sent(&lab, bob, of(alice))?;
        ensure!(arrived == 0, "{hook}: {arrived} packets got out from Alice's address");
        let meter = pins.meter(bob)?;
        ensure!(meter.dropped_spoofed == all, "{hook}: {meter:?}");
        ensure!(meter.spent == 0 && meter.uplink_packets == 0, "{hook}: charged: {meter:?}");
        // From one's own address it goes, before and after.
        for subscriber in [bob, alice] {
            let (arrived, all) = sent(&lab, subscriber, of(subscriber))?;
            ensure!(arrived == all, "{hook}: {arrived} of {all} from one's own address");
        }
        ensure!(sent(&lab, bob, of(alice))?.0 == 0, "{hook}: after Bob's own packets");
        ensure!(pins.meter(alice)?.dropped_spoofed == 0, "{hook}: Alice is held back");
    }
    Ok(())
}

#[test]
fn the_same_frames_get_out_where_nobody_asks() -> Result<()> {
    let lab = Lab::with_subscribers(2)?;
    let settings = Settings::new(Tariff::bytes(1_000)).without_anti_spoof();
    let agent = two_who_paid(&lab, &settings)?;
    let [bob, alice] = [&lab.subscribers[0], &lab.subscribers[1]];
    let (arrived, all) = sent(&lab, bob, of(alice))?;
    ensure!(arrived == all, "{arrived} of {all}: the test above proves nothing");
    ensure!(agent.pins()?.meter(bob)?.dropped_spoofed == 0);
    Ok(())
}

/// The kernel's own hint says that the address is Bob's; the lease is Alice's.
#[test]
fn a_leased_address_is_its_holders_whatever_arp_says() -> Result<()> {
    let lab = Lab::with_subscribers(2)?;
    let [bob, alice] = [&lab.subscribers[0], &lab.subscribers[1]];
    let folder = tempfile::tempdir()?;
    let leases = folder.path().join("leases");
    std::fs::write(&leases, "")?;
    let key = format!("dhcp_leases = \"{}\"\n", leases.display());
    let agent = two_who_paid(&lab, &Settings::new(Tariff::bytes(1_000)).before(&key))?;
    let new = [IpAddr::from([10, 77, 0, 99]), IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, 0x99])];
    lab.gateway.ip(&format!("neigh replace {} lladdr {} dev lan0", new[0], bob.mac_text()))?;
    until("the address is Bob's", || Ok(sent_over_v4(&lab, alice, new)? == 0))?;
    let lease = format!("0 {} {} alice *\n", alice.mac_text(), new[0]);
    std::fs::write(&leases, lease)?;
    until("the address is Alice's", || Ok(sent_over_v4(&lab, bob, new)? == 0))?;
    let arrived = sent_over_v4(&lab, alice, new)?;
    ensure!(arrived == 3, "{arrived} of Alice's packets arrive from the address that she leases");
    let config = agent.house.config();
    let said = agent.command(&["doctor", "--json", "--config", &config.to_string_lossy()])?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(said.contains("and 1 leases say whose"), "{said}");
    Ok(())
}

#[test]
fn whoever_tells_arp_that_an_address_is_theirs_does_not_get_it() -> Result<()> {
    let lab = Lab::with_subscribers(2)?;
    let _agent = two_who_paid(&lab, &Settings::new(Tariff::bytes(1_000)))?;
    let [bob, alice] = [&lab.subscribers[0], &lab.subscribers[1]];
    // As a forged reply does (RFC 826), but surely.
    let neighbour = format!("neigh replace {} lladdr {} dev lan0", alice.v4(), bob.mac_text());
    lab.gateway.ip(&neighbour)?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(sent(&lab, bob, of(alice))?.0 == 0, "Bob has Alice's address");
    let (arrived, all) = sent(&lab, alice, of(alice))?;
    ensure!(arrived == all, "Alice has lost her address: {arrived} of {all}");
    Ok(())
}

#[test]
fn a_device_that_comes_later_has_its_address_as_soon_as_it_is_heard() -> Result<()> {
    let lab = Lab::with_subscribers(2)?;
    let _agent = two_who_paid(&lab, &Settings::new(Tariff::bytes(1_000)))?;
    let [bob, alice] = [&lab.subscribers[0], &lab.subscribers[1]];
    let new: [IpAddr; 2] = ["10.77.0.77".parse()?, "fd77::77".parse()?];
    let (arrived, all) = sent(&lab, bob, new)?;
    ensure!(arrived == all, "an address that nobody has: {arrived} of {all}");
    alice.namespace.ip("addr add 10.77.0.77/24 dev eth0")?;
    alice.namespace.ip("addr add fd77::77/64 dev eth0 nodad")?;
    for address in ["10.77.0.77", "fd77::77"] {
        // The gateway asks whose it is.
        let _ = lab.gateway.run("ping", &["-c", "1", "-W", "1", address]);
        lab.gateway.ip(&format!("neigh replace {address} lladdr {} dev lan0", alice.mac_text()))?;
    }
    until("Alice's new addresses are hers", || Ok(sent(&lab, bob, new)?.0 == 0))?;
    let (arrived, all) = sent(&lab, alice, new)?;
    ensure!(arrived == all, "{arrived} of {all} of Alice's");
    Ok(())
}
