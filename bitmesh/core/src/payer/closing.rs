//! Checking a cooperative close, before and after.

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Amount, Transaction};

use crate::channel::message::{Agreement, Message as _, MessageSignature, Receipt};
use crate::channel::{CloseError, CooperativePlan, Funded};
use crate::wire::{Closed, PlanBody, SignedReceipt};

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
    #[error("the gateway's receipt does not fit the close, which stands all the same")]
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

/// Compares the close that the gateway made with the plan that was signed, signature included:
/// anybody can broadcast what this gives.
///
/// # Errors
///
/// [`ClosedRefused::OtherTransaction`]; the money is where the chain says.
pub fn check_closed(plan: &CooperativePlan, closed: &Closed) -> Result<Transaction, ClosedRefused> {
    let tx: Transaction =
        deserialize(closed.raw_tx.as_bytes()).map_err(|_| ClosedRefused::OtherTransaction)?;
    let settlement = plan.settlement();
    let same = plan.is_signed_by_both(&tx)
        && closed.txid == tx.compute_txid()
        && Amount::from_sat(closed.settled_sat) == settlement.payout
        && Amount::from_sat(closed.returned_sat) == settlement.change
        && Amount::from_sat(closed.fee_sat) == settlement.fee;
    if same { Ok(tx) } else { Err(ClosedRefused::OtherTransaction) }
}

/// Compares a receipt that the payer is to sign with the close that it signs.
///
/// # Errors
///
/// [`ClosedRefused::Receipt`]; the close can be signed all the same.
pub fn check_receipt(
    plan: &CooperativePlan,
    agreement: &Agreement,
    receipt: &Receipt,
) -> Result<(), ClosedRefused> {
    let settlement = plan.settlement();
    let fits = receipt.agreement == agreement.digest()
        && receipt.outpoint == plan.outpoint()
        && receipt.close_txid == plan.unsigned().compute_txid()
        && Amount::from_sat(receipt.charged_msat.0.div_ceil(1_000)) == plan.charges()
        && receipt.settled == settlement.payout
        && receipt.returned == settlement.change
        && receipt.fee == settlement.fee;
    if fits { Ok(()) } else { Err(ClosedRefused::Receipt) }
}

/// The receipt of both, once the gateway has signed it, too.
///
/// # Errors
///
/// [`ClosedRefused::Receipt`] if it signed another, or not at all; the close stands all the same.
pub fn signed_receipt(
    agreement: &Agreement,
    offered: &Receipt,
    payer_signature: MessageSignature,
    closed: &Closed,
) -> Result<SignedReceipt, ClosedRefused> {
    let signed = SignedReceipt {
        agreement: agreement.clone(),
        receipt: closed.receipt,
        payee_signature: closed.receipt_signature,
        payer_signature,
    };
    let good = closed.receipt == *offered && signed.verify().is_ok();
    if good { Ok(signed) } else { Err(ClosedRefused::Receipt) }
}
