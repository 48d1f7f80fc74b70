//! What goes into the gateway about channels, and what comes out.

use std::fmt;

use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, Txid};
use bitmesh_common::abi::Mac;

use crate::channel::message::Challenge;
use crate::io::RequestId;
use crate::tariff::Tariff;
use crate::wire::{
    ApiError, BidAnswer, BidRequest, ChallengeResponse, ChannelId, ChannelView, CloseBody,
    CloseCompletion, CloseOffer, Closed, FundingRequest, OpenRequest, OpenResponse, ResumeBody,
    SignedOffer, UpdateAccepted, UpdateBody,
};

/// 32 bytes that the shell drew from the system's source of randomness, for this input alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Entropy(pub [u8; 32]);

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(secret)")
    }
}

/// A fact about channels. Those with a `request` are answered by [`crate::Command::ChannelReply`],
/// each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelInput {
    /// A subscriber asks for an offer. Answer: [`ChannelAnswer::Offer`].
    Offer {
        /// Names the reply.
        request: RequestId,
        /// The prices that it is to be offered.
        tariff: Tariff,
        /// What it sent.
        challenge: Challenge,
        /// Seconds since 1970.
        unix_s: u64,
    },
    /// A subscriber bids below an offer. Answer: [`ChannelAnswer::Bid`].
    Bid {
        /// Names the reply.
        request: RequestId,
        /// The station that asks, by what the shell knows of the sender.
        mac: Mac,
        /// What it sent.
        body: Box<BidRequest>,
        /// The prices of the list, now.
        list: Tariff,
        /// Minutes since midnight, by the operator's clock.
        minute_of_day: u16,
        /// Seconds since 1970.
        unix_s: u64,
    },
    /// A subscriber takes an offer. Answer: [`ChannelAnswer::Opened`].
    Open {
        /// Names the reply.
        request: RequestId,
        /// The station that asks, by what the shell knows of the sender.
        mac: Mac,
        /// What it sent.
        body: Box<OpenRequest>,
        /// Seconds since 1970.
        unix_s: u64,
    },
    /// A payer countersigns, and may have its funding relayed. Answer: [`ChannelAnswer::View`].
    Fund {
        /// Names the reply.
        request: RequestId,
        /// Which channel.
        channel: ChannelId,
        /// What it sent.
        body: FundingRequest,
    },
    /// A payer pays. Answer: [`ChannelAnswer::Accepted`].
    Update {
        /// Names the reply.
        request: RequestId,
        /// Which channel.
        channel: ChannelId,
        /// What it sent.
        body: UpdateBody,
    },
    /// A payer wants to close or to resume and needs a challenge. Answer:
    /// [`ChannelAnswer::Challenge`].
    Challenge {
        /// Names the reply.
        request: RequestId,
        /// Which channel.
        channel: ChannelId,
        /// The station that asks, by what the shell knows of the sender.
        mac: Mac,
        /// The challenge.
        entropy: Entropy,
    },
    /// A payer is back, perhaps with another address. Answer: [`ChannelAnswer::View`], once the
    /// gate of the old address is closed, its last sample durable, and the new gate open.
    Resume {
        /// Names the reply.
        request: RequestId,
        /// Which channel.
        channel: ChannelId,
        /// The station that asks, by what the shell knows of the sender.
        mac: Mac,
        /// What it sent.
        body: Box<ResumeBody>,
    },
    /// A payer asks for a cooperative close. Answer: [`ChannelAnswer::CloseOffer`], once the gate
    /// is closed and the last sample durable.
    Close {
        /// Names the reply.
        request: RequestId,
        /// Which channel.
        channel: ChannelId,
        /// What it sent.
        body: Box<CloseBody>,
        /// For the nonce.
        entropy: Entropy,
    },
    /// A payer signed the cooperative close. Answer: [`ChannelAnswer::Closed`].
    Complete {
        /// Names the reply.
        request: RequestId,
        /// Which channel.
        channel: ChannelId,
        /// What it sent.
        body: Box<CloseCompletion>,
    },
    /// The operator closes one channel, or all. A payer that was heard of lately gets a short
    /// time to close together. Answer: [`ChannelAnswer::Closing`], at once.
    CloseByOperator {
        /// Names the reply.
        request: RequestId,
        /// Which channel; `None` for all.
        channel: Option<ChannelId>,
    },
    /// The newest block. Say it at least once a minute, even if nothing changed: the gateway
    /// knows from it that the chain is watched.
    Tip {
        /// Its height.
        height: u32,
        /// Seconds since 1970, by the machine's clock.
        unix_s: u64,
        /// When the newest block says that it was made, in seconds since 1970, if newer ones may be
        /// withheld from who is asked: then [`super::MAX_BLOCK_SILENCE`] counts.
        block_unix_s: Option<u64>,
    },
    /// The chain can't be seen: there are no new channels until the next [`Self::Tip`]. Sessions
    /// in force go on for [`super::MAX_CHAIN_SILENCE`].
    ChainDown,
    /// What a transaction pays to be confirmed soon.
    FeeRate(FeeRate),
    /// An output to a watched script is in the chain, or in the mempool. Say it again when its
    /// height changes, as by a reorganisation.
    FundingSeen {
        /// Whose script.
        channel: ChannelId,
        /// Where.
        outpoint: OutPoint,
        /// What it holds.
        capacity: Amount,
        /// The block that it is in; `None` in the mempool.
        height: Option<u32>,
    },
    /// This output is neither in the chain nor in the mempool any more: it was replaced.
    FundingGone {
        /// Whose script.
        channel: ChannelId,
        /// Where it was.
        outpoint: OutPoint,
    },
    /// The channel's output is spent. Say it again when its height changes.
    SpendSeen {
        /// Which channel.
        channel: ChannelId,
        /// By which transaction.
        tx: Box<Transaction>,
        /// The block that it is in; `None` in the mempool.
        height: Option<u32>,
    },
    /// A reorganisation undid the spend that was last seen in a block.
    SpendGone {
        /// Which channel.
        channel: ChannelId,
        /// Which transaction.
        txid: Txid,
    },
    /// The node refused a transaction that it was given.
    BroadcastRefused {
        /// Which channel.
        channel: ChannelId,
        /// What it was.
        purpose: Purpose,
        /// What the node said.
        why: String,
    },
}

impl ChannelInput {
    /// Who waits for an answer.
    #[must_use]
    pub const fn request(&self) -> Option<RequestId> {
        match self {
            Self::Offer { request, .. }
            | Self::Bid { request, .. }
            | Self::Open { request, .. }
            | Self::Fund { request, .. }
            | Self::Update { request, .. }
            | Self::Challenge { request, .. }
            | Self::Resume { request, .. }
            | Self::Close { request, .. }
            | Self::Complete { request, .. }
            | Self::CloseByOperator { request, .. } => Some(*request),
            Self::Tip { .. }
            | Self::ChainDown
            | Self::FeeRate(_)
            | Self::FundingSeen { .. }
            | Self::FundingGone { .. }
            | Self::SpendSeen { .. }
            | Self::SpendGone { .. }
            | Self::BroadcastRefused { .. } => None,
        }
    }
}

/// What a transaction is broadcast for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// The payer's funding, relayed.
    Funding,
    /// Both sides close.
    CooperativeClose,
    /// The gateway closes.
    UnilateralClose,
}

/// An obligation about channels. All of them can come again: they are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelCommand {
    /// Say [`ChannelInput::FundingSeen`] and [`ChannelInput::SpendSeen`] for this script, also of
    /// what was said before a restart. If the outpoint is given and is nowhere to be found any
    /// more, say [`ChannelInput::FundingGone`].
    Watch {
        /// Which channel.
        channel: ChannelId,
        /// What its funding pays to.
        script: ScriptBuf,
        /// Its funding, if one was seen.
        outpoint: Option<OutPoint>,
        /// Nothing of it is in a block below this height.
        since_height: u32,
    },
    /// The channel is over, or lapsed.
    Unwatch {
        /// Which channel.
        channel: ChannelId,
    },
    /// Give this transaction to the node. If it refuses, say [`ChannelInput::BroadcastRefused`];
    /// that it knows the transaction already is no refusal.
    Broadcast {
        /// Which channel.
        channel: ChannelId,
        /// What for.
        purpose: Purpose,
        /// The transaction.
        tx: Box<Transaction>,
    },
}

/// What became of a request about channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelAnswer {
    /// The offer.
    Offer(SignedOffer),
    /// What the gateway says to a bid.
    Bid(Box<BidAnswer>),
    /// The channel is durable and watched: it can be funded.
    Opened(OpenResponse),
    /// The state of the channel.
    View(ChannelView),
    /// The update is durable, and the gate knows.
    Accepted(UpdateAccepted),
    /// The challenge.
    Challenge(ChallengeResponse),
    /// What the payer is to sign.
    CloseOffer(CloseOffer),
    /// The close is durable and handed to the node.
    Closed(Closed),
    /// It is durable that these channels are being closed.
    Closing(Vec<ChannelId>),
}

/// The answer to a request about channels.
pub type ChannelResult = Result<Box<ChannelAnswer>, ApiError>;
