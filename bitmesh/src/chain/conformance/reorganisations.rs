//! Blocks that leave the chain.

use super::*;
use crate::chain::event::OutpointStatus;
use crate::chain::{ChainError, MAX_BLOCKS_PER_POLL};

/// Many blocks come in bounded steps, and none is left out.
pub fn many_blocks_are_read_in_bounded_steps<C: TestChain>(mut chain: C) {
    let mut reader = Reader::begin(&chain, &[1]);
    let start = reader.height();
    chain.mine(MAX_BLOCKS_PER_POLL + 1);
    chain.until_heard(&mut reader.source);
    let progress = reader.source.blocks(&reader.cursor).unwrap();
    assert_eq!(progress.events.len(), usize::try_from(MAX_BLOCKS_PER_POLL).unwrap());
    assert!(!progress.caught_up, "there is one more");
    assert_eq!(reader.catch_up(&chain).len(), usize::try_from(MAX_BLOCKS_PER_POLL + 1).unwrap());
    assert_eq!(reader.height(), start + MAX_BLOCKS_PER_POLL + 1);
}

/// A block that leaves undoes its confirmation; the payment is in the mempool, and confirms again.
pub fn a_reorganisation_of_1_block_undoes_a_confirmation<C: TestChain>(chain: C) {
    undoes_a_confirmation(chain, 1);
}

/// As of 1 block.
pub fn a_reorganisation_of_6_blocks_undoes_a_confirmation<C: TestChain>(chain: C) {
    undoes_a_confirmation(chain, 6);
}

/// As of 1 block.
pub fn a_reorganisation_of_100_blocks_undoes_a_confirmation<C: TestChain>(chain: C) {
    undoes_a_confirmation(chain, 100);
}

fn undoes_a_confirmation<C: TestChain>(mut chain: C, depth: u32) {
    let mut reader = Reader::begin(&chain, &[1]);
    let fork = reader.cursor.newest().unwrap();
    let paid = chain.pay(&script(1), AMOUNT);
    chain.mine(depth);
    let first = reader.catch_up(&chain);
    assert_eq!(confirmed(&first).len(), 1, "the payment is confirmed");
    let mut old: Vec<Block> = reader.cursor.blocks().filter(|b| b.height > fork.height).collect();
    old.reverse();

    chain.reorganise(depth);
    let events = reader.catch_up(&chain);
    assert_eq!(disconnected(&events), old, "the blocks leave, newest first");
    let joined = events.len() - old.len();
    assert_eq!(joined, old.len() + 1, "the others join");
    assert!(
        events[..old.len()].iter().all(|e| matches!(e, ChainEvent::BlockDisconnected { .. })),
        "all leave before any joins"
    );
    assert_eq!(confirmed(&events), [], "the payment is in none of the new ones");
    // It is in the mempool again.
    reader.seen(1);
    let status = reader.source.outpoint(&paid, 0).unwrap();
    assert_eq!(status, reader.known(OutpointStatus::InMempool));

    chain.mine(1);
    let events = reader.catch_up(&chain);
    let [(block, found)] = confirmed(&events)[..] else { panic!("it confirms: {events:?}") };
    assert_eq!((block.height, found.txid), (reader.height(), paid.txid), "the same outpoint");
}

/// A restart with a stored cursor repeats what was not stored, and nothing else.
pub fn a_restart_goes_on_where_the_cursor_is<C: TestChain>(mut chain: C) {
    let mut reader = Reader::begin(&chain, &[1]);
    chain.pay(&script(1), AMOUNT);
    chain.mine(2);
    let stored = reader.cursor.clone();
    let before = reader.catch_up(&chain);
    let mut again = Reader::resume(&chain, stored, &[1]);
    assert_eq!(again.catch_up(&chain), before, "what was not stored comes again, just so");
    let mut settled = Reader::resume(&chain, again.cursor, &[1]);
    assert_eq!(settled.catch_up(&chain), [], "what was stored does not");
}

/// A cursor whose newest blocks have left meanwhile finds its way back.
pub fn a_restart_on_a_stale_branch_finds_its_way_back<C: TestChain>(mut chain: C) {
    let mut reader = Reader::begin(&chain, &[1]);
    let fork = reader.height();
    let paid = chain.pay(&script(1), AMOUNT);
    chain.mine(6);
    reader.catch_up(&chain);
    let stored = reader.cursor.clone();
    drop(reader);
    chain.stop();
    chain.start();
    chain.reorganise(6);
    chain.mine(1);
    let mut reader = Reader::resume(&chain, stored, &[1]);
    let events = reader.catch_up(&chain);
    let left: Vec<u32> = disconnected(&events).iter().map(|block| block.height).collect();
    assert_eq!(left, (fork + 1..=fork + 6).rev().collect::<Vec<_>>());
    let [(block, found)] = confirmed(&events)[..] else { panic!("it is confirmed: {events:?}") };
    assert_eq!((block.height, found.txid), (fork + 8, paid.txid));
}

/// A cursor of which no block is left says so, and no half of the truth.
pub fn a_cursor_of_another_chain_is_lost<C: TestChain>(mut chain: C) {
    let mut source = chain.source(Network::Regtest);
    let newest = source.cursor(None).unwrap().newest().unwrap();
    let cursor = Cursor::new(vec![newest]).unwrap();
    chain.reorganise(1);
    chain.until_heard(&mut source);
    assert!(matches!(source.blocks(&cursor), Err(ChainError::CursorLost)));
}

/// A cursor can begin at any height of the chain, and at none above.
pub fn a_cursor_can_begin_at_an_older_height<C: TestChain>(mut chain: C) {
    let tip = chain.source(Network::Regtest).tip().unwrap().block.height;
    let paid = chain.pay(&script(1), AMOUNT);
    chain.mine(3);
    let mut source = chain.source(Network::Regtest);
    let cursor = source.cursor(Some(tip)).unwrap();
    assert_eq!(cursor.newest().unwrap().height, tip);
    assert!(matches!(source.cursor(Some(tip + 9)), Err(ChainError::NoSuchHeight { .. })));
    let mut reader = Reader::resume(&chain, cursor, &[1]);
    let events = reader.catch_up(&chain);
    assert_eq!(confirmed(&events)[0].1.txid, paid.txid, "what was paid since is found");
}
