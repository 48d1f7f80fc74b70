//! The cooperative close: the payer signs first; the payee completes, stores, broadcasts, and
//! only then answers.
//!
//! By the key path (MuSig2): the payee makes a nonce ([`PayeeClosing::start_key_path`]) and sends
//! its public half with the plan's numbers; the payer makes its own, signs in the same step and
//! forgets it ([`PayerClosing::sign_key_path`]); the payee completes. A secret nonce lives in
//! memory, signs once or is dropped; each retry takes new ones on both sides.

use bitcoin::sighash::{Prevouts, TapSighashType};
use bitcoin::{Amount, Transaction, Witness};
use secp256k1::{XOnlyPublicKey, schnorr};
use serde::{Deserialize, Serialize};

use super::pay_leaf_witness;
use super::plan::{CooperativePlan, SpendPath};
use crate::channel::error::CloseError;
use crate::channel::musig::{NonceSeed, OwnNonce, PartialSignature, PublicNonce};
use crate::channel::payee::PayeeClosing;
use crate::channel::payer::{Count, PayerClosing};
use crate::channel::sighash::{key_path_sighash, leaf_sighash};

/// What the payer sends for a close by the key path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayerKeyPathSignature {
    /// Its nonce.
    pub nonce: PublicNonce,
    /// Its half of the signature.
    pub partial: PartialSignature,
}

/// The payee's half of a MuSig2 session: a plan, and a nonce that signs once.
#[derive(Debug)]
pub struct PayeeSigning {
    plan: CooperativePlan,
    nonce: OwnNonce,
}

impl PayerClosing {
    /// Checks that the payee charges no more than this payer counted and one step, and no more
    /// than it signed for.
    fn check(
        &self,
        plan: &CooperativePlan,
        path: SpendPath,
        count: &Count,
    ) -> Result<(), CloseError> {
        check_plan(plan, path, plan.opened() == self.channel().opened())?;
        let pinned = plan.outpoint() == self.channel().outpoint();
        let allowed = if pinned { count.allowed().min(self.signed()) } else { Amount::ZERO };
        if plan.charges() > allowed {
            return Err(CloseError::BeyondCount { charges: plan.charges(), allowed });
        }
        Ok(())
    }

    /// Signs a close by the key path. Draws one nonce from `seed`, uses it, and drops it.
    ///
    /// # Errors
    ///
    /// [`CloseError`]; nothing is signed then.
    pub fn sign_key_path(
        &self,
        plan: &CooperativePlan,
        count: &Count,
        payee_nonce: &PublicNonce,
        seed: NonceSeed,
    ) -> Result<PayerKeyPathSignature, CloseError> {
        self.check(plan, SpendPath::KeyPath, count)?;
        let sighash = key_path_sighash(&plan.unsigned(), &plan.prevout())?;
        let aggregate = plan.opened().aggregate()?;
        let own = aggregate.nonce(self.secret(), &sighash, seed);
        let nonce = own.public;
        let partial = aggregate.session(&nonce, payee_nonce, &sighash)?.sign(own, self.secret());
        Ok(PayerKeyPathSignature { nonce, partial })
    }

    /// Signs a close by the pay leaf (SIGHASH_DEFAULT, BIP 341): 64 bytes.
    ///
    /// # Errors
    ///
    /// [`CloseError`]; nothing is signed then.
    pub fn sign_pay_leaf(
        &self,
        plan: &CooperativePlan,
        count: &Count,
    ) -> Result<[u8; 64], CloseError> {
        self.check(plan, SpendPath::PayLeaf, count)?;
        Ok(self.secret().sign(&pay_leaf_sighash(plan)?))
    }
}

impl CooperativePlan {
    /// Whether `tx` is this close, with a signature of both by the key path: anybody can broadcast
    /// it then.
    #[must_use]
    pub fn is_signed_by_both(&self, tx: &Transaction) -> bool {
        let unsigned = self.unsigned();
        let [input] = tx.input.as_slice() else { return false };
        let stack: Vec<&[u8]> = input.witness.iter().collect();
        let [signature] = stack.as_slice() else { return false };
        let (Ok(signature), Ok(sighash)) =
            (<[u8; 64]>::try_from(*signature), key_path_sighash(&unsigned, &self.prevout()))
        else {
            return false;
        };
        let Ok(key) = XOnlyPublicKey::from_byte_array(*self.opened().script().output_key()) else {
            return false;
        };
        let signature = schnorr::Signature::from_byte_array(signature);
        tx.compute_txid() == unsigned.compute_txid()
            && schnorr::verify(&signature, &sighash, &key).is_ok()
    }
}

impl PayeeClosing {
    /// Checks that the plan charges what this close charges, or gives a stray output back.
    fn check(&self, plan: &CooperativePlan, path: SpendPath) -> Result<(), CloseError> {
        check_plan(plan, path, plan.opened() == self.channel().opened())?;
        let pinned = plan.outpoint() == self.channel().outpoint();
        let charges = if pinned { self.charges() } else { Amount::ZERO };
        if plan.charges() == charges { Ok(()) } else { Err(CloseError::WrongChannel) }
    }

    /// Starts a close by the key path. Draws one nonce from `seed`.
    ///
    /// # Errors
    ///
    /// [`CloseError`] if the plan is not this channel's.
    pub fn start_key_path(
        &self,
        plan: CooperativePlan,
        seed: NonceSeed,
    ) -> Result<PayeeSigning, CloseError> {
        self.check(&plan, SpendPath::KeyPath)?;
        let sighash = key_path_sighash(&plan.unsigned(), &plan.prevout())?;
        let nonce = plan.opened().aggregate()?.nonce(self.secret(), &sighash, seed);
        Ok(PayeeSigning { plan, nonce })
    }

    /// Completes a close by the pay leaf. Store and broadcast it before the payer is answered.
    ///
    /// # Errors
    ///
    /// [`CloseError::Forged`] if the payer's signature does not hold.
    pub fn complete_pay_leaf(
        &self,
        plan: &CooperativePlan,
        payer: &[u8; 64],
    ) -> Result<Transaction, CloseError> {
        self.check(plan, SpendPath::PayLeaf)?;
        let sighash = pay_leaf_sighash(plan)?;
        if !plan.opened().terms().payer_key.verifies(&sighash, payer) {
            return Err(CloseError::Forged);
        }
        let payee = self.secret().sign(&sighash);
        Ok(with_witness(plan, pay_leaf_witness(plan.opened().script(), &payee, payer)))
    }
}

impl PayeeSigning {
    /// The public half of the nonce, for the payer.
    #[must_use]
    pub fn nonce(&self) -> PublicNonce {
        self.nonce.public
    }

    /// The plan that is signed.
    #[must_use]
    pub fn plan(&self) -> &CooperativePlan {
        &self.plan
    }

    /// Completes the close. Store and broadcast it before the payer is answered. Whatever the
    /// outcome, the nonce is gone.
    ///
    /// # Errors
    ///
    /// [`CloseError::Forged`] if the payer's half does not hold.
    pub fn complete(
        self,
        closing: &PayeeClosing,
        payer: &PayerKeyPathSignature,
    ) -> Result<Transaction, CloseError> {
        let Self { plan, nonce } = self;
        closing.check(&plan, SpendPath::KeyPath)?;
        let sighash = key_path_sighash(&plan.unsigned(), &plan.prevout())?;
        let aggregate = plan.opened().aggregate()?;
        let session = aggregate.session(&payer.nonce, &nonce.public, &sighash)?;
        if !session.verifies(&payer.partial, &payer.nonce, &plan.opened().terms().payer_key) {
            return Err(CloseError::Forged);
        }
        let own = session.sign(nonce, closing.secret());
        let signature = session.aggregate(&payer.partial, &own)?;
        Ok(with_witness(&plan, Witness::from_slice(&[signature])))
    }
}

fn check_plan(
    plan: &CooperativePlan,
    path: SpendPath,
    same_channel: bool,
) -> Result<(), CloseError> {
    if !same_channel {
        return Err(CloseError::WrongChannel);
    }
    if plan.path() == path { Ok(()) } else { Err(CloseError::WrongPath) }
}

fn pay_leaf_sighash(plan: &CooperativePlan) -> Result<[u8; 32], CloseError> {
    let prevout = plan.prevout();
    let leaf = plan.opened().script().pay_leaf();
    let tx = plan.unsigned();
    let prevouts = [&prevout];
    Ok(leaf_sighash(&tx, 0, &Prevouts::All(&prevouts), leaf, TapSighashType::Default)?)
}

fn with_witness(plan: &CooperativePlan, witness: Witness) -> Transaction {
    let mut tx = plan.unsigned();
    for input in &mut tx.input {
        input.witness = witness.clone();
    }
    tx
}
