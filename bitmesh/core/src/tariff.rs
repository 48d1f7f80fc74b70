//! The price list.

use bitmesh_common::money::{MAX_MSAT_PER_MIB, MAX_MSAT_PER_MINUTE, time_due};
use serde::{Deserialize, Serialize};

use crate::units::{BootTime, Units};

/// What bytes and time cost. Each price may be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tariff {
    /// Price of bytes from the subscriber, in msat per MiB.
    #[serde(default)]
    pub uplink_msat_per_mib: u64,
    /// Price of bytes to the subscriber, in msat per MiB.
    #[serde(default)]
    pub downlink_msat_per_mib: u64,
    /// Price of time, in msat per minute.
    #[serde(default)]
    pub msat_per_minute: u64,
}

/// Why a tariff can't be sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TariffError {
    /// A price of bytes is above the limit.
    #[error("a MiB costs at most {MAX_MSAT_PER_MIB} msat, not {0}: lower the price")]
    MibTooDear(u64),
    /// The price of time is above the limit.
    #[error("a minute costs at most {MAX_MSAT_PER_MINUTE} msat, not {0}: lower the price")]
    MinuteTooDear(u64),
}

impl Tariff {
    /// Checks that every price is one that the kernel can charge without overflow.
    ///
    /// # Errors
    ///
    /// Names the first price that is too high.
    pub fn check(&self) -> Result<(), TariffError> {
        for price in [self.uplink_msat_per_mib, self.downlink_msat_per_mib] {
            if price > MAX_MSAT_PER_MIB {
                return Err(TariffError::MibTooDear(price));
            }
        }
        if self.msat_per_minute > MAX_MSAT_PER_MINUTE {
            return Err(TariffError::MinuteTooDear(self.msat_per_minute));
        }
        Ok(())
    }

    /// What the time from `start` to `now` costs, as the kernel counts it. Saturates.
    #[must_use]
    pub const fn time_due(&self, start: BootTime, now: BootTime) -> Units {
        Units(time_due(now.ns_since(start), self.msat_per_minute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_prices_are_sold_and_one_more_is_refused() {
        let dearest = Tariff {
            uplink_msat_per_mib: MAX_MSAT_PER_MIB,
            downlink_msat_per_mib: MAX_MSAT_PER_MIB,
            msat_per_minute: MAX_MSAT_PER_MINUTE,
        };
        assert_eq!(dearest.check(), Ok(()));
        let up = Tariff { uplink_msat_per_mib: MAX_MSAT_PER_MIB + 1, ..dearest };
        assert_eq!(up.check(), Err(TariffError::MibTooDear(MAX_MSAT_PER_MIB + 1)));
        let down = Tariff { downlink_msat_per_mib: MAX_MSAT_PER_MIB + 1, ..dearest };
        assert_eq!(down.check(), Err(TariffError::MibTooDear(MAX_MSAT_PER_MIB + 1)));
        let minute = Tariff { msat_per_minute: MAX_MSAT_PER_MINUTE + 1, ..dearest };
        assert_eq!(minute.check(), Err(TariffError::MinuteTooDear(MAX_MSAT_PER_MINUTE + 1)));
    }
}
