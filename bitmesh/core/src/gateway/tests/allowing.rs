//! The pay-allowance, and meters that are given back.

use super::*;
use crate::gateway::allowance::{ALLOWANCE_EVERY, AllowancePolicy};
use crate::record::{Credit, CreditKind};

const AMOUNT: u64 = 5_000;

const POLICY: AllowancePolicy = AllowancePolicy {
    amount: MilliSat(AMOUNT),
    total: MilliSat(8 * AMOUNT),
    tariff: Tariff { uplink_msat_per_mib: 1 << 20, downlink_msat_per_mib: 1 << 20, ..Tariff::FREE },
    every: ALLOWANCE_EVERY,
};

const fn stranger(n: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 1, n])
}

impl Desk {
    fn giving() -> Self {
        let mut desk = Self::new();
        desk.gateway = desk.gateway.with_allowance(POLICY).unwrap();
        desk
    }

    fn knock(&mut self, mac: Mac) {
        self.tell(Input::Knocked(vec![mac]));
    }

    /// An allowance to the end.
    fn allow(&mut self, mac: Mac) -> Vec<Record> {
        self.knock(mac);
        let records = self.persist();
        self.set();
        records
    }

    /// An account comes to rest; gives what was written at the end.
    fn rest(&mut self, mac: Mac, reading: Reading) -> Vec<Record> {
        assert_eq!(self.command(), Command::CloseAccount(mac));
        self.tell(Input::Closed(Sample { mac, reading }));
        assert!(!state_of(&self.persist()).open);
        assert_eq!(self.command(), Command::DropMeter(mac));
        self.tell(Input::MeterDropped(mac));
        self.persist()
    }
}

fn credit_of(records: &[Record]) -> Credit {
    let credit = |record: &Record| match record {
        Record::Credit(credit) => Some(*credit),
        _ => None,
    };
    records.iter().find_map(credit).unwrap()
}

#[test]
fn nobody_is_given_anything_unless_there_is_a_policy() {
    let mut desk = Desk::new();
    desk.knock(ALICE);
    assert_eq!(desk.commands(), []);
}

#[test]
fn an_allowance_is_durable_before_the_kernel_learns_of_it() {
    let mut desk = Desk::giving();
    desk.knock(ALICE);
    let (batch, records) = desk.expect_persist();
    let credit = credit_of(&records);
    assert_eq!((credit.mac, credit.kind), (ALICE, CreditKind::Allowance));
    assert_eq!(credit.amount, MilliSat(AMOUNT));
    desk.tell(Input::Persisted(batch));
    let image = desk.set();
    assert_eq!(image.prepaid, MilliSat(AMOUNT).units());
    assert_eq!(desk.view(ALICE).credits.allowances, MilliSat(AMOUNT));
    assert!(desk.view(ALICE).is_allowance());
}

#[test]
fn a_station_is_given_one_an_hour_and_all_together_the_total() {
    let mut desk = Desk::giving();
    desk.allow(ALICE);
    desk.knock(ALICE);
    assert_eq!(desk.commands(), []);
    // Half of the total can be given at once.
    (1..4).for_each(|n| drop(desk.allow(stranger(n))));
    desk.knock(stranger(4));
    assert_eq!(desk.commands(), []);
    desk.pass(3_600_000 / 4);
    desk.allow(stranger(4));
}

#[test]
fn a_restarted_agent_remembers_what_was_given() {
    let mut desk = Desk::giving();
    let given: Vec<_> = (1..5).map(|n| desk.allow(stranger(n))).collect();
    let snapshot = Snapshot {
        credits: given.iter().map(|records| credit_of(records)).collect(),
        accounts: given.iter().map(|records| state_of(records)).collect(),
        ..Snapshot::default()
    };
    let held: Vec<_> =
        (1..5).map(|n| Sample { mac: stranger(n), reading: Reading::default() }).collect();
    let next = Gateway::restore(desk.now, EPOCH, snapshot, held).unwrap();
    desk.gateway = next.with_allowance(POLICY).unwrap();
    desk.commands();
    desk.knock(ALICE);
    desk.knock(stranger(1));
    assert_eq!(desk.commands(), []);
}

#[test]
fn what_is_left_of_an_allowance_lapses_and_the_account_with_it() {
    let mut desk = Desk::giving();
    desk.allow(ALICE);
    desk.pass(3_600_000);
    desk.tell(Input::Tick);
    assert_eq!(desk.rest(ALICE, up(10)), [Record::ForgetAccount(ALICE)]);
    assert_eq!(desk.gateway.account(ALICE), None);
    // It may have another one now.
    desk.allow(ALICE);
    assert_eq!(desk.view(ALICE).balance, MilliSat(AMOUNT));
    assert_eq!(desk.gateway.reading(ALICE), Reading::default());
}

#[test]
fn what_a_forgotten_accounts_meter_said_is_not_charged_to_the_next() {
    let mut desk = Desk::giving();
    desk.allow(ALICE);
    let before = desk.now;
    desk.pass(3_600_000);
    desk.tell(Input::Tick);
    desk.rest(ALICE, up(10));
    desk.grant(7, ALICE, 5, BYTES);
    let late = vec![Sample { mac: ALICE, reading: up(10) }];
    desk.gateway.handle_input(before, Input::Sampled(late));
    assert_eq!(desk.view(ALICE).balance, MilliSat(5));
    assert_eq!(desk.gateway.reading(ALICE), Reading::default());
    // What its own meter says is.
    desk.sample(ALICE, up(3));
    assert_eq!(desk.view(ALICE).balance, MilliSat(2));
}

#[test]
fn an_account_that_was_paid_for_meanwhile_stays() {
    let mut desk = Desk::giving();
    desk.allow(ALICE);
    // Another tariff: the gate is closed in between.
    desk.ask(7, ALICE, 1_000, BYTES);
    desk.persist();
    desk.set();
    desk.expect_reply().unwrap();
    desk.pass(3_600_000);
    desk.tell(Input::Tick);
    assert_eq!(desk.commands(), []);
    assert_eq!(desk.view(ALICE).balance, MilliSat(AMOUNT + 1_000));
    // Consumed first.
    desk.sample(ALICE, up(AMOUNT));
    assert_eq!(desk.view(ALICE).balance, MilliSat(1_000));
}

#[test]
fn who_has_something_left_is_given_nothing_and_who_has_not_is() {
    let mut desk = Desk::giving();
    desk.grant(7, ALICE, 4_000, BYTES);
    desk.knock(ALICE);
    assert_eq!(desk.commands(), []);
    desk.sample(ALICE, up(3_000));
    desk.persist();
    desk.allow(ALICE);
    assert_eq!(desk.view(ALICE).balance, MilliSat(1_000 + AMOUNT));
    assert!(!desk.view(ALICE).is_allowance());
}

#[test]
fn a_meter_that_is_given_back_makes_room_and_goes_on_where_it_ended() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 9_000, BYTES);
    desk.stop(ALICE);
    assert_eq!(desk.command(), Command::CloseAccount(ALICE));
    desk.tell(Input::Closed(Sample { mac: ALICE, reading: up(4_000) }));
    desk.persist();
    desk.expect_reply().unwrap();
    // The kernel is full when Bob comes.
    desk.ask(2, BOB, 9_000, BYTES);
    desk.persist();
    desk.expect_set();
    desk.tell(Input::NoRoom(BOB));
    let [Command::Reply { result: Err(Refusal::NoRoom), .. }, Command::DropMeter(ALICE)] =
        desk.commands()[..]
    else {
        panic!("the meter of a closed account is not given back");
    };
    desk.tell(Input::MeterDropped(ALICE));
    desk.persist();
    assert_eq!(desk.set().mac, BOB);
    // Alice has what she had.
    desk.ask(3, ALICE, 1_000, BYTES);
    desk.persist();
    assert_eq!(desk.set().prepaid, MilliSat(10_000).units());
    assert_eq!(desk.gateway.reading(ALICE), up(4_000));
    assert_eq!(desk.view(ALICE).balance, MilliSat(6_000));
}

#[test]
fn a_meter_in_use_is_not_given_back() {
    let mut desk = Desk::new();
    desk.grant(1, ALICE, 9_000, BYTES);
    desk.sample(ALICE, up(9_000));
    desk.persist();
    desk.ask(2, BOB, 9_000, BYTES);
    desk.persist();
    desk.expect_set();
    desk.tell(Input::NoRoom(BOB));
    assert!(matches!(desk.expect_reply(), Err(Refusal::NoRoom)));
    // Nothing is left of Alice's, but she may pay more in a moment; after a while it goes.
    desk.pass(11_000);
    desk.tell(Input::Tick);
    desk.persist();
    desk.expect_set();
    desk.pass(600_000);
    desk.tell(Input::NoRoom(BOB));
    assert_eq!(desk.command(), Command::CloseAccount(ALICE));
}
