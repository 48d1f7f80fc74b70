//! Updates that count.

use bitmesh_core::wire::ChannelWord;
use bitmesh_core::{ChannelAnswer, MilliSat, StateWord};

use super::*;

#[test]
fn the_first_update_is_credited_in_full_and_opens_the_gate() {
    let (mut world, id) = ready(BYTES);
    assert!(!world.use_bytes(0, 1), "nothing passes before");
    ok(world.pay(0, 5_000));
    assert_eq!(world.view(id).credit_msat, MilliSat(5_000_000));
    assert_eq!(world.view(id).state, ChannelWord::Open);
    assert!(world.use_bytes(0, 5_000_000), "all that was paid passes");
    assert!(!world.use_bytes(0, 1), "and not a byte more");
    world.pass(SECOND).unwrap();
    assert_eq!(world.account(0).state, StateWord::Exhausted);
    ok(world.pay(0, 1));
    assert!(world.use_bytes(0, 1_000) && !world.use_bytes(0, 1));
}

#[test]
fn an_update_that_is_not_durable_opens_nothing_and_can_be_sent_again() {
    let (mut world, id) = ready(BYTES);
    let body = world.sign(0, 5_000).unwrap();
    world.store.full = true;
    assert_eq!(reason(world.pay_with(0, body)), "not_durable");
    assert!(!world.use_bytes(0, 1));
    assert_eq!(world.view(id).newest, None);
    world.store.full = false;
    ok(world.pay_with(0, body));
    assert_eq!(world.view(id).newest, Some(body));
    assert!(world.use_bytes(0, 5_000_000));
}

#[test]
fn updates_that_come_while_the_account_changes_are_all_answered_with_the_newest() {
    let (mut world, id) = ready(TIME);
    let bodies: Vec<_> = (0..8).map(|_| world.sign(0, 1_000).unwrap()).collect();
    let sent: Vec<_> = bodies.iter().map(|body| world.send(0, *body).unwrap()).collect();
    world.pass(SECOND).unwrap();
    let last = bodies[7].change_sat;
    for (request, body) in sent.iter().zip(&bodies) {
        let answer = world.answers.remove(request).expect("answered").expect("accepted");
        let ChannelAnswer::Accepted(accepted) = *answer else { panic!("{answer:?}") };
        let expected = if *body == bodies[0] { body.change_sat } else { last };
        assert_eq!(accepted.change_sat, expected);
    }
    assert_eq!(world.store.updates[&id].change_sat, last);
    assert_eq!(world.account(0).credited, MilliSat(8_000_000));
}

#[test]
fn updates_in_the_wrong_order_are_both_accepted_and_the_newest_stays() {
    let (mut world, id) = ready(TIME);
    let [first, older, newer] = [1_000, 500, 500].map(|more| world.sign(0, more).unwrap());
    let sent = [first, newer, older].map(|body| world.send(0, body).unwrap());
    world.pass(SECOND).unwrap();
    for request in sent {
        world.answers.remove(&request).expect("answered").expect("accepted");
    }
    assert_eq!(world.store.updates[&id].change_sat, newer.change_sat);
}

#[test]
fn more_than_the_named_number_do_not_wait_for_one_update() {
    let (mut world, _) = ready(TIME);
    world.store.full = true;
    let bodies: Vec<_> = (0..40).map(|_| world.sign(0, 1_000).unwrap()).collect();
    let sent: Vec<_> = bodies.iter().map(|body| world.send(0, *body).unwrap()).collect();
    let waits = bitmesh_core::gateway::channels::MAX_UPDATE_ASKERS;
    let overloaded = sent.iter().filter(|request| world.answers.contains_key(request)).count();
    assert_eq!(overloaded, 40 - 1 - waits, "one is on its way, the others wait or are refused");
    world.pass(SECOND).unwrap();
    assert!(sent.iter().all(|request| world.answers.contains_key(request)));
}

#[test]
fn a_thousand_updates_are_one_row() {
    let (mut world, _) = ready(BYTES);
    for _ in 0..1_000 {
        let body = world.sign(0, 10).unwrap();
        world.send(0, body).unwrap();
    }
    world.pass(SECOND).unwrap();
    ok(world.pay(0, 10));
    assert_eq!(world.store.updates.len(), 1);
    assert!(world.store.credits.is_empty());
    assert_eq!(world.account(0).credited, world.account(0).credits.channel);
}

#[test]
fn a_stale_update_is_answered_with_the_newest_and_a_restored_payer_goes_on() {
    let (mut world, id) = paid(BYTES, 5_000);
    ok(world.pay(0, 2_000));
    let newest = world.view(id).newest.unwrap();
    world.forget_updates(0);
    let error = refused(world.pay(0, 1_000));
    assert_eq!(error.reason, "stale");
    assert_eq!(error.status(), 409);
    assert_eq!(error.newest.as_deref(), Some(&newest));
    world.adopt(0, &newest);
    ok(world.pay(0, 1));
    assert_eq!(world.view(id).credit_msat, MilliSat(7_001_000));
}

#[test]
fn what_was_credited_survives_a_crash_and_the_payer_goes_on() {
    let (mut world, id) = paid(BYTES, 5_000);
    assert!(world.use_bytes(0, 2_000_000));
    world.pass(SECOND).unwrap();
    let before = (world.view(id), world.account(0));
    world.restart();
    assert_eq!((world.view(id), world.account(0)), before);
    ok(world.pay(0, 1_000));
    assert!(world.use_bytes(0, 4_000_000) && !world.use_bytes(0, 1));
}

#[test]
fn a_grant_is_consumed_before_the_channel() {
    let (mut world, id) = paid(BYTES, 5_000);
    assert!(world.use_bytes(0, 1_000));
    world.grant_msat(0, 600, BYTES);
    assert!(world.use_bytes(0, 500));
    world.pass(SECOND).unwrap();
    assert_eq!(world.view(id).charged_msat, MilliSat(900));
    assert_eq!(world.account(0).balance, MilliSat(5_000_600 - 1_500));
}

#[test]
fn a_session_that_the_operator_stopped_opens_again_with_the_next_update() {
    let (mut world, _) = paid(BYTES, 5_000);
    let (request, mac) = (world.request(), world.subscribers[0].mac);
    world.tell(bitmesh_core::Input::Stop { request, mac }).unwrap();
    world.pass(SECOND).unwrap();
    assert!(!world.use_bytes(0, 1));
    ok(world.pay(0, 1));
    assert!(world.use_bytes(0, 5_001_000) && !world.use_bytes(0, 1));
}

#[test]
fn time_without_credit_is_not_billed() {
    let (mut world, id) = paid(TIME, 5_000);
    world.pass(Duration::from_secs(6_000)).unwrap();
    assert!(!world.use_bytes(0, 1));
    ok(world.pay(0, 1_000));
    world.pass(SECOND).unwrap();
    assert!(world.use_bytes(0, 1));
    let charged = world.view(id).charged_msat;
    assert!((5_001_000..5_003_000).contains(&charged.0), "{charged}");
}

#[test]
fn a_channel_that_is_full_credits_all_of_it() {
    let (mut world, id) = paid(BYTES, 5_000);
    let body = world.sign(0, CAPACITY).unwrap();
    assert_eq!(body.change_sat, 0);
    ok(world.pay_with(0, body));
    assert_eq!(world.view(id).credit_msat, MilliSat(CAPACITY * 1_000));
    assert_eq!(world.sign(0, 1), None, "there is nothing more to pay");
}
