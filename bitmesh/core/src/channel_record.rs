//! What must survive a power cut of a channel.
//!
//! A channel has one row that is replaced when something happens to it, and one small row for its
//! newest update: rows don't grow with updates.

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use bitmesh_common::abi::Mac;
use serde::{Deserialize, Serialize};

use crate::channel::WIRE_SIGNATURE_BYTES;
use crate::channel::message::{Agreement, MessageSignature, Receipt};
use crate::units::{MilliSat, Units};
use crate::wire::ChannelId;

/// A channel, but for its updates. The newest revision replaces any older one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// Its name.
    pub id: ChannelId,
    /// Counts the changes of this row; orders them.
    pub revision: u64,
    /// The index of its keys.
    pub index: u32,
    /// What was agreed. Its digest is `id`.
    pub agreement: Agreement,
    /// The gateway's, of the agreement.
    pub payee_signature: MessageSignature,
    /// The payer's, of the agreement, once it came.
    pub payer_signature: Option<MessageSignature>,
    /// Confirmations of the funding before there is credit.
    pub confirmations: u32,
    /// Height of the newest block at the open: nothing of the channel is in an older one.
    pub opened_height: u32,
    /// When it was opened, in seconds since 1970.
    pub opened_unix_s: u64,
    /// The funding, once it was seen. Pinned by the first update.
    pub funding: Option<Funding>,
    /// How far it has come.
    pub phase: ChannelPhase,
    /// What was charged, from the moment on when it takes no update any more.
    pub frozen: Option<Frozen>,
    /// What both sides signed of the session, if the payer did. It counts when its close is in a
    /// block.
    pub receipt: Option<Countersigned>,
    /// The newest close that was built, durable before it is broadcast.
    pub close: Option<CloseTx>,
    /// The confirmed transaction that spent it.
    pub end: Option<ChannelEnd>,
}

/// The output that a channel lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Funding {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it holds.
    pub capacity: Amount,
    /// The block that it is in; `None` while it is unconfirmed.
    pub height: Option<u32>,
}

/// How far a channel has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelPhase {
    /// Waits for its funding, or takes updates.
    Live,
    /// Takes no updates any more; the payer may close together.
    Closing,
    /// As before, and the gateway closes alone without waiting for the payer.
    ClosingAlone,
    /// The funding was undone after there were updates.
    Lost,
    /// Its output is spent, and that is confirmed.
    Ended,
}

/// What a channel owes when it stops taking updates: the gate is closed, this is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// What this channel pays of the account's charges.
    pub charged: Units,
    /// What the subscriber's meter said then.
    pub meter: Meter,
    /// Height of the newest block then.
    pub height: u32,
}

/// What a subscriber had used at some moment, in all sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Billed bytes from the subscriber.
    pub uplink_bytes: u64,
    /// Billed bytes to the subscriber.
    pub downlink_bytes: u64,
    /// Charges for time.
    pub time_charged: Units,
}

impl Meter {
    /// What was used from `earlier` on.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            uplink_bytes: self.uplink_bytes.saturating_sub(earlier.uplink_bytes),
            downlink_bytes: self.downlink_bytes.saturating_sub(earlier.downlink_bytes),
            time_charged: self.time_charged.saturating_sub(earlier.time_charged),
        }
    }

    /// The sum. Saturates.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            uplink_bytes: self.uplink_bytes.saturating_add(other.uplink_bytes),
            downlink_bytes: self.downlink_bytes.saturating_add(other.downlink_bytes),
            time_charged: self.time_charged.saturating_add(other.time_charged),
        }
    }
}

/// How a channel's output is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpendKind {
    /// By both sides: a cooperative close.
    Together,
    /// By the gateway with the newest update: a unilateral close.
    Alone,
    /// By the payer after the expiry: a refund.
    Refund,
    /// In some other way.
    Other,
}

/// A receipt with both signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Countersigned {
    /// The end state of the session.
    pub receipt: Receipt,
    /// By the gateway's session key.
    pub payee_signature: MessageSignature,
    /// By the payer's session key.
    pub payer_signature: MessageSignature,
}

/// A close that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseTx {
    /// Which one: together or alone.
    pub kind: SpendKind,
    /// The transaction, signed.
    pub tx: Transaction,
    /// Height of the newest block when it was built.
    pub height: u32,
}

/// How a channel ended: where the money went, to the satoshi.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelEnd {
    /// How its output was spent.
    pub kind: SpendKind,
    /// By which transaction.
    pub txid: Txid,
    /// In which block.
    pub height: u32,
    /// Whether so many blocks followed that nothing will change any more.
    pub buried: bool,
    /// What the gateway got.
    pub payout: Amount,
    /// What the payer got, the change included that was never paid.
    pub change: Amount,
    /// What the miners got.
    pub fee: Amount,
    /// Of what was paid and not used: what the payer got back.
    pub returned: Amount,
    /// Of what was paid and not used: what the payer's share of the fee took.
    pub payer_fee: Amount,
}

/// The newest update of a channel. One that leaves less change replaces it, no other does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelUpdate {
    /// Which channel.
    pub channel: ChannelId,
    /// What it leaves to the payer, in satoshi.
    pub change_sat: u64,
    /// The payer's signature, hash type included.
    pub signature: [u8; WIRE_SIGNATURE_BYTES],
    /// What the meter said when the first update of the channel was credited.
    pub began: Meter,
}

/// A channel's payer came back under another MAC address and took along what the channel had left.
/// A line of the ledger: written once, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Which channel.
    pub channel: ChannelId,
    /// Counts this channel's transfers, from 1.
    pub number: u32,
    /// Whose account paid until now. Its session ended.
    pub from: Mac,
    /// Whose account pays from now on.
    pub to: Mac,
    /// What the channel paid of the charges of `from` since it came there, rounded up: it stays
    /// there for good, and the rest of the channel's credit is `to`'s.
    pub kept: MilliSat,
    /// What was used on the channel before this transfer, in all accounts.
    pub used: Meter,
    /// What the meter of `to` said then; nothing if no update was credited yet.
    pub began: Option<Meter>,
}

impl ChannelState {
    /// All that an update credits: the rest of the capacity.
    #[must_use]
    pub fn credit(&self, update: &ChannelUpdate) -> MilliSat {
        let capacity = self.funding.map_or(0, |funding| funding.capacity.to_sat());
        MilliSat(capacity.saturating_sub(update.change_sat).saturating_mul(1_000))
    }
}
