//! Blocks that do not come, to a gateway that asks strangers for them.

use bitmesh_core::Purpose;
use bitmesh_core::gateway::channels::{MAX_BLOCK_SILENCE, MAX_CLOCK_SILENCE, UNSEEN_BLOCK_EVERY};
use bitmesh_core::wire::ChannelWord;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

impl World {
    /// Time in which no block comes, and the source says so.
    fn silence(&mut self, time: Duration) {
        for _ in 0..time.as_secs() / MINUTE.as_secs() {
            self.pass(MINUTE).unwrap();
            self.poll_chain().unwrap();
        }
        self.pass(SECOND).unwrap();
    }

    /// From now on, blocks may be withheld.
    fn ask_strangers(&mut self) {
        self.block_unix_s = Some(self.unix_s());
        self.poll_chain().unwrap();
    }

    fn closes_sent(&self) -> usize {
        let closes = self.broadcasts.iter();
        closes.filter(|(purpose, _)| *purpose == Purpose::UnilateralClose).count()
    }
}

#[test]
fn without_a_block_for_90_minutes_there_is_no_new_credit_and_what_was_paid_is_served() {
    let (mut world, id) = paid(BYTES, 5_000);
    world.ask_strangers();
    world.silence(MAX_BLOCK_SILENCE - 2 * MINUTE);
    ok(world.pay(0, 1_000));
    assert_eq!(world.gateway.as_ref().unwrap().block_silence(), None);
    world.silence(3 * MINUTE);
    assert!(world.gateway.as_ref().unwrap().block_silence().unwrap() >= MAX_BLOCK_SILENCE);
    let body = world.sign(0, 1_000).unwrap();
    let error = refused(world.pay_with(0, body));
    assert_eq!(error.reason, "chain_unavailable");
    assert!(error.message.starts_with("no block came for 90 minutes"), "{}", error.message);
    assert!(world.use_bytes(0, 5_000_000), "what was paid is served");
    world.subscriber();
    assert_eq!(reason(world.open(1, BYTES)), "chain_unavailable", "and no channel is sold");

    world.chain.mine_empty(1);
    world.ask_strangers();
    ok(world.pay_with(0, body));
    assert_eq!(world.view(id).credit_msat, MilliSat(7_000_000));
}

#[test]
fn a_node_of_ours_is_believed_when_no_block_comes() {
    let (mut world, _) = paid(BYTES, 5_000);
    world.silence(3 * MAX_BLOCK_SILENCE);
    ok(world.pay(0, 1_000));
}

#[test]
fn the_age_of_the_newest_block_counts_over_a_restart() {
    let (mut world, _) = paid(BYTES, 5_000);
    world.ask_strangers();
    world.silence(MAX_BLOCK_SILENCE - 2 * MINUTE);
    world.restart();
    world.silence(3 * MINUTE);
    assert_eq!(reason(world.pay(0, 1_000)), "chain_unavailable");
}

#[test]
fn blocks_that_may_be_withheld_count_for_the_close_which_is_sent_again_and_again() {
    let (mut world, id) = paid(BYTES, 5_000);
    world.ask_strangers();
    let left = world.view(id).last_call_height - world.chain.tip();
    let until = UNSEEN_BLOCK_EVERY * left;
    world.silence(until - UNSEEN_BLOCK_EVERY);
    assert_eq!((world.view(id).state, world.closes_sent()), (ChannelWord::Open, 0));
    world.silence(2 * UNSEEN_BLOCK_EVERY);
    assert_ne!(world.view(id).state, ChannelWord::Open, "it is closed, though the tip is the same");
    let sent = world.closes_sent();
    world.silence(3 * UNSEEN_BLOCK_EVERY);
    assert!(world.closes_sent() >= sent + 3, "it is sent again for each block that is not seen");
}

#[test]
fn a_clock_that_is_wrong_stops_credit_and_closes_nothing_that_has_time() {
    let (mut world, id) = paid(BYTES, 5_000);
    let left = world.view(id).last_call_height - world.chain.tip();
    assert!(UNSEEN_BLOCK_EVERY * left > MAX_CLOCK_SILENCE);
    world.block_unix_s = Some(0);
    world.silence(10 * MINUTE);
    assert_eq!(reason(world.pay(0, 1_000)), "chain_unavailable");
    assert_eq!((world.view(id).state, world.closes_sent()), (ChannelWord::Open, 0));
    // One that is behind says nothing, and the gateway's own count is left.
    world.block_unix_s = Some(u64::MAX);
    world.poll_chain().unwrap();
    ok(world.pay(0, 1_000));
    world.silence(MAX_BLOCK_SILENCE);
    assert_eq!(reason(world.pay(0, 1_000)), "chain_unavailable");
}
