//! Many evenings, on all processors, and which of them to run.

use std::ops::Range;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::{Fault, Seen, Violation};

/// Lines of progress, at most.
const LINES: u64 = 20;

/// One evening. A panic of the core is a violation like any other, and has a seed.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Seen, Violation> {
    catch_unwind(|| crate::evening::run(seed, fault))
        .unwrap_or_else(|_| Err("it panicked".to_owned()))
}

/// The seeds that `BITMESH_SEED`, or `BITMESH_SEEDS` with `BITMESH_FIRST_SEED`, ask for; else the
/// first `usual`.
pub fn seeds(usual: u64) -> Range<u64> {
    if let Some(seed) = from_env("BITMESH_SEED") {
        return seed..seed + 1;
    }
    let first = from_env("BITMESH_FIRST_SEED").unwrap_or(0);
    first..first + from_env("BITMESH_SEEDS").unwrap_or(usual)
}

fn from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// Runs them all, and adds up what was seen. Panics with the seed of one that violates something.
pub fn evenings(test: &str, seeds: Range<u64>) -> Seen {
    let count = seeds.end - seeds.start;
    let (next, total) = (AtomicU64::new(seeds.start), Mutex::new((0, Seen::default())));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let seen = run(seed, None).unwrap_or_else(|violation| {
                // The others need not go on.
                next.store(seeds.end, Ordering::Relaxed);
                panic!(
                    "seed {seed}: {violation}\nreplay it with BITMESH_SEED={seed} \
                     cargo test -p bitmesh-core --test {test}"
                )
            });
            let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            total.0 += 1;
            total.1.add(&seen);
            if total.0 % count.div_ceil(LINES) == 0 {
                println!("{test}: {} of {count} evenings", total.0);
            }
        }
    };
    thread::scope(|threads| {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..processors).map(|_| threads.spawn(work)).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let (done, seen) = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert_eq!(done, count, "evenings were left out");
    println!("{test}: {count} evenings from seed {}, 0 violations: {seen:?}", seeds.start);
    seen
}

/// Holds that a world that is broken so is noticed.
pub fn is_found_out(fault: Fault, within: u64) {
    let found = (0..within).find_map(|seed| Some((seed, run(seed, Some(fault)).err()?)));
    let (seed, violation) = found.unwrap_or_else(|| panic!("nobody noticed {fault:?}"));
    println!("{fault:?}: seed {seed}: {violation}");
    assert_ne!(violation, "it panicked");
    assert!(run(seed, None).is_ok(), "seed {seed} fails without {fault:?} too");
}
