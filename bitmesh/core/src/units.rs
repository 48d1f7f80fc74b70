//! Amounts and instants, each with its unit in its type.

use std::fmt;
use std::time::Duration;

use bitmesh_common::money::{MAX_MSAT, UNITS_PER_MSAT};
use serde::{Deserialize, Serialize};

/// An amount of money in millisatoshi.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MilliSat(pub u64);

impl MilliSat {
    /// The largest amount that the kernel can hold, about 175 BTC.
    pub const MAX: Self = Self(MAX_MSAT);

    /// The sum, unless it is above [`Self::MAX`].
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self).filter(|sum| *sum <= Self::MAX)
    }

    /// The same amount in the kernel's unit. Amounts above [`Self::MAX`] count as that.
    #[must_use]
    pub fn units(self) -> Units {
        Units(self.0.min(MAX_MSAT) * UNITS_PER_MSAT)
    }
}

impl fmt::Display for MilliSat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} msat", self.0)
    }
}

/// An amount of money in the kernel's unit, 2⁻²⁰ msat.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Units(pub u64);

impl Units {
    /// Whole millisatoshi in it, rounded down.
    #[must_use]
    pub fn floor(self) -> MilliSat {
        MilliSat(self.0 / UNITS_PER_MSAT)
    }

    /// Whole millisatoshi that cover it, rounded up.
    #[must_use]
    pub fn ceil(self) -> MilliSat {
        MilliSat(self.0.div_ceil(UNITS_PER_MSAT))
    }

    /// The sum, or `None` beyond 64 bits.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The sum, at most what 64 bits hold.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least 0.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// An instant of CLOCK_BOOTTIME, in ns since the machine started.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Time since `earlier`; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time since `earlier` in ns; 0 if that is later.
    #[must_use]
    pub const fn ns_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The instant `span` later. Saturates.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}
