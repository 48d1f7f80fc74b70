//! `cargo xtask bench payments`: what a payment costs.
//!
//! The path is the one that users take: the agent in a namespace, its payment API on the LAN, a
//! station with a MAC address for each channel, fundings that a node has confirmed. Updates are
//! signed before the clock starts, so that the load takes little of the machine. It is a single
//! thread, which waits for every answer; the portal's limits hold as they do for everybody.

mod buyer;
mod calibrate;
mod crowd;
mod gate_open;
mod http;
mod keysend;
mod load;

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::signal::Signal;

use self::buyer::{Buyer, LOT, credits, open_lot};
use self::crowd::Station;
use self::load::{Outcome, PACE, Shape};
use super::report::Report;
use super::statistics::Summary;
use super::turns::{Run, Turns};
use crate::payments::Market;

/// How long the channels live: longer than the bench.
const LOCK_BLOCKS: u32 = 2_000;

/// Updates of one station in a row: the portal takes 50 after a pause.
const ROW: usize = 45;
const PAUSE: Duration = Duration::from_millis(2_100);

/// Updates that a station of the large crowd sends while it is connected.
const OF_VISITOR: usize = 4;

/// How long to measure, and with how many.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    turns: usize,
    time: Duration,
    openings: usize,
    crowd: u16,
    calibration: Duration,
    keysend: Duration,
}

impl Options {
    /// Some minutes, for numbers to rely on.
    pub const FULL: Self = Self {
        turns: 5,
        time: Duration::from_secs(5),
        openings: 200,
        crowd: 5_000,
        calibration: Duration::from_secs(3),
        keysend: Duration::from_secs(20),
    };

    /// About a minute, for a first impression.
    pub const QUICK: Self = Self {
        turns: 2,
        time: Duration::from_secs(2),
        openings: 50,
        crowd: 600,
        calibration: Duration::from_secs(1),
        keysend: Duration::from_secs(5),
    };

    /// Updates that a station at its fastest sends in all turns, and some more.
    fn updates(self) -> usize {
        let a_turn = self.time.as_millis() / PACE.as_millis() + 2;
        (self.turns + 1) * usize::try_from(a_turn).unwrap_or(usize::MAX)
    }
}

/// Measures everything. `keysend` is the program with the Lightning nodes.
///
/// # Errors
///
/// Fails without root or a Bitcoin node, and if an update that was accepted is lost.
pub fn payments(options: Options, keysend: &Path) -> Result<Report> {
    // First, so that a failure of the nodes costs no results of ours.
    eprintln!("keysend between two Lightning nodes");
    let rival = keysend::measure(keysend, options.keysend)?;
    let mut market = Market::with_long_channels(LOCK_BLOCKS)?;
    crowd::settle(&market.lab, options.crowd)?;
    eprintln!("opening {LOT} channels");
    let mut buyers = open_lot(&market, &stations(0, LOT))?;
    let mut report = Report::default();
    calibrate(&market, &buyers, options, &mut report)?;
    few(&market, &mut buyers, options, &mut report)?;
    // Whoever was told that an update counts must find it again.
    restart(&mut market, Signal::SIGKILL)?;
    all_is_there(&market, &buyers)?;
    restart(&mut market, Signal::SIGTERM)?;
    let bytes_of_few = database_bytes(&market)?;
    many(&market, &mut buyers, options, &mut report)?;
    all_is_there(&market, &buyers)?;
    restart(&mut market, Signal::SIGTERM)?;
    let bytes = database_bytes(&market)?.saturating_sub(bytes_of_few);
    let a_channel = bytes as f64 / f64::from(options.crowd - LOT);
    report.add_single("database_per_channel", a_channel, "bytes");
    compare(&rival, &mut report)?;
    report.note("an update counts when it is synced to the disk, and is answered then");
    report.note("the load generator shares the machine; a spread is the median absolute deviation");
    Ok(report)
}

fn stations(first: u16, end: u16) -> Vec<Station> {
    (first..end).map(Station).collect()
}

fn calibrate(
    market: &Market,
    buyers: &[Buyer],
    options: Options,
    report: &mut Report,
) -> Result<()> {
    eprintln!("calibrating");
    let syncs = calibrate::syncs_ms(market.agent.house.folder(), options.calibration)?;
    report.add("fsync_4k_ms", Summary::of(&syncs), "ms")?;
    let like = buyers.first().context("there are buyers")?;
    let mut turns = Turns::default();
    for _ in 0..options.turns {
        let time = options.calibration / u32::try_from(options.turns)?;
        turns.measure("checks", || Ok(Run::Valid(calibrate::checks_per_second(like, time)?)))?;
    }
    report.add("signature_checks_per_s", Summary::of(turns.of("checks")), "1/s of a core")
}

/// One channel, and as many as an evening's guests.
fn few(market: &Market, buyers: &mut [Buyer], options: Options, report: &mut Report) -> Result<()> {
    eprintln!("signing updates");
    for buyer in &mut *buyers {
        buyer.prepare(options.updates())?;
    }
    let first = buyers.first_mut().context("there are buyers")?;
    first.prepare(options.turns * ROW + 2 * options.openings)?;
    let mut turns = Turns::default();
    for turn in 0..options.turns {
        eprintln!("turn {} of {}", turn + 1, options.turns);
        sleep(PAUSE);
        let all = usize::from(LOT);
        let row = Shape { together: 1, of_one: ROW, most: ROW, pace: Duration::ZERO, ..open_end() };
        take(&mut turns, "_1_channel", &load(market, &mut buyers[..1], row)?)?;
        let evening = Shape { together: all, time: options.time, ..open_end() };
        take(&mut turns, "", &load(market, buyers, evening)?)?;
    }
    tell(&turns, "", report)?;
    tell(&turns, "_1_channel", report)?;
    eprintln!("watching the gate");
    let (probe, others) = buyers.split_first_mut().context("there are buyers")?;
    sleep(PAUSE);
    let alone = gate_open::measure_ms(market, probe, options.openings)?;
    report.add("gate_open_p50_ms", Summary::of(&alone), "ms")?;
    let shape = Shape { together: others.len(), time: options.time, ..open_end() };
    let beside = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| load(market, others, shape));
        let times = options.time.as_millis() / PACE.as_millis();
        let beside = gate_open::measure_ms(market, probe, usize::try_from(times)?);
        crowd.join().map_err(|_| anyhow!("the load panicked"))??;
        beside
    })?;
    report.add("gate_open_beside_199_p50_ms", Summary::of(&beside), "ms")
}

/// More channels than connections: stations come, pay and leave.
fn many(
    market: &Market,
    buyers: &mut Vec<Buyer>,
    options: Options,
    report: &mut Report,
) -> Result<()> {
    while let Ok(opened) = u16::try_from(buyers.len())
        && opened < options.crowd
    {
        eprintln!("{opened} of {} channels are open", options.crowd);
        let lot = stations(opened, options.crowd.min(opened + LOT));
        buyers.extend(open_lot(market, &lot)?);
    }
    eprintln!("signing updates");
    for buyer in &mut *buyers {
        buyer.prepare(OF_VISITOR)?;
    }
    // Each has an account and an update before the clock starts.
    let shape = Shape { together: usize::from(LOT), of_one: 1, pace: Duration::ZERO, ..open_end() };
    let once = Shape { most: buyers.len(), ..shape };
    load(market, buyers, once)?;
    let name = format!("_{}_channels", options.crowd);
    let mut turns = Turns::default();
    for turn in 0..options.turns {
        eprintln!("turn {} of {}", turn + 1, options.turns);
        for buyer in &mut *buyers {
            buyer.prepare(OF_VISITOR)?;
        }
        let most = buyers.len() * OF_VISITOR;
        let time = 4 * options.time;
        let visits = Shape { of_one: OF_VISITOR, most, time, ..shape };
        take(&mut turns, &name, &load(market, buyers, visits)?)?;
    }
    tell(&turns, &name, report)
}

/// Connected for the whole time, and as fast as a station may be.
const fn open_end() -> Shape {
    Shape {
        together: 1,
        of_one: usize::MAX,
        most: usize::MAX,
        pace: PACE,
        time: Duration::from_secs(60),
    }
}

fn load(market: &Market, buyers: &mut [Buyer], shape: Shape) -> Result<Outcome> {
    market.lab.subscriber().namespace.enter(|| load::run(buyers, shape))
}

fn take(turns: &mut Turns, of: &str, outcome: &Outcome) -> Result<()> {
    turns.measure(&format!("rate{of}"), || Ok(Run::Valid(outcome.per_second())))?;
    turns.measure(&format!("p50{of}"), || Ok(Run::Valid(outcome.within_ms(0.5))))?;
    turns.measure(&format!("p99{of}"), || Ok(Run::Valid(outcome.within_ms(0.99))))
}

fn tell(turns: &Turns, of: &str, report: &mut Report) -> Result<()> {
    let of_turns = |what: &str| Summary::of(turns.of(&format!("{what}{of}")));
    report.add(&format!("durable_updates{of}_per_s"), of_turns("rate"), "1/s")?;
    report.add(&format!("durable_update{of}_p50_ms"), of_turns("p50"), "ms")?;
    report.add(&format!("durable_update{of}_p99_ms"), of_turns("p99"), "ms")
}

/// Ends the agent so, and starts it again.
fn restart(market: &mut Market, signal: Signal) -> Result<()> {
    market.agent.end(signal)?;
    market.agent.launch(&market.lab.gateway)?;
    market.chain_is("following")
}

fn all_is_there(market: &Market, buyers: &[Buyer]) -> Result<()> {
    let rows = credits(market, "open")?;
    for buyer in buyers {
        let (wanted, found) = (buyer.credit_sat(), rows.get(&buyer.channel.to_string()));
        ensure!(found == Some(&wanted), "{wanted} sat were accepted, and {found:?} are there");
    }
    Ok(())
}

/// What the database takes. The agent has just started: all is in one file.
fn database_bytes(market: &Market) -> Result<u64> {
    Ok(std::fs::metadata(market.agent.house.database())?.len())
}

fn compare(rival: &[(String, f64)], report: &mut Report) -> Result<()> {
    for (name, rate) in rival {
        report.add_single(name, *rate, "1/s");
    }
    let (ours, theirs) = (report.value("durable_updates_per_s"), report.value("keysend_per_s"));
    let times = ours.context("measured")? / theirs.context("the nodes told no rate")?;
    report.add_single("updates_to_keysend", times, "ratio");
    Ok(())
}
