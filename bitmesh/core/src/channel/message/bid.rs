//! What a subscriber offers to pay. The agreement that may follow names the prices once more, and
//! both sides sign it.

use bitcoin::hashes::{Hash as _, sha256};
use serde::{Deserialize, Serialize};

use super::{Fields, Message};
use crate::Tariff;
use crate::channel::keys::PublicKey;

/// A bid below an offer. Signed with the payer's session key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bid {
    /// Digest of the gateway's newest offer.
    pub offer: sha256::Hash,
    /// How many bids came before it in this bargain, and one.
    pub round: u32,
    /// The prices. All else is as in the offer.
    pub tariff: Tariff,
    /// The session key of the payer.
    pub payer_session_key: PublicKey,
}

impl Message for Bid {
    const TAG: &'static str = "BitMesh/bid/v1";

    fn fields(&self, fields: &mut Fields) {
        fields
            .bytes(self.offer.as_byte_array())
            .u32(self.round)
            .tariff(&self.tariff)
            .key(&self.payer_session_key);
    }
}
