use super::*;

#[test]
fn credit_is_durable_before_the_kernel_has_it_and_that_before_the_reply() {
    let mut desk = Desk::new();
    desk.ask(1, ALICE, 100, BYTES);
    let (batch, records) = desk.expect_persist();
    assert_eq!(desk.commands(), [], "nothing happens until the batch is durable");
    assert_eq!(records.len(), 2);
    assert_eq!(desk.gateway.accounts(), [], "the books hold only what is durable");
    desk.tell(Input::Persisted(batch));
    let image = desk.expect_set();
    assert_eq!((image.prepaid, image.tariff), (MilliSat(100).units(), BYTES));
    desk.tell(Input::AccountSet(ALICE));
    assert_eq!(desk.expect_reply(), Ok(Answer::Granted { balance: MilliSat(100) }));
}

#[test]
fn more_credit_changes_nothing_in_the_kernel_but_the_balance() {
    let mut desk = Desk::new();
    for (who, tariff) in [(ALICE, BYTES), (BOB, TIME)] {
        let first = desk.grant(u128::from(who.octets[5]), who, 1_000, tariff);
        desk.pass(400);
        desk.ask(u128::from(who.octets[5]) + 10, who, 50, tariff);
        if tariff == TIME {
            assert_eq!(desk.commands(), [], "the meter is read first");
            desk.tell(Input::Sampled(vec![Sample { mac: who, reading: Reading::default() }]));
            let mut batches = desk.commands();
            assert_eq!(batches.len(), 2, "usage and credit: {batches:?}");
            let Some(Command::Persist { batch, records }) = batches.pop() else { panic!() };
            assert_eq!(records.len(), 1, "the credit alone");
            desk.tell(Input::Persisted(batch));
        } else {
            assert_eq!(desk.persist().len(), 1, "the credit alone");
        }
        let second = desk.set();
        let expected = MilliSat(1_050).units();
        let low_mark = second.low_mark;
        assert_eq!(second, AccountImage { prepaid: expected, low_mark, ..first });
        assert!(desk.expect_reply().is_ok());
    }
}

#[test]
fn a_repeated_credit_counts_once_and_is_answered_again() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 100, BYTES);
    desk.ask(1, ALICE, 100, BYTES);
    assert_eq!(desk.expect_reply(), Ok(Answer::Granted { balance: MilliSat(100) }));
    assert_eq!(desk.view(ALICE).credited, MilliSat(100));
}

#[test]
fn a_grant_that_is_not_durable_changes_nothing_and_can_be_tried_again() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 100, BYTES);
    let before = desk.gateway.accounts();
    desk.ask(2, ALICE, 10, BYTES);
    desk.fail();
    assert_eq!(desk.expect_reply(), Err(Refusal::NotDurable));
    assert_eq!(desk.gateway.accounts(), before);
    assert_eq!(desk.grant(2, ALICE, 10, BYTES).prepaid, MilliSat(110).units());
}

#[test]
fn another_tariff_closes_the_gate_and_settles_in_one_batch() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 1_000, TIME);
    desk.pass(100);
    desk.ask(2, ALICE, 50, BYTES);
    assert_eq!(desk.command(), Command::CloseAccount(ALICE));
    desk.tell(Input::Closed(Sample { mac: ALICE, reading: up(0) }));
    let records = desk.persist();
    assert!(matches!(records[..], [Record::Account(_), Record::Usage(_), Record::Credit(_)]));
    let state = state_of(&records);
    assert_eq!((state.session, state.open, state.start), (2, true, desk.now));
    assert_eq!(state.time_settled, MilliSat(100).units());
    let image = desk.set();
    assert_eq!((image.tariff, image.prepaid), (BYTES, MilliSat(950).units()));
    assert_eq!(desk.expect_reply(), Ok(Answer::Granted { balance: MilliSat(950) }));
}

#[test]
fn the_time_in_which_a_subscriber_was_cut_off_is_not_billed() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 100, TIME);
    desk.pass(5_000);
    desk.ask(2, ALICE, 100, TIME);
    desk.tell(Input::Sampled(vec![Sample { mac: ALICE, reading: Reading::default() }]));
    let batches: Vec<_> = desk.commands();
    let Some(Command::Persist { batch, records }) = batches.last() else { panic!() };
    assert_eq!(state_of(records).time_settled, MilliSat(100).units());
    desk.tell(Input::Persisted(*batch));
    let image = desk.set();
    assert_eq!((image.start, image.prepaid), (desk.now, MilliSat(100).units()));
    assert_eq!(desk.expect_reply(), Ok(Answer::Granted { balance: MilliSat(100) }));
}

#[test]
fn who_is_cut_off_while_the_disk_works_is_not_billed_for_it() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 100, TIME);
    desk.pass(90);
    desk.ask(2, ALICE, 100, TIME);
    let alive = vec![Sample { mac: ALICE, reading: Reading::default() }];
    desk.tell(Input::Sampled(alive.clone()));
    let Some(Command::Persist { batch, .. }) = desk.commands().pop() else { panic!() };
    desk.pass(500);
    desk.tell(Input::Persisted(batch));
    assert_eq!(desk.commands(), [], "the meter is read again");
    desk.tell(Input::Sampled(alive));
    let state = state_of(&desk.persist());
    assert_eq!(state.time_settled, MilliSat(100).units());
    assert_eq!(desk.set().prepaid, MilliSat(100).units());
    assert!(desk.expect_reply().is_ok());
}
