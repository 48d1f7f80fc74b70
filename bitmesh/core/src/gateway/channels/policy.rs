//! What the operator decides about channels.

use std::fmt;

use bitcoin::{Amount, Network};

use crate::channel::{OutputScript, Seed, TermsError};

/// Where closes pay the gateway. The same index always gives the same script.
pub trait Payout: fmt::Debug + Send {
    /// The script of the channel whose keys have this index. Indexes are durable before the
    /// script is shown to anybody, and none comes twice.
    ///
    /// # Errors
    ///
    /// [`TermsError`] if there is none of this index.
    fn script(&self, index: u32) -> Result<OutputScript, TermsError>;
}

/// The same for all channels.
impl Payout for OutputScript {
    fn script(&self, _: u32) -> Result<OutputScript, TermsError> {
        Ok(self.clone())
    }
}

/// The operator's terms for new channels, and the secret behind all of them.
#[derive(Debug)]
pub struct ChannelPolicy {
    /// The chain.
    pub network: Network,
    /// Where the keys come from. It never changes while there are channels.
    pub seed: Seed,
    /// Where closes of new channels pay to.
    pub payout: Box<dyn Payout>,
    /// The least that a channel holds.
    pub min_capacity: Amount,
    /// The most that a channel holds.
    pub max_capacity: Amount,
    /// What the first update credits at least, if a close is not dearer.
    pub min_first_update: Amount,
    /// How many times the present feerate the first update pays for a close.
    pub headroom: u64,
    /// The most that the payer's change pays to the fee of a cooperative close.
    pub max_close_fee: Amount,
    /// Blocks from the open to the expiry.
    pub lock_blocks: u32,
    /// Blocks before the expiry in which there is no credit.
    pub margin_blocks: u32,
    /// Confirmations of the funding before there is credit without limit.
    pub confirmations: u32,
    /// What is credited before that; nothing without it. Any unconfirmed funding can be replaced.
    pub early: Option<EarlyCredit>,
}

/// Credit before the funding is confirmed: what the operator would rather lose than have payers
/// wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlyCredit {
    /// The most that one channel gets.
    pub per_channel: Amount,
    /// The most that all get together, what fundings took back within a day included.
    pub in_total: Amount,
}
