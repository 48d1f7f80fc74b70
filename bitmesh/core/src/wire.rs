//! The payment API, `/api/v1`, as JSON: what the portal and the payer say to each other.
//!
//! Bytes travel as lower-case hex, amounts as whole numbers whose name ends in the unit. Unknown
//! fields are refused, and every list and string has a limit.

mod bid;
mod closing;
mod text;

use std::fmt;

use bitcoin::{OutPoint, Txid};
use bitmesh_common::abi::Mac;
use serde::{Deserialize, Serialize};

use crate::channel::message::{
    Agreement, Challenge, CloseRequest, MessageSignature, Offer, Receipt, Resume, mac_text,
};
use crate::channel::{
    MAX_RAW_TX_BYTES, OutputScript, PublicKey, PublicNonce, Settlement, SpendPath, Update,
    UpdateError,
};
use crate::tariff::Tariff;
use crate::units::MilliSat;

pub use self::bid::{BidAnswer, BidRequest, BidVerdict};
pub use self::closing::{CloseCompletion, CloseHalf, ReceiptError, SignedReceipt};
pub use self::text::{ChannelId, RawTx, UpdateSignature, WireError};

/// The longest body of any request but that of a funding, in bytes.
pub const MAX_BODY_BYTES: usize = 8 * 1_024;

/// The longest body of a [`FundingRequest`], in bytes: a raw transaction as hex, and the rest.
pub const MAX_FUNDING_BODY_BYTES: usize = 2 * MAX_RAW_TX_BYTES + MAX_BODY_BYTES;

/// The longest sentence in an answer, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 512;

/// What a subscriber asks first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferRequest {
    /// 32 bytes that the subscriber drew: the offer repeats them, so it can't be an old one.
    pub challenge: Challenge,
}

/// What the gateway sells, signed with its offer key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedOffer {
    /// The offer.
    pub offer: Offer,
    /// Of the offer, by `offer.gateway_key`.
    pub signature: MessageSignature,
    /// What counts before the funding is confirmed; nothing without it. It is not signed: it is
    /// the gateway's risk alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<EarlyTerms>,
}

/// What counts before the funding is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyTerms {
    /// The most that a channel is credited then.
    pub credit_sat: u64,
    /// The same for people.
    pub explanation: String,
}

/// The subscriber takes an offer. The same request again gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// The offer, as it came.
    pub offer: Offer,
    /// The gateway's own, as it came: so offers need no place in the gateway.
    pub signature: MessageSignature,
    /// C, new for this channel.
    pub payer_key: PublicKey,
    /// The key that signs the payer's messages, new for this channel.
    pub payer_session_key: PublicKey,
    /// Where the payer's side goes.
    pub change_script: OutputScript,
}

/// A channel that can be funded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenResponse {
    /// Its name, the digest of `agreement`.
    pub channel: ChannelId,
    /// What the payer countersigns, once it has checked every field.
    pub agreement: Agreement,
    /// Of the agreement, by `agreement.payee_session_key`.
    pub signature: MessageSignature,
    /// Where the funding goes; the payer computes its own, and refuses if this is another.
    pub address: String,
}

/// The payer countersigns, and perhaps has its funding relayed: in the walled garden it can't
/// broadcast it itself. It can be sent again, with another transaction, until there is an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FundingRequest {
    /// Of the agreement, by its `payer_session_key`.
    pub agreement_signature: MessageSignature,
    /// The funding, signed, to be relayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_tx: Option<RawTx>,
}

/// Where a channel is between its open and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelWord {
    /// Waiting for its funding.
    Opened,
    /// The funding is seen, but not confirmed as often as the offer asks for.
    Unconfirmed,
    /// Takes updates.
    Open,
    /// Takes no updates any more. The newest one, or the close, is on its way to the chain.
    Closing,
    /// Over: a cooperative close is confirmed.
    ClosedTogether,
    /// Over: a unilateral close is confirmed.
    ClosedAlone,
    /// Over: the payer took everything back.
    Refunded,
    /// Over: somebody's spend that is neither a close nor a refund is confirmed.
    SpentOtherwise,
    /// The funding was undone after updates were credited.
    FundingLost,
    /// Nothing was ever paid, and it is forgotten. Only operators are told.
    Lapsed,
}

/// The state of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelView {
    /// Its name.
    pub channel: ChannelId,
    /// The station that it pays for.
    #[serde(with = "mac_text")]
    pub mac: Mac,
    /// Where it is.
    pub state: ChannelWord,
    /// The outpoint that is pinned.
    pub outpoint: Option<OutPoint>,
    /// What it holds; 0 without a funding.
    pub capacity_sat: u64,
    /// Confirmations of the funding, as of the newest block that the gateway knows.
    pub confirmations: u32,
    /// How many there must be before there is credit.
    pub required: u32,
    /// Height of the newest block that the gateway knows.
    pub tip_height: u32,
    /// From this height on there is no credit.
    pub last_call_height: u32,
    /// The newest update that the gateway holds.
    pub newest: Option<UpdateBody>,
    /// What it credits.
    pub credit_msat: MilliSat,
    /// What is charged to this channel, rounded up to the msat.
    pub charged_msat: MilliSat,
    /// What the gateway's node last said about the funding that was relayed, if it refused it.
    pub notice: Option<String>,
    /// The close that is on its way or confirmed.
    pub closing_txid: Option<Txid>,
    /// The subscriber's session; `None` before the first credit.
    pub session: Option<SessionView>,
}

/// The session of the subscriber whose channel it is, with credit of every kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionView {
    /// Whether it is open.
    pub open: bool,
    /// Its prices.
    pub tariff: Tariff,
    /// Billed bytes from the subscriber, in all sessions.
    pub uplink_bytes: u64,
    /// Billed bytes to the subscriber, in all sessions.
    pub downlink_bytes: u64,
    /// What bytes cost, in all sessions, rounded down.
    pub charged_for_bytes_msat: MilliSat,
    /// What time cost, in all sessions, rounded down.
    pub charged_for_time_msat: MilliSat,
    /// What is left, rounded down.
    pub balance_msat: MilliSat,
}

/// An update: the payer's signature that leaves itself less change than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateBody {
    /// What is left to the payer.
    pub change_sat: u64,
    /// The signature.
    pub signature: UpdateSignature,
}

impl UpdateBody {
    /// The update of the channel with this outpoint.
    ///
    /// # Errors
    ///
    /// As [`Update::from_wire`].
    pub fn of(&self, outpoint: OutPoint) -> Result<Update, UpdateError> {
        Update::from_wire(outpoint, self.change_sat, &self.signature.0)
    }
}

impl From<&Update> for UpdateBody {
    fn from(update: &Update) -> Self {
        let signature = UpdateSignature(update.wire_signature());
        Self { change_sat: update.change().to_sat(), signature }
    }
}

/// The update is durable and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateAccepted {
    /// The change of the newest update that the gateway holds: this one, or one that overtook it.
    pub change_sat: u64,
    /// What the channel credits in all.
    pub credit_msat: MilliSat,
    /// What is left on the account, rounded down.
    pub balance_msat: MilliSat,
}

/// What the gateway says on a channel's stream. The payer says an [`UpdateBody`] a message; each is
/// answered once, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StreamMessage {
    /// The update is durable and counts.
    Accepted(UpdateAccepted),
    /// The update was refused; nothing was changed.
    Refused(ApiError),
    /// The session as it is now, unasked.
    Session(SessionView),
}

/// 32 bytes for the next [`CloseRequest`] or [`Resume`], good once, for a short time, for one channel
/// and for the station that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeResponse {
    /// The bytes.
    pub challenge: Challenge,
    /// The station that asked, as the gateway sees it: what a [`Resume`] must name.
    #[serde(with = "mac_text")]
    pub mac: Mac,
}

/// The payer is back, perhaps with another address: its channel pays for this station from now on,
/// and what the old one did not use comes along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeBody {
    /// What it proves.
    pub request: Resume,
    /// Of the request, by the payer's session key.
    pub signature: MessageSignature,
}

/// The payer asks for a cooperative close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseBody {
    /// What it asks.
    pub request: CloseRequest,
    /// Of the request, by the payer's session key.
    pub signature: MessageSignature,
}

/// The numbers from which both sides build the same transaction
/// ([`crate::channel::CooperativePlan::new`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanBody {
    /// How the output is spent.
    pub path: SpendPath,
    /// What the gateway charges.
    pub charges_sat: u64,
    /// What the miners get.
    pub fee_sat: u64,
    /// What the gateway gets; 0 if that would be dust.
    pub payout_sat: u64,
    /// What the payer gets back; 0 if that would be dust.
    pub change_sat: u64,
}

/// The gate is closed; this is what a close would pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseOffer {
    /// The transaction in numbers.
    pub plan: PlanBody,
    /// For the key path: the gateway's nonce. It signs once; the next offer has another.
    pub nonce: Option<PublicNonce>,
    /// The end state of the session, for both to sign. The close's txid is known already: no
    /// signature is part of it (BIP 141).
    pub receipt: Receipt,
}

/// The close is on the gateway's disk and handed to its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// Its name.
    pub txid: Txid,
    /// The transaction, for the payer to broadcast as well.
    pub raw_tx: RawTx,
    /// What the gateway gets.
    pub settled_sat: u64,
    /// What the payer gets back.
    pub returned_sat: u64,
    /// What the miners get.
    pub fee_sat: u64,
    /// The end state of the session; the payer compares it with its own count.
    pub receipt: Receipt,
    /// Of the receipt, by the gateway's session key.
    pub receipt_signature: MessageSignature,
}

impl PlanBody {
    /// The numbers of a plan.
    #[must_use]
    pub fn new(path: SpendPath, charges_sat: u64, settlement: Settlement) -> Self {
        Self {
            path,
            charges_sat,
            fee_sat: settlement.fee.to_sat(),
            payout_sat: settlement.payout.to_sat(),
            change_sat: settlement.change.to_sat(),
        }
    }
}

/// Why a request was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiError {
    /// For machines; it does not change between versions.
    pub reason: String,
    /// For people: what is wrong, and how to mend it.
    pub message: String,
    /// The newest update that the gateway holds, where that helps: a payer that was restored from
    /// an old state goes on from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Box<UpdateBody>>,
}

impl ApiError {
    /// A refusal. A message that is too long is cut.
    #[must_use]
    pub fn new(reason: &str, message: impl fmt::Display) -> Self {
        let mut message = message.to_string();
        if message.len() > MAX_MESSAGE_BYTES {
            let cut = (0..=MAX_MESSAGE_BYTES).rev().find(|at| message.is_char_boundary(*at));
            message.truncate(cut.unwrap_or(0));
        }
        Self { reason: reason.to_owned(), message, newest: None }
    }

    /// The status of the HTTP answer (RFC 9110, 15.5 and 15.6).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.reason.as_str() {
            "no_channel" | "no_session" => 404,
            "stale" | "one_channel" | "not_open" | "closing" | "busy" | "unconfirmed"
            | "other_round" | "bargain_over" => 409,
            "too_many_channels" | "too_many_bargains" => 429,
            "overloaded" | "chain_unavailable" | "channels_off" | "not_durable" | "no_room"
            | "ledger_full" => 503,
            _ => 422,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests;
