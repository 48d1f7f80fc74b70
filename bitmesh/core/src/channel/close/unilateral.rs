//! The unilateral close: the newest update, with the payee's outputs and signature.
//!
//! 205 vB with change, 162 without, 248 with an output that returns what was not used (all
//! outputs P2TR). The payee picks the fee when it closes and can raise it later: build again at
//! a higher feerate, with the same signature of the payer.

use bitcoin::absolute::LockTime;
use bitcoin::sighash::{Prevouts, TapSighashType};
use bitcoin::{Amount, FeeRate, Transaction, TxOut, Weight, Witness};

use super::pay_leaf_witness;
use crate::channel::error::CloseError;
use crate::channel::fee::fee_for;
use crate::channel::payee::PayeeClosing;
use crate::channel::script::OutputScript;
use crate::channel::sighash::{TRUC, input, leaf_sighash};
use crate::channel::update::{Update, WIRE_SIGNATURE_BYTES};
use crate::channel::{DUST, close::MAX_BATCH_CHANNELS};

/// A TRUC transaction is at most this large (BIP 431).
const MAX_TRUC_WEIGHT: Weight = Weight::from_vb_unchecked(10_000);

/// A close that can be broadcast, and where the money goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedClose {
    /// The transaction, signed.
    pub tx: Transaction,
    /// What the payee gets.
    pub payout: Amount,
    /// What is returned to the payers of what they prepaid and did not use.
    pub returned: Amount,
    /// What the updates leave to the payers.
    pub change: Amount,
    /// What the miners get.
    pub fee: Amount,
}

impl PayeeClosing {
    /// Closes this channel alone. The payee pays the fee. What was not used goes back to the
    /// payer, less the cost of that output, if at least [`DUST`] remains of it; where the charges
    /// don't pay for the fee and an output, the return does.
    ///
    /// # Errors
    ///
    /// [`CloseError::NoUpdate`] if nothing was ever paid, [`CloseError::FeeTooHigh`] if the fee
    /// leaves the payee no output.
    pub fn unilateral(
        &self,
        payout: &OutputScript,
        feerate: FeeRate,
    ) -> Result<SignedClose, CloseError> {
        close_together(&[self], payout, feerate)
    }

    /// Whether the charges pay for a close with an output that returns, at this feerate: in a batch
    /// nobody pays for another then.
    #[must_use]
    pub fn pays_its_way(&self, feerate: FeeRate) -> bool {
        let Some(update) = self.newest() else { return false };
        let mut claim = Claim { closing: self, update, returned: Amount::ZERO };
        let kept = self.credit().checked_sub(worth_returning(&claim, feerate));
        claim.returned = DUST;
        let payout = &self.channel().terms().payout_script;
        let fee = fee_for(assemble(&[claim], payout, DUST).weight(), feerate);
        kept.is_some_and(|kept| kept >= fee + DUST)
    }
}

/// Closes one channel or more in one transaction: inputs with change first, output i paired with
/// input i, as SIGHASH_SINGLE wants it (BIP 341); then inputs without change; then the payout and
/// what is returned.
pub(super) fn close_together(
    channels: &[&PayeeClosing],
    payout: &OutputScript,
    feerate: FeeRate,
) -> Result<SignedClose, CloseError> {
    let mut claims = claims(channels)?;
    if claims.len() > MAX_BATCH_CHANNELS {
        return Err(CloseError::BatchTooLarge);
    }
    let fee_and_payout = settle(&mut claims, payout, feerate)?;
    let tx = sign(assemble(&claims, payout, fee_and_payout.1), &claims)?;
    Ok(SignedClose {
        tx,
        payout: fee_and_payout.1,
        returned: claims.iter().map(|claim| claim.returned).sum(),
        change: claims.iter().map(|claim| claim.update.change()).sum(),
        fee: fee_and_payout.0,
    })
}

/// One channel in the making of a close.
struct Claim<'a> {
    closing: &'a PayeeClosing,
    update: &'a Update,
    returned: Amount,
}

fn claims<'a>(channels: &[&'a PayeeClosing]) -> Result<Vec<Claim<'a>>, CloseError> {
    let mut claims = Vec::with_capacity(channels.len());
    for closing in channels {
        let outpoint = closing.channel().outpoint();
        let update = closing.newest().ok_or(CloseError::NoUpdate(outpoint))?;
        claims.push(Claim { closing, update, returned: Amount::ZERO });
    }
    // A stable sort: those with change first, else in the caller's order.
    claims.sort_by_key(|claim| claim.update.change() == Amount::ZERO);
    Ok(claims)
}

/// Chooses what is returned; gives the fee and the payout.
fn settle(
    claims: &mut [Claim<'_>],
    payout: &OutputScript,
    feerate: FeeRate,
) -> Result<(Amount, Amount), CloseError> {
    for claim in claims.iter_mut() {
        claim.returned = worth_returning(claim, feerate);
    }
    let credit: Amount = claims.iter().map(|claim| claim.closing.credit()).sum();
    // Each round without success leaves out one return more: at most one round a channel.
    loop {
        let weight = assemble(claims, payout, Amount::ZERO).weight();
        if weight > MAX_TRUC_WEIGHT {
            return Err(CloseError::BatchTooLarge);
        }
        let fee = fee_for(weight, feerate);
        let returned: Amount = claims.iter().map(|claim| claim.returned).sum();
        let needed = fee + returned + DUST;
        if needed <= credit {
            return Ok((fee, credit - returned - fee));
        }
        let largest = claims.iter_mut().max_by_key(|claim| claim.returned);
        let largest = largest.filter(|claim| claim.returned > Amount::ZERO);
        let Some(claim) = largest else {
            return Err(CloseError::FeeTooHigh { fee });
        };
        let less = claim.returned.checked_sub(needed - credit).unwrap_or(Amount::ZERO);
        claim.returned = if less < DUST { Amount::ZERO } else { less };
    }
}

/// What was not used, less the cost of the output that returns it; 0 if that would be dust.
fn worth_returning(claim: &Claim<'_>, feerate: FeeRate) -> Amount {
    let cost = fee_for(return_output(claim, DUST).weight(), feerate);
    let worth = claim.closing.unused().checked_sub(cost).unwrap_or(Amount::ZERO);
    if worth < DUST { Amount::ZERO } else { worth }
}

fn return_output(claim: &Claim<'_>, value: Amount) -> TxOut {
    let script_pubkey = claim.closing.channel().terms().change_script.as_script().clone();
    TxOut { value, script_pubkey }
}

/// The transaction with witnesses of the right size and no valid signature of the payee.
fn assemble(claims: &[Claim<'_>], payout: &OutputScript, value: Amount) -> Transaction {
    let mut input_list = Vec::with_capacity(claims.len());
    let mut output = Vec::with_capacity(2 * claims.len() + 1);
    for claim in claims {
        let mut spend = input(claim.closing.channel().outpoint());
        spend.witness = witness(claim, &[0; 64]);
        input_list.push(spend);
        if claim.update.change() > Amount::ZERO {
            output.push(return_output(claim, claim.update.change()));
        }
    }
    output.push(TxOut { value, script_pubkey: payout.as_script().clone() });
    let returns = claims.iter().filter(|claim| claim.returned > Amount::ZERO);
    output.extend(returns.map(|claim| return_output(claim, claim.returned)));
    Transaction { version: TRUC, lock_time: LockTime::ZERO, input: input_list, output }
}

fn witness(claim: &Claim<'_>, payee: &[u8; 64]) -> Witness {
    let payer: [u8; WIRE_SIGNATURE_BYTES] = claim.update.wire_signature();
    pay_leaf_witness(claim.closing.channel().opened().script(), payee, &payer)
}

/// Signs every input over all inputs and outputs (SIGHASH_DEFAULT, BIP 341).
fn sign(mut tx: Transaction, claims: &[Claim<'_>]) -> Result<Transaction, CloseError> {
    let prevouts: Vec<TxOut> =
        claims.iter().map(|claim| claim.closing.channel().prevout()).collect();
    let prevouts: Vec<&TxOut> = prevouts.iter().collect();
    let prevouts = Prevouts::All(&prevouts);
    let mut witnesses = Vec::with_capacity(claims.len());
    for (index, claim) in claims.iter().enumerate() {
        let leaf = claim.closing.channel().opened().script().pay_leaf();
        let sighash = leaf_sighash(&tx, index, &prevouts, leaf, TapSighashType::Default)?;
        witnesses.push(witness(claim, &claim.closing.secret().sign(&sighash)));
    }
    for (input, witness) in tx.input.iter_mut().zip(witnesses) {
        input.witness = witness;
    }
    Ok(tx)
}
