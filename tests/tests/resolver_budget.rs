//! The resolver is free within a budget, so that DNS is no tunnel.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bitmesh_common::abi::{ACCOUNT_OPEN, Account};
use bitmesh_common::budget::{
    NEWCOMER_BYTES, PAYER_FACTOR, STATION_BURST_BYTES, STATION_BYTES_PER_HOUR, TOTAL_BURST_BYTES,
    TOTAL_BYTES_PER_HOUR,
};
use bitmesh_common::gate::Direction;
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::counter::Counter;
use bitmesh_tests::frames::{BOB, GATEWAY_V4, Sent, V4, reversed, udp};
use bitmesh_tests::kernel::{KernelGate, Said};
use bitmesh_tests::lab::{ETH, GATEWAY_MAC, LAN, Lab};
use bitmesh_tests::mixed::addressed;
use bitmesh_tests::namespace::Namespace;
use bitmesh_tests::objects::BITMESH;
use bitmesh_tests::wire::Wire;

const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
const DNS: u16 = 53;

/// A question with so much payload, from this station.
fn question(mac: [u8; 6], payload: usize) -> Vec<u8> {
    let mut frame = V4::new(GATEWAY_V4, 17).frame(&udp(DNS, payload));
    frame[6..12].copy_from_slice(&mac);
    frame
}

/// The resolver's answer to it, as long as it: addresses and ports change places.
fn answer(question: &[u8]) -> Vec<u8> {
    let mut frame = reversed(question);
    for (a, b) in [(26, 30), (27, 31), (28, 32), (29, 33), (34, 36), (35, 37)] {
        frame.swap(a, b);
    }
    frame
}

/// Bytes at the IP layer that pass of so many questions and answers.
fn tunnelled(gate: &KernelGate, mac: [u8; 6], payload: usize, rounds: usize) -> u64 {
    let up = Sent::plain(question(mac, payload));
    let down = Sent::plain(answer(&up.bytes));
    let bytes = up.bytes.len() as u64 - 14;
    let mut passed = 0;
    for _ in 0..rounds {
        for (direction, sent, from) in
            [(Direction::Uplink, &up, 1), (Direction::Downlink, &down, 0)]
        {
            if gate.run(direction, sent, from, 1).0 == Said::Pass {
                passed += bytes;
            }
        }
    }
    passed
}

fn account(prepaid: u64) -> Account {
    Account {
        state: ACCOUNT_OPEN,
        prepaid,
        uplink_msat_per_mib: 3,
        downlink_msat_per_mib: 5,
        low_mark: u64::MAX,
        ..Account::default()
    }
}

/// The promise of an hour.
const _: () = assert!(STATION_BURST_BYTES + STATION_BYTES_PER_HOUR <= 64_000);

/// What a bucket earns while a test runs, at most.
const EARNED: u64 = STATION_BYTES_PER_HOUR / 60;

#[test]
fn questions_and_answers_of_a_station_share_one_budget() {
    let gate = KernelGate::load(BITMESH);
    let passed = tunnelled(&gate, BOB, 400, 500);
    assert!(passed <= STATION_BURST_BYTES + EARNED, "{passed}");
    assert!(passed > STATION_BURST_BYTES - 1_000, "{passed}");
}

#[test]
fn two_hundred_stations_are_bounded_together_and_a_newcomer_still_joins() {
    let gate = KernelGate::load(BITMESH);
    let mut total = 0;
    for round in 0..3 {
        for station in 0..200 {
            total += tunnelled(&gate, [2, 0, 0, 0, 9, station], 400, 30);
        }
        let joins = tunnelled(&gate, [2, 0, 0, 0, 8, round], 60, 8);
        assert_eq!(joins, 8 * 2 * 88, "round {round}");
        assert!(joins < NEWCOMER_BYTES);
    }
    assert!(total <= TOTAL_BURST_BYTES + TOTAL_BYTES_PER_HOUR / 60, "{total}");
    assert!(total > TOTAL_BURST_BYTES / 2, "{total}");
}

#[test]
fn an_account_that_ran_dry_is_no_free_tunnel() {
    for dry in [account(0), Account { state: 0, ..account(u64::MAX / 2) }] {
        let mut gate = KernelGate::load(BITMESH);
        gate.subscribe(BOB, 7, dry);
        let passed = tunnelled(&gate, BOB, 400, 500);
        assert!(passed <= STATION_BURST_BYTES + EARNED, "{passed}");
    }
}

#[test]
fn who_can_pay_asks_as_much_as_any_household_does() {
    let mut gate = KernelGate::load(BITMESH);
    gate.subscribe(BOB, 7, account(u64::MAX / 2));
    let passed = tunnelled(&gate, BOB, 1_200, 8_000);
    let burst = STATION_BURST_BYTES * PAYER_FACTOR;
    assert!(passed >= burst - 2_000 && passed <= burst + burst / 10, "{passed} of {burst}");
    assert_eq!(gate.meter(BOB).spent, 0);
    // And takes nothing of what the others have.
    let other = tunnelled(&gate, [2, 0, 0, 0, 0, 0xc1], 60, 8);
    assert_eq!(other, 8 * 2 * 88);
}

#[test]
fn a_fragment_of_the_gateways_is_no_way_around_the_budget() {
    let gate = KernelGate::load(BITMESH);
    let mut frame = answer(&question(BOB, 600));
    // A later fragment: no ports (RFC 791 §3.1).
    frame[20..22].copy_from_slice(&[0, 0xb9]);
    let sent = Sent::plain(frame);
    let passes = |_: &u32| gate.run(Direction::Downlink, &sent, 0, 1).0 == Said::Pass;
    let passed = (0..200_u32).filter(passes).count() as u64 * 628;
    assert!(passed <= STATION_BURST_BYTES + EARNED, "{passed}");
}

/// Gives back as much as it is asked, as long as `ask` runs, and then what it heard: bytes at the IP
/// layer.
fn answering(lab: &Lab, ask: impl FnOnce() -> Result<()>) -> Result<u64> {
    let resolver = lab.gateway.enter(|| Ok(UdpSocket::bind((GATEWAY, DNS))?))?;
    resolver.set_read_timeout(Some(Duration::from_millis(50)))?;
    let heard = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut question = [0; 2_048];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((bytes, from)) = resolver.recv_from(&mut question) {
                    heard.fetch_add(bytes as u64 + 28, Ordering::Relaxed);
                    let _ = resolver.send_to(&question[..bytes], from);
                }
            }
        });
        let asked = ask();
        std::thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
        asked
    })?;
    Ok(heard.into_inner())
}

/// What went up and down the real tunnels of one cable.
struct Both {
    asked: Counter,
    answered: Counter,
}

impl Both {
    fn of(bob: &Namespace) -> Result<Self> {
        let asked = Counter::leaving(bob, ETH, &["10.77.0.1/32"])?;
        Ok(Self { asked, answered: Counter::arriving(bob, ETH, &["10.77.0.1/32"])? })
    }
}

#[test]
fn a_real_tunnel_to_a_real_resolver_is_cut_off() -> Result<()> {
    let lab = Lab::new()?;
    let _agent = Agent::start(&lab, &Settings::new(Tariff::bytes(1_000_000)))?;
    let bob = &lab.subscriber().namespace;
    let Both { asked, answered } = Both::of(bob)?;
    let heard = answering(&lab, || {
        let socket = bob.enter(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        for _ in 0..2_000 {
            socket.send_to(&[0x55; 500], (GATEWAY, DNS))?;
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    })?;
    let passed = heard + answered.settled()?.bytes;
    ensure!(asked.read()?.packets >= 1_900, "the tunnel did not try: {:?}", asked.read()?);
    ensure!(passed <= STATION_BURST_BYTES + EARNED, "{passed} bytes passed");
    ensure!(passed > STATION_BURST_BYTES / 2, "only {passed} bytes passed");
    Ok(())
}

/// One of many that a single device gives itself: its MAC address, and its IPv4 address.
fn rotated(number: u8) -> ([u8; 6], Ipv4Addr) {
    ([2, 0, 0, 0, 0x66, number], Ipv4Addr::new(10, 77, 0, 30 + number))
}

#[test]
fn a_real_tunnel_that_rotates_through_two_hundred_addresses_is_bounded_and_a_newcomer_still_asks()
-> Result<()> {
    const STATIONS: u8 = 200;
    const ROUNDS: u64 = 80;
    let lab = Lab::new()?;
    let _agent = Agent::start(&lab, &Settings::new(Tariff::bytes(1_000_000)))?;
    for (mac, address) in (0..STATIONS).map(rotated) {
        let mac = mac.map(|octet| format!("{octet:02x}")).join(":");
        lab.gateway.ip(&format!("neigh replace {address} lladdr {mac} dev {LAN} nud permanent"))?;
    }
    let bob = &lab.subscriber().namespace;
    let Both { asked, answered } = Both::of(bob)?;
    let wire = Wire::open(bob, ETH)?;
    let heard = answering(&lab, || {
        for _ in 0..ROUNDS {
            for (mac, address) in (0..STATIONS).map(rotated) {
                let packet = V4::new(GATEWAY_V4, 17).packet(&udp(DNS, 500));
                let packet = addressed(packet, address.into(), GATEWAY);
                wire.send(&[&GATEWAY_MAC[..], &mac, &[8, 0], &packet].concat())?;
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        Ok(())
    })?;
    let passed = heard + answered.settled()?.bytes;
    let tried = ROUNDS * u64::from(STATIONS);
    ensure!(asked.read()?.packets >= tried * 9 / 10, "it did not try: {:?}", asked.read()?);
    ensure!(passed <= TOTAL_BURST_BYTES + TOTAL_BYTES_PER_HOUR / 60, "{passed} bytes passed");
    ensure!(passed > TOTAL_BURST_BYTES / 4, "only {passed} bytes passed");

    let newcomer = answering(&lab, || {
        let socket = bob.enter(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        for _ in 0..8 {
            socket.send_to(&[0x55; 60], (GATEWAY, DNS))?;
            socket.recv(&mut [0; 100]).context("the newcomer's question is not answered")?;
        }
        Ok(())
    })?;
    ensure!(newcomer == 8 * 88, "{newcomer} bytes of the newcomer's");
    Ok(())
}
