//! How far ahead to pay: a second or two of what is used.

use std::collections::VecDeque;
use std::time::Duration;

use bitcoin::Amount;

use crate::payer::Used;
use crate::tariff::Tariff;
use crate::units::MilliSat;

/// A step pays for what is used in this time, at the rate of the last such time.
pub const STEP_TIME: Duration = Duration::from_secs(2);

/// A step is at most this part of what can be paid in all.
pub const MAX_STEP_PART: u64 = 8;

/// A rate is not judged by less than this.
const MIN_SPAN_NS: u64 = 500_000_000;

/// Readings that are remembered, at most. More come in [`STEP_TIME`] only if somebody hurries.
const MAX_READINGS: usize = 64;

/// Bytes that the least step pays for: a page begins to load before its rate is known.
const LEAST_BYTES: u64 = 1 << 20;

/// The least step under these prices: a MiB in the dearer direction and [`STEP_TIME`], at least a
/// satoshi.
#[must_use]
pub fn min_step(tariff: &Tariff) -> Amount {
    let least = |uplink_bytes, downlink_bytes| Used {
        uplink_bytes,
        downlink_bytes,
        time_ns: nanoseconds(STEP_TIME),
    };
    let up = least(LEAST_BYTES, 0).cost(tariff);
    let down = least(0, LEAST_BYTES).cost(tariff);
    Amount::from_sat(up.max(down).0.div_ceil(1_000).max(1))
}

/// The last readings, and the step that follows from them.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    fixed: Option<Amount>,
    least: Amount,
    most: Amount,
    readings: VecDeque<(u64, MilliSat)>,
}

impl Pace {
    /// Nothing is seen yet. `spendable` is what can be paid in all, `fixed` a step that the
    /// subscriber chose.
    pub(super) fn new(tariff: &Tariff, spendable: Amount, fixed: Option<Amount>) -> Self {
        let most = Amount::from_sat((spendable.to_sat() / MAX_STEP_PART).max(1));
        Self { fixed, least: min_step(tariff).min(most), most, readings: VecDeque::new() }
    }

    /// Takes a reading: all that was counted at `now_ns`. One that goes back is ignored.
    pub(super) fn read(&mut self, now_ns: u64, counted: MilliSat) {
        if self.readings.back().is_some_and(|last| now_ns <= last.0 || counted < last.1) {
            return;
        }
        self.readings.push_back((now_ns, counted));
        // One reading that is older than the span stays: from it the span is measured.
        let begin = now_ns.saturating_sub(nanoseconds(STEP_TIME));
        while self.readings.get(1).is_some_and(|second| second.0 <= begin)
            || self.readings.len() > MAX_READINGS
        {
            self.readings.pop_front();
        }
    }

    /// How fast the balance is used, in msat a second.
    pub(super) fn msat_per_second(&self) -> u64 {
        let (Some(first), Some(last)) = (self.readings.front(), self.readings.back()) else {
            return 0;
        };
        let span_ns = u128::from((last.0 - first.0).max(MIN_SPAN_NS));
        let used = u128::from(last.1.0 - first.1.0);
        u64::try_from(used * 1_000_000_000 / span_ns).unwrap_or(u64::MAX)
    }

    /// How far ahead to pay.
    pub(super) fn step(&self) -> Amount {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let msat = self.msat_per_second().saturating_mul(STEP_TIME.as_secs());
        Amount::from_sat(msat.div_ceil(1_000)).clamp(self.least, self.most)
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
