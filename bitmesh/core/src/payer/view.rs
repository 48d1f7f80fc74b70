//! How high the payer believes the chain to be. It need not have a node.

use bitcoin::Network;

/// Blocks that the gateway may know of, and the payer not yet.
pub const NEWS_BLOCKS: u32 = 6;

/// A block whose height and time are known: the halving of 2024.
const KNOWN_HEIGHT: u32 = 840_000;
const KNOWN_UNIX_S: u64 = 1_713_571_767;
/// Time between blocks that the difficulty aims at.
const BLOCK_S: u64 = 600;
/// One block in so many that came more or less than the clock says, at most.
const DRIFT_PART: u32 = 50;
/// How far a clock and the luck of a few days are off, in blocks.
const LUCK_BLOCKS: u32 = 144;

/// The chain's height as the payer knows it, from something other than the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainView {
    /// The height.
    pub height: u32,
    /// By how many blocks it may be off.
    pub slack: u32,
}

impl ChainView {
    /// A node, or a person, said so.
    #[must_use]
    pub const fn told(height: u32) -> Self {
        Self { height, slack: NEWS_BLOCKS }
    }

    /// By the clock: good to a week or two on the main network, and unknown elsewhere.
    #[must_use]
    pub fn by_clock(network: Network, now_unix_s: u64) -> Option<Self> {
        if network != Network::Bitcoin {
            return None;
        }
        let blocks = now_unix_s.saturating_sub(KNOWN_UNIX_S) / BLOCK_S;
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        let slack = (blocks / DRIFT_PART).saturating_add(LUCK_BLOCKS);
        Some(Self { height: KNOWN_HEIGHT.saturating_add(blocks), slack })
    }

    /// The highest expiry of a channel that is locked for so many blocks from now.
    #[must_use]
    pub const fn latest_expiry(&self, lock_blocks: u32) -> u32 {
        self.height.saturating_add(lock_blocks).saturating_add(self.slack)
    }

    /// Whether a channel whose last call is at this height can still be paid through.
    #[must_use]
    pub const fn is_before(&self, last_call: u32) -> bool {
        self.height.saturating_sub(self.slack) < last_call
    }
}
