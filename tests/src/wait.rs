//! Waiting for something to happen, with an end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long to wait for anything, at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often to look.
const LOOK: Duration = Duration::from_millis(20);
/// How long a number must stay the same to be still: longer than TCP waits before it sends again.
const STILL: Duration = Duration::from_millis(1_000);

/// Where to be this many times as patient: in a machine that is emulated, loading the programs alone
/// takes a minute.
const TIMES: &str = "BITMESH_PATIENCE";
const MAX_TIMES: u32 = 100;

/// This long, and longer on a slow machine: times `BITMESH_PATIENCE`, 1 to 100.
#[must_use]
pub fn patiently(patience: Duration) -> Duration {
    let times = std::env::var(TIMES).ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    patience * u32::clamp(times, 1, MAX_TIMES)
}

/// Waits until it holds.
///
/// # Errors
///
/// Fails if that takes too long, naming what was waited for, and as `holds` does.
pub fn until(what: &str, holds: impl FnMut() -> Result<bool>) -> Result<()> {
    until_within(PATIENCE, what, holds)
}

/// The same with another patience.
///
/// # Errors
///
/// As [`until`].
pub fn until_within(
    patience: Duration,
    what: &str,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let patience = patiently(patience);
    let deadline = Instant::now() + patience;
    while !holds()? {
        if Instant::now() > deadline {
            bail!("waited {} s in vain: {what}", patience.as_secs());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Waits until the number no longer changes, and gives it.
///
/// # Errors
///
/// Fails if it goes on changing, and as `number` does.
pub fn until_still(mut number: impl FnMut() -> Result<u64>) -> Result<u64> {
    let deadline = Instant::now() + patiently(PATIENCE);
    let (mut last, mut since) = (number()?, Instant::now());
    while since.elapsed() < STILL {
        if Instant::now() > deadline {
            bail!("{last} still changes after {} s", patiently(PATIENCE).as_secs());
        }
        std::thread::sleep(LOOK);
        let now = number()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}
