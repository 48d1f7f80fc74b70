//! The end of a channel on the wire: the payer's half of a close, and the receipt of both.

use serde::{Deserialize, Serialize};

use crate::channel::PayerKeyPathSignature;
use crate::channel::message::{Agreement, Message as _, MessageSignature, Receipt};

/// The payer's half of the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseHalf {
    /// By the key path: nonce and partial signature (BIP 327).
    KeyPath(PayerKeyPathSignature),
    /// By the pay leaf: 64 bytes (BIP 340), SIGHASH_DEFAULT.
    PayLeaf(MessageSignature),
}

/// The payer signs the close, and what it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CompletionText", into = "CompletionText")]
pub struct CloseCompletion {
    /// Of the transaction.
    pub half: CloseHalf,
    /// Of the offer's receipt, by the payer's session key. The close does not depend on it.
    pub receipt_signature: Option<MessageSignature>,
}

/// How it is written: one of the two paths, and perhaps the receipt.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompletionText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_path: Option<PayerKeyPathSignature>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pay_leaf: Option<MessageSignature>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt_signature: Option<MessageSignature>,
}

impl From<CloseCompletion> for CompletionText {
    fn from(CloseCompletion { half, receipt_signature }: CloseCompletion) -> Self {
        let (key_path, pay_leaf) = match half {
            CloseHalf::KeyPath(signed) => (Some(signed), None),
            CloseHalf::PayLeaf(signed) => (None, Some(signed)),
        };
        Self { key_path, pay_leaf, receipt_signature }
    }
}

impl TryFrom<CompletionText> for CloseCompletion {
    type Error = &'static str;

    fn try_from(text: CompletionText) -> Result<Self, &'static str> {
        let half = match (text.key_path, text.pay_leaf) {
            (Some(signed), None) => CloseHalf::KeyPath(signed),
            (None, Some(signed)) => CloseHalf::PayLeaf(signed),
            _ => return Err("sign by `key_path` or by `pay_leaf`, one of them"),
        };
        Ok(Self { half, receipt_signature: text.receipt_signature })
    }
}

/// A receipt that both sides signed, with the agreement that it is of. Who has it needs nothing
/// else to check it; that its close is in a block is for the chain to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReceipt {
    /// What was agreed: the tariff, the station, the keys that sign.
    pub agreement: Agreement,
    /// The end state of the session.
    pub receipt: Receipt,
    /// Of the receipt, by `agreement.payee_session_key`.
    pub payee_signature: MessageSignature,
    /// Of the receipt, by `agreement.payer_session_key`.
    pub payer_signature: MessageSignature,
}

/// Why a receipt proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It names another agreement.
    #[error("the receipt is not of this agreement")]
    OtherAgreement,
    /// The gateway did not sign it.
    #[error("the gateway's signature is not of this receipt")]
    Payee,
    /// The payer did not sign it.
    #[error("the payer's signature is not of this receipt")]
    Payer,
}

impl SignedReceipt {
    /// Checks the receipt against its agreement, and both signatures.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`] says what does not hold.
    pub fn verify(&self) -> Result<(), ReceiptError> {
        let Self { agreement, receipt, payee_signature, payer_signature } = self;
        if receipt.agreement != agreement.digest() {
            return Err(ReceiptError::OtherAgreement);
        }
        let payee = receipt.verify(&agreement.payee_session_key, payee_signature);
        payee.map_err(|_| ReceiptError::Payee)?;
        let payer = receipt.verify(&agreement.payer_session_key, payer_signature);
        payer.map_err(|_| ReceiptError::Payer)
    }
}
