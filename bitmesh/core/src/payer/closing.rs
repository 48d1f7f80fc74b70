//! Checking a cooperative close, before and after.

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Amount, Transaction};

use crate::channel::message::{Agreement, Message};
use crate::channel::{CloseError, CooperativePlan, Funded};
use crate::wire::{Closed, PlanBody};

/// Why the gateway's word on a close does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClosedRefused {
    /// The plan can't be built.
    #[error("the gateway's close can't be built: {0}")]
    Plan(#[from] CloseError),
    /// The numbers are not what follows from charges and fee.
    #[error("the gateway's close does not pay what its charges and fee say: not signed")]
    OtherPlan,
    /// What it broadcast is not what was signed.
    #[error("the gateway shows another close than was signed: watch the channel's output")]
    OtherTransaction,
    /// The receipt is not this session's.
    #[error("the gateway's receipt does not fit the close")]
    Receipt,
}

/// Builds the plan from the gateway's charges and fee, and compares the rest.
///
/// # Errors
///
/// [`ClosedRefused::Plan`] or [`ClosedRefused::OtherPlan`]; nothing is signed then.
pub fn check_plan(channel: &Funded, body: &PlanBody) -> Result<CooperativePlan, ClosedRefused> {
    let charges = Amount::from_sat(body.charges_sat);
    let fee = Amount::from_sat(body.fee_sat);
    if fee > channel.capacity() {
        return Err(CloseError::FeeTooHigh { fee }.into());
    }
    let plan = CooperativePlan::new(channel, body.path, charges, fee)?;
    if PlanBody::new(body.path, body.charges_sat, plan.settlement()) == *body {
        Ok(plan)
    } else {
        Err(ClosedRefused::OtherPlan)
    }
}

/// Compares the close that the gateway made, and its receipt, with what was signed.
///
/// # Errors
///
/// [`ClosedRefused`]; the money is where the chain says.
pub fn check_closed(
    plan: &CooperativePlan,
    agreement: &Agreement,
    closed: &Closed,
) -> Result<Transaction, ClosedRefused> {
    let tx: Transaction =
        deserialize(closed.raw_tx.as_bytes()).map_err(|_| ClosedRefused::OtherTransaction)?;
    let expected = plan.unsigned().compute_txid();
    let settlement = plan.settlement();
    let same = tx.compute_txid() == expected
        && closed.txid == expected
        && Amount::from_sat(closed.settled_sat) == settlement.payout
        && Amount::from_sat(closed.returned_sat) == settlement.change
        && Amount::from_sat(closed.fee_sat) == settlement.fee
        && tx.input.iter().all(|input| !input.witness.is_empty());
    if !same {
        return Err(ClosedRefused::OtherTransaction);
    }
    let receipt = &closed.receipt;
    let fits = receipt.agreement == agreement.digest()
        && receipt.outpoint == plan.outpoint()
        && receipt.close_txid == expected
        && receipt.settled == settlement.payout
        && receipt.returned == settlement.change
        && receipt.fee == settlement.fee;
    receipt
        .verify(&agreement.payee_session_key, &closed.receipt_signature)
        .ok()
        .filter(|()| fits)
        .ok_or(ClosedRefused::Receipt)?;
    Ok(tx)
}
