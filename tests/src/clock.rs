//! The kernel's two clocks: receipts of packets have one, the gate another.

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

/// How many times the clocks are compared; the closest comparison counts.
const COMPARISONS: usize = 64;

/// CLOCK_BOOTTIME now, in ns.
///
/// # Errors
///
/// Fails if the kernel refuses.
pub fn boottime_ns() -> Result<u64> {
    now(ClockId::CLOCK_BOOTTIME)
}

/// How far CLOCK_REALTIME is ahead of CLOCK_BOOTTIME, in ns.
///
/// # Errors
///
/// Fails if the kernel refuses.
pub fn realtime_ahead_ns() -> Result<u64> {
    let mut best = (u64::MAX, 0);
    for _ in 0..COMPARISONS {
        let before = boottime_ns()?;
        let real = now(ClockId::CLOCK_REALTIME)?;
        let after = boottime_ns()?;
        best = best.min((after - before, real - before - (after - before) / 2));
    }
    Ok(best.1)
}

fn now(clock: ClockId) -> Result<u64> {
    let at = clock_gettime(clock)?;
    let nanoseconds = i128::from(at.tv_sec()) * 1_000_000_000 + i128::from(at.tv_nsec());
    u64::try_from(nanoseconds).context("a clock before its start")
}
