//! A hundred thousand addresses that nobody has seen before: who paid and who is about to pay is
//! not disturbed, and the agent does not grow.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bitmesh_common::abi::MAX_STRANGERS;
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::frames::{V4, udp};
use bitmesh_tests::lab::{ETH, GATEWAY_MAC, Lab, SERVER_V4};
use bitmesh_tests::mixed::addressed;
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::wait::until;
use bitmesh_tests::wire::Wire;
use nix::unistd::Pid;

const STATIONS: u32 = 100_000;
const MSAT_PER_MIB: u64 = 1_000_000;
const MIB: u64 = 1 << 20;
/// What the agent may hold more than before the flood.
const MAX_GROWTH_KIB: u64 = 16 << 10;
/// How long one who has just paid may wait.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Ends the flood when it goes, so also when the rest of the test has failed.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends a frame from each of so many addresses, again and again until it is stopped, and gives
/// how many it sent. It comes round once even if it is stopped before.
fn flood(wire: &Wire, stop: &AtomicBool) -> Result<u32> {
    let from = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 200));
    let packet = addressed(V4::new([0; 4], 17).packet(&udp(7, 100)), from, SERVER_V4);
    let mut sent = 0;
    while sent < STATIONS || !stop.load(Ordering::Relaxed) {
        let [_, a, b, c] = (sent % STATIONS).to_be_bytes();
        wire.send(&[&GATEWAY_MAC[..], &[2, 0, 1, a, b, c], &[8, 0], &packet[..]].concat())?;
        sent += 1;
    }
    Ok(sent)
}

fn resident_kib(pid: Pid) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

fn hundred_thousand_come(settings: &Settings) -> Result<()> {
    let lab = Lab::with_subscribers(3)?;
    lab.real_segments()?;
    let agent = Agent::start(&lab, settings)?;
    let [alice, bob, carol] = [0, 1, 2].map(|n| &lab.subscribers[n]);
    agent.grant(alice, 1_000 * MSAT_PER_MIB)?;
    let arrived = alice.count_downlink()?;
    let before = resident_kib(agent.pid()?)?;
    let wire = Wire::open(&bob.namespace, ETH)?;
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| -> Result<u32> {
        let flooding = scope.spawn(|| flood(&wire, &stop));
        let flooded = Until(&stop);
        let ends = Ends { client: &alice.namespace, server: &lab.internet, address: SERVER_V4 };
        let download = Stream::download(ends, Load::of(64 * MIB))?;
        ensure!(download.finish()? == 64 * MIB, "who paid is disturbed");
        let since = Instant::now();
        agent.grant(carol, 10 * MSAT_PER_MIB)?;
        let ends = Ends { client: &carol.namespace, server: &lab.internet, address: SERVER_V4 };
        ensure!(
            Stream::download(ends, Load::of(MIB))?.finish()? == MIB,
            "a new payer gets nothing"
        );
        ensure!(since.elapsed() < MAX_WAIT, "a new payer waits for {:?}", since.elapsed());
        drop(flooded);
        flooding.join().map_err(|_| anyhow::anyhow!("the flood panicked"))?
    });
    let sent = sent?;
    ensure!(sent >= STATIONS, "only {sent} frames were sent");
    let (seen, pins) = (arrived.settled()?, agent.pins()?);
    let meter = pins.meter(alice)?;
    ensure!(meter.downlink_bytes == seen.bytes, "{meter:?}, but {seen:?} arrived");
    let strangers = pins.strangers();
    ensure!(strangers > MAX_STRANGERS / 2, "the gate saw {strangers} stations only");
    ensure!(meter.dropped_contended == 0 && meter.dropped_unpaid == 0, "{meter:?}");
    let after = resident_kib(agent.pid()?)?;
    eprintln!("{sent} frames of {STATIONS} stations; the agent: {before} KiB, then {after} KiB");
    ensure!(after <= before + MAX_GROWTH_KIB, "the agent grew from {before} to {after} KiB");
    until("the operator is answered", || Ok(agent.ask(&["status"]).is_ok()))
}

#[test]
fn a_hundred_thousand_strangers_disturb_nobody() -> Result<()> {
    hundred_thousand_come(&Settings::new(Tariff::bytes(MSAT_PER_MIB)))
}

#[test]
fn a_hundred_thousand_strangers_who_are_given_an_allowance_disturb_nobody() -> Result<()> {
    let settings = Settings::new(Tariff::bytes(MSAT_PER_MIB));
    hundred_thousand_come(&settings.before("pay_allowance_kib = 16\n"))
}
