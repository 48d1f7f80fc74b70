//! Several unilateral closes in one transaction: about 151 vB each.

use std::collections::BTreeSet;

use bitcoin::FeeRate;

use super::unilateral::{SignedClose, close_together};
use crate::channel::error::CloseError;
use crate::channel::payee::PayeeClosing;
use crate::channel::script::OutputScript;

/// The most channels in one batch. 64 inputs with change fit into TRUC's 10,000 vB; with returns
/// there is room for fewer, and the size is checked as well.
pub const MAX_BATCH_CHANNELS: usize = 64;

/// Closes several channels into one payout. Each comes with the confirmations of its funding: an
/// unconfirmed one would keep all the others waiting. Should one input be spent meanwhile, build
/// again without it; late in the margin, close each alone.
///
/// # Errors
///
/// [`CloseError::EmptyBatch`], [`CloseError::BatchTooLarge`], [`CloseError::Unconfirmed`],
/// [`CloseError::Repeated`], and those of [`PayeeClosing::unilateral`].
pub fn close_batch(
    channels: &[(&PayeeClosing, u32)],
    payout: &OutputScript,
    feerate: FeeRate,
) -> Result<SignedClose, CloseError> {
    if channels.is_empty() {
        return Err(CloseError::EmptyBatch);
    }
    if channels.len() > MAX_BATCH_CHANNELS {
        return Err(CloseError::BatchTooLarge);
    }
    let mut seen = BTreeSet::new();
    for (closing, confirmations) in channels {
        let outpoint = closing.channel().outpoint();
        if *confirmations == 0 {
            return Err(CloseError::Unconfirmed(outpoint));
        }
        if !seen.insert(outpoint) {
            return Err(CloseError::Repeated(outpoint));
        }
    }
    let channels: Vec<&PayeeClosing> = channels.iter().map(|(closing, _)| *closing).collect();
    close_together(&channels, payout, feerate)
}
