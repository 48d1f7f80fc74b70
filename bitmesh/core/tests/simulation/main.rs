//! The core with a seeded clock, disk, kernel and traffic: crashes at every command, reboots, a
//! disk that refuses, facts that are lost, repeated or late; and the invariants after each step.
//!
//! `BITMESH_SEED=n` replays one evening, `BITMESH_SEEDS=n` runs that many, and with
//! `BITMESH_TRACE=1` and `--nocapture` every input and command is printed.

#![allow(missing_docs, unreachable_pub, clippy::panic)]

mod check;
mod evening;
mod kernel;
mod seen;
mod store;
mod world;

use std::panic::catch_unwind;

use seen::Seen;
use world::{Fault, Violation};

/// Evenings in an ordinary run of the tests.
const SEEDS: u64 = 500;

/// Evenings in which a broken world must be found out.
const SEEDS_FOR_A_FAULT: u64 = 200;

fn from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// A panic of the core is a violation like any other, and has a seed.
fn run(seed: u64, fault: Option<Fault>) -> Result<Seen, Violation> {
    catch_unwind(|| evening::run(seed, fault)).unwrap_or_else(|_| Err("it panicked".to_owned()))
}

#[test]
fn the_invariants_hold_through_any_evening() {
    let (first, count) = match from_env("BITMESH_SEED") {
        Some(seed) => (seed, 1),
        None => (0, from_env("BITMESH_SEEDS").unwrap_or(SEEDS)),
    };
    let mut total = Seen::default();
    for seed in first..first + count {
        match run(seed, None) {
            Ok(seen) => total.add(&seen),
            Err(violation) => panic!(
                "seed {seed}: {violation}\nreplay it with BITMESH_SEED={seed} \
                 cargo test -p bitmesh-core --test simulation"
            ),
        }
    }
    println!("{count} evenings: {total:?}");
    if count >= SEEDS {
        let rare = total.rarest();
        assert!(rare >= SEEDS / 10, "something hardly ever happens: {total:?}");
    }
}

/// The same evening twice is the same evening: a seed replays.
#[test]
fn a_seed_replays() {
    for seed in 0..20 {
        assert_eq!(run(seed, None), run(seed, None));
    }
}

fn is_found_out(fault: Fault) {
    let found = (0..SEEDS_FOR_A_FAULT).find_map(|seed| Some((seed, run(seed, Some(fault)).err()?)));
    let (seed, violation) = found.unwrap_or_else(|| panic!("nobody noticed {fault:?}"));
    println!("{fault:?}: seed {seed}: {violation}");
    assert_ne!(violation, "it panicked");
    assert!(run(seed, None).is_ok(), "seed {seed} fails without {fault:?} too");
}

#[test]
fn credit_before_its_durable_record_is_found_out() {
    is_found_out(Fault::EarlyAck);
}

#[test]
fn a_balance_that_forgets_settled_time_is_found_out() {
    is_found_out(Fault::ForgottenTime);
}

#[test]
fn usage_that_is_not_written_is_found_out() {
    is_found_out(Fault::LostUsage);
}

#[test]
fn a_gate_that_is_left_open_is_found_out() {
    is_found_out(Fault::GateLeftOpen);
}

#[test]
fn a_credit_that_counts_twice_is_found_out() {
    is_found_out(Fault::CreditTwice);
}

#[test]
fn a_meter_that_begins_anew_is_found_out() {
    is_found_out(Fault::MeterFromZero);
}

#[test]
fn allowances_above_the_total_are_found_out() {
    is_found_out(Fault::NoTotal);
}

#[test]
fn time_that_is_billed_without_service_is_found_out() {
    is_found_out(Fault::BlindRestart);
}
