//! Closes that the operator asks for.

use bitmesh_core::gateway::channels::{CLOSE_GRACE, PAYER_THERE};
use bitmesh_core::wire::ChannelWord;
use bitmesh_core::{ChannelInput, ChannelPhase, Purpose};

use super::*;

#[test]
fn a_payer_that_is_there_may_close_together_when_the_operator_closes() {
    let (mut world, id) = paid(BYTES, 5_000);
    assert_eq!(world.operator_closes(None), [id]);
    world.pass(SECOND).unwrap();
    assert_eq!(world.view(id).state, ChannelWord::Closing);
    assert_eq!(world.view(id).closing_txid, None);
    ok(world.close(0));
    world.pass(CLOSE_GRACE).unwrap();
    world.mined(1);
    assert_eq!(world.view(id).state, ChannelWord::ClosedTogether);
}

#[test]
fn a_payer_that_does_not_take_the_chance_is_closed_alone_also_after_a_restart() {
    let (mut world, id) = paid(BYTES, 5_000);
    world.operator_closes(Some(id));
    world.pass(CLOSE_GRACE - SECOND).unwrap();
    assert_eq!(world.view(id).closing_txid, None);
    world.pass(SECOND * 2).unwrap();
    let txid = world.view(id).closing_txid.expect("a close");
    world.chain.evict(txid);
    world.restart();
    assert_eq!(world.spend(0).compute_txid(), txid, "broadcast again");
    assert_eq!(world.broadcasts.last(), Some(&(Purpose::UnilateralClose, txid)));
}

#[test]
fn the_operators_close_forgets_what_nobody_funded_unless_it_was_countersigned() {
    let mut world = world();
    let first = ok(world.open(0, BYTES));
    assert_eq!(world.operator_closes(None), [first]);
    world.pass(SECOND).unwrap();
    assert!(world.store.channels.is_empty());
    let second = ok(world.open(0, BYTES));
    world.is_chain_down = true;
    ok(world.fund(0, CAPACITY));
    assert_eq!(world.operator_closes(Some(second)), [second]);
    world.is_chain_down = false;
    ok(world.fund(0, CAPACITY));
    world.mined(1);
    let closed = ok(world.close(0));
    assert_eq!(closed.returned_sat + closed.fee_sat, CAPACITY, "its payer gets it back");
}

#[test]
fn a_close_that_the_operator_was_told_of_happens_though_the_agent_dies_at_once() {
    for seed in 1..=50 {
        let mut world = World::new(seed, None).unwrap();
        for who in 0..3 {
            world.subscriber();
            world.ready(who, BYTES, CAPACITY);
            ok(world.pay(who, 5_000));
        }
        world.pass(PAYER_THERE + SECOND).unwrap();
        let closed = world.operator_closes(None);
        assert_eq!(closed.len(), 3);
        world.kill_agent();
        for id in &closed {
            let state = &world.store.channels[id];
            assert_eq!(state.phase, ChannelPhase::ClosingAlone, "seed {seed}");
            assert!(state.frozen.is_some());
        }
        world.start_agent().unwrap();
        world.pass(SECOND).unwrap();
        for who in 0..3 {
            world.spend(who);
        }
        world.mined(1);
        assert!(closed.iter().all(|id| world.view(*id).state == ChannelWord::ClosedAlone));
    }
}

#[test]
fn the_operator_is_not_told_of_a_close_that_the_disk_does_not_take() {
    let (mut world, id) = paid(BYTES, 5_000);
    world.pass(PAYER_THERE + SECOND).unwrap();
    world.store.full = true;
    let close = |request| ChannelInput::CloseByOperator { request, channel: Some(id) };
    let error = world.ask(close).unwrap().unwrap().unwrap_err();
    assert_eq!(error.reason, "not_durable");
    assert!(error.message.contains("the close is tried again"), "{error:?}");
    world.store.full = false;
    world.mined(1);
    assert_eq!(world.operator_closes(Some(id)), [id]);
    world.mined(2);
    assert_eq!(world.view(id).state, ChannelWord::ClosedAlone);
}

#[test]
fn a_close_that_waits_for_the_chain_says_so() {
    let (mut world, id) = paid(BYTES, 5_000);
    world.is_chain_down = true;
    world.restart();
    world.closed_by_operator(id);
    let waits = "is closed as soon as the gateway sees the chain";
    assert_eq!(world.sentence(id), waits);
    world.is_chain_down = false;
    world.poll_chain().unwrap();
    assert_eq!(world.sentence(id), "its close is being written to the disk");
    world.pass(SECOND).unwrap();
    assert!(world.sentence(id).ends_with("to confirm"), "{}", world.sentence(id));
}
