//! What gets signed: BIP 341 and 342 signature messages of the channel's transactions.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::{LeafVersion, TapLeafHash};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use super::error::KeyError;
use super::funding::Funded;

/// Signals replacement (BIP 125) and leaves the locktime in force (BIP 65).
pub(super) const SEQUENCE: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;

/// Version 3: a replacement can't be pinned (BIP 431).
pub(super) const TRUC: Version = Version(3);

/// An input that spends `outpoint`, not signed yet.
pub(super) fn input(outpoint: OutPoint) -> TxIn {
    TxIn {
        previous_output: outpoint,
        script_sig: ScriptBuf::new(),
        sequence: SEQUENCE,
        witness: Witness::new(),
    }
}

/// What the payer signs in an update: `{version 3, locktime 0, its input, output 0 = change}`;
/// no output when the change is 0. SIGHASH_SINGLE or NONE with ANYONECANPAY let the payee add
/// inputs and outputs.
#[must_use]
pub fn update_template(channel: &Funded, change: Amount) -> Transaction {
    let mut output = Vec::new();
    if change > Amount::ZERO {
        let script_pubkey = channel.terms().change_script.as_script().clone();
        output.push(TxOut { value: change, script_pubkey });
    }
    Transaction {
        version: TRUC,
        lock_time: LockTime::ZERO,
        input: vec![input(channel.outpoint())],
        output,
    }
}

/// The hash type of an update: 0x83, or 0x82 with change 0.
pub(super) fn update_hash_type(change: Amount) -> TapSighashType {
    if change == Amount::ZERO {
        TapSighashType::NonePlusAnyoneCanPay
    } else {
        TapSighashType::SinglePlusAnyoneCanPay
    }
}

/// The digest that an update's signature is over (BIP 341 `SigMsg` with extension 1, BIP 342).
///
/// # Errors
///
/// None for a channel that stands; the library's limits are mapped to [`KeyError::Derivation`].
pub fn update_sighash(channel: &Funded, change: Amount) -> Result<[u8; 32], KeyError> {
    let template = update_template(channel, change);
    let prevout = channel.prevout();
    let prevouts = Prevouts::One(0, &prevout);
    let leaf = channel.opened().script().pay_leaf();
    leaf_sighash(&template, 0, &prevouts, leaf, update_hash_type(change))
}

/// The digest for one input that spends by a leaf.
pub(super) fn leaf_sighash(
    tx: &Transaction,
    index: usize,
    prevouts: &Prevouts<'_, &TxOut>,
    leaf: &ScriptBuf,
    hash_type: TapSighashType,
) -> Result<[u8; 32], KeyError> {
    let leaf = TapLeafHash::from_script(leaf, LeafVersion::TapScript);
    SighashCache::new(tx)
        .taproot_script_spend_signature_hash(index, prevouts, leaf, hash_type)
        .map(Hash::to_byte_array)
        .map_err(|_| KeyError::Derivation)
}

/// The digest for the one input of a cooperative close by the key path.
pub(super) fn key_path_sighash(tx: &Transaction, prevout: &TxOut) -> Result<[u8; 32], KeyError> {
    SighashCache::new(tx)
        .taproot_key_spend_signature_hash(0, &Prevouts::All(&[prevout]), TapSighashType::Default)
        .map(Hash::to_byte_array)
        .map_err(|_| KeyError::Derivation)
}
