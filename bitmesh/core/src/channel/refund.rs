//! The refund: after the expiry, by the payer alone, without the gateway.

use std::collections::BTreeSet;

use bitcoin::absolute::LockTime;
use bitcoin::sighash::{Prevouts, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, TxOut};

use super::close::leaf_witness;
use super::error::{KeyError, RefundError};
use super::fee::fee_for;
use super::funding::Opened;
use super::keys::ChannelSecret;
use super::script::OutputScript;
use super::sighash::{input, leaf_sighash};
use super::{DUST, Role};

/// The most outputs in one refund.
pub const MAX_REFUND_INPUTS: usize = 64;

/// A refund that can be broadcast, and what comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRefund {
    /// The transaction, signed. One input: about 138 vB.
    pub tx: Transaction,
    /// What comes back.
    pub returned: Amount,
    /// What the miners get.
    pub fee: Amount,
}

/// Height of the first block that a refund can be in: the one after the expiry (a transaction is
/// final in blocks above its locktime).
#[must_use]
pub fn first_refund_block(expiry_height: u32) -> u32 {
    expiry_height.saturating_add(1)
}

/// Spends outputs of the channel's address by the refund leaf, to `to`, usually the change
/// script. A node takes it once its tip has the expiry's height (BIP 65). Version 2: nobody else
/// can spend by this leaf, and any node relays it.
///
/// # Errors
///
/// [`RefundError`] for outputs that can't be refunded together, a fee that leaves nothing, or a
/// secret that is not C.
pub fn refund(
    channel: &Opened,
    secret: &ChannelSecret,
    outputs: &[(OutPoint, Amount)],
    to: &OutputScript,
    feerate: FeeRate,
) -> Result<SignedRefund, RefundError> {
    channel.check_secret(Role::Payer, secret)?;
    let sum = check_outputs(outputs)?;
    let lock_time =
        LockTime::from_height(channel.terms().expiry_height).map_err(|_| KeyError::Derivation)?;
    let script_pubkey = to.as_script().clone();
    let mut tx = Transaction {
        version: Version::TWO,
        lock_time,
        input: outputs.iter().map(|(outpoint, _)| input(*outpoint)).collect(),
        output: vec![TxOut { value: DUST, script_pubkey: script_pubkey.clone() }],
    };
    put_witnesses(&mut tx, channel, &vec![[0; 64]; outputs.len()]);
    let fee = fee_for(tx.weight(), feerate);
    let returned = sum.checked_sub(fee).filter(|rest| *rest >= DUST);
    let returned = returned.ok_or(RefundError::FeeTooHigh { fee })?;
    tx.output = vec![TxOut { value: returned, script_pubkey }];
    let signatures = sign(&tx, channel, secret, outputs)?;
    put_witnesses(&mut tx, channel, &signatures);
    Ok(SignedRefund { tx, returned, fee })
}

fn check_outputs(outputs: &[(OutPoint, Amount)]) -> Result<Amount, RefundError> {
    if outputs.is_empty() || outputs.len() > MAX_REFUND_INPUTS {
        return Err(RefundError::Inputs);
    }
    let mut seen = BTreeSet::new();
    let mut sum = Amount::ZERO;
    for (outpoint, value) in outputs {
        if !seen.insert(outpoint) {
            return Err(RefundError::Repeated(*outpoint));
        }
        sum = sum
            .checked_add(*value)
            .filter(|sum| *sum <= Amount::MAX_MONEY)
            .ok_or(RefundError::Amount)?;
    }
    Ok(sum)
}

fn sign(
    tx: &Transaction,
    channel: &Opened,
    secret: &ChannelSecret,
    outputs: &[(OutPoint, Amount)],
) -> Result<Vec<[u8; 64]>, KeyError> {
    let prevouts: Vec<TxOut> = outputs.iter().map(|(_, value)| channel.txout(*value)).collect();
    let prevouts: Vec<&TxOut> = prevouts.iter().collect();
    let prevouts = Prevouts::All(&prevouts);
    let leaf = channel.script().refund_leaf();
    let default = TapSighashType::Default;
    (0..outputs.len())
        .map(|index| Ok(secret.sign(&leaf_sighash(tx, index, &prevouts, leaf, default)?)))
        .collect()
}

fn put_witnesses(tx: &mut Transaction, channel: &Opened, signatures: &[[u8; 64]]) {
    let script = channel.script();
    for (input, signature) in tx.input.iter_mut().zip(signatures) {
        let block = script.refund_control_block();
        input.witness = leaf_witness(&[signature], script.refund_leaf(), block);
    }
}
