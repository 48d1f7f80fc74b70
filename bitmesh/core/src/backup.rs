//! What a copy of the channels must hold, so that a seed on a new machine can close them.
//!
//! A line is absolute: a newer one of the same channel replaces an older one, in whatever order
//! they are read. No line holds a secret: without the seed nobody can close with it.

use bitcoin::OutPoint;
use serde::{Deserialize, Serialize};

use crate::channel::message::{Agreement, MessageSignature};
use crate::units::MilliSat;
use crate::wire::{ChannelId, UpdateBody};

/// The version of [`BackedUp`] that this program writes, and the only one that it reads.
pub const BACKUP_FORMAT: u32 = 1;

/// One line of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BackupLine {
    /// The highest key index that was ever used: none of them may be used again.
    Keys {
        /// The index.
        highest_index: u32,
    },
    /// A channel on which something was paid.
    Channel(Box<BackedUp>),
    /// A channel of which nothing is left to claim.
    Over {
        /// Which one.
        channel: ChannelId,
    },
}

/// What it takes to close a channel, beside the seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackedUp {
    /// [`BACKUP_FORMAT`].
    pub format: u32,
    /// Its name: the digest of the agreement.
    pub channel: ChannelId,
    /// Orders the lines of a channel whose updates are the same.
    pub revision: u64,
    /// The index of R, from which the seed derives its secret.
    pub index: u32,
    /// C, R, T and the scripts that change and payout go to, among other things.
    pub agreement: Agreement,
    /// The gateway's, of the agreement.
    pub payee_signature: MessageSignature,
    /// The payer's, of the agreement.
    pub payer_signature: Option<MessageSignature>,
    /// Confirmations of the funding before there is credit.
    pub confirmations: u32,
    /// Height of the newest block at the open.
    pub opened_height: u32,
    /// When it was opened, in seconds since 1970.
    pub opened_unix_s: u64,
    /// The channel's output.
    pub outpoint: OutPoint,
    /// What it holds.
    pub capacity_sat: u64,
    /// The newest update: what it leaves to the payer, and the payer's signature.
    pub newest: UpdateBody,
    /// What had been used of what was paid. A close returns the rest.
    pub charged_msat: MilliSat,
}

impl BackedUp {
    /// Whether this line replaces another of the same channel.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        let order =
            |one: &Self| (std::cmp::Reverse(one.newest.change_sat), one.revision, one.charged_msat);
        order(self) > order(other)
    }
}

/// Why a line of a backup is of no use. The others are used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Another program wrote it.
    #[error("its format is {0}, and this program reads {BACKUP_FORMAT}: use the one that wrote it")]
    Format(u32),
    /// The name is not that of the agreement, or a signature of the gateway's does not hold.
    #[error("the agreement was changed or damaged: take an older copy of this file")]
    Agreement,
    /// The keys are another seed's.
    #[error("its keys are of another seed: make the seed again that belongs to it")]
    OtherSeed,
    /// The update does not hold.
    #[error("the payer's signature does not hold: take an older copy of this file")]
    Update,
}
