//! Bids, and what the gateway says to them.

use serde::{Deserialize, Serialize};

use crate::channel::message::{Bid, MessageSignature, Offer};

/// A subscriber bids below an offer. The same request again gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BidRequest {
    /// The gateway's newest offer, as it came.
    pub offer: Offer,
    /// The gateway's own, as it came: so offers need no place in the gateway.
    pub signature: MessageSignature,
    /// What the subscriber would pay.
    pub bid: Bid,
    /// Of the bid, by its `payer_session_key`.
    pub bid_signature: MessageSignature,
}

/// What the gateway says to a bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BidVerdict {
    /// Sold: the offer is at the bid.
    Accepted,
    /// The offer is lower than the last, and may be bid on again.
    Countered,
    /// The last offer stands.
    Declined,
}

/// The answer to a bid: an offer that a channel can be opened on, whatever the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BidAnswer {
    /// What became of the bid.
    pub verdict: BidVerdict,
    /// Bids that may still follow.
    pub rounds_left: u32,
    /// What is sold now. It ends when the first offer of the bargain does.
    pub offer: Offer,
    /// Of the offer, by `offer.gateway_key`.
    pub signature: MessageSignature,
}
