//! What both sides agree on before any money moves.

use bitcoin::absolute::LOCK_TIME_THRESHOLD;
use bitcoin::amount::serde::as_sat;
use bitcoin::{Amount, Network};
use serde::{Deserialize, Serialize};

use super::error::TermsError;
use super::fee::{MIN_FEERATE, first_update_for};
use super::keys::PublicKey;
use super::script::OutputScript;
use super::{DUST, MAX_CAPACITY};

/// The least time, in blocks, that the payee keeps for a close before the payer can refund.
pub const MIN_MARGIN_BLOCKS: u32 = 36;

/// The terms of a channel, fixed at open. Plain data: [`super::Opened::new`] checks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The chain.
    pub network: Network,
    /// C.
    pub payer_key: PublicKey,
    /// R.
    pub payee_key: PublicKey,
    /// T: from the block after this height on, the payer can refund alone.
    pub expiry_height: u32,
    /// From `expiry_height` less this on there is no credit, and the payee closes.
    pub margin_blocks: u32,
    /// Where the payer's side goes, in every transaction.
    pub change_script: OutputScript,
    /// Where the payee's side goes in a cooperative close.
    pub payout_script: OutputScript,
    /// The least that the funding holds.
    #[serde(rename = "min_capacity_sat", with = "as_sat")]
    pub min_capacity: Amount,
    /// The most that the funding holds.
    #[serde(rename = "max_capacity_sat", with = "as_sat")]
    pub max_capacity: Amount,
    /// What the first update credits at least.
    #[serde(rename = "min_first_update_sat", with = "as_sat")]
    pub min_first_update: Amount,
    /// The most that the payer's change pays to the fee of a cooperative close.
    #[serde(rename = "max_close_fee_sat", with = "as_sat")]
    pub max_close_fee: Amount,
}

impl Terms {
    /// The height from which on there is no credit and the payee closes.
    #[must_use]
    pub fn last_call(&self) -> u32 {
        self.expiry_height.saturating_sub(self.margin_blocks)
    }

    pub(super) fn check(&self) -> Result<(), TermsError> {
        // BIP 65: from this threshold on a locktime would be a time.
        if self.expiry_height == 0 || self.expiry_height >= LOCK_TIME_THRESHOLD {
            return Err(TermsError::Expiry(self.expiry_height));
        }
        if self.margin_blocks < MIN_MARGIN_BLOCKS || self.margin_blocks >= self.expiry_height {
            return Err(TermsError::Margin(self.margin_blocks));
        }
        if self.payer_key.x_only() == self.payee_key.x_only() {
            return Err(TermsError::RepeatedKey);
        }
        let least_first = first_update_for(MIN_FEERATE, 1);
        if self.min_first_update < least_first {
            return Err(TermsError::FirstUpdate(least_first));
        }
        let ordered = self.min_first_update <= self.min_capacity
            && self.min_capacity <= self.max_capacity
            && self.max_capacity <= MAX_CAPACITY;
        if ordered { Ok(()) } else { Err(TermsError::Capacity) }
    }
}

/// Whether an update can leave this to the payer: nothing, or an output that is relayed.
pub(super) fn is_legal_change(change: Amount) -> bool {
    change == Amount::ZERO || change >= DUST
}
