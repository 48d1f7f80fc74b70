//! The gateway that sells channels, with a chain, a disk, a kernel and subscribers that pay:
//! stories with a known end, and evenings from a seed with crashes at every command, fundings
//! that are reorganised away, full disks and closes of every kind.
//!
//! `BITMESH_SEED=n` replays one evening, `BITMESH_SEEDS=n` runs that many (from
//! `BITMESH_FIRST_SEED`), and with `BITMESH_TRACE=1` and `--nocapture` every input and command is
//! printed.

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
#[path = "../simulation/sweep.rs"]
mod sweep;
mod world;

use sweep::{is_found_out, run};
use world::{Fault, Seen, Violation};

/// Evenings in an ordinary run of the tests.
const SEEDS: u64 = 60;

/// Evenings in which a broken world must be found out.
const SEEDS_FOR_A_FAULT: u64 = 40;

#[test]
fn no_payment_is_lost_and_every_satoshi_is_accounted_for_through_any_evening() {
    let seeds = sweep::seeds(SEEDS);
    let usual = seeds.end - seeds.start >= SEEDS;
    let seen = sweep::evenings("channels", seeds);
    assert!(!usual || seen.rarest() >= 5, "something hardly ever happens: {seen:?}");
}

/// The same evening twice is the same evening: a seed replays.
#[test]
fn a_seed_replays() {
    for seed in 0..3 {
        assert_eq!(run(seed, None), run(seed, None));
    }
}

#[test]
fn an_update_that_counts_before_it_is_durable_is_found_out() {
    is_found_out(Fault::EarlyAck, SEEDS_FOR_A_FAULT);
}

#[test]
fn an_update_that_is_not_written_is_found_out() {
    is_found_out(Fault::LostUpdates, SEEDS_FOR_A_FAULT);
}

#[test]
fn a_transfer_that_is_not_written_is_found_out() {
    is_found_out(Fault::LostTransfers, SEEDS_FOR_A_FAULT);
}

#[test]
fn a_close_that_is_never_broadcast_is_found_out() {
    is_found_out(Fault::LostBroadcasts, SEEDS_FOR_A_FAULT);
}

#[test]
fn a_gate_that_stays_open_after_a_close_is_found_out() {
    is_found_out(Fault::GateLeftOpen, SEEDS_FOR_A_FAULT);
}
