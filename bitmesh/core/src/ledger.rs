//! The books of one account: what came in, what was charged, what is left.
//!
//! Everything here is a pure function of the credits and the charges, so the sums hold at all
//! times: credits = balance + charges + rounding.

use serde::Serialize;

use crate::record::CreditKind;
use crate::units::{MilliSat, Units};

/// Money by where it came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ByKind<T> {
    /// What newcomers are given so that they can pay: consumed first.
    pub allowances: T,
    /// The operator's grants: consumed next.
    pub grants: T,
    /// Lightning top-ups: consumed then.
    pub top_ups: T,
    /// Channel updates: consumed last.
    pub channel: T,
}

/// All that was ever credited to an account. The sum is at most [`MilliSat::MAX`].
pub type Credits = ByKind<MilliSat>;

impl Credits {
    /// The sum of all kinds.
    #[must_use]
    pub fn total(&self) -> MilliSat {
        // Cannot saturate: `with` keeps the sum below 2^44.
        let given = self.allowances.0.saturating_add(self.grants.0);
        MilliSat(given.saturating_add(self.top_ups.0).saturating_add(self.channel.0))
    }

    /// Whether there is nothing but allowances: nobody ever paid or was granted anything.
    #[must_use]
    pub fn are_allowances(&self) -> bool {
        self.total() == self.allowances
    }

    /// These credits and one more; `None` if the sum would be above [`MilliSat::MAX`].
    #[must_use]
    pub fn with(mut self, kind: CreditKind, amount: MilliSat) -> Option<Self> {
        self.total().checked_add(amount)?;
        let of_kind = match kind {
            CreditKind::Allowance => &mut self.allowances,
            CreditKind::Grant => &mut self.grants,
            CreditKind::TopUp => &mut self.top_ups,
            CreditKind::Channel => &mut self.channel,
        };
        *of_kind = of_kind.checked_add(amount)?;
        Some(self)
    }

    /// How much of each kind `charged` has consumed: allowances first, then grants, then
    /// top-ups, then channel. Charges beyond the credits consume nothing more.
    #[must_use]
    pub fn consumed(&self, charged: Units) -> ByKind<Units> {
        let mut rest = charged;
        let mut take = |of_kind: MilliSat| {
            let taken = rest.min(of_kind.units());
            rest = rest.saturating_sub(taken);
            taken
        };
        // The order of these lines is the order of consumption.
        let allowances = take(self.allowances);
        let grants = take(self.grants);
        let top_ups = take(self.top_ups);
        let channel = take(self.channel);
        ByKind { allowances, grants, top_ups, channel }
    }
}

/// All that was ever charged to an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// For bytes.
    pub bytes: Units,
    /// For time.
    pub time: Units,
}

impl Charges {
    /// The sum. Saturates.
    #[must_use]
    pub const fn total(&self) -> Units {
        self.bytes.saturating_add(self.time)
    }
}

/// What closes of channels took out of an account, beyond the charges. Whole satoshi, but for the
/// rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withdrawals {
    /// Not used, and on its way back: the close is not confirmed, or not for long.
    pub settling: MilliSat,
    /// Not used, and returned by a confirmed close or refund.
    pub returned: MilliSat,
    /// Not used, and taken by the payer's share of a close's fee.
    pub fees: MilliSat,
    /// Not used, and gone with the funding.
    pub undone: MilliSat,
    /// From charges to whole satoshi: what the gateway got beyond them.
    pub rounding: Units,
}

impl Withdrawals {
    /// All of it. Saturates.
    #[must_use]
    pub fn total(&self) -> Units {
        [self.settling, self.returned, self.fees, self.undone]
            .iter()
            .fold(self.rounding, |sum, line| sum.saturating_add(line.units()))
    }

    /// These and others. Saturates.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            settling: MilliSat(self.settling.0.saturating_add(other.settling.0)),
            returned: MilliSat(self.returned.0.saturating_add(other.returned.0)),
            fees: MilliSat(self.fees.0.saturating_add(other.fees.0)),
            undone: MilliSat(self.undone.0.saturating_add(other.undone.0)),
            rounding: self.rounding.saturating_add(other.rounding),
        }
    }
}

/// The books in whole msat, each line rounded down, with a line of its own for the rounding:
/// `credits = balance + charged_for_bytes + charged_for_time + settling + returned + fees +
/// undone + rounding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// What is left, rounded down.
    pub balance: MilliSat,
    /// What the bytes cost, rounded down.
    pub charged_for_bytes: MilliSat,
    /// What the time cost, rounded down.
    pub charged_for_time: MilliSat,
    /// What closes took out, but for their rounding.
    pub withdrawals: Withdrawals,
    /// What rounding took from the lines above: 0 to 2 msat, and less than a satoshi and a msat
    /// for each channel that was closed.
    pub rounding: MilliSat,
}

impl Statement {
    /// Draws the balance. Charges and withdrawals are at most the credits: that is the account's
    /// promise.
    #[must_use]
    pub fn new(credits: &Credits, charges: Charges, withdrawals: Withdrawals) -> Self {
        let total = credits.total();
        let left = total.units().saturating_sub(withdrawals.total());
        let balance = left.saturating_sub(charges.total()).floor();
        let charged_for_bytes = charges.bytes.floor();
        let charged_for_time = charges.time.floor();
        let Withdrawals { settling, returned, fees, undone, .. } = withdrawals;
        let lines =
            [balance, charged_for_bytes, charged_for_time, settling, returned, fees, undone];
        let lines = lines.iter().fold(0_u64, |sum, line| sum.saturating_add(line.0));
        let rounding = MilliSat(total.0.saturating_sub(lines));
        Self { balance, charged_for_bytes, charged_for_time, withdrawals, rounding }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [CreditKind; 4] =
        [CreditKind::Allowance, CreditKind::Grant, CreditKind::TopUp, CreditKind::Channel];

    fn credits() -> impl Strategy<Value = Credits> {
        [(); 4].map(|()| 0..=MilliSat::MAX.0 / 4).prop_map(|msat| {
            let [allowances, grants, top_ups, channel] = msat.map(MilliSat);
            Credits { allowances, grants, top_ups, channel }
        })
    }

    /// Charges that the credits cover, to the last unit.
    fn books() -> impl Strategy<Value = (Credits, Charges)> {
        (credits(), any::<u64>(), any::<u64>()).prop_map(|(credits, a, b)| {
            let bytes = a % (credits.total().units().0 + 1);
            let time = b % (credits.total().units().0 - bytes + 1);
            (credits, Charges { bytes: Units(bytes), time: Units(time) })
        })
    }

    #[test]
    fn an_account_holds_at_most_the_maximum() {
        let full = Credits::default().with(CreditKind::Grant, MilliSat::MAX).unwrap();
        assert_eq!(full.with(CreditKind::Channel, MilliSat(1)), None);
        assert_eq!(full.with(CreditKind::Channel, MilliSat(0)), Some(full));
    }

    #[test]
    fn gifts_are_consumed_before_top_ups_and_these_before_the_channel() {
        let one = MilliSat(1);
        let credits = Credits { allowances: one, grants: one, top_ups: one, channel: one };
        let half = Units(one.units().0 / 2);
        let consumed = credits.consumed(Units(2 * one.units().0).saturating_add(half));
        let (allowances, grants) = (one.units(), one.units());
        let expected = ByKind { allowances, grants, top_ups: half, channel: Units(0) };
        assert_eq!(consumed, expected);
    }

    #[test]
    fn rounding_has_its_own_line() {
        let credits = Credits { grants: MilliSat(2), ..Credits::default() };
        let charges = Charges { bytes: Units(1), time: Units(1) };
        let statement = Statement::new(&credits, charges, Withdrawals::default());
        assert_eq!(statement.balance, MilliSat(1));
        assert_eq!(statement.rounding, MilliSat(1));
    }

    proptest! {
        #[test]
        fn balance_and_charges_and_rounding_are_the_credits((credits, charges) in books()) {
            let s = Statement::new(&credits, charges, Withdrawals::default());
            let sum = s.balance.0 + s.charged_for_bytes.0 + s.charged_for_time.0 + s.rounding.0;
            prop_assert_eq!(sum, credits.total().0);
            prop_assert!(s.rounding <= MilliSat(2));
        }

        #[test]
        fn what_is_consumed_is_what_was_charged((credits, charges) in books()) {
            let used = credits.consumed(charges.total());
            let given = used.allowances.saturating_add(used.grants);
            let sum = given.saturating_add(used.top_ups).saturating_add(used.channel);
            prop_assert_eq!(sum, charges.total());
            let no_grants = used.grants == Units(0);
            prop_assert!(no_grants || used.allowances == credits.allowances.units());
            prop_assert!(used.top_ups == Units(0) || used.grants == credits.grants.units());
            prop_assert!(used.channel == Units(0) || used.top_ups == credits.top_ups.units());
        }

        #[test]
        fn credits_add_up_whatever_their_order(
            amounts in prop::collection::vec((0..4_usize, 0..=MilliSat::MAX.0 / 32), 0..32),
        ) {
            let add = |credits: Credits, (kind, amount): &(usize, u64)| {
                credits.with(KINDS[*kind], MilliSat(*amount)).unwrap()
            };
            let forwards = amounts.iter().fold(Credits::default(), add);
            let backwards = amounts.iter().rev().fold(Credits::default(), add);
            prop_assert_eq!(forwards, backwards);
            prop_assert_eq!(forwards.total().0, amounts.iter().map(|(_, a)| a).sum::<u64>());
        }
    }
}
