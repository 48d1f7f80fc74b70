//! `cargo xtask bench data-plane`: what a packet costs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitmesh_common::abi::{ACCOUNT_OPEN, Account};
use bitmesh_common::gate::Direction;

use super::bpf::{Kind as ProgramKind, Program};
use super::contender::{Contender, Kind};
use super::flood::{Flood, client_mac, sample};
use super::program::empty;
use super::report::Report;
use super::statistics::Summary;
use super::turns::Turns;
use super::{agent_load, batch_read, streams};
use crate::frames::Sent;
use crate::kernel::{KernelGate, Said};
use crate::objects::BITMESH;

/// As many clients as most contenders have.
const USUAL: u16 = 250;

/// The contenders, and the clients of each. Many clients cost a router something without metering, too:
/// more neighbours than its caches hold.
const CONTENDERS: [(Kind, u16); 11] = [
    (Kind::Open, USUAL),
    (Kind::Hook, USUAL),
    (Kind::Fence, USUAL),
    (Kind::Open, 1),
    (Kind::Open, 16_000),
    (Kind::NftSet, 1_000),
    (Kind::NftRules, USUAL),
    (Kind::NftRedirect, USUAL),
    (Kind::BitMesh, 1),
    (Kind::BitMesh, USUAL),
    (Kind::BitMesh, 16_000),
];

/// Rules are slow: a fraction of the packets takes as long.
const RULES_FRACTION: u32 = 6;

/// Runs of a program that are timed together.
const REPEAT: u32 = 1_000_000;

/// A client of the program that runs alone.
const CLIENT: u16 = 1;

const BOTH: [(Direction, &str); 2] =
    [(Direction::Uplink, "uplink"), (Direction::Downlink, "downlink")];

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    turns: usize,
    packets: u32,
    stream: Duration,
    watch: Duration,
}

impl Options {
    /// Some minutes, for numbers to rely on.
    pub const FULL: Self = Self {
        turns: 15,
        packets: 400_000,
        stream: Duration::from_millis(1_500),
        watch: Duration::from_secs(10),
    };

    /// About a minute, for a first impression.
    pub const QUICK: Self = Self {
        turns: 5,
        packets: 150_000,
        stream: Duration::from_millis(700),
        watch: Duration::from_secs(3),
    };
}

/// Measures everything.
///
/// # Errors
///
/// Fails without root or a kernel of 6.6, and if packets are lost again and again.
pub fn data_plane(options: Options) -> Result<Report> {
    let contenders: Vec<Contender> = CONTENDERS
        .into_iter()
        .map(|(kind, clients)| Contender::new(kind, clients))
        .collect::<Result<_>>()?;
    let mut turns = Turns::default();
    for turn in 0..options.turns {
        eprintln!("turn {} of {}", turn + 1, options.turns);
        // Every second turn goes backwards, so that nobody always runs after the same one.
        let mut order: Vec<&Contender> = contenders.iter().collect();
        if turn % 2 == 1 {
            order.reverse();
        }
        for contender in &order {
            contender.awake(|contender| small_packets(contender, options, &mut turns))?;
        }
        for contender in &order {
            contender.awake(|contender| tcp(contender, options, &mut turns))?;
        }
        alone(&mut turns)?;
    }
    let mut report = Report::default();
    ratios(&turns, &mut report)?;
    rates(&contenders, &turns, &mut report)?;
    let largest = contenders.last().context("there are contenders")?;
    batch_read::measure(largest, options.turns, &mut report)?;
    agent_load::measure(largest, options.watch, &mut report)?;
    report.add_single("invalid_runs", turns.invalid() as f64, "runs");
    report.note("a ratio is of the same turn; the spread is the median absolute deviation");
    Ok(report)
}

fn small_packets(contender: &Contender, options: Options, turns: &mut Turns) -> Result<()> {
    let fraction = if contender.kind == Kind::NftRules { RULES_FRACTION } else { 1 };
    for (direction, word) in BOTH {
        let flood = Flood::new(&contender.lab, direction, contender.clients)?;
        let name = format!("small_{word}_{}", contender.name);
        turns.measure(&name, || flood.run(options.packets / fraction))?;
    }
    Ok(())
}

/// TCP is compared with no metering; the subscriber is no client of nftables.
fn tcp(contender: &Contender, options: Options, turns: &mut Turns) -> Result<()> {
    if !matches!((contender.kind, contender.clients), (Kind::Open | Kind::BitMesh, USUAL)) {
        return Ok(());
    }
    for (direction, word) in BOTH {
        let name = format!("tcp_{word}_{}", contender.name);
        turns.measure(&name, || streams::run(&contender.lab, direction, options.stream))?;
    }
    Ok(())
}

/// The programs on one frame, without a device.
fn alone(turns: &mut Turns) -> Result<()> {
    let mut gate = KernelGate::load(BITMESH);
    let account = Account {
        state: ACCOUNT_OPEN,
        prepaid: u64::MAX,
        uplink_msat_per_mib: 1,
        downlink_msat_per_mib: 1,
        low_mark: u64::MAX,
        ..Account::default()
    };
    gate.subscribe(client_mac(CLIENT), 0, account);
    let nothing = Program::load(ProgramKind::Classifier, &empty())?;
    for (direction, word) in BOTH {
        let frame = sample(direction, CLIENT);
        turns.measure("alone_empty", || {
            Ok(super::turns::Run::Valid(f64::from(nothing.time(&frame, REPEAT)?)))
        })?;
        let (said, mean) = gate.run(direction, &Sent::plain(frame), 1, REPEAT);
        ensure!(said == Said::Pass, "the gate does not pass a paid packet");
        turns.measure(&format!("alone_{word}"), || {
            Ok(super::turns::Run::Valid(mean.as_nanos() as f64))
        })?;
    }
    Ok(())
}

/// What the issue of the data plane asks for.
fn ratios(turns: &Turns, report: &mut Report) -> Result<()> {
    let ratio = |of: &str, to: &str| Summary::of_ratios(turns.of(of), turns.of(to));
    for (_, word) in BOTH {
        let (metered, open) =
            (format!("tcp_{word}_bitmesh_250"), format!("tcp_{word}_no_metering_250"));
        report.add(&format!("tcp_{word}_ratio"), ratio(&metered, &open), "ratio")?;
    }
    for (suffix, word) in [("", "uplink"), ("_downlink", "downlink")] {
        let of = |name: &str| format!("small_{word}_{name}");
        for (name, metered, to) in [
            ("small_packets_ratio", "bitmesh_250", "no_metering_250"),
            ("small_packets_ratio_hook", "hook_250", "no_metering_250"),
            ("small_packets_ratio_fence", "fence_250", "no_metering_250"),
            ("small_packets_vs_nft_set", "bitmesh_250", "nft_set_1000"),
            ("small_packets_vs_nft_rules", "bitmesh_250", "nft_rules_250"),
            ("small_packets_vs_nft_redirect", "bitmesh_250", "nft_redirect_250"),
            ("accounts_16000_vs_1", "bitmesh_16000", "bitmesh_1"),
            ("no_metering_16000_vs_1", "no_metering_16000", "no_metering_1"),
            ("small_packets_ratio_16000", "bitmesh_16000", "no_metering_16000"),
        ] {
            report.add(&format!("{name}{suffix}"), ratio(&of(metered), &of(to)), "ratio")?;
        }
    }
    Ok(())
}

fn rates(contenders: &[Contender], turns: &Turns, report: &mut Report) -> Result<()> {
    for Contender { name, .. } in contenders {
        for (_, word) in BOTH {
            let name = format!("small_{word}_{name}");
            report.add(&name, Summary::of(turns.of(&name)), "kpps")?;
        }
    }
    for name in ["no_metering_250", "bitmesh_250"] {
        for (_, word) in BOTH {
            let name = format!("tcp_{word}_{name}");
            report.add(&name, Summary::of(turns.of(&name)), "Gbit/s")?;
        }
    }
    for name in ["alone_empty", "alone_uplink", "alone_downlink"] {
        report.add(name, Summary::of(turns.of(name)), "ns")?;
    }
    Ok(())
}
