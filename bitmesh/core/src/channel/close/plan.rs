//! Who gets what in a cooperative close. Both sides build the same transaction from the same
//! few numbers; neither signs a hash that the other supplied.

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, TxOut, Weight, Witness};
use serde::{Deserialize, Serialize};

use super::pay_leaf_witness;
use crate::channel::DUST;
use crate::channel::error::CloseError;
use crate::channel::fee::fee_for;
use crate::channel::funding::{Funded, Opened};
use crate::channel::sighash::{TRUC, input};

/// How the channel's output is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpendPath {
    /// One MuSig2 signature, 154 vB.
    KeyPath,
    /// Two signatures in the pay leaf, 204 vB; for a payer without MuSig2.
    PayLeaf,
}

/// Where the money goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// What the payee gets; 0 if there is no such output.
    pub payout: Amount,
    /// What the payer gets back; 0 if there is no such output.
    pub change: Amount,
    /// What the miners get.
    pub fee: Amount,
}

/// A cooperative close that both sides can build: charges and fee say it all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CooperativePlan {
    opened: Opened,
    outpoint: OutPoint,
    capacity: Amount,
    path: SpendPath,
    charges: Amount,
    settlement: Settlement,
}

impl CooperativePlan {
    /// The plan for given charges and fee. The payer's change pays the fee, up to the terms'
    /// limit; the payee pays the rest. A payee's output below [`DUST`] is left out and goes to
    /// the change; a change below [`DUST`] goes to the payee.
    ///
    /// # Errors
    ///
    /// [`CloseError::OverCredit`] if the charges are above the capacity,
    /// [`CloseError::FeeTooHigh`] if no output remains, or the payee's share of the fee is above
    /// the charges.
    pub fn new(
        channel: &Funded,
        path: SpendPath,
        charges: Amount,
        fee: Amount,
    ) -> Result<Self, CloseError> {
        let (outpoint, capacity) = (channel.outpoint(), channel.capacity());
        Self::of_output(channel.opened(), outpoint, capacity, path, charges, fee)
    }

    /// The plan at a feerate: the fee follows from the outputs that remain.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn at_feerate(
        channel: &Funded,
        path: SpendPath,
        charges: Amount,
        feerate: FeeRate,
    ) -> Result<Self, CloseError> {
        let both = Self::new(channel, path, charges, Amount::ZERO)
            .map(|plan| fee_for(plan.weight_with_both(), feerate))?;
        let with_both = Self::new(channel, path, charges, both);
        let one = match &with_both {
            Ok(plan) if plan.has_both() => return with_both,
            Ok(plan) => fee_for(plan.weight(), feerate),
            Err(_) => both,
        };
        // With one output the fee is lower. Should the second be no dust then, the higher fee
        // stands: at the lower one the transaction would be too large for its fee.
        match Self::new(channel, path, charges, one) {
            Ok(plan) if !plan.has_both() => Ok(plan),
            _ => with_both,
        }
    }

    /// Gives an output that earns no credit (a second payment to the address) back whole.
    ///
    /// # Errors
    ///
    /// [`CloseError::WrongChannel`] for the pinned outpoint, [`CloseError::FeeTooHigh`] if nothing
    /// remains.
    pub fn give_back(
        channel: &Funded,
        outpoint: OutPoint,
        value: Amount,
        path: SpendPath,
        fee: Amount,
    ) -> Result<Self, CloseError> {
        if outpoint == channel.outpoint() {
            return Err(CloseError::WrongChannel);
        }
        Self::of_output(channel.opened(), outpoint, value, path, Amount::ZERO, fee)
    }

    fn of_output(
        opened: &Opened,
        outpoint: OutPoint,
        capacity: Amount,
        path: SpendPath,
        charges: Amount,
        fee: Amount,
    ) -> Result<Self, CloseError> {
        let settlement = settle(capacity, charges, fee, opened.terms().max_close_fee)?;
        Ok(Self { opened: opened.clone(), outpoint, capacity, path, charges, settlement })
    }

    /// Where the money goes; both sides are told before they sign.
    #[must_use]
    pub fn settlement(&self) -> Settlement {
        self.settlement
    }

    /// What the payee charges.
    #[must_use]
    pub fn charges(&self) -> Amount {
        self.charges
    }

    /// How the output is spent.
    #[must_use]
    pub fn path(&self) -> SpendPath {
        self.path
    }

    /// The output that is spent.
    #[must_use]
    pub fn outpoint(&self) -> OutPoint {
        self.outpoint
    }

    /// The transaction, not signed: version 3, so that it can't be pinned (BIP 431); change, then
    /// payout.
    #[must_use]
    pub fn unsigned(&self) -> Transaction {
        let terms = self.opened.terms();
        let Settlement { payout, change, .. } = self.settlement;
        let both = [(change, &terms.change_script), (payout, &terms.payout_script)];
        let output = both
            .iter()
            .filter(|(value, _)| *value > Amount::ZERO)
            .map(|(value, script)| TxOut {
                value: *value,
                script_pubkey: script.as_script().clone(),
            })
            .collect();
        let input = vec![input(self.outpoint)];
        Transaction { version: TRUC, lock_time: LockTime::ZERO, input, output }
    }

    /// Weight of the signed transaction.
    #[must_use]
    pub fn weight(&self) -> Weight {
        let mut tx = self.unsigned();
        for input in &mut tx.input {
            input.witness = self.dummy_witness();
        }
        tx.weight()
    }

    pub(super) fn opened(&self) -> &Opened {
        &self.opened
    }

    pub(super) fn prevout(&self) -> TxOut {
        self.opened.txout(self.capacity)
    }

    fn dummy_witness(&self) -> Witness {
        match self.path {
            SpendPath::KeyPath => Witness::from_slice(&[[0; 64]]),
            SpendPath::PayLeaf => pay_leaf_witness(self.opened.script(), &[0; 64], &[0; 64]),
        }
    }

    fn has_both(&self) -> bool {
        self.settlement.payout > Amount::ZERO && self.settlement.change > Amount::ZERO
    }

    /// Weight as if neither output were left out.
    fn weight_with_both(&self) -> Weight {
        let mut plan = self.clone();
        plan.settlement.payout = DUST;
        plan.settlement.change = DUST;
        plan.weight()
    }
}

/// Shares the fee, then leaves out dust. The payer never gets less than capacity − charges −
/// limit, the payee never more than capacity − fee.
fn settle(
    capacity: Amount,
    charges: Amount,
    fee: Amount,
    limit: Amount,
) -> Result<Settlement, CloseError> {
    let too_high = CloseError::FeeTooHigh { fee };
    let change = capacity
        .checked_sub(charges)
        .ok_or(CloseError::OverCredit { charges, credit: capacity })?;
    let payer_share = fee.min(limit).min(change);
    let change = change - payer_share;
    let payout = charges.checked_sub(fee - payer_share).ok_or(too_high.clone())?;
    if payout + change < DUST {
        return Err(too_high);
    }
    let (payout, change) = if payout < DUST {
        (Amount::ZERO, change + payout)
    } else if change < DUST {
        (payout + change, Amount::ZERO)
    } else {
        (payout, change)
    };
    Ok(Settlement { payout, change, fee })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sat(sat: u64) -> Amount {
        Amount::from_sat(sat)
    }

    fn settled(charges: u64, fee: u64, limit: u64) -> Option<(u64, u64)> {
        let settled = settle(sat(10_000), sat(charges), sat(fee), sat(limit)).ok()?;
        assert_eq!(settled.payout + settled.change + settled.fee, sat(10_000));
        Some((settled.payout.to_sat(), settled.change.to_sat()))
    }

    #[test]
    fn the_payer_pays_the_fee_up_to_the_limit_and_the_payee_the_rest() {
        assert_eq!(settled(4_000, 200, 500), Some((4_000, 5_800)));
        assert_eq!(settled(4_000, 700, 500), Some((3_800, 5_500)));
    }

    #[test]
    fn a_payout_below_dust_is_left_out_and_a_change_below_dust_goes_to_the_payee() {
        assert_eq!(settled(329, 200, 500), Some((0, 9_800)));
        assert_eq!(settled(330, 200, 500), Some((330, 9_470)));
        assert_eq!(settled(9_600, 200, 500), Some((9_800, 0)));
        assert_eq!(settled(9_470, 200, 500), Some((9_470, 330)));
        assert_eq!(settled(10_000, 200, 500), Some((9_800, 0)));
    }

    #[test]
    fn a_fee_that_leaves_nothing_is_refused() {
        assert_eq!(settled(0, 9_671, 10_000), None);
        assert_eq!(settled(100, 700, 500), None);
        assert_eq!(settled(10_001, 200, 500), None);
    }

    proptest::proptest! {
        #[test]
        fn no_satoshi_is_made_or_lost_and_neither_side_gets_less_than_agreed(
            charges in 0..10_000u64, fee in 0..10_000u64, limit in 0..10_000u64,
        ) {
            let Some((payout, change)) = settled(charges, fee, limit) else { return Ok(()) };
            for output in [payout, change] {
                proptest::prop_assert!(output == 0 || output >= DUST.to_sat());
            }
            let least_change = (10_000 - charges).saturating_sub(limit.min(fee));
            proptest::prop_assert!(change >= least_change || (change == 0 && least_change < 330));
        }
    }
}
