//! The price list, and how fast it is.

use bitmesh_common::money::{MAX_MSAT_PER_MIB, MAX_MSAT_PER_MINUTE, time_due};
use bitmesh_common::police::MAX_KBIT_PER_S;
use serde::{Deserialize, Serialize};

use crate::units::{BootTime, Units};

/// What bytes and time cost, and how fast bytes go. Each price may be 0, and so may each limit,
/// which then is none.
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
    /// The most bytes from the subscriber, in kbit/s of billed bytes; 0 is no limit.
    #[serde(default)]
    pub uplink_kbit_per_s: u64,
    /// The most bytes to the subscriber, in kbit/s of billed bytes; 0 is no limit.
    #[serde(default)]
    pub downlink_kbit_per_s: u64,
    /// How much of what the balance does not cover passes each way, free of charge, in kbit/s; 0
    /// cuts off.
    #[serde(default)]
    pub throttle_kbit_per_s: u64,
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
    /// A limit is above the highest.
    #[error("a limit is at most {MAX_KBIT_PER_S} kbit/s, not {0}: lower it, or leave it out")]
    LimitTooHigh(u64),
}

impl Tariff {
    /// Nothing costs anything, and nothing is limited.
    pub const FREE: Self = Self {
        uplink_msat_per_mib: 0,
        downlink_msat_per_mib: 0,
        msat_per_minute: 0,
        uplink_kbit_per_s: 0,
        downlink_kbit_per_s: 0,
        throttle_kbit_per_s: 0,
    };

    /// Checks that the kernel can charge every price without overflow, and keep every limit.
    ///
    /// # Errors
    ///
    /// Names the first price or limit that is too high.
    pub fn check(&self) -> Result<(), TariffError> {
        for price in [self.uplink_msat_per_mib, self.downlink_msat_per_mib] {
            if price > MAX_MSAT_PER_MIB {
                return Err(TariffError::MibTooDear(price));
            }
        }
        if self.msat_per_minute > MAX_MSAT_PER_MINUTE {
            return Err(TariffError::MinuteTooDear(self.msat_per_minute));
        }
        for limit in [self.uplink_kbit_per_s, self.downlink_kbit_per_s, self.throttle_kbit_per_s] {
            if limit > MAX_KBIT_PER_S {
                return Err(TariffError::LimitTooHigh(limit));
            }
        }
        Ok(())
    }

    /// Whether anything about it is a matter of speed.
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.uplink_kbit_per_s | self.downlink_kbit_per_s | self.throttle_kbit_per_s != 0
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
            ..Tariff::FREE
        };
        assert_eq!(dearest.check(), Ok(()));
        let up = Tariff { uplink_msat_per_mib: MAX_MSAT_PER_MIB + 1, ..dearest };
        assert_eq!(up.check(), Err(TariffError::MibTooDear(MAX_MSAT_PER_MIB + 1)));
        let down = Tariff { downlink_msat_per_mib: MAX_MSAT_PER_MIB + 1, ..dearest };
        assert_eq!(down.check(), Err(TariffError::MibTooDear(MAX_MSAT_PER_MIB + 1)));
        let minute = Tariff { msat_per_minute: MAX_MSAT_PER_MINUTE + 1, ..dearest };
        assert_eq!(minute.check(), Err(TariffError::MinuteTooDear(MAX_MSAT_PER_MINUTE + 1)));
    }

    #[test]
    fn the_highest_limits_are_kept_and_one_more_is_refused() {
        let fastest = Tariff {
            uplink_kbit_per_s: MAX_KBIT_PER_S,
            downlink_kbit_per_s: MAX_KBIT_PER_S,
            throttle_kbit_per_s: MAX_KBIT_PER_S,
            ..Tariff::FREE
        };
        assert_eq!(fastest.check(), Ok(()));
        let too_high = Err(TariffError::LimitTooHigh(MAX_KBIT_PER_S + 1));
        let up = Tariff { uplink_kbit_per_s: MAX_KBIT_PER_S + 1, ..fastest };
        assert_eq!(up.check(), too_high);
        let down = Tariff { downlink_kbit_per_s: MAX_KBIT_PER_S + 1, ..fastest };
        assert_eq!(down.check(), too_high);
        let throttle = Tariff { throttle_kbit_per_s: MAX_KBIT_PER_S + 1, ..fastest };
        assert_eq!(throttle.check(), too_high);
    }
}
