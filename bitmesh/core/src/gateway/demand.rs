//! How much passes at present.

use std::time::Duration;

use crate::io::Reading;
use crate::units::BootTime;

/// What passed in this time, the busier way, is the demand.
const WINDOW: Duration = Duration::from_secs(5);

/// Billed bytes of all accounts, by time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    since: BootTime,
    uplink_bytes: u64,
    downlink_bytes: u64,
    kbit_per_s: u64,
}

impl Demand {
    pub(super) const fn new(now: BootTime) -> Self {
        Self { since: now, uplink_bytes: 0, downlink_bytes: 0, kbit_per_s: 0 }
    }

    /// Takes what one account used between two readings of one life of its meter.
    pub(super) const fn add(&mut self, before: Reading, after: Reading) {
        let up = after.uplink_bytes.saturating_sub(before.uplink_bytes);
        let down = after.downlink_bytes.saturating_sub(before.downlink_bytes);
        self.uplink_bytes = self.uplink_bytes.saturating_add(up);
        self.downlink_bytes = self.downlink_bytes.saturating_add(down);
    }

    /// All that was read until now was added.
    pub(super) fn pass(&mut self, now: BootTime) {
        let passed = now.since(self.since);
        if passed < WINDOW {
            return;
        }
        let bits = u128::from(self.uplink_bytes.max(self.downlink_bytes)) * 8;
        let rate = bits / passed.as_millis().max(1);
        *self = Self::new(now);
        self.kbit_per_s = u64::try_from(rate).unwrap_or(u64::MAX);
    }

    /// In kbit/s.
    pub(super) const fn kbit_per_s(&self) -> u64 {
        self.kbit_per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn read(uplink_bytes: u64, downlink_bytes: u64) -> Reading {
        Reading { uplink_bytes, downlink_bytes, ..Reading::default() }
    }

    #[test]
    fn demand_is_the_busier_way_of_all_accounts_over_some_seconds_and_ends_with_the_traffic() {
        let at = |seconds: u64| BootTime(seconds * 1_000_000_000);
        let mut demand = Demand::new(at(0));
        demand.add(read(0, 0), read(MIB, 3 * MIB));
        demand.add(read(MIB, MIB), read(MIB, 3 * MIB));
        demand.pass(at(1));
        assert_eq!(demand.kbit_per_s(), 0);
        demand.pass(at(5));
        assert_eq!(demand.kbit_per_s(), 5 * MIB * 8 / 5_000);
        demand.pass(at(10));
        assert_eq!(demand.kbit_per_s(), 0);
    }
}
