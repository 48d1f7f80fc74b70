//! Closes that fall due together.

use std::collections::BTreeSet;

use bitcoin::{Amount, FeeRate, Transaction, Txid};
use bitmesh_core::gateway::channels::{BUMP_BLOCKS, BURIED_BLOCKS, LATE_BLOCKS, PAYER_THERE};
use bitmesh_core::wire::ChannelWord;

use super::*;

const PAYERS: usize = 7;

/// So many payers, each with 5,000 sat and more paid and some of it used, who then go.
fn left(payers: usize) -> (World, Vec<ChannelId>) {
    let mut world = World::new(1, None).unwrap();
    let mut ids = Vec::new();
    for who in 0..payers {
        world.subscriber();
        ids.push(world.ready(who, BYTES, CAPACITY));
        ok(world.pay(who, 5_000 + u64::try_from(who).unwrap()));
        assert!(world.use_bytes(who, 3_000_000 + 300_123 * u64::try_from(who).unwrap()));
    }
    world.pass(PAYER_THERE + SECOND).unwrap();
    (world, ids)
}

impl World {
    fn closes(&self) -> BTreeSet<Txid> {
        (0..self.subscribers.len()).map(|who| self.spend(who).compute_txid()).collect()
    }

    fn is_in_every_state(&self, ids: &[ChannelId], word: ChannelWord) {
        let states: Vec<ChannelWord> = ids.iter().map(|id| self.view(*id).state).collect();
        assert!(states.iter().all(|state| *state == word), "{states:?}");
    }
}

fn is_one(tx: &Transaction, inputs: usize) {
    assert_eq!(tx.input.len(), inputs);
    // 151 vB each, and 43 for each output that returns.
    assert!(tx.vsize() < 215 * inputs, "{} vB", tx.vsize());
}

#[test]
fn channels_that_fall_due_together_close_in_one_transaction_and_each_gets_its_own() {
    let (mut world, ids) = left(PAYERS);
    world.operator_closes(None);
    world.pass(SECOND).unwrap();
    assert_eq!(world.closes().len(), 1, "one transaction");
    is_one(&world.spend(0), PAYERS);
    world.mined(BURIED_BLOCKS);
    world.is_in_every_state(&ids, ChannelWord::ClosedAlone);
    world.check_at_rest().unwrap();
    // Whoever reads the books of one channel sees its own fee: a share of a batch's.
    let fees: Vec<u64> =
        ids.iter().map(|id| world.store.channels[id].end.unwrap().fee.to_sat()).collect();
    assert!(fees.iter().all(|fee| (140..=205).contains(fee)), "{fees:?}");
}

#[test]
fn a_batch_that_is_not_confirmed_in_time_is_raised_as_a_whole() {
    let (mut world, ids) = left(PAYERS);
    world.operator_closes(None);
    world.pass(SECOND).unwrap();
    let (first, fee) = (world.closes(), world.chain.fee(&world.spend(0)));
    world.chain.mine_empty(BUMP_BLOCKS);
    world.poll_chain().unwrap();
    world.pass(SECOND).unwrap();
    let second = world.closes();
    assert_eq!(second.len(), 1);
    assert_ne!(first, second);
    is_one(&world.spend(0), PAYERS);
    assert!(world.chain.fee(&world.spend(0)) > fee);
    world.mined(BURIED_BLOCKS);
    world.is_in_every_state(&ids, ChannelWord::ClosedAlone);
    world.check_at_rest().unwrap();
}

#[test]
fn a_batch_that_was_built_is_broadcast_again_after_a_crash_and_is_still_one() {
    let (mut world, ids) = left(PAYERS);
    world.operator_closes(None);
    world.pass(SECOND).unwrap();
    let first = world.closes();
    world.chain.evict(*first.first().unwrap());
    world.restart();
    assert_eq!(world.closes(), first);
    world.mined(BURIED_BLOCKS);
    world.is_in_every_state(&ids, ChannelWord::ClosedAlone);
}

impl World {
    /// Empty blocks up to this height, of each of which the agent hears.
    fn nothing_is_mined_until(&mut self, height: u32) {
        for _ in self.chain.tip()..height {
            self.chain.mine_empty(1);
            self.poll_chain().unwrap();
            self.pass(SECOND).unwrap();
        }
    }
}

#[test]
fn late_in_the_margin_each_is_closed_singly() {
    let (mut world, ids) = left(PAYERS);
    let expiry = world.refund(0).lock_time.to_consensus_u32();
    world.kill_agent();
    world.chain.mine_empty(expiry - world.chain.tip() - 1);
    world.start_agent().unwrap();
    world.pass(SECOND).unwrap();
    assert!((0..6).all(|who| world.spend(who).input.len() == 1), "{LATE_BLOCKS} blocks are late");
    world.mined(BURIED_BLOCKS);
    world.is_in_every_state(&ids, ChannelWord::ClosedAlone);
    world.check_at_rest().unwrap();
}

#[test]
fn a_batch_that_a_refund_breaks_is_built_again_without_it() {
    let (mut world, ids) = left(PAYERS);
    world.operator_closes(None);
    world.pass(SECOND).unwrap();
    let refund = world.refund(0);
    world.nothing_is_mined_until(refund.lock_time.to_consensus_u32());
    let batch = world.closes();
    assert_eq!(batch.len(), 1, "raised as a whole, again and again");
    // A miner prefers the refund.
    world.chain.evict(*batch.first().unwrap());
    world.chain.submit(refund).unwrap();
    world.mined(2 + BURIED_BLOCKS);
    assert_eq!(world.view(ids[0]).state, ChannelWord::Refunded);
    world.is_in_every_state(&ids[1..], ChannelWord::ClosedAlone);
}

#[test]
fn a_channel_that_does_not_pay_its_way_is_not_paid_for_by_others() {
    let (mut world, ids) = left(3);
    world.subscriber();
    let small = world.ready(3, BYTES, CAPACITY);
    ok(world.pay(3, 1_000));
    world.pass(PAYER_THERE + SECOND).unwrap();
    // 1,000 sat pay for no output and 205 vB at this rate; 5,000 do.
    world.feerate = FeeRate::from_sat_per_vb_u32(10);
    world.poll_chain().unwrap();
    world.operator_closes(None);
    world.pass(SECOND).unwrap();
    is_one(&world.spend(0), 3);
    let alone = world.spend(3);
    assert_eq!(alone.input.len(), 1);
    assert!(world.chain.fee(&alone).unwrap() < Amount::from_sat(1_000));
    world.mined(BURIED_BLOCKS);
    world.is_in_every_state(&ids, ChannelWord::ClosedAlone);
    assert_eq!(world.view(small).state, ChannelWord::ClosedAlone);
    world.check_at_rest().unwrap();
}
