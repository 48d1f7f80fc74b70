//! Prints how long the gate takes for a paid packet, in ns, beside an empty program: a line for
//! each feature and direction.
//!
//! Where a virtual machine counts one ns for each instruction (`-icount shift=0`), these are
//! instructions. There it is the first program, mounts what it needs, and switches off at the end.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use bitmesh_common::abi::{ACCOUNT_OPEN, Account};
use bitmesh_common::gate::Direction;
use bitmesh_instructions::frames::{BOB, INTERNET_V4, INTERNET_V6, Sent, V4};
use bitmesh_instructions::frames::{ethernet, reversed, tcp, v6_frame};
use bitmesh_instructions::kernel::{KernelGate, Said};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

/// Runs of one frame whose mean is taken.
const RUNS: u32 = 2_000;
/// How often that is done; the least counts, since a tick of the clock may fall into the others.
const ROUNDS: u32 = 5;

/// Words of a TCP header with timestamps, as bulk traffic has it.
const TCP_WORDS: u8 = 8;
const PAYLOAD_BYTES: usize = 1_400;

/// The flags of a TCP header behind Ethernet and IPv4 (RFC 9293 §3.1), and what a first packet has.
const TCP_FLAGS_AT: usize = 14 + 20 + 13;
const SYN: u8 = 0x02;

const GATE: &str = "/bitmesh.o";
const EMPTY: &str = "/empty.o";

/// A packet that is paid for, and what is special about it.
struct Paid {
    feature: &'static str,
    sent: Sent,
    account: Account,
}

fn main() -> ExitCode {
    let first = std::process::id() == 1;
    let done = if first { set_up().and_then(|()| measure()) } else { measure() };
    match &done {
        Ok(()) => println!("measured"),
        Err(error) => println!("failed: {error:#}"),
    }
    if first {
        let Err(error) = reboot(RebootMode::RB_POWER_OFF);
        println!("failed: the machine does not switch off: {error}");
    }
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn set_up() -> Result<()> {
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys")] {
        fs::create_dir_all(at)?;
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {at}"))?;
    }
    Ok(())
}

fn measure() -> Result<()> {
    let gate = fs::read(GATE).context(GATE)?;
    let empty = empty_program(&fs::read(EMPTY).context(EMPTY)?, RUNS)?;
    println!("ns empty {empty}");
    for Paid { feature, sent, account } in packets() {
        let mut gate = KernelGate::load(&gate);
        gate.subscribe(BOB, 7, account);
        for (way, direction) in [("uplink", Direction::Uplink), ("downlink", Direction::Downlink)] {
            let mut sent = sent.clone();
            if direction == Direction::Downlink {
                sent.bytes = reversed(&sent.bytes);
            }
            let took = least(|| {
                let before = gate.meter(BOB).spent;
                let (said, mean) = gate.run(direction, &sent, 1, RUNS);
                ensure!(said == Said::Pass, "{way}{feature}: {said:?}");
                ensure!(gate.meter(BOB).spent > before, "{way}{feature} was not charged");
                Ok(mean.as_nanos())
            })?;
            println!("ns {way}{feature} {}", took.saturating_sub(empty));
        }
    }
    redirected(&gate)
}

/// What leading a stranger's connection to the portal takes: its first packet, and one that goes on.
/// One run each, since a packet that is led there goes elsewhere the second time.
fn redirected(gate: &[u8]) -> Result<()> {
    let empty = empty_program(&fs::read(EMPTY).context(EMPTY)?, 1)?;
    let gate = KernelGate::load(gate);
    let next = V4::new(INTERNET_V4, 6).frame(&tcp(80, TCP_WORDS, 0));
    let mut first = next.clone();
    first[TCP_FLAGS_AT] = SYN;
    for (feature, frame) in [("_redirected_first", first), ("_redirected", next)] {
        let (said, took) = gate.run(Direction::Uplink, &Sent::plain(frame), 1, 1);
        ensure!(said == Said::Pass, "uplink{feature}: {said:?}");
        println!("ns uplink{feature} {}", took.as_nanos().saturating_sub(empty));
    }
    Ok(())
}

/// What a run of an empty program takes, in ns.
fn empty_program(object: &[u8], runs: u32) -> Result<u128> {
    let mut object = Ebpf::load(object)?;
    let program: &mut SchedClassifier =
        object.program_mut("empty").context("no program")?.try_into()?;
    program.load()?;
    let frame = plain_v4();
    least(|| {
        let options =
            TestRunOptions { data_in: Some(&frame), repeat: runs, ..TestRunOptions::new() };
        Ok(program.test_run(options)?.duration.as_nanos())
    })
}

fn least(mut run: impl FnMut() -> Result<u128>) -> Result<u128> {
    let mut least = u128::MAX;
    for _ in 0..ROUNDS {
        least = least.min(run()?);
    }
    Ok(least)
}

fn packets() -> Vec<Paid> {
    let by_bytes = Account {
        state: ACCOUNT_OPEN,
        prepaid: u64::MAX / 2,
        uplink_msat_per_mib: 20_000,
        downlink_msat_per_mib: 20_000,
        low_mark: u64::MAX,
        ..Account::default()
    };
    let by_time = Account { msat_per_minute: 50_000, start_ns: 1, ..by_bytes };
    let v6 = v6_frame(INTERNET_V6, 6, 64, &tcp(443, TCP_WORDS, PAYLOAD_BYTES));
    let in_v4 = V4::new(INTERNET_V4, 6).packet(&tcp(443, TCP_WORDS, PAYLOAD_BYTES));
    let tagged = ethernet(&[7], 0x0800, &in_v4);
    let large = V4::new(INTERNET_V4, 6).frame(&tcp(443, TCP_WORDS, 2 * PAYLOAD_BYTES));
    let large = Sent::super_packet(large, PAYLOAD_BYTES as u32, 2);
    let paid = |feature, sent, account| Paid { feature, sent, account };
    vec![
        paid("", Sent::plain(plain_v4()), by_bytes),
        paid("_ipv6", Sent::plain(v6), by_bytes),
        paid("_time_tariff", Sent::plain(plain_v4()), by_time),
        paid("_super_packet", large, by_bytes),
        paid("_vlan_tag", Sent::plain(tagged), by_bytes),
    ]
}

fn plain_v4() -> Vec<u8> {
    V4::new(INTERNET_V4, 6).frame(&tcp(443, TCP_WORDS, PAYLOAD_BYTES))
}
