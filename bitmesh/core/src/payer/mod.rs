//! The payer: what it accepts, what it signs and when, and what it makes of the gateway's words.
//!
//! ```text
//! SignedOffer ── Limits::accept ──→ Accepted ── Accepted::check ──→ Opened
//!                                               funded: channel::Payer ──→ Purse ──→ Close
//! ```
//!
//! Nothing here trusts the gateway: prices, terms, keys, addresses, counts and closes are compared
//! with what this side knows, and a mismatch is refused before anything is signed.

mod bidding;
mod closing;
mod limits;
mod opening;
mod pace;
mod purse;
mod used;
mod view;

pub use bidding::{Bargaining, BidRefused, MAX_BIDS};
pub use closing::{ClosedRefused, check_closed, check_plan, check_receipt, signed_receipt};
pub use limits::{Accepted, Limits, OfferRefused};
pub use opening::{OpenRefused, OwnSide};
pub use pace::{MAX_STEP_PART, STEP_TIME, min_step};
pub use purse::{Purse, Spending, Warning};
pub use used::Used;
pub use view::{ChainView, NEWS_BLOCKS};

#[cfg(test)]
mod tests;
