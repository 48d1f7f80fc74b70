//! What a gateway makes of blocks that do not come.
//!
//! Who asks strangers for blocks can be kept from the newest ones: the chain goes on, and with it
//! the time in which a payer may take a refund. So a long silence stops new credit, and closes are
//! made as if blocks had come all the while, and faster than they do.

use std::time::Duration;

use super::refusal::Refused;
use crate::gateway::Gateway;

/// Without a new block for this long, nothing new is credited. By chance that happens once in two
/// months or so.
pub const MAX_BLOCK_SILENCE: Duration = Duration::from_secs(90 * 60);

/// How fast blocks are taken to come that are not seen: faster than the ten minutes that they take.
pub const UNSEEN_BLOCK_EVERY: Duration = Duration::from_secs(6 * 60);

/// The longest silence that the machine's clock alone is believed for closes. A clock that is wrong
/// must not close every channel.
pub const MAX_CLOCK_SILENCE: Duration = Duration::from_secs(6 * 3_600);

/// When the newest block came, if others may be withheld.
#[derive(Clone, Copy, Debug)]
pub(super) struct Withheld {
    /// The gateway's own count, since a new height was heard of.
    heard: Duration,
    /// By the block's own time and the machine's clock: this counts over a restart.
    by_clock: Duration,
}

impl Withheld {
    fn longest(self) -> Option<Duration> {
        let silence = self.heard.max(self.by_clock);
        (silence >= MAX_BLOCK_SILENCE).then_some(silence)
    }
}

impl Gateway {
    fn withheld(&self) -> Option<Withheld> {
        let chain = &self.channels.chain;
        let by_clock = chain.tip_age?;
        Some(Withheld { heard: self.now.since(chain.news), by_clock })
    }

    /// How long no block has come, if that is too long and others may be withheld.
    #[must_use]
    pub fn block_silence(&self) -> Option<Duration> {
        self.withheld()?.longest()
    }

    /// Nothing is credited while blocks may be withheld.
    pub(super) fn check_silence(&self) -> Result<(), Refused> {
        self.block_silence().map_or(Ok(()), |_| Err(Refused::NoBlocks))
    }

    /// The height by which closes must be on their way: the tip, or higher if blocks may be
    /// withheld.
    pub(super) fn closing_height(&self, tip: u32) -> u32 {
        let Some(withheld) = self.withheld() else { return tip };
        if withheld.longest().is_none() {
            return tip;
        }
        let believed = withheld.heard.max(withheld.by_clock.min(MAX_CLOCK_SILENCE));
        let unseen = believed.as_secs() / UNSEEN_BLOCK_EVERY.as_secs();
        tip.saturating_add(u32::try_from(unseen).unwrap_or(u32::MAX))
    }
}
