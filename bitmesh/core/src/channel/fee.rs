//! Fees: from a feerate and a size, bounded.

use bitcoin::{Amount, FeeRate, Weight};

use super::DUST;

/// The lowest feerate at which a transaction is built: what nodes relay by default.
pub const MIN_FEERATE: FeeRate = FeeRate::from_sat_per_vb_u32(1);

/// The highest: no estimate above it is believed.
pub const MAX_FEERATE: FeeRate = FeeRate::from_sat_per_vb_u32(5_000);

/// Virtual size of a unilateral close with change and P2TR outputs.
const UNILATERAL_VBYTES: u64 = 205;

/// The fee of `weight` at `feerate`, which is first put between [`MIN_FEERATE`] and
/// [`MAX_FEERATE`]. Rounded up, on the virtual size (BIP 141), as nodes do.
#[must_use]
pub fn fee_for(weight: Weight, feerate: FeeRate) -> Amount {
    let feerate = feerate.clamp(MIN_FEERATE, MAX_FEERATE);
    feerate.fee_vb(weight.to_vbytes_ceil()).unwrap_or(Amount::MAX_MONEY)
}

/// What a first update has to cover: an output that is no dust, and a unilateral close at
/// `headroom` times `feerate`.
#[must_use]
pub fn first_update_for(feerate: FeeRate, headroom: u64) -> Amount {
    let feerate = FeeRate::from_sat_per_kwu(feerate.to_sat_per_kwu().saturating_mul(headroom));
    DUST + fee_for(Weight::from_vb_unchecked(UNILATERAL_VBYTES), feerate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fee_is_rounded_up_and_bounded() {
        let rate = FeeRate::from_sat_per_kwu(333);
        assert_eq!(fee_for(Weight::from_wu(817), rate), Amount::from_sat(274));
        let floor = fee_for(Weight::from_vb_unchecked(100), FeeRate::ZERO);
        assert_eq!(floor, Amount::from_sat(100));
        let ceiling = fee_for(Weight::from_vb_unchecked(100), FeeRate::MAX);
        assert_eq!(ceiling, Amount::from_sat(500_000));
    }

    #[test]
    fn a_first_update_pays_for_its_own_close() {
        let rate = FeeRate::from_sat_per_vb_u32(2);
        assert_eq!(first_update_for(rate, 3), Amount::from_sat(330 + 205 * 6));
    }
}
