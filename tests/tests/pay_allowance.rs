//! What who can't pay yet is given, on real traffic: once, to the packet, and in all no more than
//! the operator says.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::counter::Counter;
use bitmesh_tests::frames::{V4, udp};
use bitmesh_tests::lab::{ETH, GATEWAY_MAC, Lab, SERVER_V4};
use bitmesh_tests::mixed::addressed;
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use bitmesh_tests::wait::until;
use bitmesh_tests::wire::Wire;
use nix::sys::signal::Signal;

const KIB: u64 = 1 << 10;
const PACKET_BYTES: u64 = 1_028;
const MSAT_PER_MIB: u64 = 1_000_000;

/// Each station 64 KiB, and all of them four times as much.
fn giving() -> Settings {
    Settings::new(Tariff::bytes(MSAT_PER_MIB))
        .before("pay_allowance_kib = 64\npay_allowance_total_kib = 256\n")
}

/// Sends so many packets to the internet, slowly enough for an agent to notice.
fn send(lab: &Lab, packets: u64) -> Result<()> {
    let receiver = Receiver::start(&lab.internet, SERVER_V4)?;
    let every = Duration::from_millis(2);
    let pace = Pace { payload: 1_000, every, packets: Some(packets) };
    Sender::start(&lab.subscriber().namespace, receiver.address, pace)?.finish()?;
    receiver.stop().map(drop)
}

#[test]
fn a_newcomer_is_given_it_once_and_is_cut_off_at_its_end() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = Agent::start(&lab, &giving())?;
    let bob = lab.subscriber();
    let arrived = lab.count_arrived(bob)?;
    send(&lab, 500)?;
    let given = arrived.settled()?.bytes;
    ensure!(given <= 64 * KIB && given > 64 * KIB - PACKET_BYTES, "{given} bytes were given");
    let account = agent.account(bob)?;
    ensure!(account["uplink_bytes"] == given, "{account}");
    ensure!(account["credited_msat"] == 64 && account["balance_msat"] == 0, "{account}");
    agent.end(Signal::SIGKILL)?;
    agent.launch(&lab.gateway)?;
    send(&lab, 500)?;
    ensure!(arrived.settled()?.bytes == given, "a restarted agent gave it again");
    agent.grant(bob, MSAT_PER_MIB)?;
    send(&lab, 500)?;
    ensure!(arrived.settled()?.bytes == given + 500 * PACKET_BYTES, "who pays is not served");
    let pins = agent.pins()?;
    ensure!(
        pins.account(bob)?.uplink_msat_per_mib == MSAT_PER_MIB,
        "still the prices of the allowance"
    );
    Ok(())
}

#[test]
fn nobody_is_given_anything_without_the_line() -> Result<()> {
    let lab = Lab::new()?;
    let _agent = Agent::start(&lab, &Settings::new(Tariff::bytes(MSAT_PER_MIB)))?;
    let arrived = lab.count_arrived(lab.subscriber())?;
    send(&lab, 200)?;
    ensure!(arrived.settled()?.packets == 0, "something was given");
    Ok(())
}

#[test]
fn two_hundred_addresses_of_one_visitor_are_given_the_total_and_no_more() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &giving())?;
    let arrived = Counter::arriving_at(&lab.internet, ETH, &["10.77.0.0/24"], &["10.99.0.2"])?;
    let wire = Wire::open(&lab.subscriber().namespace, ETH)?;
    // An address that is nobody's, so that none of them is turned away for it.
    let from = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 200));
    let packet = addressed(V4::new([0; 4], 17).packet(&udp(7, 1_000)), from, SERVER_V4);
    // Twice as much as all of them are given, from each.
    for _ in 0..500 {
        for n in 0..200_u8 {
            let frame = [&GATEWAY_MAC[..], &[2, 0, 0, 1, 0, n], &[8, 0], &packet[..]].concat();
            wire.send(&frame)?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let given = arrived.settled()?.bytes;
    ensure!(given > 64 * KIB, "only {given} bytes were given: nobody could pay");
    ensure!(given <= 256 * KIB, "{given} bytes were given");
    let credited: u64 =
        accounts(&agent)?.iter().filter_map(|it| it["credited_msat"].as_u64()).sum();
    ensure!(credited <= 256, "{credited} msat were given");
    // Who pays is not kept waiting by them.
    let bob = lab.subscriber();
    agent.grant(bob, MSAT_PER_MIB)?;
    let paid = lab.count_arrived(bob)?;
    send(&lab, 100)?;
    until("Bob's packets pass", || Ok(paid.read()?.packets >= 100))
}

fn accounts(agent: &Agent) -> Result<Vec<serde_json::Value>> {
    let said = agent.ask(&["accounts"])?;
    Ok(said["accounts"].as_array().cloned().unwrap_or_default())
}
