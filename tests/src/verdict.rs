//! What a counting test finds, and that its twin must find it wrong.

use anyhow::{Result, bail};

use crate::counter::Counts;

/// Counts or amounts that differ from what they must be. Any other error is a fault of the test.
#[derive(Debug, PartialEq, Eq)]
pub struct Miscount(pub String);

impl std::fmt::Display for Miscount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Miscount {}

/// Fails with [`Miscount`] unless the independent count and the meter are the same.
///
/// # Errors
///
/// Says both.
pub fn same(what: &str, counted: Counts, metered_bytes: u64, metered_packets: u64) -> Result<()> {
    let metered = Counts { bytes: metered_bytes, packets: metered_packets };
    hold(counted == metered, || format!("{what}: counted {counted:?}, metered {metered:?}"))
}

/// Fails with [`Miscount`] unless it holds.
///
/// # Errors
///
/// Says what `otherwise` says.
pub fn hold(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Miscount(otherwise()).into()) }
}

/// Passes only if the check found a miscount: not if it held, nor if it could not be made.
///
/// # Errors
///
/// Says what happened instead.
pub fn must_be_caught(check: Result<()>) -> Result<()> {
    match check {
        Ok(()) => bail!("the miscounting gate was not caught"),
        Err(error) if error.is::<Miscount>() => Ok(()),
        Err(error) => Err(error.context("the check could not be made")),
    }
}
