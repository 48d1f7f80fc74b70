//! Speed limits on real traffic: what passes, what is billed, and what passes free of charge.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::lab::{Lab, SERVER_V4};
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::udp::{Pace, Receiver, Sender, V4_HEADER_BYTES};
use bitmesh_tests::wait::until;

const MSAT_PER_MIB: u64 = 1_000_000;
const MIB: u64 = 1 << 20;
/// The largest one that the stack makes unless it is told otherwise.
const SUPER_PACKET: u64 = 64 << 10;
const LIMIT_KBIT_PER_S: u64 = 8_000;
/// Bytes a second at the limit.
const LIMIT: f64 = 1e6;
/// What passes at once after a pause, in seconds of the limit: `police::TOLERANCE_NS`.
const TOLERANCE: f64 = 0.25;
const THROTTLE_KBIT_PER_S: u64 = 800;
const THROTTLE: f64 = 1e5;

fn settings() -> Settings {
    Settings::new(Tariff::bytes(MSAT_PER_MIB)).with(&format!(
        "[tariffs.slow]\nuplink_msat_per_mib = {MSAT_PER_MIB}\n\
         downlink_msat_per_mib = {MSAT_PER_MIB}\nuplink_kbit_per_s = {LIMIT_KBIT_PER_S}\n\
         downlink_kbit_per_s = {LIMIT_KBIT_PER_S}\nthrottle_kbit_per_s = {THROTTLE_KBIT_PER_S}\n"
    ))
}

fn within(what: &str, found: f64, least: f64, most: f64) -> Result<()> {
    ensure!(found >= least && found <= most, "{what}: {found}, not from {least} to {most}");
    eprintln!("{what}: {found:.0}, expected {least:.0} to {most:.0}");
    Ok(())
}

/// From the tenth of a flood's arrivals to the last: bytes a second of IP packets.
fn flood(lab: &Lab, is_uplink: bool) -> Result<(f64, u64)> {
    let bob = lab.subscriber();
    let (from, to, address) = if is_uplink {
        (&bob.namespace, &lab.internet, SERVER_V4)
    } else {
        (&lab.internet, &bob.namespace, bob.v4())
    };
    let receiver = Receiver::start(to, address)?;
    let payload = 1_000 - V4_HEADER_BYTES as usize;
    // Ten times the limit, for six seconds.
    let pace = Pace { payload, every: Duration::from_micros(100), packets: Some(60_000) };
    Sender::start(from, receiver.address, pace)?.finish()?;
    std::thread::sleep(Duration::from_millis(300));
    let arrivals = receiver.stop()?;
    ensure!(arrivals.len() > 1_000, "only {} packets passed", arrivals.len());
    // Behind the tolerance, which passes at once.
    let skipped = (TOLERANCE * LIMIT / 1e3) as usize * 2;
    let (first, last) = (arrivals[skipped], arrivals[arrivals.len() - 1]);
    let seconds = (last.realtime_ns - first.realtime_ns) as f64 / 1e9;
    let rate = (arrivals.len() - 1 - skipped) as f64 * 1_000.0 / seconds;
    Ok((rate, arrivals.len() as u64))
}

#[test]
fn a_flood_of_ten_times_the_limit_passes_the_limit_and_is_billed_what_passed() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &settings())?;
    let bob = lab.subscriber();
    agent.grant_under(bob, 1_000 * MSAT_PER_MIB, "slow")?;
    let (down, up) = (bob.count_downlink()?, lab.count_arrived(bob)?);
    for is_uplink in [true, false] {
        let (rate, packets) = flood(&lab, is_uplink)?;
        within("bytes a second", rate, LIMIT * 0.98, LIMIT * 1.02)?;
        let meter = agent.pins()?.meter(bob)?;
        let billed = if is_uplink { meter.uplink_bytes } else { meter.downlink_bytes };
        let counted = if is_uplink { up.settled()? } else { down.settled()? };
        ensure!(billed == counted.bytes, "{billed} billed, {} passed", counted.bytes);
        // Neighbour discovery and the like aside, that is the flood.
        ensure!(billed >= packets * 1_000, "{billed} billed for {packets} packets");
    }
    let meter = agent.pins()?.meter(bob)?;
    ensure!(meter.dropped_limited > 10_000, "{meter:?}");
    ensure!(meter.spent == (meter.uplink_bytes + meter.downlink_bytes) * MSAT_PER_MIB, "{meter:?}");
    ensure!(meter.dropped_unpaid == 0 && meter.downlink_throttled_bytes == 0, "{meter:?}");
    let line = agent.account(bob)?;
    let dropped = line["unbilled"]["dropped_limited"].as_u64();
    ensure!(dropped >= Some(meter.dropped_limited), "{line}");
    ensure!(line["tariff"] == "slow" && line["downlink_kbit_per_s"] == LIMIT_KBIT_PER_S, "{line}");
    Ok(())
}

#[test]
fn tcp_comes_near_to_the_limit_both_ways() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &settings())?;
    let bob = lab.subscriber();
    agent.grant_under(bob, 1_000 * MSAT_PER_MIB, "slow")?;
    let ends = Ends { client: &bob.namespace, server: &lab.internet, address: SERVER_V4 };
    for upload in [false, true] {
        let stream = if upload { Stream::upload } else { Stream::download };
        let stream = stream(ends, Load::ENDLESS)?;
        // The start takes the tolerance, and what it loses by that.
        std::thread::sleep(Duration::from_secs(2));
        let (before, from) = (stream.received(), Instant::now());
        std::thread::sleep(Duration::from_secs(8));
        let rate = (stream.received() - before) as f64 / from.elapsed().as_secs_f64();
        let _ = stream.abort();
        within("bytes a second of TCP", rate, LIMIT * 0.8, LIMIT * 1.02 + LIMIT * TOLERANCE / 8.0)?;
        // The next one's handshake would be dropped in its wake, and TCP measure a second for a trip.
        std::thread::sleep(Duration::from_secs_f64(TOLERANCE));
    }
    Ok(())
}

#[test]
fn who_has_nothing_left_is_throttled_free_of_charge_until_there_is_credit() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &settings())?;
    let bob = lab.subscriber();
    agent.grant_under(bob, 2 * MSAT_PER_MIB, "slow")?;
    let ends = Ends { client: &bob.namespace, server: &lab.internet, address: SERVER_V4 };
    let download = Stream::download(ends, Load::ENDLESS)?;
    let throttled = || -> Result<u64> { Ok(agent.pins()?.meter(bob)?.downlink_throttled_bytes) };
    until("the balance is used up", || Ok(throttled()? > 60_000))?;
    let used_up = agent.pins()?.meter(bob)?;
    let (before, from) = (throttled()?, Instant::now());
    std::thread::sleep(Duration::from_secs(6));
    let rate = (throttled()? - before) as f64 / from.elapsed().as_secs_f64();
    // A tolerance and a super-packet may fall into the span or out of it.
    within("bytes a second, throttled", rate, THROTTLE * 0.7, THROTTLE * 1.25)?;
    let meter = agent.pins()?.meter(bob)?;
    // What is left for smaller packets, when a super-packet was not covered, is still paid for.
    let charged = meter.spent - used_up.spent;
    ensure!(charged < SUPER_PACKET * MSAT_PER_MIB, "{charged} units were charged meanwhile");
    ensure!(meter.spent <= (2 * MSAT_PER_MIB) << 20, "{meter:?}");
    agent.grant_under(bob, 1_000 * MSAT_PER_MIB, "slow")?;
    let read = download.received();
    until("the download is fast again", || Ok(download.received() > read + 2 * MIB))?;
    let (before, from) = (download.received(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let rate = (download.received() - before) as f64 / from.elapsed().as_secs_f64();
    within("bytes a second, again", rate, LIMIT * 0.8, LIMIT * 1.1)?;
    let _ = download.abort();
    let meter = agent.pins()?.meter(bob)?;
    let shown = agent.ask(&["status"])?;
    let shown = shown["unbilled"]["downlink_throttled_bytes"].as_u64();
    ensure!(shown == Some(meter.downlink_throttled_bytes), "{shown:?} of {meter:?}");
    ensure!(meter.spent == (meter.uplink_bytes + meter.downlink_bytes) * MSAT_PER_MIB, "{meter:?}");
    Ok(())
}
