use super::*;

#[test]
fn a_session_is_stopped_when_its_last_reading_is_durable() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 100, BYTES);
    desk.stop(ALICE);
    assert_eq!(desk.command(), Command::CloseAccount(ALICE));
    desk.tell(Input::Closed(Sample { mac: ALICE, reading: up(40) }));
    let records = desk.persist();
    assert!(!state_of(&records).open);
    let last = |record: &Record| matches!(record, Record::Usage(u) if u.reading == up(40));
    assert!(records.iter().any(last));
    assert_eq!(desk.expect_reply(), Ok(Answer::Stopped { balance: MilliSat(60) }));
    desk.stop(ALICE);
    assert_eq!(desk.expect_reply(), Ok(Answer::Stopped { balance: MilliSat(60) }));
}

#[test]
fn what_is_left_is_there_for_the_next_session() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 100, TIME);
    desk.pass(30);
    desk.stop(ALICE);
    desk.command();
    desk.tell(Input::Closed(Sample { mac: ALICE, reading: Reading::default() }));
    desk.persist();
    assert_eq!(desk.expect_reply(), Ok(Answer::Stopped { balance: MilliSat(70) }));
    desk.pass(100_000);
    let image = desk.grant(2, ALICE, 1, TIME);
    assert_eq!((image.prepaid, image.start), (MilliSat(71).units(), desk.now));
    assert_eq!(desk.view(ALICE).session, 2);
}

#[test]
fn a_stop_that_is_not_durable_opens_the_gate_again_as_it_was() {
    let mut desk = Desk::new();
    let image = desk.grant(1, ALICE, 100, TIME);
    desk.pass(10);
    desk.stop(ALICE);
    desk.command();
    desk.tell(Input::Closed(Sample { mac: ALICE, reading: Reading::default() }));
    desk.fail();
    let [Command::Reply { result, .. }, Command::SetAccount(again)] = desk.commands()[..] else {
        panic!()
    };
    assert_eq!(result, Err(Refusal::NotDurable));
    let low_mark = again.low_mark;
    assert_eq!(again, AccountImage { low_mark, ..image });
    assert!(desk.view(ALICE).open);
}

#[test]
fn only_accounts_can_be_stopped() {
    let mut desk = Desk::new();
    desk.stop(BOB);
    assert_eq!(desk.expect_reply(), Err(Refusal::NoAccount));
}
