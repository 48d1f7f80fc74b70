//! Updates that don't count: each has its reason, and changes nothing.

use bitmesh_core::ChannelInput;
use bitmesh_core::wire::{ChannelWord, UpdateBody};

use super::*;

/// The update is refused with this reason, and nothing changes.
fn changes_nothing(world: &mut World, id: ChannelId, body: UpdateBody, expected: &str) {
    let before = (world.view(id), world.store.updates.clone(), world.gateway_accounts());
    let error = refused(world.pay_with(0, body));
    assert_eq!(error.reason, expected, "{error}");
    assert!((400..500).contains(&error.status()), "{error:?}");
    assert_eq!(error.newest.as_deref(), before.0.newest.as_ref());
    world.pass(SECOND).unwrap();
    let after = (world.view(id), world.store.updates.clone(), world.gateway_accounts());
    assert_eq!(after, before, "{expected}");
}

impl World {
    fn gateway_accounts(&self) -> Vec<AccountView> {
        self.gateway.as_ref().unwrap().accounts()
    }
}

fn with_byte(mut body: UpdateBody, index: usize, byte: u8) -> UpdateBody {
    body.signature.0[index] = byte;
    body
}

#[test]
fn a_wrong_update_is_refused_by_its_reason_and_changes_nothing() {
    for first in [true, false] {
        let (mut world, id) = ready(BYTES);
        if !first {
            ok(world.pay(0, 3_000));
        }
        let good = world.sign(0, 2_000).unwrap();
        let forged = with_byte(good, 5, good.signature.0[5] ^ 1);
        changes_nothing(&mut world, id, forged, "forged");
        changes_nothing(&mut world, id, UpdateBody { change_sat: 40_000, ..good }, "forged");
        changes_nothing(&mut world, id, with_byte(good, 64, 0x01), "hash_type");
        changes_nothing(&mut world, id, with_byte(good, 64, 0x82), "hash_type");
        changes_nothing(&mut world, id, UpdateBody { change_sat: 0, ..good }, "hash_type");
        changes_nothing(&mut world, id, UpdateBody { change_sat: 1, ..good }, "dust_change");
        changes_nothing(&mut world, id, UpdateBody { change_sat: 329, ..good }, "dust_change");
        let over = UpdateBody { change_sat: CAPACITY + 1, ..good };
        changes_nothing(&mut world, id, over, "over_capacity");
        let huge = UpdateBody { change_sat: u64::MAX, ..good };
        changes_nothing(&mut world, id, huge, "over_capacity");
        let least = UpdateBody { change_sat: CAPACITY - 999, ..good };
        changes_nothing(&mut world, id, least, if first { "first_too_small" } else { "stale" });
        ok(world.pay_with(0, good));
        changes_nothing(&mut world, id, good, "stale");
    }
}

#[test]
fn an_update_for_another_channel_is_refused() {
    let (mut world, id) = paid(BYTES, 3_000);
    let who = world.subscriber();
    world.ready(who, BYTES, CAPACITY);
    let other = world.sign(who, 4_000).unwrap();
    changes_nothing(&mut world, id, other, "forged");
    let channel = ChannelId([7; 32]);
    let answer = world.ask(|request| ChannelInput::Update { request, channel, body: other });
    let error = answer.unwrap().unwrap().unwrap_err();
    assert_eq!((error.reason.as_str(), error.status()), ("no_channel", 404));
}

#[test]
fn nothing_is_credited_before_the_agreement_the_funding_and_its_confirmations() {
    let mut world = world();
    world.confirmations = 3;
    world.restart();
    let id = ok(world.open(0, BYTES));
    let anything = UpdateBody {
        change_sat: 50_000,
        signature: bitmesh_core::wire::UpdateSignature([0x83; 65]),
    };
    changes_nothing(&mut world, id, anything, "not_agreed");
    ok(world.fund(0, CAPACITY));
    let body = world.sign(0, 5_000).unwrap();
    changes_nothing(&mut world, id, body, "unfunded");
    world.poll_chain().unwrap();
    world.pass(SECOND).unwrap();
    assert_eq!(world.view(id).state, ChannelWord::Unconfirmed);
    changes_nothing(&mut world, id, body, "unconfirmed");
    world.mine(2).unwrap();
    assert_eq!(world.view(id).confirmations, 2);
    assert_eq!(world.sentence(id), "its funding has 2 of 3 confirmations");
    changes_nothing(&mut world, id, body, "unconfirmed");
    world.mine(1).unwrap();
    assert_eq!(world.view(id).state, ChannelWord::Open);
    ok(world.pay_with(0, body));
}

#[test]
fn from_the_last_call_on_there_is_no_credit() {
    let (mut world, id) = ready(BYTES);
    let body = world.sign(0, 5_000).unwrap();
    let last_call = world.view(id).last_call_height;
    world.chain.mine_empty(last_call - world.chain.tip());
    world.poll_chain().unwrap();
    changes_nothing(&mut world, id, body, "expiring");
}

#[test]
fn updates_count_for_a_while_when_the_chain_is_silent_and_then_no_more() {
    let (mut world, id) = paid(BYTES, 3_000);
    world.is_chain_down = true;
    world.poll_chain().unwrap();
    ok(world.pay(0, 1_000));
    assert!(world.use_bytes(0, 4_000_000), "a session in force goes on");
    world.pass(bitmesh_core::gateway::channels::MAX_CHAIN_SILENCE).unwrap();
    let body = world.sign(0, 1_000).unwrap();
    let error = refused(world.pay_with(0, body));
    assert_eq!((error.reason.as_str(), error.status()), ("chain_unavailable", 503));
    world.is_chain_down = false;
    world.poll_chain().unwrap();
    ok(world.pay_with(0, body));
    assert_eq!(world.view(id).credit_msat.0, 5_000_000);
}

#[test]
fn a_station_pays_on_one_channel_at_a_time() {
    let mut world = world();
    let first = ok(world.open(0, BYTES));
    let kept = world.subscribers[0].channel.take();
    let second = ok(world.open(0, BYTES));
    ok(world.fund(0, CAPACITY));
    let other = std::mem::replace(&mut world.subscribers[0].channel, kept);
    ok(world.fund(0, CAPACITY));
    world.mine(1).unwrap();
    assert_eq!(world.view(first).state, ChannelWord::Open);
    assert_eq!(world.view(second).state, ChannelWord::Open);
    assert_eq!(reason(world.open(0, BYTES)), "one_channel");
    ok(world.pay(0, 3_000));
    let kept = std::mem::replace(&mut world.subscribers[0].channel, other);
    let body = world.sign(0, 3_000).unwrap();
    changes_nothing(&mut world, second, body, "one_channel");
    let other = std::mem::replace(&mut world.subscribers[0].channel, kept);
    ok(world.close(0));
    world.subscribers[0].channel = other;
    ok(world.pay_with(0, body));
}
