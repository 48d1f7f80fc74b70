//! The work in a block.

use bitcoin::Network;
use bitcoin::block::Header;

/// The least difficulty of a block that is believed on the main network. It has not been below
/// since 2020, so a forged block costs as much as a real one of then.
pub const MIN_MAINNET_DIFFICULTY: u128 = 10_000_000_000_000;

/// Whether the block has the work that it claims, and claims enough.
pub(super) fn has_work(header: &Header, network: Network) -> bool {
    let params = network.params();
    let claimed = header.target();
    let least = if network == Network::Bitcoin { MIN_MAINNET_DIFFICULTY } else { 0 };
    header.validate_pow(claimed).is_ok()
        && claimed <= params.max_attainable_target
        && claimed.difficulty(params) >= least
}

#[cfg(test)]
mod tests {
    use bitcoin::constants::genesis_block;

    use super::*;

    #[test]
    fn a_block_of_another_chain_or_of_old_times_is_not_work_enough_for_the_main_network() {
        // Its first block was as easy as a block can be.
        assert!(!has_work(&genesis_block(Network::Bitcoin).header, Network::Bitcoin));
        let regtest = genesis_block(Network::Regtest).header;
        assert!(has_work(&regtest, Network::Regtest));
        assert!(!has_work(&regtest, Network::Bitcoin));
        assert!(!has_work(&regtest, Network::Signet));
    }

    #[test]
    fn a_claim_without_work_is_none() {
        let mut header = genesis_block(Network::Signet).header;
        assert!(has_work(&header, Network::Signet));
        header.nonce += 1;
        assert!(!has_work(&header, Network::Signet));
    }
}
