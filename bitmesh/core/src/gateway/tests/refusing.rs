use bitmesh_common::money::MAX_MSAT_PER_MINUTE;

use super::*;

#[test]
fn what_cannot_be_granted_is_refused_at_once() {
    let mut desk = Desk::new();
    desk.ask(1, ALICE, 0, BYTES);
    assert_eq!(desk.expect_reply(), Err(Refusal::Amount));
    desk.ask(1, ALICE, MilliSat::MAX.0 + 1, BYTES);
    assert_eq!(desk.expect_reply(), Err(Refusal::Amount));
    desk.ask(1, Mac::new([1, 0, 0, 0, 0, 1]), 1, BYTES);
    assert_eq!(desk.expect_reply(), Err(Refusal::NotAStation));
    desk.ask(1, Mac::default(), 1, BYTES);
    assert_eq!(desk.expect_reply(), Err(Refusal::NotAStation));
    desk.ask(1, ALICE, 1, Tariff { msat_per_minute: MAX_MSAT_PER_MINUTE + 1, ..TIME });
    assert_eq!(desk.expect_reply(), Err(Refusal::Tariff));
    assert_eq!(desk.gateway.accounts(), []);
}

#[test]
fn an_account_never_holds_more_than_the_maximum() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, MilliSat::MAX.0, BYTES);
    desk.ask(2, ALICE, 1, BYTES);
    assert_eq!(desk.expect_reply(), Err(Refusal::Amount));
}

#[test]
fn a_credit_id_is_good_for_one_credit_even_before_that_is_durable() {
    let mut desk = Desk::new();
    desk.ask(1, ALICE, 100, BYTES);
    let (batch, _) = desk.expect_persist();
    desk.ask(1, BOB, 100, BYTES);
    assert_eq!(desk.expect_reply(), Err(Refusal::CreditReused));
    desk.ask(1, ALICE, 101, BYTES);
    assert_eq!(desk.expect_reply(), Err(Refusal::CreditReused));
    desk.ask(1, ALICE, 100, BYTES);
    assert_eq!(desk.expect_reply(), Err(Refusal::Busy), "its own answer is to come");
    desk.tell(Input::Persisted(batch));
}

#[test]
fn an_account_goes_through_one_change_at_a_time() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 100, BYTES);
    desk.stop(ALICE);
    assert_eq!(desk.command(), Command::CloseAccount(ALICE));
    desk.ask(2, ALICE, 100, BYTES);
    assert_eq!(desk.expect_reply(), Err(Refusal::Busy));
    desk.stop(ALICE);
    assert_eq!(desk.expect_reply(), Err(Refusal::Busy));
}

#[test]
fn more_changes_than_the_limit_are_refused() {
    let mut desk = Desk::new();
    for n in 1..=MAX_CHANGES as u32 {
        let [_, a, b, c] = n.to_be_bytes();
        desk.ask(u128::from(n), Mac::new([2, 0, 1, a, b, c]), 1, BYTES);
        desk.expect_persist();
    }
    desk.ask(0, ALICE, 1, BYTES);
    assert_eq!(desk.expect_reply(), Err(Refusal::Overloaded));
}

#[test]
fn without_room_the_credit_stays_and_is_tried_again_at_a_bounded_pace() {
    let mut desk = Desk::new();
    desk.ask(1, ALICE, 100, TIME);
    desk.persist();
    desk.expect_set();
    desk.tell(Input::NoRoom(ALICE));
    assert_eq!(desk.expect_reply(), Err(Refusal::NoRoom));
    desk.ask(1, ALICE, 100, TIME);
    assert_eq!(desk.expect_reply(), Err(Refusal::NoRoom), "as it was answered before");

    desk.pass(9_999);
    desk.tell(Input::Tick);
    assert_eq!(desk.commands(), []);
    desk.pass(1);
    assert!(desk.gateway.poll_timeout().unwrap() <= desk.now);
    desk.tell(Input::Tick);
    let state = state_of(&desk.persist());
    assert_eq!((state.start, state.time_settled), (desk.now, Units(0)), "waiting is free");
    assert_eq!(desk.set().prepaid, MilliSat(100).units());
    assert_eq!(desk.view(ALICE).balance, MilliSat(100));
}
