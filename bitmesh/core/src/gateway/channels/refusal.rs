//! Why the gateway refuses what is asked about a channel.

use bitcoin::Txid;
use thiserror::Error;

use super::{MAX_BLOCK_SILENCE, MAX_LIVE_CHANNELS, MAX_RESUMES, MAX_UNFUNDED_PER_STATION};
use crate::channel::{CloseError, FundingError, MessageError, TermsError, UpdateError};
use crate::wire::ApiError;

/// A refusal. Nothing was changed, unless it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Refused {
    #[error("this gateway sells no channels: pay by Lightning, or ask the operator")]
    ChannelsOff,
    #[error("the gateway can't see the bitcoin chain now: try again later")]
    ChainUnavailable,
    #[error(
        "no block came for {} minutes, and some may be hidden from the gateway: try again after the \
         next one",
        MAX_BLOCK_SILENCE.as_secs() / 60
    )]
    NoBlocks,
    #[error("there is no such channel: open one")]
    NoChannel,
    #[error("this is not the address of a station: connect from the gateway's own network")]
    NotAStation,
    #[error("these prices can't be sold: lower them in the configuration")]
    Tariff,
    #[error("a close costs more than a channel may hold at present: try again when fees are lower")]
    FeesTooHigh,
    #[error("this offer is not one of this gateway's: ask for a new one")]
    ForgedOffer,
    #[error("the offer is no longer valid: ask for a new one")]
    OfferExpired,
    #[error("this gateway's prices are fixed: take the offer, or leave it")]
    NoBargaining,
    #[error("the bid is on another offer than the one sent with it: bid on the newest one")]
    OtherOffer,
    #[error("a bid names prices, each 0 or more, and leaves the speeds as they were offered")]
    BidPrices,
    #[error("this bargain is in another round: bid on the newest offer, one round higher")]
    OtherRound,
    #[error("this bargain is over: take its last offer, or ask for a new one")]
    BargainOver,
    #[error("this gateway has no room for another bargain: take the offer, or try later")]
    TooManyBargains,
    #[error("this key was used before: each channel needs new keys")]
    RepeatedKey,
    #[error("the change can't go to the gateway's own address: give one of yours")]
    ChangeScript,
    #[error("this station has an open channel: use it, or close it first")]
    OneChannel,
    #[error(
        "{MAX_UNFUNDED_PER_STATION} channels of this station wait for their funding: fund one of \
         them, or wait until they lapse"
    )]
    TooManyUnfunded,
    #[error("the gateway has no room for another channel ({MAX_LIVE_CHANNELS} at most): try later")]
    TooManyChannels,
    #[error("the gateway's ledger is full: its operator must begin a new one")]
    LedgerFull,
    #[error("the gateway's disk could not be written, so nothing was changed: try again")]
    NotDurable,
    #[error(
        "the gateway's disk could not be written: the close is tried again, but an agent that dies \
         before that forgets it: see `bitmesh doctor`, and ask again"
    )]
    CloseNotDurable,
    #[error("another request of this channel is being handled: try again")]
    Busy,
    #[error("too many requests wait for this channel: try again")]
    Overloaded,
    #[error("the agreement is not countersigned: send the funding request first")]
    NotAgreed,
    #[error("no funding of this channel was seen yet: broadcast it, or have it relayed")]
    Unfunded,
    #[error("the funding has {have} of {required} confirmations: wait for the next block")]
    Unconfirmed { have: u32, required: u32 },
    #[error(
        "no more than {} sat are credited before the funding is confirmed: send it again when it is",
        .0.to_sat()
    )]
    UnconfirmedBeyond(bitcoin::Amount),
    #[error("the channel is being closed and takes no updates: complete the close, open a new one")]
    Closing,
    #[error("the channel is closed by {0}")]
    Closed(Txid),
    #[error("the signature does not hold for this message and this key")]
    ForgedMessage,
    #[error(
        "the challenge is not this station's newest of the channel, or too old: ask for another"
    )]
    Challenge,
    #[error("this proof names another address than it was sent from: sign the challenge's own")]
    OtherStation,
    #[error("this channel came back under another address {MAX_RESUMES} times: close it")]
    TooManyResumes,
    #[error("there is no offer to close for this signature: ask for one, then sign it")]
    NoCloseOffer,
    #[error("the account would hold more than the gateway can count: close and open a new channel")]
    Amount,
    #[error("the update counts, but the gateway is full: the gate opens when there is room")]
    NoRoom,
}

impl Refused {
    const fn reason(self) -> &'static str {
        match self {
            Self::ChannelsOff => "channels_off",
            Self::ChainUnavailable | Self::NoBlocks => "chain_unavailable",
            Self::NoChannel => "no_channel",
            Self::NotAStation => "not_a_station",
            Self::Tariff => "tariff",
            Self::FeesTooHigh => "fees_too_high",
            Self::ForgedOffer => "forged_offer",
            Self::OfferExpired => "offer_expired",
            Self::NoBargaining => "no_bargaining",
            Self::OtherOffer => "other_offer",
            Self::BidPrices => "bid_prices",
            Self::OtherRound => "other_round",
            Self::BargainOver => "bargain_over",
            Self::TooManyBargains => "too_many_bargains",
            Self::RepeatedKey => "repeated_key",
            Self::ChangeScript => "output_script",
            Self::OneChannel => "one_channel",
            Self::TooManyUnfunded | Self::TooManyChannels => "too_many_channels",
            Self::LedgerFull => "ledger_full",
            Self::NotDurable | Self::CloseNotDurable => "not_durable",
            Self::Busy => "busy",
            Self::Overloaded => "overloaded",
            Self::NotAgreed => "not_agreed",
            Self::Unfunded => "unfunded",
            Self::Unconfirmed { .. } | Self::UnconfirmedBeyond(_) => "unconfirmed",
            Self::Closing => "closing",
            Self::Closed(_) => "closed",
            Self::ForgedMessage => "forged",
            Self::Challenge => "challenge",
            Self::OtherStation => "other_station",
            Self::TooManyResumes => "too_many_resumes",
            Self::NoCloseOffer => "no_close_offer",
            Self::Amount => "amount",
            Self::NoRoom => "no_room",
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self::new(refused.reason(), refused)
    }
}

impl From<MessageError> for Refused {
    fn from(_: MessageError) -> Self {
        Self::ForgedMessage
    }
}

/// The channel's own errors keep their reason and their line.
macro_rules! as_they_are {
    ($($error:ident),*) => { $(
        impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                Self::new(error.reason(), error)
            }
        }
    )* };
}

as_they_are!(CloseError, FundingError, TermsError, UpdateError);
