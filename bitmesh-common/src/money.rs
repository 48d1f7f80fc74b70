//! What bytes and time cost.
//!
//! The kernel counts money in *units* of 2⁻²⁰ msat. A price in msat per MiB is then also the
//! price in units per byte, so bytes are billed exactly, without a division. A `u64` of units
//! holds 2⁴⁴ msat (about 175 BTC).

/// Units in one millisatoshi.
pub const UNITS_PER_MSAT: u64 = 1 << 20;

/// The largest amount that fits in a `u64` of units, in msat.
pub const MAX_MSAT: u64 = u64::MAX / UNITS_PER_MSAT;

/// The largest price of a minute, in msat: it keeps [`time_due`] inside 64 bits.
pub const MAX_MSAT_PER_MINUTE: u64 = (1 << 28) - 1;

/// The largest price of a MiB, in msat (about 2 million sat): one packet cannot overflow a `u64`.
pub const MAX_MSAT_PER_MIB: u64 = 1 << 31;

const NS_PER_MS: u64 = 1_000_000;
const MS_PER_MINUTE: u64 = 60_000;

// A 128-bit product does not exist in BPF: what follows bounds its factors instead.

/// What the bytes of one packet cost at `msat_per_mib`, in units.
///
/// Prices above [`MAX_MSAT_PER_MIB`] count as that price, and more bytes than a packet can have
/// (2³²) cost more than anybody can pay.
#[inline(always)]
#[must_use]
pub const fn bytes_cost(bytes: u64, msat_per_mib: u64) -> u64 {
    let price = if msat_per_mib > MAX_MSAT_PER_MIB { MAX_MSAT_PER_MIB } else { msat_per_mib };
    if bytes >> 32 != 0 { u64::MAX } else { bytes * price }
}

/// What `elapsed_ns` of time cost at `msat_per_minute`, in units.
///
/// Time is billed by the started millisecond, and the result is rounded up to the unit: nothing
/// passes after the paid instant, and the last paid packet is at most a millisecond before it.
/// Prices above [`MAX_MSAT_PER_MINUTE`] count as that price. Saturates.
#[inline(always)]
#[must_use]
pub const fn time_due(elapsed_ns: u64, msat_per_minute: u64) -> u64 {
    if msat_per_minute == 0 {
        return 0;
    }
    let price =
        if msat_per_minute > MAX_MSAT_PER_MINUTE { MAX_MSAT_PER_MINUTE } else { msat_per_minute };
    let units_per_minute = price * UNITS_PER_MSAT;
    let started_ms = elapsed_ns.div_ceil(NS_PER_MS);
    let minutes = started_ms / MS_PER_MINUTE;
    // Every factor below is less than 2^16 and the price less than 2^48: the products fit.
    let rest_ms = started_ms - minutes * MS_PER_MINUTE;
    let rest = (rest_ms * units_per_minute).div_ceil(MS_PER_MINUTE);
    let low = (minutes & 0xffff) * units_per_minute;
    let high = (minutes >> 16) * units_per_minute;
    if high >> 48 != 0 {
        return u64::MAX;
    }
    (high << 16).saturating_add(low).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mebibyte_costs_its_price() {
        assert_eq!(bytes_cost(1 << 20, 1_000_000), 1_000_000 * UNITS_PER_MSAT);
    }

    #[test]
    fn a_minute_costs_its_price() {
        assert_eq!(time_due(60_000_000_000, 6_000), 6_000 * UNITS_PER_MSAT);
    }

    #[test]
    fn the_first_nanosecond_starts_a_millisecond() {
        assert_eq!(time_due(0, 60_000), 0);
        assert_eq!(time_due(1, 60_000), UNITS_PER_MSAT);
        assert_eq!(time_due(1_000_000, 60_000), UNITS_PER_MSAT);
        assert_eq!(time_due(1_000_001, 60_000), 2 * UNITS_PER_MSAT);
    }

    proptest! {
        #[test]
        fn time_is_the_exact_quotient_rounded_up(ns: u64, price in 0..=MAX_MSAT_PER_MINUTE) {
            let ms = u128::from(ns).div_ceil(1_000_000);
            let exact = (ms * u128::from(price) * u128::from(UNITS_PER_MSAT)).div_ceil(60_000);
            prop_assert_eq!(u128::from(time_due(ns, price)), exact.min(u128::from(u64::MAX)));
        }

        #[test]
        fn time_never_runs_backwards(a: u64, b: u64, price: u64) {
            prop_assert!(time_due(a.min(b), price) <= time_due(a.max(b), price));
        }
    }
}
