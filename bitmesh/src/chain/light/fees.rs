//! What the newest blocks were paid.

use std::collections::VecDeque;

use bitcoin::{BlockHash, FeeRate, Network};

/// Blocks that the estimate rests on: a few hours.
const MAX_BLOCKS: usize = 3;

/// One block in so many is read for its fees: a block is 2 MB, 144 are a day.
pub(super) const EVERY_BLOCKS: u32 = 3;

/// Subsidy at first, in satoshi.
const FIRST_SUBSIDY_SAT: u64 = 5_000_000_000;

/// Feerates of the newest blocks.
#[derive(Debug, Default)]
pub(super) struct Fees(VecDeque<(BlockHash, FeeRate)>);

impl Fees {
    /// Whether this block was looked at.
    pub(super) fn knows(&self, hash: BlockHash) -> bool {
        self.0.iter().any(|(known, _)| *known == hash)
    }

    /// Takes in a block of which nothing but its hash was checked, and its Merkle root.
    pub(super) fn learn(&mut self, network: Network, height: u32, block: &bitcoin::Block) {
        if self.0.len() >= MAX_BLOCKS {
            self.0.pop_front();
        }
        self.0.push_back((block.block_hash(), feerate(network, height, block)));
    }

    /// The middle one; nothing if blocks were paid nothing.
    pub(super) fn estimate(&self) -> Option<FeeRate> {
        let mut rates: Vec<FeeRate> = self.0.iter().map(|(_, rate)| *rate).collect();
        rates.sort_unstable();
        rates.get(rates.len() / 2).copied().filter(|rate| *rate > FeeRate::ZERO)
    }
}

/// What a block's transactions paid, as a whole.
fn feerate(network: Network, height: u32, block: &bitcoin::Block) -> FeeRate {
    let Some(coinbase) = block.txdata.first() else { return FeeRate::ZERO };
    let claimed = coinbase
        .output
        .iter()
        .try_fold(0_u64, |sum, output| sum.checked_add(output.value.to_sat()));
    let fees = claimed.unwrap_or(0).saturating_sub(subsidy(network, height));
    // The coinbase itself pays nothing.
    let weight = block.weight().to_wu().saturating_sub(coinbase.weight().to_wu());
    let per_kwu = fees.saturating_mul(1_000).checked_div(weight).unwrap_or(0);
    FeeRate::from_sat_per_kwu(per_kwu)
}

/// What a block makes from nothing, in satoshi.
fn subsidy(network: Network, height: u32) -> u64 {
    let interval = if network == Network::Regtest { 150 } else { 210_000 };
    FIRST_SUBSIDY_SAT.checked_shr(height / interval).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use bitcoin::constants::genesis_block;
    use bitcoin::{Amount, Transaction, TxOut};

    use super::*;

    fn block(number: u32, fees_sat: u64) -> bitcoin::Block {
        let mut block = genesis_block(Network::Regtest);
        block.header.nonce = number;
        let spend = block.txdata[0].clone();
        block.txdata[0].output[0].value = Amount::from_sat(FIRST_SUBSIDY_SAT / 2 + fees_sat);
        block.txdata.push(Transaction { output: vec![TxOut::NULL; 3], ..spend });
        block
    }

    #[test]
    fn the_subsidy_halves_as_the_network_says() {
        assert_eq!(subsidy(Network::Bitcoin, 209_999), FIRST_SUBSIDY_SAT);
        assert_eq!(subsidy(Network::Bitcoin, 840_000), 312_500_000);
        assert_eq!(subsidy(Network::Regtest, 150), 2_500_000_000);
        assert_eq!(subsidy(Network::Regtest, u32::MAX), 0);
    }

    #[test]
    fn the_middle_of_the_newest_blocks_is_the_estimate() {
        let mut fees = Fees::default();
        assert_eq!(fees.estimate(), None);
        fees.learn(Network::Regtest, 200, &block(0, 0));
        assert_eq!(fees.estimate(), None, "an empty block says nothing");
        for (number, paid) in [(1, 9_000_000), (2, 1_000), (3, 2_000)] {
            fees.learn(Network::Regtest, 200, &block(number, paid));
        }
        let weight = block(3, 0).txdata[1].weight().to_wu() + 4 * 81;
        let middle = FeeRate::from_sat_per_kwu(2_000 * 1_000 / weight);
        let estimate = fees.estimate().unwrap();
        let off = estimate.to_sat_per_kwu().abs_diff(middle.to_sat_per_kwu());
        assert!(off < 50, "{estimate} is not {middle}");
        assert!(fees.knows(block(3, 0).block_hash()) && !fees.knows(block(0, 0).block_hash()));
    }

    #[test]
    fn a_block_that_claims_too_much_or_nothing_is_no_harm() {
        let mut greedy = block(1, 0);
        greedy.txdata[0].output =
            vec![TxOut { value: Amount::from_sat(u64::MAX), ..TxOut::NULL }; 2];
        assert_eq!(feerate(Network::Regtest, 200, &greedy), FeeRate::ZERO);
        let mut empty = block(1, 0);
        empty.txdata.clear();
        assert_eq!(feerate(Network::Regtest, 200, &empty), FeeRate::ZERO);
    }
}
