//! Who has not paid reaches the portal and the resolver, and nothing else; the gateway is free.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::lab::{GATEWAY_V4, Lab, SERVER_V4, SERVER_V6};
use bitmesh_tests::namespace::Namespace;
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use bitmesh_tests::wait::until;

const TARIFF: Tariff = Tariff::bytes(1_000_000);
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));
/// The portal's port if nothing else is configured.
const PORTAL: u16 = 2121;
/// Any other port of the gateway.
const OTHER: u16 = 4444;

const PACKETS: u64 = 50;
const PACE: Pace = Pace { payload: 100, every: Duration::from_millis(1), packets: Some(PACKETS) };

/// How long a connection may take in the lab; a closed gate answers nothing at all.
const CONNECT: Duration = Duration::from_millis(500);

/// Sends UDP to an address and gives how much arrives.
fn arrives(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<u64> {
    let receiver = Receiver::start(to, address)?;
    Sender::start(from, receiver.address, PACE)?.finish()?;
    std::thread::sleep(Duration::from_millis(100));
    Ok(receiver.stop()?.len() as u64)
}

/// Whether a listener on this port of the gateway can be reached.
fn connects(lab: &Lab, gateway: IpAddr, port: u16) -> Result<bool> {
    let address = SocketAddr::new(gateway, port);
    // The agent itself listens at the portal's port.
    let _listener = match port {
        PORTAL => None,
        _ => Some(lab.gateway.enter(|| Ok(TcpListener::bind(address)?))?),
    };
    let bob = &lab.subscriber().namespace;
    bob.enter(|| Ok(TcpStream::connect_timeout(&address, CONNECT).is_ok()))
}

#[test]
fn nothing_passes_to_or_from_the_internet_before_it_is_paid_for() -> Result<()> {
    let lab = Lab::new()?;
    let _agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let bob = lab.subscriber();
    for (own, server) in [(bob.v4(), SERVER_V4), (bob.v6(), SERVER_V6)] {
        ensure!(arrives(&bob.namespace, &lab.internet, server)? == 0, "uplink to {server}");
        ensure!(arrives(&lab.internet, &bob.namespace, own)? == 0, "downlink to {own}");
    }
    Ok(())
}

#[test]
fn a_connection_from_before_the_gate_does_not_survive_it_unpaid() -> Result<()> {
    let lab = Lab::new()?;
    let bob = lab.subscriber();
    let receiver = Receiver::start(&bob.namespace, bob.v4())?;
    let sender = Sender::start(&lab.internet, receiver.address, Pace { packets: None, ..PACE })?;
    until("packets flow without a gate", || Ok(receiver.received() > 100))?;
    let _agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let before = receiver.received();
    std::thread::sleep(Duration::from_millis(300));
    let after = receiver.received();
    sender.stop()?;
    receiver.stop()?;
    ensure!(before == after, "{} packets passed unpaid", after - before);
    Ok(())
}

#[test]
fn the_unpaid_reach_portal_and_resolver_and_no_other_port() -> Result<()> {
    let lab = Lab::new()?;
    let _agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    for gateway in [GATEWAY_V4, GATEWAY_V6] {
        ensure!(connects(&lab, gateway, PORTAL)?, "the portal at {gateway}");
        ensure!(connects(&lab, gateway, 53)?, "the resolver at {gateway}");
        ensure!(!connects(&lab, gateway, OTHER)?, "port {OTHER} at {gateway} is open");
    }
    Ok(())
}

#[test]
fn traffic_with_the_gateway_itself_is_free_for_who_paid() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let bob = lab.subscriber();
    agent.grant(bob, 1_000_000)?;
    for (own, gateway) in [(bob.v4(), GATEWAY_V4), (bob.v6(), GATEWAY_V6)] {
        ensure!(arrives(&bob.namespace, &lab.gateway, gateway)? == PACKETS, "to {gateway}");
        ensure!(arrives(&lab.gateway, &bob.namespace, own)? == PACKETS, "to {own}");
        ensure!(connects(&lab, gateway, OTHER)?, "port {OTHER} at {gateway} is closed");
    }
    let meter = agent.pins()?.meter(bob)?;
    ensure!(meter.spent == 0 && meter.uplink_bytes + meter.downlink_bytes == 0, "{meter:?}");
    Ok(())
}
