//! What no bid can get, and what every bargain comes to.

use proptest::prelude::*;

use super::*;

const QUIET: Conditions = Conditions { minute_of_day: 720, kbit_per_s: 0 };

fn tariff(up: u64, down: u64, minute: u64) -> Tariff {
    Tariff {
        uplink_msat_per_mib: up,
        downlink_msat_per_mib: down,
        msat_per_minute: minute,
        downlink_kbit_per_s: 5_000,
        ..Tariff::FREE
    }
}

fn policy() -> BargainPolicy {
    BargainPolicy {
        floor_percent: 60,
        step_percent: 10,
        rounds: 4,
        demand: Some(DemandPolicy { capacity_kbit_per_s: 10_000, busy_percent: 50 }),
        hours: vec![
            Hours { from_minute: 22 * 60, until_minute: 6 * 60, floor_percent: 30 },
            Hours { from_minute: 18 * 60, until_minute: 23 * 60, floor_percent: 90 },
        ],
    }
}

#[test]
fn a_bid_that_one_step_down_reaches_is_accepted_at_the_bid() {
    let list = tariff(1_000, 2_000, 0);
    let bid = tariff(900, 1_950, 0);
    let verdict = policy().judge((&list, &list), &bid, 1, QUIET);
    assert_eq!(verdict, Judgement::Accept(bid));
}

#[test]
fn a_bid_above_the_ask_is_sold_at_the_ask() {
    let list = tariff(1_000, 2_000, 10);
    let verdict = policy().judge((&list, &list), &tariff(5_000, 1_990, 99), 1, QUIET);
    assert_eq!(verdict, Judgement::Accept(tariff(1_000, 1_990, 10)));
}

#[test]
fn a_low_bid_is_countered_a_step_lower_until_the_rounds_or_the_floor_end_it() {
    let list = tariff(1_000, 2_000, 7);
    let bid = tariff(1, 1, 0);
    let mut ask = list;
    for (round, up) in [(1, 900), (2, 800), (3, 700)] {
        match policy().judge((&list, &ask), &bid, round, QUIET) {
            Judgement::Counter(lower) => ask = lower,
            other => panic!("round {round}: {other:?}"),
        }
        assert_eq!(ask.uplink_msat_per_mib, up);
    }
    assert_eq!(policy().judge((&list, &ask), &bid, 4, QUIET), Judgement::Decline);
    let long = BargainPolicy { rounds: 16, ..policy() };
    let floor = tariff(600, 1_200, 5);
    assert_eq!(long.judge((&list, &floor), &bid, 5, QUIET), Judgement::Decline);
}

#[test]
fn the_time_of_day_sets_the_floor_also_past_midnight_and_the_first_that_fits_counts() {
    let floor_at = |minute_of_day| policy().floor(Conditions { minute_of_day, kbit_per_s: 0 });
    assert_eq!(floor_at(12 * 60), 6_000);
    assert_eq!(floor_at(18 * 60), 9_000);
    assert_eq!(floor_at(22 * 60), 3_000);
    assert_eq!(floor_at(5 * 60 + 59), 3_000);
    assert_eq!(floor_at(6 * 60), 6_000);
}

#[test]
fn a_busy_uplink_raises_the_floor_in_a_line_to_the_list_price() {
    let floor_at = |kbit_per_s| policy().floor(Conditions { minute_of_day: 720, kbit_per_s });
    assert_eq!(floor_at(5_000), 6_000);
    assert_eq!(floor_at(7_500), 8_000);
    assert_eq!(floor_at(10_000), 10_000);
    assert_eq!(floor_at(u64::MAX), 10_000);
}

#[test]
fn an_ask_that_was_made_before_the_uplink_got_busy_stands() {
    let (list, ask) = (tariff(1_000, 1_000, 0), tariff(700, 700, 0));
    let busy = Conditions { kbit_per_s: 10_000, ..QUIET };
    let low = policy().judge((&list, &ask), &tariff(699, 700, 0), 2, busy);
    assert_eq!(low, Judgement::Decline);
    assert_eq!(policy().judge((&list, &ask), &ask, 2, busy), Judgement::Accept(ask));
}

fn any_policy() -> impl Strategy<Value = BargainPolicy> {
    let demand = (1..100_000_u64, 0..100_u32).prop_map(|(capacity_kbit_per_s, busy_percent)| {
        DemandPolicy { capacity_kbit_per_s, busy_percent }
    });
    let hours = (0..MINUTES_OF_DAY, 0..MINUTES_OF_DAY, 1..=100_u32).prop_map(
        |(from_minute, until_minute, floor_percent)| Hours {
            from_minute,
            until_minute,
            floor_percent,
        },
    );
    let hours = prop::collection::vec(hours, 0..4);
    (1..=100_u32, 1..=100_u32, 1..=MAX_ROUNDS, prop::option::of(demand), hours).prop_map(
        |(floor_percent, step_percent, rounds, demand, hours)| BargainPolicy {
            floor_percent,
            step_percent,
            rounds,
            demand,
            hours,
        },
    )
}

fn any_tariff(most: u64) -> impl Strategy<Value = Tariff> {
    (0..=most, 0..=most, 0..=most).prop_map(|(up, down, minute)| tariff(up, down, minute))
}

fn any_conditions() -> impl Strategy<Value = Conditions> {
    (0..MINUTES_OF_DAY, 0..200_000_u64)
        .prop_map(|(minute_of_day, kbit_per_s)| Conditions { minute_of_day, kbit_per_s })
}

/// What was ever sold or asked in a bargain under conditions that change, and the lowest floor.
fn bargain(
    policy: &BargainPolicy,
    list: &Tariff,
    rounds: &[(Tariff, Conditions)],
) -> (Vec<Tariff>, u64, bool) {
    let (mut asks, mut lowest) = (vec![*list], WHOLE);
    for (round, (bid, now)) in (1..).zip(rounds) {
        lowest = lowest.min(policy.floor(*now));
        let ask = asks[asks.len() - 1];
        match policy.judge((list, &ask), bid, round, *now) {
            Judgement::Counter(lower) => asks.push(lower),
            Judgement::Accept(agreed) => {
                asks.push(agreed);
                return (asks, lowest, true);
            }
            Judgement::Decline => return (asks, lowest, true),
        }
    }
    (asks, lowest, false)
}

proptest! {
    #[test]
    fn nothing_is_ever_sold_below_the_floor_and_no_ask_ever_rises(
        policy in any_policy(),
        list in any_tariff(1 << 40),
        rounds in prop::collection::vec((any_tariff(1 << 40), any_conditions()), 1..20),
    ) {
        let (asks, lowest, _) = bargain(&policy, &list, &rounds);
        let floor = map_prices(&list, &list, |price, _| share(price, lowest));
        for pair in asks.windows(2) {
            prop_assert!(covers(&pair[0], &pair[1]), "{pair:?}");
            prop_assert!(covers(&pair[1], &floor), "{pair:?} below {floor:?}");
            prop_assert!(differ_in_prices_only(&pair[0], &pair[1]));
        }
    }

    #[test]
    fn every_bargain_is_over_within_the_rounds(
        policy in any_policy(),
        list in any_tariff(10_000),
        rounds in prop::collection::vec((any_tariff(10_000), any_conditions()), MAX_ROUNDS as usize),
    ) {
        let within = &rounds[..policy.rounds as usize];
        prop_assert!(bargain(&policy, &list, within).2);
    }

    #[test]
    fn who_bids_the_ask_gets_it_and_never_pays_more_than_was_bid_or_asked(
        policy in any_policy(), list in any_tariff(10_000), more in any_tariff(100),
        now in any_conditions(), round in 1..20_u32,
    ) {
        let bid = map_prices(&list, &more, |price, more| price + more);
        let bid = Tariff { downlink_kbit_per_s: list.downlink_kbit_per_s, ..bid };
        prop_assert_eq!(policy.judge((&list, &list), &bid, round, now), Judgement::Accept(list));
    }
}
