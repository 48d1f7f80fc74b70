//! What is asked and answered.

use bitcoin::{OutPoint, Txid};
use bitmesh_core::wire::{ChannelId, ChannelWord, SignedReceipt};
use serde::{Deserialize, Serialize};

use crate::mac::{CreditIdText, MacText};

/// What an operator asks of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Add credit, and open the gate.
    Grant {
        /// Whose account.
        mac: MacText,
        /// How much, in msat.
        msat: u64,
        /// The name of the tariff; the account's own, or else `default`, if there is none.
        #[serde(default)]
        tariff: Option<String>,
        /// Identity of the credit: repeated, it counts once.
        id: CreditIdText,
    },
    /// Close the gate; what is left stays on the account.
    Stop {
        /// Whose account.
        mac: MacText,
    },
    /// Tell how the agent does.
    Status {},
    /// List the accounts.
    Accounts {},
    /// List the channels.
    Channels {},
    /// Give the receipt of a channel.
    Receipt {
        /// Which one.
        channel: ChannelId,
    },
    /// Close a channel.
    Close {
        /// Which one; all that can be closed if there is none.
        #[serde(default)]
        channel: Option<ChannelId>,
    },
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    /// The credit is durable and the gate is open.
    Granted {
        /// Whose account.
        mac: MacText,
        /// What is left on it, in msat.
        balance_msat: u64,
        /// Identity of the credit.
        id: CreditIdText,
    },
    /// The gate is closed and what was used is durable.
    Stopped {
        /// Whose account.
        mac: MacText,
        /// What is left on it, in msat.
        balance_msat: u64,
    },
    /// How the agent does.
    Status(Box<Status>),
    /// The accounts.
    Accounts {
        /// CLOCK_BOOTTIME of the readings, in ns.
        at_ns: u64,
        /// One line each, in the order of their addresses.
        accounts: Vec<AccountLine>,
    },
    /// The channels.
    Channels {
        /// One line each, those that are over at the end.
        channels: Vec<ChannelRow>,
    },
    /// What both sides signed.
    Receipt(Box<SignedReceipt>),
    /// These channels are being closed.
    Closing {
        /// Which.
        channels: Vec<ChannelId>,
    },
    /// It was not done.
    Refused {
        /// Why, and how to mend it.
        why: String,
    },
    /// The agent did not say in time whether it was done.
    Unanswered {
        /// Why, and how to mend it.
        why: String,
    },
}

impl Response {
    /// A refusal.
    pub fn refused(why: impl ToString) -> Self {
        Self::Refused { why: why.to_string() }
    }

    /// No answer from the agent itself.
    pub(super) fn unanswered(why: &str) -> Self {
        Self::Unanswered { why: why.to_owned() }
    }
}

/// How the agent does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// For how long it has run, in seconds.
    pub uptime_seconds: u64,
    /// The name of this life of the meters, in hexadecimal.
    pub epoch: String,
    /// Whether it took over a gate that an earlier agent had left.
    pub adopted: bool,
    /// Where programs and maps are pinned.
    pub bpffs: String,
    /// The database.
    pub database: String,
    /// How the LAN interfaces are attached.
    pub attachments: Vec<Attachment>,
    /// What goes past the gate now.
    pub bypasses: Vec<Bypass>,
    /// Accounts that are known.
    pub accounts: u64,
    /// Accounts with an open session.
    pub open: u64,
    /// Those among them that the kernel has no room for.
    pub waiting: u64,
    /// What was not billed, of all accounts together, in this life of the meters.
    pub unbilled: Unbilled,
    /// Batches that wait for the disk.
    pub unwritten_batches: u64,
    /// How the chain is seen; nothing if no channels are sold.
    pub chain: Option<ChainStatus>,
    /// Channels that are not over.
    pub channels: u64,
    /// How the copy of the channels does; nothing if none is kept.
    pub backup: Option<BackupStatus>,
}

/// How the copy of the channels does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStatus {
    /// Lines that wait to be saved: one a channel, at most.
    pub behind: u64,
    /// Why they are not saved, and how to mend it.
    pub why: Option<String>,
}

/// How the chain is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainStatus {
    /// In a word.
    pub state: ChainState,
    /// Height of the newest block that was read.
    pub height: Option<u32>,
    /// Why it is not seen, and how to mend it.
    pub why: Option<String>,
    /// The peers of a light client; nothing if a node is asked.
    pub peers: Option<PeersStatus>,
    /// Minutes without a block, if so many that nothing new is credited.
    pub silent_minutes: Option<u64>,
}

impl ChainStatus {
    /// Before anybody was asked.
    #[must_use]
    pub const fn starting() -> Self {
        let state = ChainState::Starting;
        Self { state, height: None, why: None, peers: None, silent_minutes: None }
    }
}

/// The peers of a light client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeersStatus {
    /// Those that it is connected to.
    pub connected: u64,
    /// Those that must agree on what is in a block.
    pub required: u64,
}

/// How the chain is seen, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChainState {
    /// The node was not asked yet.
    Starting,
    /// Blocks are read that came meanwhile.
    CatchingUp,
    /// The newest block was read.
    Following,
    /// The node does not answer, or not well: there are no new channels meanwhile.
    Unavailable,
}

/// One channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRow {
    /// Its name.
    pub channel: ChannelId,
    /// Whose station.
    pub mac: MacText,
    /// Where it is.
    pub state: ChannelWord,
    /// The same as a sentence.
    pub sentence: String,
    /// Its funding.
    pub outpoint: Option<OutPoint>,
    /// What it holds, in satoshi; 0 without a funding.
    pub capacity_sat: u64,
    /// What the newest update credits, in satoshi.
    pub credited_sat: u64,
    /// What is charged to it, in msat, rounded up.
    pub charged_msat: u64,
    /// What a confirmed close paid to the gateway, in satoshi.
    pub settled_sat: u64,
    /// What a confirmed close paid to the payer, in satoshi.
    pub returned_sat: u64,
    /// What a confirmed close paid to the miners, in satoshi.
    pub fee_sat: u64,
    /// The close that is on its way or confirmed.
    pub closing_txid: Option<Txid>,
    /// From this height on there is no credit, and the gateway closes.
    pub last_call_height: u32,
    /// From the block after this height on the payer can take everything back.
    pub expiry_height: u32,
}

/// How one LAN interface is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name.
    pub interface: String,
    /// Its index; nothing while it is not there, and closed.
    pub ifindex: Option<u32>,
    /// The program for packets from subscribers.
    pub uplink: Option<Hooked>,
    /// The program for packets to subscribers.
    pub downlink: Option<Hooked>,
}

/// How one program is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooked {
    /// `tc` or `xdp`.
    pub hook: String,
    /// `tcx` or `clsact` for `tc`, `native` for `xdp`.
    pub mode: String,
}

/// What goes past the gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bypass {
    /// What was seen.
    pub what: String,
    /// How to mend it.
    pub cure: String,
}

/// What an account is in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The gate is open.
    Open,
    /// The gate is closed; what is left stays on the account.
    Closed,
    /// The gate would be open, but not a whole msat is left.
    Exhausted,
    /// The gate will open as soon as the kernel has room.
    Waiting,
}

/// One account, ever. `credited = balance + charged_for_bytes + charged_for_time + rounding`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountLine {
    /// Whose.
    pub mac: MacText,
    /// What it is in a word.
    pub state: State,
    /// Number of the session, from 1.
    pub session: u64,
    /// The name of its tariff; nothing if the configuration has none with these prices.
    pub tariff: Option<String>,
    /// Price of bytes from the subscriber.
    pub uplink_msat_per_mib: u64,
    /// Price of bytes to the subscriber.
    pub downlink_msat_per_mib: u64,
    /// Price of time.
    pub msat_per_minute: u64,
    /// The most bytes from the subscriber; 0 is no limit.
    pub uplink_kbit_per_s: u64,
    /// The most bytes to the subscriber; 0 is no limit.
    pub downlink_kbit_per_s: u64,
    /// What passes each way when nothing is left; 0 cuts off.
    pub throttle_kbit_per_s: u64,
    /// All that was credited, in msat.
    pub credited_msat: u64,
    /// What is left, in msat, rounded down.
    pub balance_msat: u64,
    /// All that is no longer left, in msat: credited less balance.
    pub charged_msat: u64,
    /// What the bytes cost, in msat, rounded down.
    pub charged_for_bytes_msat: u64,
    /// What the time cost, in msat, rounded down.
    pub charged_for_time_msat: u64,
    /// What rounding took from the other lines, in msat: 0 to 2.
    pub rounding_msat: u64,
    /// Billed bytes from the subscriber.
    pub uplink_bytes: u64,
    /// Billed packets from the subscriber.
    pub uplink_packets: u64,
    /// Billed bytes to the subscriber.
    pub downlink_bytes: u64,
    /// Billed packets to the subscriber.
    pub downlink_packets: u64,
    /// What was not billed in this life of the meters.
    pub unbilled: Unbilled,
}

/// What the kernel dropped or let through free of charge since it has had the meters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unbilled {
    /// Frames dropped because the account was closed.
    pub dropped_closed: u64,
    /// Frames dropped because the balance did not cover them.
    pub dropped_unpaid: u64,
    /// Frames dropped because they were above the speed limit.
    pub dropped_limited: u64,
    /// Frames dropped because they came from another device's address.
    pub dropped_spoofed: u64,
    /// Frames dropped because their bytes could not be counted.
    pub dropped_malformed: u64,
    /// Frames dropped because the CPUs kept changing the same words.
    pub dropped_contended: u64,
    /// Bytes from subscribers that passed free of charge, throttled.
    pub uplink_throttled_bytes: u64,
    /// Bytes to subscribers that passed free of charge, throttled.
    pub downlink_throttled_bytes: u64,
}

impl Unbilled {
    /// Frames that were dropped, for whatever reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped_closed
            .saturating_add(self.dropped_unpaid)
            .saturating_add(self.dropped_limited)
            .saturating_add(self.dropped_spoofed)
            .saturating_add(self.dropped_malformed)
            .saturating_add(self.dropped_contended)
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            dropped_closed: self.dropped_closed.saturating_add(other.dropped_closed),
            dropped_unpaid: self.dropped_unpaid.saturating_add(other.dropped_unpaid),
            dropped_limited: self.dropped_limited.saturating_add(other.dropped_limited),
            dropped_spoofed: self.dropped_spoofed.saturating_add(other.dropped_spoofed),
            dropped_malformed: self.dropped_malformed.saturating_add(other.dropped_malformed),
            dropped_contended: self.dropped_contended.saturating_add(other.dropped_contended),
            uplink_throttled_bytes: self
                .uplink_throttled_bytes
                .saturating_add(other.uplink_throttled_bytes),
            downlink_throttled_bytes: self
                .downlink_throttled_bytes
                .saturating_add(other.downlink_throttled_bytes),
        }
    }
}
