//! What goes into the core and what comes out.

use bitmesh_common::abi::Mac;
use serde::{Deserialize, Serialize};

use crate::gateway::channels::{ChannelCommand, ChannelInput, ChannelResult};
use crate::record::{CreditId, Record};
use crate::tariff::Tariff;
use crate::units::{BootTime, MilliSat, Units};

/// What one meter counted since its epoch began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Billed bytes from the subscriber.
    pub uplink_bytes: u64,
    /// Billed packets from the subscriber.
    pub uplink_packets: u64,
    /// Billed bytes to the subscriber.
    pub downlink_bytes: u64,
    /// Billed packets to the subscriber.
    pub downlink_packets: u64,
    /// What the billed bytes cost.
    #[serde(rename = "spent_units")]
    pub spent: Units,
}

impl Reading {
    /// Whether no counter is below `earlier`'s. A reading that fails this is an old one.
    #[must_use]
    pub fn is_since(&self, earlier: &Self) -> bool {
        self.uplink_bytes >= earlier.uplink_bytes
            && self.uplink_packets >= earlier.uplink_packets
            && self.downlink_bytes >= earlier.downlink_bytes
            && self.downlink_packets >= earlier.downlink_packets
            && self.spent >= earlier.spent
    }

    /// The sum of two epochs. Saturates.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            uplink_bytes: self.uplink_bytes.saturating_add(other.uplink_bytes),
            uplink_packets: self.uplink_packets.saturating_add(other.uplink_packets),
            downlink_bytes: self.downlink_bytes.saturating_add(other.downlink_bytes),
            downlink_packets: self.downlink_packets.saturating_add(other.downlink_packets),
            spent: self.spent.saturating_add(other.spent),
        }
    }
}

/// A reading of one subscriber's meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Whose meter.
    pub mac: Mac,
    /// What it says.
    pub reading: Reading,
}

/// What the kernel held of one subscriber when the agent started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its meter.
    pub sample: Sample,
    /// Its gate.
    pub gate: Gate,
}

/// What the kernel's account of a subscriber said when the agent started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Open, with this image. The time during which it was cut off can then be told from the
    /// time during which it was served.
    Open(AccountImage),
    /// Closed.
    Closed,
    /// Not looked at: an open session counts as served all the time.
    Unknown,
}

impl From<Sample> for Held {
    fn from(sample: Sample) -> Self {
        Self { sample, gate: Gate::Unknown }
    }
}

/// Names a request, so that its reply finds the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a batch of records. Batches are made durable in the order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// A fact that the shell has learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The operator grants credit, and opens a session under `tariff` if none is open under it.
    Grant {
        /// Names the reply.
        request: RequestId,
        /// Identity of the credit: a repeated grant counts once.
        id: CreditId,
        /// Whose account.
        mac: Mac,
        /// How much.
        amount: MilliSat,
        /// The prices of the session.
        tariff: Tariff,
    },
    /// The operator ends a session; what is left stays on the account.
    Stop {
        /// Names the reply.
        request: RequestId,
        /// Whose session.
        mac: Mac,
    },
    /// Meters were read, in answer to [`Command::Sample`] or unasked. Its `now` is an instant
    /// before the first was read: what is then due for time was due for every packet that any
    /// of them has not counted yet.
    Sampled(Vec<Sample>),
    /// The batch is durable.
    Persisted(BatchId),
    /// The batch is not durable and none of it was written; the disk is full, say.
    PersistFailed(BatchId),
    /// The gate of this account is closed, no packet is in flight any more, and this is the last
    /// reading: the answer to [`Command::CloseAccount`].
    Closed(Sample),
    /// The kernel holds this account: the answer to [`Command::SetAccount`].
    AccountSet(Mac),
    /// The kernel has no room for this account: the other answer to [`Command::SetAccount`].
    NoRoom(Mac),
    /// The kernel has no meter of this account any more: the answer to [`Command::DropMeter`].
    MeterDropped(Mac),
    /// These stations send, and nothing that they have covers it.
    Knocked(Vec<Mac>),
    /// Something about channels.
    Channel(ChannelInput),
    /// Nothing but the time.
    Tick,
}

/// An account as the kernel must hold it. Absolute: setting it again changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountImage {
    /// Whose account.
    pub mac: Mac,
    /// All that this epoch's meter may spend on bytes and on time since `start`.
    pub prepaid: Units,
    /// The prices.
    pub tariff: Tariff,
    /// From when on time is due.
    pub start: BootTime,
    /// `spent` plus time due at which the kernel announces a low balance.
    pub low_mark: Units,
}

/// An obligation of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make these records durable, all or none, then say [`Input::Persisted`].
    Persist {
        /// Its name.
        batch: BatchId,
        /// What to write.
        records: Vec<Record>,
    },
    /// Let the kernel hold this account, open, then say [`Input::AccountSet`]. If more than
    /// `prepaid` and `low_mark` differ from what it holds, the gate is closed, no packet in
    /// flight, meanwhile. A new meter begins with [`crate::Gateway::reading`].
    SetAccount(AccountImage),
    /// Close this account's gate, wait until no packet is in flight, then say [`Input::Closed`].
    /// A gate that is closed stays so, and its last reading is the answer.
    CloseAccount(Mac),
    /// Give up the meter of this account, whose gate is closed; once no packet can hold it, say
    /// [`Input::MeterDropped`]. There may be none.
    DropMeter(Mac),
    /// Read all meters, then say [`Input::Sampled`].
    Sample,
    /// Tell the asker.
    Reply {
        /// Whom.
        request: RequestId,
        /// What.
        result: Result<Answer, Refusal>,
    },
    /// Tell the asker of a [`ChannelInput`].
    ChannelReply {
        /// Whom.
        request: RequestId,
        /// What.
        result: ChannelResult,
    },
    /// Something about channels.
    Channel(ChannelCommand),
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The credit is durable and the gate is open.
    Granted {
        /// What is left on the account now, rounded down.
        balance: MilliSat,
    },
    /// The gate is closed and the last reading durable.
    Stopped {
        /// What is left on the account, rounded down.
        balance: MilliSat,
    },
}

/// Why a request was refused. Nothing was changed, except by [`Refusal::NoRoom`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The amount is 0, or the account would hold more than [`MilliSat::MAX`].
    #[error("the amount must be above 0, and an account holds at most {} msat", MilliSat::MAX.0)]
    Amount,
    /// A price is too high.
    #[error("the tariff has a price above the limit: lower it in the configuration")]
    Tariff,
    /// A group address, or all zero.
    #[error("this is not the address of a station: give the subscriber's own MAC address")]
    NotAStation,
    /// There is no such account.
    #[error("there is no account with this MAC address: see `bitmesh accounts`")]
    NoAccount,
    /// The disk refused.
    #[error("the database could not be written, so nothing was changed: see the log, make room")]
    NotDurable,
    /// The map is full. The credit is on the account and counts as soon as there is room.
    #[error("the gateway is full: the credit is on the account, the gate opens when there is room")]
    NoRoom,
    /// The identity belongs to another credit.
    #[error("this credit id was used for another amount or account: choose a new one")]
    CreditReused,
    /// The ledger has no room for another account or credit.
    #[error("the ledger is full: put a copy of the database aside and begin a new one")]
    LedgerFull,
    /// More accounts are being changed than the gateway handles at a time.
    #[error("too many accounts are being changed at once: try again")]
    Overloaded,
    /// The account is busy with another change.
    #[error("the account is being changed by another request: try again")]
    Busy,
}
