use super::*;
use crate::io::{Gate, Held};
use crate::record::{Credit, CreditKind, Usage};
use crate::tariff::TariffError;

const START: BootTime = BootTime(5_000_000_000);

fn state(mac: Mac, open: bool, tariff: Tariff) -> AccountState {
    let (revision, session, time_settled) = (3, 2, Units(0));
    AccountState { mac, revision, session, open, tariff, epoch: EPOCH, start: START, time_settled }
}

fn credit(id: u128, mac: Mac, msat: u64) -> Credit {
    Credit { id: CreditId(id), mac, kind: CreditKind::Grant, amount: MilliSat(msat) }
}

fn snapshot(state: AccountState, msat: u64) -> Snapshot {
    let credits = vec![credit(1, state.mac, msat)];
    Snapshot { credits, accounts: vec![state], ..Snapshot::default() }
}

fn image(mac: Mac, msat: u64, tariff: Tariff) -> AccountImage {
    let prepaid = MilliSat(msat).units();
    AccountImage { mac, prepaid, tariff, start: START, low_mark: prepaid }
}

fn open(image: AccountImage, reading: Reading) -> Held {
    Held { sample: Sample { mac: image.mac, reading }, gate: Gate::Open(image) }
}

/// A restart `ms` after the session began.
fn restart(ms: u64, epoch: Epoch, snapshot: Snapshot, held: Vec<Held>) -> Desk {
    let now = START.after(Duration::from_millis(ms));
    let gateway = Gateway::restore(now, epoch, snapshot, held).unwrap();
    Desk { gateway, now }
}

#[test]
fn in_the_same_epoch_the_kernel_is_told_what_it_holds() {
    let held = image(ALICE, 100, BYTES);
    let from = snapshot(state(ALICE, true, BYTES), 100);
    let mut desk = restart(50, EPOCH, from, vec![open(held, up(30))]);
    assert_eq!(desk.view(ALICE).balance, MilliSat(70));
    let commands = desk.commands();
    assert!(matches!(commands[0], Command::Persist { .. }), "the usage is written at once");
    assert_eq!(commands[1..], [Command::SetAccount(held)]);
}

#[test]
fn a_gate_that_nothing_durable_opens_is_closed() {
    let held = image(ALICE, 100, BYTES);
    let from = snapshot(state(ALICE, false, BYTES), 100);
    let stranger = open(image(BOB, 100, BYTES), Reading::default());
    let mut desk = restart(50, EPOCH, from, vec![open(held, Reading::default()), stranger]);
    let expected = [Command::CloseAccount(ALICE), Command::CloseAccount(BOB)];
    assert_eq!(desk.commands(), expected);
}

#[test]
fn a_gate_that_the_kernel_never_opened_was_not_served() {
    let from = snapshot(state(ALICE, true, TIME), 100);
    let mut desk = restart(50, EPOCH, from, vec![]);
    let state = state_of(&desk.persist());
    assert_eq!((state.start, state.time_settled), (desk.now, Units(0)));
    assert_eq!(desk.set().prepaid, MilliSat(100).units());
}

#[test]
fn credit_that_the_kernel_never_heard_of_is_not_spent_on_the_time_without_it() {
    // 100 msat were in the kernel; 100 more became durable before the agent died.
    let held = image(ALICE, 100, TIME);
    let from = snapshot(state(ALICE, true, TIME), 200);
    let mut desk = restart(60_000, EPOCH, from, vec![open(held, Reading::default())]);
    let Some(Command::Persist { batch, records }) = desk.commands().pop() else { panic!() };
    assert_eq!(state_of(&records).time_settled, MilliSat(100).units());
    desk.tell(Input::Persisted(batch));
    assert_eq!(desk.set().prepaid, MilliSat(100).units());
    assert_eq!(desk.view(ALICE).balance, MilliSat(100));
}

#[test]
fn after_a_reboot_what_was_durable_is_settled_before_the_gate_opens() {
    let mut from = snapshot(state(ALICE, true, TIME), 100);
    let time_charged = MilliSat(40).units();
    from.usages = vec![Usage { mac: ALICE, epoch: EPOCH, reading: up(10), time_charged }];
    let mut desk = restart(0, Epoch(8), from, vec![]);
    let Some(Command::Persist { batch, records }) = desk.commands().pop() else { panic!() };
    let state = state_of(&records);
    assert_eq!((state.epoch, state.start, state.session), (Epoch(8), desk.now, 2));
    assert_eq!(state.time_settled, time_charged);
    desk.tell(Input::Persisted(batch));
    assert_eq!(desk.set().prepaid, MilliSat(50).units());
    assert_eq!(desk.view(ALICE).reading, up(10), "what was used is still shown");
}

#[test]
fn after_a_reboot_with_a_full_disk_the_gate_stays_closed_until_it_is_settled() {
    let mut desk = restart(0, Epoch(8), snapshot(state(ALICE, true, TIME), 100), vec![]);
    desk.fail();
    desk.ask(2, ALICE, 1, TIME);
    desk.fail();
    assert_eq!(desk.expect_reply(), Err(Refusal::NotDurable));
    desk.pass(10_000);
    desk.tell(Input::Tick);
    assert_eq!(state_of(&desk.persist()).start, desk.now);
    assert_eq!(desk.set().prepaid, MilliSat(100).units());
}

#[test]
fn a_database_that_contradicts_itself_is_refused() {
    let good = snapshot(state(ALICE, true, BYTES), 100);
    let restore = |snapshot| {
        let held: Vec<Held> = vec![];
        Gateway::restore(START, EPOCH, snapshot, held).map(drop)
    };
    assert_eq!(restore(good.clone()), Ok(()));
    let orphan = Snapshot { accounts: vec![], ..good.clone() };
    assert_eq!(restore(orphan), Err(RestoreError::NoAccount(ALICE)));
    let credits = vec![credit(1, ALICE, 1), credit(1, ALICE, 1)];
    let twice = Snapshot { credits, ..good.clone() };
    assert_eq!(restore(twice), Err(RestoreError::CreditTwice(CreditId(1))));
    let credits = vec![credit(1, ALICE, MilliSat::MAX.0), credit(2, ALICE, 1)];
    let rich = Snapshot { credits, ..good.clone() };
    assert_eq!(restore(rich), Err(RestoreError::TooMuch(ALICE)));
    let accounts = vec![state(ALICE, true, BYTES), state(ALICE, false, BYTES)];
    let accounts_twice = Snapshot { accounts, ..good.clone() };
    assert_eq!(restore(accounts_twice), Err(RestoreError::AccountTwice(ALICE)));
    let dear = Tariff { msat_per_minute: u64::MAX, ..TIME };
    let accounts = vec![state(ALICE, true, dear)];
    let error = TariffError::MinuteTooDear(u64::MAX);
    let too_dear = Snapshot { accounts, ..good };
    assert_eq!(restore(too_dear), Err(RestoreError::Tariff { mac: ALICE, error }));
}
