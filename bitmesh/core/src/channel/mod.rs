//! The payment channel: one way, payer to payee, one Taproot outpoint.
//!
//! Both sides know the [`Terms`]; everything else follows from them and from the funding
//! transaction. Each step that moves money takes the state before it and gives the state after:
//!
//! ```text
//! Terms → Opened ── raw funding transaction ──→ Funded ─┬→ Payer ──close──→ PayerClosing
//!            └── refund, after the expiry               └→ Payee ──close──→ PayeeClosing
//! ```
//!
//! - [`Opened`]: the script tree and its address; the payer compares, pays, and can refund.
//! - [`Funded`]: the pinned outpoint and its capacity.
//! - [`Payer`] signs [`Update`]s, never beyond its own count; [`Payee`] checks them and keeps the
//!   newest.
//! - [`PayerClosing`] and [`PayeeClosing`] know no updates any more. They close together
//!   ([`CooperativePlan`]); the payee can close alone ([`PayeeClosing::unilateral`],
//!   [`close_batch`]).
//!
//! Nothing here has a clock, a socket, a file or a source of randomness. Secret nonces of MuSig2
//! are made from bytes that the caller draws ([`NonceSeed`]), used once and never stored.
//!
//! Bitcoin: BIP 340 (signatures), 341 and 342 (Taproot, Tapscript), 327 (MuSig2), 32 (keys),
//! 21 (URI), 65 (expiry), 431 (version 3, TRUC).

mod close;
mod error;
mod fee;
mod funding;
mod hex;
mod keys;
pub mod message;
mod musig;
mod payee;
mod payer;
mod refund;
mod script;
mod sighash;
mod terms;
mod update;

pub use close::{
    CooperativePlan, MAX_BATCH_CHANNELS, PayeeSigning, PayerKeyPathSignature, Settlement,
    SignedClose, SpendPath, close_batch,
};
pub use error::{
    CloseError, FundingError, KeyError, MessageError, PayError, RefundError, TermsError,
    UpdateError,
};
pub use fee::{MAX_FEERATE, MIN_FEERATE, fee_for, first_update_for};
pub use funding::{Funded, MAX_RAW_TX_BYTES, Opened};
pub use keys::{ChannelSecret, MAX_KEY_INDEX, PublicKey, Role, Seed, SessionSecret};
pub use musig::{NonceSeed, PartialSignature, PublicNonce};
pub use payee::{Credited, Payee, PayeeClosing, VerifiedUpdate};
pub use payer::{Count, Payer, PayerClosing};
pub use refund::{MAX_REFUND_INPUTS, SignedRefund, first_refund_block, refund};
pub use script::{FundingScript, OutputScript};
pub use sighash::{update_sighash, update_template};
pub use terms::{MIN_MARGIN_BLOCKS, Terms};
pub use update::{Update, WIRE_SIGNATURE_BYTES};

use bitcoin::Amount;

/// An output below this is not relayed (BIP 341 outputs; the others that are allowed need less).
pub const DUST: Amount = Amount::from_sat(330);

/// The most that a channel can hold: one bitcoin. What is at stake sits in a hot key.
pub const MAX_CAPACITY: Amount = Amount::from_sat(100_000_000);

#[cfg(test)]
mod tests;
