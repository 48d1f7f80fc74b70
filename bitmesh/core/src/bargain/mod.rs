//! Bargaining: what a gateway answers to a bid, by its operator's policy. Pure.
//!
//! The *ask* is what the gateway sells at now; at first that is the list. Each bid names a price
//! for each thing. The gateway comes down by a step, but never below the floor: a bid that
//! reaches that is accepted, else the gateway counters with it, until it can't come down any
//! more or the rounds are over. Then it declines, and its last ask stands.
//!
//! The floor is a share of the list price. The time of day may set another, and a busy uplink
//! raises it: in a line, from the configured one to the list price when the uplink is full.

#[cfg(test)]
mod tests;

use crate::tariff::Tariff;

/// Rounds that a policy may allow, at most.
pub const MAX_ROUNDS: u32 = 16;

/// Times of day in a policy, at most.
pub const MAX_HOURS: usize = 24;

/// Minutes of a day.
pub const MINUTES_OF_DAY: u16 = 24 * 60;

/// How far an operator comes down. Shares are in percent of the list price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BargainPolicy {
    /// Nothing is sold below this share: 1 to 100.
    pub floor_percent: u32,
    /// How far one counter is below the last ask, at most: 1 to 100.
    pub step_percent: u32,
    /// Bids that one offer takes: 1 to [`MAX_ROUNDS`].
    pub rounds: u32,
    /// What demand does to the floor.
    pub demand: Option<DemandPolicy>,
    /// Other floors by the time of day; the first that fits counts. At most [`MAX_HOURS`].
    pub hours: Vec<Hours>,
}

/// How the demand on the uplink raises the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemandPolicy {
    /// What the gateway's own connection carries, either way, in kbit/s; at least 1.
    pub capacity_kbit_per_s: u64,
    /// The share of it, in percent, from which on the floor rises: 0 to 99.
    pub busy_percent: u32,
}

/// A floor for a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// The first minute, since midnight by the operator's clock.
    pub from_minute: u16,
    /// The minute after the last. Before `from_minute`, it is one of the next day.
    pub until_minute: u16,
    /// The floor.
    pub floor_percent: u32,
}

impl Hours {
    const fn hold(&self, minute: u16) -> bool {
        if self.from_minute <= self.until_minute {
            self.from_minute <= minute && minute < self.until_minute
        } else {
            minute >= self.from_minute || minute < self.until_minute
        }
    }
}

/// What the policy looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Minutes since midnight, by the operator's clock.
    pub minute_of_day: u16,
    /// What passes at present, the busier way, in kbit/s.
    pub kbit_per_s: u64,
}

/// What the gateway says to a bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Sold, at these prices: the bid's, or the ask's where the bid was above it.
    Accept(Tariff),
    /// Another ask, lower than the last.
    Counter(Tariff),
    /// The last ask stands.
    Decline,
}

impl BargainPolicy {
    /// The least share of the list price that is sold at under these conditions, in 1/10,000.
    #[must_use]
    pub fn floor(&self, now: Conditions) -> u64 {
        let by_time = self.hours.iter().find(|hours| hours.hold(now.minute_of_day));
        let percent = by_time.map_or(self.floor_percent, |hours| hours.floor_percent);
        let floor = u64::from(percent.min(100)) * 100;
        let Some(demand) = self.demand else { return floor };
        let used = demand.used(now.kbit_per_s);
        let busy = u64::from(demand.busy_percent.min(99)) * 100;
        let over = used.saturating_sub(busy);
        floor + (WHOLE - floor) * over / (WHOLE - busy)
    }

    /// Answers the bid of this round, which begins with 1.
    #[must_use]
    pub fn judge(
        &self,
        (list, ask): (&Tariff, &Tariff),
        bid: &Tariff,
        round: u32,
        now: Conditions,
    ) -> Judgement {
        let (floor, step) = (self.floor(now), u64::from(self.step_percent) * 100);
        let come_down = |list: u64, ask: u64| {
            let lower = ask.saturating_sub(share(list, step));
            // An ask that was made before the floor rose stands.
            lower.max(share(list, floor)).min(ask)
        };
        let lowest = map_prices(list, ask, come_down);
        if covers(bid, &lowest) {
            return Judgement::Accept(map_prices(bid, ask, u64::min));
        }
        if round >= self.rounds || lowest == *ask {
            return Judgement::Decline;
        }
        Judgement::Counter(lowest)
    }
}

impl DemandPolicy {
    /// The share of the connection that is used, in 1/10,000, at most all of it.
    fn used(&self, kbit_per_s: u64) -> u64 {
        let share = u128::from(kbit_per_s) * u128::from(WHOLE)
            / u128::from(self.capacity_kbit_per_s.max(1));
        u64::try_from(share).unwrap_or(WHOLE).min(WHOLE)
    }
}

/// All of a price, in 1/10,000.
const WHOLE: u64 = 10_000;

/// This part of a price, rounded up: what is not free never becomes it.
fn share(price: u64, part: u64) -> u64 {
    let share = (u128::from(price) * u128::from(part)).div_ceil(u128::from(WHOLE));
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// A tariff of what `price` makes of each price of `a` and of `b`. Its speeds are `b`'s.
#[must_use]
pub fn map_prices(a: &Tariff, b: &Tariff, price: impl Fn(u64, u64) -> u64) -> Tariff {
    Tariff {
        uplink_msat_per_mib: price(a.uplink_msat_per_mib, b.uplink_msat_per_mib),
        downlink_msat_per_mib: price(a.downlink_msat_per_mib, b.downlink_msat_per_mib),
        msat_per_minute: price(a.msat_per_minute, b.msat_per_minute),
        ..*b
    }
}

/// Whether no price of `a` is below `b`'s.
pub(crate) const fn covers(a: &Tariff, b: &Tariff) -> bool {
    a.uplink_msat_per_mib >= b.uplink_msat_per_mib
        && a.downlink_msat_per_mib >= b.downlink_msat_per_mib
        && a.msat_per_minute >= b.msat_per_minute
}

/// Whether nothing but prices differs.
pub(crate) fn differ_in_prices_only(a: &Tariff, b: &Tariff) -> bool {
    map_prices(a, b, |price, _| price) == *a
}
