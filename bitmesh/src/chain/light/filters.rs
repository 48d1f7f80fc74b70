//! Filters that wait for their reader.

use std::collections::BTreeMap;

use bitcoin::bip158::BlockFilter;
use bitcoin::consensus::Decodable as _;
use bitcoin::{BlockHash, Script, VarInt};

use crate::chain::{Block, CURSOR_BLOCKS};

/// Filters that are kept, at most: two weeks of blocks, some 50 MB. What has no room is asked for
/// again when it is needed.
pub const MAX_FILTERS: usize = 2_016;

/// The filters of blocks, by height.
#[derive(Debug, Default)]
pub(super) struct Filters(BTreeMap<u32, (BlockHash, BlockFilter)>);

impl Filters {
    /// Keeps a filter, if there is room. Says whether there is.
    pub(super) fn keep(&mut self, block: Block, filter: BlockFilter) -> bool {
        let has_room = self.0.len() < MAX_FILTERS || self.0.contains_key(&block.height);
        if has_room {
            self.0.insert(block.height, (block.hash, filter));
        }
        has_room
    }

    /// The filter of this block.
    pub(super) fn get(&self, block: Block) -> Option<&BlockFilter> {
        let (hash, filter) = self.0.get(&block.height)?;
        (*hash == block.hash).then_some(filter)
    }

    /// The block at this height was read: those far below are not asked for again.
    pub(super) fn was_read(&mut self, height: u32) {
        let kept = u32::try_from(CURSOR_BLOCKS).unwrap_or(u32::MAX);
        self.0 = self.0.split_off(&height.saturating_sub(kept));
    }
}

/// Whether the block may have one of these scripts, in what it pays or spends. If the filter makes
/// no sense, it may.
pub(super) fn may_have<'a>(
    filter: &BlockFilter,
    block: &BlockHash,
    scripts: impl Iterator<Item = &'a Script>,
) -> bool {
    // Each element takes at least 20 bits. More than there can be would overflow the reader.
    let elements = VarInt::consensus_decode(&mut filter.content.as_slice());
    let most = u64::try_from(filter.content.len()).unwrap_or(u64::MAX);
    if !elements.is_ok_and(|VarInt(elements)| elements <= most) {
        return true;
    }
    filter.match_any(block, scripts.map(Script::as_bytes)).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use bitcoin::bip158::BlockFilterWriter;
    use bitcoin::constants::genesis_block;
    use bitcoin::hashes::Hash as _;
    use bitcoin::{Network, ScriptBuf};

    use super::*;

    fn block(height: u32) -> Block {
        Block {
            height,
            hash: BlockHash::from_byte_array([u8::try_from(height % 256).unwrap(); 32]),
        }
    }

    fn filter() -> BlockFilter {
        BlockFilter::new(&[])
    }

    #[test]
    fn filters_are_bounded_and_what_was_read_makes_room() {
        let mut filters = Filters::default();
        let most = u32::try_from(MAX_FILTERS).unwrap();
        for height in 0..most {
            assert!(filters.keep(block(height), filter()));
        }
        assert!(!filters.keep(block(most), filter()));
        assert!(filters.get(block(most)).is_none());
        assert!(filters.keep(block(5), filter()), "a block may be replaced");
        let other = Block { height: 5, ..block(6) };
        assert!(filters.get(other).is_none(), "it is another block's");
        filters.was_read(1_000);
        assert!(filters.get(block(1_000 - 145)).is_none());
        assert!(filters.get(block(1_000 - 144)).is_some());
        assert!(filters.keep(block(most), filter()));
    }

    #[test]
    fn a_filter_tells_what_is_in_its_block_and_nonsense_hides_nothing() {
        let genesis = genesis_block(Network::Regtest);
        let hash = genesis.block_hash();
        let paid = genesis.txdata[0].output[0].script_pubkey.clone();
        let mut content = Vec::new();
        let mut writer = BlockFilterWriter::new(&mut content, &genesis);
        writer.add_output_scripts();
        writer.finish().unwrap();
        let filter = BlockFilter::new(&content);
        let other = ScriptBuf::from_bytes(vec![1, 2, 3]);
        assert!(may_have(&filter, &hash, [paid.as_script(), &other].into_iter()));
        assert!(!may_have(&filter, &hash, [other.as_script()].into_iter()));
        assert!(!may_have(&filter, &hash, std::iter::empty()));
        for nonsense in [vec![], vec![0xff; 9], vec![5], vec![0xfd, 0xff, 0xff, 1], vec![3, 0xff]] {
            assert!(may_have(&BlockFilter::new(&nonsense), &hash, [paid.as_script()].into_iter()));
        }
    }
}
