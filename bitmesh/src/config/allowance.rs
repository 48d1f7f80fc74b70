//! What newcomers are given so that they can pay.
//!
//! ```toml
//! pay_allowance_kib = 512
//! pay_allowance_total_kib = 32768
//! ```

use bitmesh_core::{ALLOWANCE_EVERY, AllowancePolicy, MAX_ALLOWANCES, MilliSat, Tariff};
use toml::Spanned;

use super::error::Wrong;

/// An allowance is counted in msat as all money is: a KiB costs 1 msat, either way.
const MSAT_PER_MIB: u64 = 1 << 10;

/// What a station can be given, in KiB: a GiB.
const MAX_KIB: u64 = 1 << 20;

/// Stations that are given an allowance in an hour, if the total is not told.
const STATIONS: u64 = 64;

/// The policy of `pay_allowance_kib`, if it is there, and of `pay_allowance_total_kib`.
pub(super) fn check(
    each: Option<Spanned<u64>>,
    total: Option<Spanned<u64>>,
) -> Result<Option<AllowancePolicy>, Wrong> {
    let Some(each) = each else {
        return match total {
            None => Ok(None),
            Some(total) => {
                let what = "`pay_allowance_total_kib` without `pay_allowance_kib`: say what each \
                            station is given, or remove it";
                Err(Wrong::new(total.span(), what.to_owned()))
            }
        };
    };
    let (span, kib) = (each.span(), each.into_inner());
    if !(1..=MAX_KIB).contains(&kib) {
        let what = format!("`pay_allowance_kib` is {kib}: give a number from 1 to {MAX_KIB}");
        return Err(Wrong::new(span, what));
    }
    let (span, all) = match total {
        Some(total) => (total.span(), total.into_inner()),
        None => (span, kib * STATIONS),
    };
    let (least, most) = (kib * 2, kib * MAX_ALLOWANCES);
    if !(least..=most).contains(&all) {
        let what = format!(
            "`pay_allowance_total_kib` is {all}: give 2 to {MAX_ALLOWANCES} times what a station \
             is given, {least} to {most}"
        );
        return Err(Wrong::new(span, what));
    }
    let tariff = Tariff {
        uplink_msat_per_mib: MSAT_PER_MIB,
        downlink_msat_per_mib: MSAT_PER_MIB,
        ..Tariff::FREE
    };
    let (amount, total) = (MilliSat(kib), MilliSat(all));
    Ok(Some(AllowancePolicy { amount, total, tariff, every: ALLOWANCE_EVERY }))
}
