//! Where the reader of a chain stands.

use std::collections::VecDeque;

use bitcoin::BlockHash;
use serde::{Deserialize, Serialize};

use super::event::{Block, ChainEvent};

/// Blocks that a cursor remembers: the deepest reorganisation that it survives.
pub const CURSOR_BLOCKS: usize = 144;

/// The newest blocks that were taken in, oldest first, without a gap.
///
/// Store it, as JSON say, together with what its events changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Block>", into = "Vec<Block>")]
pub struct Cursor(VecDeque<Block>);

/// Why a cursor is none, or did not move. It is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// It has no block.
    #[error("a cursor needs at least one block: start anew from a height")]
    Empty,
    /// It has more than [`CURSOR_BLOCKS`].
    #[error("a cursor has at most {CURSOR_BLOCKS} blocks: start anew from a height")]
    TooLong,
    /// The heights do not follow each other.
    #[error("the blocks of a cursor must follow each other: apply every event once, in order")]
    Gap,
    /// A block left the chain that is not the newest of the cursor.
    #[error("block {0} left the chain but is not the newest: apply every event once, in order")]
    NotNewest(BlockHash),
}

impl Cursor {
    /// A cursor at the last of these blocks, which are in order and without a gap.
    ///
    /// # Errors
    ///
    /// Says what is wrong with them.
    pub fn new(blocks: Vec<Block>) -> Result<Self, CursorError> {
        if blocks.is_empty() {
            return Err(CursorError::Empty);
        }
        if blocks.len() > CURSOR_BLOCKS {
            return Err(CursorError::TooLong);
        }
        let follows = |pair: &[Block]| pair[0].height.checked_add(1) == Some(pair[1].height);
        if !blocks.windows(2).all(follows) {
            return Err(CursorError::Gap);
        }
        Ok(Self(blocks.into()))
    }

    /// The newest block, or none after a reorganisation that undid all of them.
    #[must_use]
    pub fn newest(&self) -> Option<Block> {
        self.0.back().copied()
    }

    /// The blocks, oldest first.
    pub fn blocks(&self) -> impl DoubleEndedIterator<Item = Block> + ExactSizeIterator + '_ {
        self.0.iter().copied()
    }

    /// Takes in an event. Those of the mempool do not move a cursor.
    ///
    /// # Errors
    ///
    /// Fails if the event does not follow from where the cursor stands.
    pub fn apply(&mut self, event: &ChainEvent) -> Result<(), CursorError> {
        match event {
            ChainEvent::BlockConnected { block, .. } => self.push(*block),
            ChainEvent::BlockDisconnected { block } => self.pop(*block),
            ChainEvent::MempoolSeen(_) | ChainEvent::MempoolGone { .. } => Ok(()),
        }
    }

    fn push(&mut self, block: Block) -> Result<(), CursorError> {
        let newest = self.newest().ok_or(CursorError::Empty)?;
        if newest.height.checked_add(1) != Some(block.height) {
            return Err(CursorError::Gap);
        }
        if self.0.len() == CURSOR_BLOCKS {
            self.0.pop_front();
        }
        self.0.push_back(block);
        Ok(())
    }

    fn pop(&mut self, block: Block) -> Result<(), CursorError> {
        if self.newest() != Some(block) {
            return Err(CursorError::NotNewest(block.hash));
        }
        // The last one stays: without any, there is nothing to go on from.
        if self.0.len() == 1 {
            return Err(CursorError::Empty);
        }
        self.0.pop_back();
        Ok(())
    }
}

impl TryFrom<Vec<Block>> for Cursor {
    type Error = CursorError;

    fn try_from(blocks: Vec<Block>) -> Result<Self, CursorError> {
        Self::new(blocks)
    }
}

impl From<Cursor> for Vec<Block> {
    fn from(cursor: Cursor) -> Self {
        cursor.0.into()
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    fn block(height: u32) -> Block {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&height.to_le_bytes());
        Block { height, hash: BlockHash::from_byte_array(hash) }
    }

    fn connected(height: u32) -> ChainEvent {
        ChainEvent::BlockConnected { block: block(height), time: 0, matches: Vec::new() }
    }

    #[test]
    fn a_cursor_remembers_a_reorganisation_deep_and_no_more() {
        let mut cursor = Cursor::new(vec![block(0)]).unwrap();
        for height in 1..=500 {
            cursor.apply(&connected(height)).unwrap();
        }
        assert_eq!(cursor.blocks().len(), CURSOR_BLOCKS);
        for height in (500 - 99..=500).rev() {
            let event = ChainEvent::BlockDisconnected { block: block(height) };
            cursor.apply(&event).unwrap();
        }
        assert_eq!(cursor.newest(), Some(block(400)));
    }

    #[test]
    fn an_event_out_of_order_does_not_move_a_cursor() {
        let start = Cursor::new(vec![block(6), block(7)]).unwrap();
        let mut cursor = start.clone();
        assert_eq!(cursor.apply(&connected(9)), Err(CursorError::Gap));
        let wrong = ChainEvent::BlockDisconnected { block: block(6) };
        assert_eq!(cursor.apply(&wrong), Err(CursorError::NotNewest(block(6).hash)));
        assert_eq!(cursor, start);
    }

    #[test]
    fn a_stored_cursor_is_read_back_and_a_broken_one_refused() {
        let cursor = Cursor::new((5..100).map(block).collect()).unwrap();
        let json = serde_json::to_string(&cursor).unwrap();
        assert_eq!(serde_json::from_str::<Cursor>(&json).unwrap(), cursor);
        assert!(serde_json::from_str::<Cursor>("[]").is_err());
        assert_eq!(Cursor::new(vec![block(1), block(3)]), Err(CursorError::Gap));
        assert_eq!(Cursor::new((0..145).map(block).collect()), Err(CursorError::TooLong));
    }
}
