//! What a close did, from the block alone.

use anyhow::{Result, ensure};
use bitcoin::{OutPoint, ScriptBuf};

use super::market::{Market, paid, spender};

/// Virtual size of an output that pays to a Taproot script.
const P2TR_OUTPUT_VBYTES: u64 = 43;

/// A channel, as the block is looked at for it.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The channel's output.
    pub outpoint: OutPoint,
    /// What it holds, in satoshi.
    pub capacity: u64,
    /// Where the payer's side goes.
    pub change: ScriptBuf,
    /// Bytes that were carried, by a counter of the test's own.
    pub bytes: u64,
}

impl Expected {
    /// What the bytes cost, in whole satoshi.
    #[must_use]
    pub const fn charge(&self) -> u64 {
        self.bytes.div_ceil(Market::BYTES_PER_SAT)
    }

    /// Checks a cooperative close: the charge, rounded up, and the rest less the fee. Gives the
    /// fee.
    ///
    /// # Errors
    ///
    /// Fails if a satoshi went elsewhere.
    pub fn closed_together(&self, market: &Market, block: &bitcoin::Block) -> Result<u64> {
        let tx = spender(block, self.outpoint)?;
        ensure!(tx.input.len() == 1 && tx.output.len() <= 2, "{tx:?}");
        let payout = paid(&tx, &market.payout.script_pubkey());
        let returned = paid(&tx, &self.change);
        let fee = self.capacity - tx.output.iter().map(|out| out.value.to_sat()).sum::<u64>();
        ensure!(payout == self.charge(), "{payout} sat for {} bytes: {tx:?}", self.bytes);
        ensure!(payout + returned + fee == self.capacity, "somebody else is paid: {tx:?}");
        Ok(fee)
    }

    /// Checks a unilateral close by an update that credits `credit`: what the update leaves, the
    /// charge, and what was not used less the cost of its output. Gives the fee.
    ///
    /// # Errors
    ///
    /// Fails if a satoshi went elsewhere.
    pub fn closed_alone(
        &self,
        market: &Market,
        block: &bitcoin::Block,
        credit: u64,
    ) -> Result<u64> {
        let tx = spender(block, self.outpoint)?;
        ensure!(tx.input.len() == 1 && tx.output.len() == 3, "{tx:?}");
        let left = &tx.output[0];
        ensure!(left.script_pubkey == self.change, "the update's change goes elsewhere: {tx:?}");
        ensure!(left.value.to_sat() == self.capacity - credit, "not the newest update: {tx:?}");
        let payout = paid(&tx, &market.payout.script_pubkey());
        let returned = paid(&tx, &self.change) - left.value.to_sat();
        let fee = self.capacity - tx.output.iter().map(|out| out.value.to_sat()).sum::<u64>();
        ensure!(payout + returned + fee == credit, "somebody else is paid: {tx:?}");
        let cost = (credit - self.charge()) - returned;
        let vbytes = u64::try_from(tx.vsize())?;
        // The output that returns is paid for at the feerate of the whole, each rounded up.
        let least = (P2TR_OUTPUT_VBYTES * (fee - 1)).div_ceil(vbytes);
        let most = (P2TR_OUTPUT_VBYTES * fee).div_ceil(vbytes);
        ensure!((least..=most).contains(&cost), "{cost} sat kept for {fee} sat of fee: {tx:?}");
        Ok(fee)
    }
}
