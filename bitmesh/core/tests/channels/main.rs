//! The gateway that sells channels, with a chain, a disk, a kernel and subscribers that pay:
//! stories with a known end, and evenings from a seed with crashes at every command, fundings
//! that are reorganised away, full disks and closes of every kind.
//!
//! `BITMESH_SEED=n` replays one evening, `BITMESH_SEEDS=n` runs that many, and with
//! `BITMESH_TRACE=1` and `--nocapture` every input and command is printed.

#![allow(missing_docs, unreachable_pub, dead_code, clippy::panic, clippy::expect_used)]
#![allow(clippy::unwrap_used)]

mod chain;
mod check;
mod evening;
#[path = "../simulation/kernel.rs"]
mod kernel;
#[path = "../simulation/store.rs"]
mod store;
mod stories;
mod subscriber;
mod world;

use std::panic::catch_unwind;

use world::{Fault, Seen, Violation};

/// Evenings in an ordinary run of the tests.
const SEEDS: u64 = 60;

/// Evenings in which a broken world must be found out.
const SEEDS_FOR_A_FAULT: u64 = 40;

fn from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// A panic of the core is a violation like any other, and has a seed.
fn run(seed: u64, fault: Option<Fault>) -> Result<Seen, Violation> {
    catch_unwind(|| evening::run(seed, fault)).unwrap_or_else(|_| Err("it panicked".to_owned()))
}

#[test]
fn no_payment_is_lost_and_every_satoshi_is_accounted_for_through_any_evening() {
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
                 cargo test -p bitmesh-core --test channels"
            ),
        }
    }
    println!("{count} evenings: {total:?}");
    if count >= SEEDS {
        assert!(total.rarest() >= 5, "something hardly ever happens: {total:?}");
    }
}

/// The same evening twice is the same evening: a seed replays.
#[test]
fn a_seed_replays() {
    for seed in 0..3 {
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
fn an_update_that_counts_before_it_is_durable_is_found_out() {
    is_found_out(Fault::EarlyAck);
}

#[test]
fn an_update_that_is_not_written_is_found_out() {
    is_found_out(Fault::LostUpdates);
}

#[test]
fn a_close_that_is_never_broadcast_is_found_out() {
    is_found_out(Fault::LostBroadcasts);
}

#[test]
fn a_gate_that_stays_open_after_a_close_is_found_out() {
    is_found_out(Fault::GateLeftOpen);
}
