use super::*;
use crate::view::StateWord;

#[test]
fn meters_are_read_several_times_a_second() {
    let mut desk = Desk::new();
    assert_eq!(desk.gateway.poll_timeout(), None, "there is nothing to read");
    desk.grant(1, ALICE, 100, BYTES);
    let at = desk.gateway.poll_timeout().unwrap();
    assert!(at <= desk.now.after(SAMPLE_EVERY));
    desk.now = at;
    desk.tell(Input::Tick);
    assert_eq!(desk.gateway.poll_command(), Some(Command::Sample));
    assert_eq!(desk.gateway.poll_command(), None);
    assert_eq!(desk.gateway.poll_timeout(), Some(at.after(SAMPLE_EVERY)));
}

#[test]
fn usage_is_written_when_it_changed_one_batch_at_a_time() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 100, BYTES);
    desk.sample(ALICE, up(0));
    desk.persist();
    desk.sample(ALICE, up(0));
    assert_eq!(desk.commands(), [], "nothing changed");
    desk.sample(ALICE, up(1));
    let (batch, _) = desk.expect_persist();
    desk.sample(ALICE, up(2));
    desk.sample(ALICE, up(3));
    assert_eq!(desk.commands(), [], "the disk has not answered");
    desk.tell(Input::Persisted(batch));
    let records = desk.persist();
    assert!(matches!(records[..], [Record::Usage(usage)] if usage.reading == up(3)));
    assert_eq!(desk.commands(), []);
}

#[test]
fn time_is_written_as_it_passes() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 1_000, TIME);
    desk.pass(250);
    desk.sample(ALICE, Reading::default());
    let records = desk.persist();
    let charged = MilliSat(250).units();
    assert!(matches!(records[..], [Record::Usage(usage)] if usage.time_charged == charged));
}

#[test]
fn usage_that_was_not_written_is_written_with_the_next_sample() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 100, BYTES);
    desk.sample(ALICE, up(1));
    desk.fail();
    assert_eq!(desk.commands(), []);
    desk.sample(ALICE, up(1));
    assert_eq!(desk.persist().len(), 1);
}

#[test]
fn a_stale_sample_changes_nothing() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 100, BYTES);
    desk.sample(ALICE, up(30));
    desk.sample(ALICE, up(29));
    assert_eq!(desk.view(ALICE).reading, up(30));
    desk.sample(BOB, up(5));
    assert_eq!(desk.gateway.accounts().len(), 1, "a meter without an account is no account");
}

#[test]
fn charges_for_time_stop_at_what_is_prepaid() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 100, TIME);
    desk.pass(1_000_000);
    desk.sample(ALICE, Reading::default());
    let view = desk.view(ALICE);
    assert_eq!((view.charged_for_time, view.balance), (MilliSat(100), MilliSat(0)));
    assert_eq!(view.state, StateWord::Exhausted);
}

#[test]
fn a_view_reads_well_in_json() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 100, BYTES);
    desk.sample(ALICE, up(30));
    let json = serde_json::to_value(desk.view(ALICE)).unwrap();
    assert_eq!(json["mac"], "02:00:00:00:00:01");
    assert_eq!(json["state"], "open");
    assert_eq!(json["balance_msat"], 70);
    assert_eq!(json["charged_for_bytes_msat"], 30);
    assert_eq!(json["uplink_bytes"], 30);
    assert_eq!(json["credits_msat"]["grants"], 100);
}
