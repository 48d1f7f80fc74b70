//! What the subscriber is told.

use bitcoin::Txid;
use bitmesh_core::Tariff;
use bitmesh_core::wire::{BidVerdict, ChannelId};
use serde::Serialize;

use crate::mac::MacText;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The gateway answered a bid.
    Bid {
        /// What was bid.
        bid: Tariff,
        /// What the gateway said.
        verdict: BidVerdict,
        /// What it asks now.
        asked: Tariff,
    },
    /// An offer was accepted.
    Offer {
        /// Who made it.
        gateway: String,
        /// Its prices.
        tariff: Tariff,
        /// What is paid first.
        first_update_sat: u64,
        /// What goes into the channel.
        capacity_sat: u64,
        /// What counts before the funding is confirmed, at most.
        unconfirmed_sat: u64,
    },
    /// A channel of an earlier run goes on.
    Resumed {
        /// Which.
        channel: ChannelId,
        /// What is paid already.
        paid_sat: u64,
    },
    /// This machine has another address, and the channel pays for it now.
    Moved {
        /// Which.
        channel: ChannelId,
        /// The address.
        mac: MacText,
    },
    /// The channel waits for its funding by somebody's wallet.
    Fund {
        /// Which.
        channel: ChannelId,
        /// Where to pay.
        address: String,
        /// How much.
        amount_sat: u64,
        /// Both, as wallets read it (BIP 21).
        uri: String,
        /// From this block on the payer can take it back alone.
        refund_block: u32,
    },
    /// The gateway relays the funding.
    Relayed {
        /// Which channel.
        channel: ChannelId,
        /// Its funding.
        txid: Txid,
    },
    /// The funding waits for blocks.
    Waiting {
        /// Which channel.
        channel: ChannelId,
        /// How many it has.
        confirmations: u32,
        /// How many it needs.
        required: u32,
    },
    /// Where the count stands.
    Paying(Standing),
    /// Something to know; it goes on.
    Warning {
        /// What.
        message: String,
    },
    /// No more updates; the close begins.
    Closing {
        /// Which channel.
        channel: ChannelId,
        /// Why.
        why: &'static str,
    },
    /// The channel is closed.
    Closed(Settled),
}

/// Where the count stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Billed bytes that were sent.
    pub uplink_bytes: u64,
    /// Billed bytes that were received.
    pub downlink_bytes: u64,
    /// Time since the first payment, in seconds.
    pub seconds: u64,
    /// What that costs.
    pub used_msat: u64,
    /// What is signed.
    pub paid_sat: u64,
    /// What of the budget is not signed yet.
    pub left_sat: u64,
    /// How far ahead is paid.
    pub step_sat: u64,
    /// How fast it is used.
    pub msat_per_second: u64,
    /// How many updates were signed in this run.
    pub updates: u64,
}

/// The end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// Which.
    pub channel: ChannelId,
    /// The close.
    pub txid: Txid,
    /// Billed bytes that this side counted as sent.
    pub uplink_bytes: u64,
    /// Billed bytes that this side counted as received.
    pub downlink_bytes: u64,
    /// What this side counted, and what it conceded.
    pub used_msat: u64,
    /// Of that, what the gateway charged while nobody counted.
    pub unseen_msat: u64,
    /// What the gateway gets, if it is known.
    pub settled_sat: Option<u64>,
    /// What comes back, if it is known.
    pub returned_sat: Option<u64>,
    /// What the miners get, if it is known.
    pub fee_sat: Option<u64>,
}

/// Who is told.
pub trait Watch {
    /// Takes it. What fails here stops nothing.
    fn tell(&mut self, event: &Event);
}
