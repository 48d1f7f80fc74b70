//! What is signed, and when: never beyond the own count and one step.

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};
use proptest::prelude::*;

use super::*;
use crate::channel::{Payee, Payer};
use crate::wire::{UpdateAccepted, UpdateBody};

const CAPACITY: u64 = 50_000;
const SECOND: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

/// Both ends of one funded channel.
fn ends() -> (Payer, Payee) {
    let opened = Opened::new(agreement(&offer()).terms).unwrap();
    let outpoint = OutPoint::new(Txid::from_byte_array([9; 32]), 0);
    let funded = opened.pinned(outpoint, sat(CAPACITY)).unwrap();
    let payer = Payer::new(funded.clone(), channel_secret(Role::Payer), None).unwrap();
    (payer, Payee::new(funded, channel_secret(Role::Payee), None).unwrap())
}

fn spending() -> Spending {
    Spending { tariff: TARIFF, budget: sat(CAPACITY), step: None }
}

fn purse(spending: Spending) -> Purse {
    Purse::new(ends().0, spending, Used::default(), MilliSat(0))
}

fn down(mib: u64) -> Used {
    Used { downlink_bytes: mib * MIB, ..Used::default() }
}

fn msat(purse: &Purse) -> u64 {
    purse.payer().signed().to_sat() * 1_000
}

#[test]
fn the_first_update_is_the_one_that_the_offer_asked_for() {
    let mut purse = purse(spending());
    let update = purse.pay().unwrap().unwrap();
    assert_eq!(update.change(), sat(CAPACITY - 1_000));
    assert_eq!(purse.pay().unwrap(), None, "it is enough for a while");
}

#[test]
fn a_step_follows_the_rate_of_the_last_two_seconds_within_its_bounds() {
    let mut purse = purse(spending());
    assert_eq!(purse.count().step, min_step(&TARIFF), "nothing was used yet");
    for tenth in 0..=40 {
        purse.see(tenth * SECOND / 10, down(tenth));
    }
    assert_eq!(purse.msat_per_second(), 10_000);
    assert_eq!(purse.count().step, sat(20));
    for second in 5..=7 {
        purse.see(second * SECOND, down(40));
    }
    assert_eq!(purse.count().step, min_step(&TARIFF), "idle again");
    purse.see(8 * SECOND, down(40_000));
    assert_eq!(purse.count().step, sat(CAPACITY / MAX_STEP_PART), "no rush takes more");
}

#[test]
fn what_passed_throttled_is_counted_and_not_paid_for() {
    let tariff = Tariff { throttle_kbit_per_s: 64, ..TARIFF };
    let mut purse = purse(Spending { tariff, step: Some(sat(100)), ..spending() });
    purse.pay().unwrap().unwrap();
    // 1,000 MiB were paid for, what followed was free.
    purse.see(SECOND, down(1_500));
    assert_eq!(purse.compare(MilliSat(1_000_000)), None);
    let update = purse.pay().unwrap().unwrap();
    assert_eq!(update.change(), sat(CAPACITY - 1_000 - 100), "what is charged and a step");
    // Now it is charged again, and a gateway that takes back its word gets no more than the count.
    purse.see(2 * SECOND, down(1_600));
    assert_eq!(purse.compare(MilliSat(1_090_000)), None);
    assert_eq!(purse.pay().unwrap().unwrap().change(), sat(CAPACITY - 1_090 - 100));
    assert!(purse.compare(MilliSat(9_000_000)).is_some());
    assert_eq!(purse.pay().unwrap().unwrap().change(), sat(CAPACITY - 1_600 - 100));
}

#[test]
fn a_step_that_was_chosen_is_kept() {
    let mut purse = purse(Spending { step: Some(sat(123)), ..spending() });
    purse.see(SECOND, down(900));
    assert_eq!(purse.count().step, sat(123));
}

#[test]
fn the_next_update_is_signed_when_half_of_a_step_is_left() {
    let mut purse = purse(Spending { step: Some(sat(100)), ..spending() });
    purse.pay().unwrap().unwrap();
    purse.see(SECOND, down(950));
    assert_eq!(purse.pay().unwrap(), None);
    purse.see(2 * SECOND, down(951));
    let update = purse.pay().unwrap().unwrap();
    assert_eq!(update.change(), sat(CAPACITY - 951 - 100));
}

#[test]
fn the_last_update_is_the_budget_and_then_it_is_spent() {
    let budget = sat(5_000);
    let mut purse = purse(Spending { step: Some(sat(1_000)), budget, ..spending() });
    purse.pay().unwrap().unwrap();
    for second in 1..=50 {
        purse.see(second * SECOND, down(second * 100));
        purse.pay().unwrap();
        assert!(purse.payer().signed() <= budget);
    }
    assert_eq!(purse.payer().signed(), budget);
    assert!(purse.is_spent(MilliSat(0)));
}

#[test]
fn a_budget_that_would_leave_dust_stops_at_the_last_legal_change_or_takes_all() {
    let stops = purse(Spending { budget: sat(CAPACITY - 100), ..spending() });
    assert_eq!(stops.spendable(), sat(CAPACITY - 330));
    assert_eq!(purse(spending()).spendable(), sat(CAPACITY));
}

#[test]
fn a_gateway_that_charges_more_than_was_counted_is_warned_of_and_gets_no_more() {
    let mut purse = purse(spending());
    purse.pay().unwrap();
    purse.see(SECOND, down(1));
    assert_eq!(purse.compare(MilliSat(1_100)), None, "a few packets are on their way");
    let warning = purse.compare(MilliSat(900_000)).unwrap();
    assert!(warning.to_string().contains("900000 msat"), "{warning}");
    assert_eq!(purse.compare(MilliSat(1_000_000)), None, "said once");
    assert!(purse.compare(MilliSat(2_000_000)).is_some(), "and again when it doubles");
    assert_eq!(purse.pay().unwrap(), None);
    assert_eq!(purse.count().counted, MilliSat(1_000));
}

#[test]
fn what_was_charged_while_nobody_counted_is_conceded_up_to_what_is_paid() {
    let mut purse = purse(spending());
    purse.pay().unwrap();
    purse.see(SECOND, down(400));
    purse.concede(MilliSat(700_000));
    assert_eq!((purse.counted(), purse.unseen()), (MilliSat(700_000), MilliSat(300_000)));
    purse.concede(MilliSat(600_000));
    assert_eq!(purse.counted(), MilliSat(700_000), "never less");
    purse.concede(MilliSat(99_000_000));
    assert_eq!(purse.counted(), MilliSat(1_000_000), "and never more than is paid");
}

#[test]
fn an_update_is_sent_until_the_gateway_has_it() {
    let (payer, _) = ends();
    let mut purse = Purse::new(payer, spending(), Used::default(), MilliSat(0));
    let update = purse.pay().unwrap().unwrap();
    assert_eq!(purse.unacknowledged(), Some(&update));
    let accepted = UpdateAccepted {
        change_sat: update.change().to_sat(),
        credit_msat: MilliSat(1_000_000),
        balance_msat: MilliSat(0),
    };
    assert!(!purse.acknowledge(&accepted));
    assert_eq!(purse.unacknowledged(), None);
    let overtaken = UpdateAccepted { change_sat: CAPACITY - 2_000, ..accepted };
    assert!(purse.acknowledge(&overtaken), "the gateway holds one that is not known here");
}

#[test]
fn a_payer_restored_from_an_old_state_goes_on_from_the_gateways_newest_update() {
    let (mut lost, _) = ends();
    let count = crate::channel::Count { counted: MilliSat(3_000_000), step: sat(0) };
    let newest = UpdateBody::from(&lost.sign(sat(3_000), &count).unwrap());
    let mut restored = purse(spending());
    restored.pay().unwrap();
    assert!(restored.adopt(&newest).unwrap());
    assert_eq!(restored.payer().signed(), sat(3_000));
    assert_eq!(restored.unacknowledged(), None);
    assert!(!restored.adopt(&newest).unwrap(), "twice changes nothing");
    let mut forged = newest;
    forged.change_sat -= 1_000;
    assert!(restored.adopt(&forged).is_err());
    assert_eq!(restored.payer().signed(), sat(3_000));
}

proptest! {
    #[test]
    fn whatever_is_used_and_stated_no_more_is_signed_than_counted_and_one_step(
        budget in 10_000..=CAPACITY,
        step in proptest::option::of(1..5_000u64),
        events in proptest::collection::vec((1..2_000u64, 0..2_000u64, 0..200_000_000u64), 1..60),
    ) {
        let (payer, mut payee) = ends();
        let spending = Spending { budget: sat(budget), step: step.map(sat), ..spending() };
        let mut purse = Purse::new(payer, spending, Used::default(), MilliSat(0));
        let (mut now, mut used) = (0, Used::default());
        for (ms, kib, stated) in events {
            now += ms * 1_000_000;
            used.downlink_bytes += kib << 10;
            used.time_ns = now;
            purse.see(now, used);
            purse.compare(MilliSat(stated));
            let Some(update) = purse.pay().unwrap() else { continue };
            let counted = used.cost(&TARIFF).0;
            let most = (counted.div_ceil(1_000) + purse.count().step.to_sat()).max(1_000);
            let credit = CAPACITY - update.change().to_sat();
            prop_assert!(credit <= most.min(budget), "{credit} > {most} or {budget}");
            // The gateway takes each of them.
            let verified = payee.verify(update, TIP).unwrap();
            payee.accept(verified).unwrap();
        }
        prop_assert_eq!(payee.credit().0, msat(&purse));
    }

    #[test]
    fn as_long_as_the_budget_lasts_the_balance_never_runs_out_at_a_steady_rate(
        kib_per_tick in 1..1_000u64,
    ) {
        let mut purse = purse(spending());
        purse.pay().unwrap();
        for tick in 1..400 {
            let used = Used { downlink_bytes: (tick * kib_per_tick) << 10, ..Used::default() };
            purse.see(tick * SECOND / 10, used);
            if purse.counted().0 >= (CAPACITY - 330) * 1_000 {
                break;
            }
            prop_assert!(purse.counted().0 <= msat(&purse), "cut off at tick {}", tick);
            purse.pay().unwrap();
        }
    }
}
