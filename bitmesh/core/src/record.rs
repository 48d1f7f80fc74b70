//! What must survive a power cut.
//!
//! Every record is absolute and carries what orders it: replaying one changes nothing, and a
//! store that keeps the newest of each never goes back.

use bitmesh_common::abi::Mac;
use serde::{Deserialize, Serialize};

use crate::channel_record::{ChannelState, ChannelUpdate, Transfer};
use crate::io::Reading;
use crate::tariff::Tariff;
use crate::units::{BootTime, MilliSat, Units};
use crate::wire::ChannelId;

/// One life of the kernel's meters: from their creation to a reboot or a teardown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Identity of a credit, unique for ever: what makes a repeated credit count once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CreditId(pub u128);

/// Where a credit comes from. The order is the order in which credits are consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditKind {
    /// Given to who can't pay yet, so that a wallet reaches its peers.
    Allowance,
    /// The operator gave it.
    Grant,
    /// Paid by Lightning.
    TopUp,
    /// Paid by an update of a payment channel.
    Channel,
}

/// Money added to an account. Written once, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Its identity.
    pub id: CreditId,
    /// Whose account.
    pub mac: Mac,
    /// Where it comes from.
    pub kind: CreditKind,
    /// How much.
    pub amount: MilliSat,
}

/// The agent's side of one account. The newest revision replaces any older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountState {
    /// Whose account.
    pub mac: Mac,
    /// Counts the changes of this account; orders its records.
    pub revision: u64,
    /// Number of the session; counts up from 1 with each one that is opened.
    pub session: u64,
    /// Whether the session is open.
    pub open: bool,
    /// The prices of the session.
    pub tariff: Tariff,
    /// The life of the meters in which `start` holds.
    pub epoch: Epoch,
    /// From when on time is due.
    pub start: BootTime,
    /// All charges for time before `start`, ever.
    pub time_settled: Units,
}

/// What one meter said. Within an epoch all of it only grows; the largest is the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Whose meter.
    pub mac: Mac,
    /// The life of the meters that it belongs to.
    pub epoch: Epoch,
    /// What the kernel counted in this epoch.
    pub reading: Reading,
    /// All charges for time, ever, at the moment of the reading.
    pub time_charged: Units,
}

/// One line of a batch that is made durable as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Append; ignore if the identity is known.
    Credit(Credit),
    /// Replace, unless the revision is older.
    Account(AccountState),
    /// Replace that epoch's, unless its counters are older.
    Usage(Usage),
    /// The highest key index that was ever used. Replace, unless it is lower.
    KeyIndex(u32),
    /// Replace, unless the revision is older.
    Channel(Box<ChannelState>),
    /// Replace that channel's, unless its change is larger.
    Update(ChannelUpdate),
    /// Append; ignore if the channel's transfer of this number is known.
    Transfer(Transfer),
    /// Remove a channel that never had an update, and its transfers.
    Forget(ChannelId),
    /// Remove an account that never had anything but allowances: its credits and usage with it.
    ForgetAccount(Mac),
}

/// All that was durable when the agent started, in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Every credit, ever.
    pub credits: Vec<Credit>,
    /// The newest state of every account.
    pub accounts: Vec<AccountState>,
    /// The newest usage of every account in every epoch.
    pub usages: Vec<Usage>,
    /// The highest key index that was ever used.
    pub key_index: Option<u32>,
    /// The newest state of every channel.
    pub channels: Vec<ChannelState>,
    /// The newest update of every channel that has one.
    pub updates: Vec<ChannelUpdate>,
    /// Every transfer of a channel, ever.
    pub transfers: Vec<Transfer>,
}
