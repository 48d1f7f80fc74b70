//! What the payer counted, and what that costs.

use bitmesh_common::money::UNITS_PER_MSAT;
use serde::{Deserialize, Serialize};

use crate::tariff::Tariff;
use crate::units::{BootTime, MilliSat};

/// Bytes and time that the payer saw pass, of one channel, all runs of the agent together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// Billed bytes that it sent.
    pub uplink_bytes: u64,
    /// Billed bytes that it received.
    pub downlink_bytes: u64,
    /// Time from the first payment on, in ns.
    pub time_ns: u64,
}

impl Used {
    /// Both together.
    #[must_use]
    pub const fn plus(&self, more: &Self) -> Self {
        Self {
            uplink_bytes: self.uplink_bytes.saturating_add(more.uplink_bytes),
            downlink_bytes: self.downlink_bytes.saturating_add(more.downlink_bytes),
            time_ns: self.time_ns.saturating_add(more.time_ns),
        }
    }

    /// What it costs, rounded up to the msat, as the gateway's kernel counts it. At most
    /// [`MilliSat::MAX`].
    #[must_use]
    pub fn cost(&self, tariff: &Tariff) -> MilliSat {
        let bytes = u128::from(self.uplink_bytes) * u128::from(tariff.uplink_msat_per_mib)
            + u128::from(self.downlink_bytes) * u128::from(tariff.downlink_msat_per_mib);
        let time = u128::from(tariff.time_due(BootTime(0), BootTime(self.time_ns)).0);
        let msat = (bytes + time).div_ceil(u128::from(UNITS_PER_MSAT));
        MilliSat(u64::try_from(msat).unwrap_or(u64::MAX)).min(MilliSat::MAX)
    }
}
