//! Why a step was refused. Each reason has a name for machines and a line for people.

use bitcoin::{Amount, OutPoint};
use thiserror::Error;

use super::terms::MIN_MARGIN_BLOCKS;
use super::{DUST, MAX_BATCH_CHANNELS, MAX_CAPACITY, MAX_RAW_TX_BYTES, MAX_REFUND_INPUTS};

/// Gives each variant the name that travels in an API's answer.
macro_rules! reasons {
    ($error:ident { $($variant:pat => $reason:literal,)+ }) => {
        impl $error {
            /// The machine-readable name of the reason; it does not change between versions.
            #[must_use]
            pub fn reason(&self) -> &'static str {
                match self {
                    $($variant => $reason,)+
                }
            }
        }
    };
}

/// A key that can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// No point of the curve, no scalar, or not the right number of hex digits.
    #[error("this is no valid key, nonce or signature: send it as hex, a key as 33 bytes")]
    Malformed,
    /// Hardened children have 31 bits.
    #[error("key index {0} is too large: start a new seed")]
    Index(u32),
    /// The chance is below 2⁻¹²⁰.
    #[error("these keys give no usable result: take the next key index")]
    Derivation,
    /// The secret does not belong to the channel.
    #[error("this secret key is not the one in the channel's terms: load the channel's own seed")]
    NotOurs,
}

reasons!(KeyError {
    Self::Malformed => "malformed_key",
    Self::Index(_) => "key_index",
    Self::Derivation => "key_derivation",
    Self::NotOurs => "not_our_key",
});

/// Terms that can't become a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TermsError {
    /// Expiry outside of the heights that a locktime can say.
    #[error("the expiry must be a block height from 1 to 499999999, not {0}")]
    Expiry(u32),
    /// Too little time to close.
    #[error("the margin must be {MIN_MARGIN_BLOCKS} blocks or more, and less than the expiry")]
    Margin(u32),
    /// C and R have the same x coordinate.
    #[error("payer and payee use the same key: each derives a new one for each channel")]
    RepeatedKey,
    /// The bounds contradict each other or the limits.
    #[error(
        "the capacity bounds don't fit: the first update ≤ minimum ≤ maximum ≤ {} sat",
        MAX_CAPACITY.to_sat()
    )]
    Capacity,
    /// The payee could not close with it.
    #[error("the first update must be at least {} sat to pay for a close", .0.to_sat())]
    FirstUpdate(Amount),
    /// A kind of script that could keep a close from being relayed.
    #[error("change, payout and refund go to P2WPKH, P2WSH or P2TR: give such an address")]
    OutputScript,
    /// The keys give nothing usable.
    #[error(transparent)]
    Key(#[from] KeyError),
}

reasons!(TermsError {
    Self::Expiry(_) => "expiry",
    Self::Margin(_) => "margin",
    Self::RepeatedKey => "repeated_key",
    Self::Capacity => "capacity_bounds",
    Self::FirstUpdate(_) => "first_update",
    Self::OutputScript => "output_script",
    Self::Key(_) => "key",
});

/// A funding that does not open the channel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FundingError {
    /// The gateway's address is not the one that the terms give.
    #[error("the gateway gave another address than the agreed keys and expiry give: don't pay it")]
    WrongAddress,
    /// Over the limit.
    #[error("the transaction has {0} bytes, at most {MAX_RAW_TX_BYTES} are read")]
    TooLong(usize),
    /// No transaction.
    #[error("this is no transaction: send it raw, as the wallet signed it")]
    Malformed,
    /// A coinbase output can't be spent for 100 blocks.
    #[error("a coinbase transaction can't fund a channel: send the coins once more first")]
    Coinbase,
    /// No output to the address.
    #[error("no output of this transaction pays to the channel's address")]
    NoOutput,
    /// Too little or too much.
    #[error(
        "the channel got {} sat and takes {} to {}: refund this one, open a new channel",
        .got.to_sat(), .min.to_sat(), .max.to_sat()
    )]
    Capacity {
        /// What the output holds.
        got: Amount,
        /// The least that was agreed.
        min: Amount,
        /// The most that was agreed.
        max: Amount,
    },
    /// Another transaction, or another output, than the one that is pinned.
    #[error("the channel is pinned to another outpoint: a different funding needs a new channel")]
    OtherOutpoint,
}

reasons!(FundingError {
    Self::WrongAddress => "wrong_address",
    Self::TooLong(_) => "too_long",
    Self::Malformed => "malformed",
    Self::Coinbase => "coinbase",
    Self::NoOutput => "no_output",
    Self::Capacity { .. } => "capacity",
    Self::OtherOutpoint => "other_outpoint",
});

/// An update that the payee refuses. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UpdateError {
    /// Not 65 bytes of signature, or not hex.
    #[error("an update is a change in satoshi and 65 bytes of signature: send it so")]
    Malformed,
    /// Neither 0x83, nor 0x82 with change 0.
    #[error("hash type 0x{got:02x} where 0x{want:02x} is due: sign the update again")]
    HashType {
        /// What the signature ends with.
        got: u8,
        /// What this change asks for.
        want: u8,
    },
    /// The update is for another outpoint.
    #[error("this update is for outpoint {0}, which is not this channel's")]
    WrongChannel(OutPoint),
    /// The change is above the capacity.
    #[error("a change of {} sat is above the capacity of {} sat", .change.to_sat(), .capacity.to_sat())]
    OverCapacity {
        /// What the update leaves to the payer.
        change: Amount,
        /// What there is.
        capacity: Amount,
    },
    /// The change could not be relayed.
    #[error("a change of {} sat is dust: leave {} sat or more, or 0", .0.to_sat(), DUST.to_sat())]
    DustChange(Amount),
    /// The first update does not pay for a close.
    #[error("the first update must credit {} sat or more, not {}", .min.to_sat(), .credit.to_sat())]
    FirstTooSmall {
        /// What it credits.
        credit: Amount,
        /// What was agreed.
        min: Amount,
    },
    /// The payee holds one that is as new or newer.
    #[error("the gateway holds an update with change {} sat: go on from that one", .newest_change.to_sat())]
    Stale {
        /// Change of the newest update.
        newest_change: Amount,
    },
    /// Too close to the expiry.
    #[error("the channel takes no credit from block {0} on: close it and open a new one")]
    Expiring(u32),
    /// The signature is not the payer's, or over something else.
    #[error("the signature does not hold for this channel and this change: sign the update again")]
    Forged,
}

reasons!(UpdateError {
    Self::Malformed => "malformed",
    Self::HashType { .. } => "hash_type",
    Self::WrongChannel(_) => "wrong_channel",
    Self::OverCapacity { .. } => "over_capacity",
    Self::DustChange(_) => "dust_change",
    Self::FirstTooSmall { .. } => "first_too_small",
    Self::Stale { .. } => "stale",
    Self::Expiring(_) => "expiring",
    Self::Forged => "forged",
});

/// Something that the payer does not sign.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PayError {
    /// More than the payer counted and one step.
    #[error("asked to sign {} sat where own count and one step allow {}", .asked.to_sat(), .allowed.to_sat())]
    BeyondCount {
        /// What is asked.
        asked: Amount,
        /// What the payer's own count allows.
        allowed: Amount,
    },
    /// More than there is.
    #[error("asked to sign {} sat of a channel of {}: open a new one", .asked.to_sat(), .capacity.to_sat())]
    OverCapacity {
        /// What is asked.
        asked: Amount,
        /// What there is.
        capacity: Amount,
    },
    /// The payer already signed that much.
    #[error("{} sat are signed already: only a larger credit can be signed", .signed.to_sat())]
    NotMore {
        /// The newest credit.
        signed: Amount,
    },
    /// The gateway would refuse it.
    #[error("the first update must credit {} sat or more", .min.to_sat())]
    FirstTooSmall {
        /// What was agreed.
        min: Amount,
    },
    /// The rest could not be relayed as an output.
    #[error("a change of {} sat is dust: leave {} sat or more, or nothing", .0.to_sat(), DUST.to_sat())]
    DustChange(Amount),
    /// The gateway's newest update is not one that this payer signed.
    #[error("the gateway's newest update is not this payer's: {0}")]
    NotOurs(UpdateError),
    /// The secret is not the channel's.
    #[error(transparent)]
    Key(#[from] KeyError),
}

reasons!(PayError {
    Self::BeyondCount { .. } => "beyond_count",
    Self::OverCapacity { .. } => "over_capacity",
    Self::NotMore { .. } => "not_more",
    Self::FirstTooSmall { .. } => "first_too_small",
    Self::DustChange(_) => "dust_change",
    Self::NotOurs(_) => "not_our_update",
    Self::Key(_) => "key",
});

/// A close that can't be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CloseError {
    /// Nothing was paid: only the cooperative close and the refund are left.
    #[error("channel {0} has no update: nothing to claim; close together or leave the refund")]
    NoUpdate(OutPoint),
    /// Charges beyond what was paid.
    #[error("charges of {} sat are above the credit of {} sat", .charges.to_sat(), .credit.to_sat())]
    OverCredit {
        /// What is charged.
        charges: Amount,
        /// What was paid.
        credit: Amount,
    },
    /// The fee leaves less than an output.
    #[error("a fee of {} sat leaves no output of {} sat: use a lower feerate", .fee.to_sat(), DUST.to_sat())]
    FeeTooHigh {
        /// What the close would cost.
        fee: Amount,
    },
    /// The batch is empty.
    #[error("a batch needs a channel")]
    EmptyBatch,
    /// The batch is over a limit.
    #[error("a batch takes {MAX_BATCH_CHANNELS} channels and 10000 vB at most: split it")]
    BatchTooLarge,
    /// The same channel twice.
    #[error("channel {0} is in the batch twice")]
    Repeated(OutPoint),
    /// The funding is not confirmed.
    #[error("the funding of {0} is not confirmed: close it alone, or later")]
    Unconfirmed(OutPoint),
    /// The plan is for another channel.
    #[error("this plan closes another channel")]
    WrongChannel,
    /// The payee charges more than the payer counted.
    #[error("the gateway charges {} sat, own count and one step allow {}", .charges.to_sat(), .allowed.to_sat())]
    BeyondCount {
        /// What is charged.
        charges: Amount,
        /// What the payer's own count allows.
        allowed: Amount,
    },
    /// The plan is for the other way of signing.
    #[error("this plan is signed over the other spend path: make a new plan")]
    WrongPath,
    /// A signature of the other side does not hold.
    #[error("the payer's signature does not hold for this close: ask again, with new nonces")]
    Forged,
    /// A nonce or signature that can't be read.
    #[error(transparent)]
    Key(#[from] KeyError),
}

reasons!(CloseError {
    Self::NoUpdate(_) => "no_update",
    Self::OverCredit { .. } => "over_credit",
    Self::FeeTooHigh { .. } => "fee_too_high",
    Self::EmptyBatch => "empty_batch",
    Self::BatchTooLarge => "batch_too_large",
    Self::Repeated(_) => "repeated",
    Self::Unconfirmed(_) => "unconfirmed",
    Self::WrongChannel => "wrong_channel",
    Self::BeyondCount { .. } => "beyond_count",
    Self::WrongPath => "wrong_path",
    Self::Forged => "forged",
    Self::Key(_) => "key",
});

/// A refund that can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RefundError {
    /// No output, or too many.
    #[error("a refund spends 1 to {MAX_REFUND_INPUTS} outputs: split it")]
    Inputs,
    /// The same output twice.
    #[error("output {0} is in the refund twice")]
    Repeated(OutPoint),
    /// The outputs are no possible amount.
    #[error("the outputs add up to more bitcoin than there is: check their amounts")]
    Amount,
    /// Nothing would be left.
    #[error("a fee of {} sat leaves nothing to refund: use a lower feerate", .fee.to_sat())]
    FeeTooHigh {
        /// What the refund would cost.
        fee: Amount,
    },
    /// The secret is not the channel's.
    #[error(transparent)]
    Key(#[from] KeyError),
}

reasons!(RefundError {
    Self::Inputs => "inputs",
    Self::Repeated(_) => "repeated",
    Self::Amount => "amount",
    Self::FeeTooHigh { .. } => "fee_too_high",
    Self::Key(_) => "key",
});

/// A message that does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// The signature is not that key's over these fields.
    #[error("the signature does not hold for this message and this key")]
    Forged,
    /// The agreement is not what was offered.
    #[error("{0} of the agreement is not as offered: don't take it, ask for a new offer")]
    NotAsOffered(&'static str),
}

reasons!(MessageError {
    Self::NotAsOffered(_) => "not_as_offered",
    Self::Forged => "forged",
});
