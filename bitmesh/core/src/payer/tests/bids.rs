//! What is bid, and which answers are taken.

use super::*;
use crate::bargain::{BargainPolicy, Conditions, Judgement};
use crate::payer::{Bargaining, BidRefused};
use crate::wire::{BidAnswer, BidRequest, BidVerdict};

const QUIET: Conditions = Conditions { minute_of_day: 0, kbit_per_s: 0 };

fn session() -> SessionSecret {
    session_secret(Role::Payer)
}

fn answer(verdict: BidVerdict, offer: Offer) -> BidAnswer {
    let SignedOffer { offer, signature, .. } = signed(offer);
    BidAnswer { verdict, rounds_left: 3, offer, signature }
}

fn first_bid() -> (Bargaining, BidRequest) {
    let bargaining = Bargaining::new(signed(offer()));
    let bid = bargaining.next(50, &limits(), &session()).unwrap();
    (bargaining, bid)
}

fn counter(up: u64, down: u64) -> Offer {
    Offer {
        tariff: Tariff { uplink_msat_per_mib: up, downlink_msat_per_mib: down, ..TARIFF },
        ..offer()
    }
}

#[test]
fn the_first_bid_is_the_share_and_the_next_meets_the_gateway_halfway() {
    let (mut bargaining, bid) = first_bid();
    let prices = |bid: &BidRequest| {
        let tariff = bid.bid.tariff;
        (tariff.uplink_msat_per_mib, tariff.downlink_msat_per_mib, tariff.msat_per_minute)
    };
    assert_eq!((prices(&bid), bid.bid.round), ((250, 500, 30), 1));
    bid.bid.verify(&session().public_key(), &bid.bid_signature).unwrap();
    let countered = answer(BidVerdict::Countered, counter(450, 900));
    assert_eq!(bargaining.take(&bid, countered), Ok(true));
    let second = bargaining.next(50, &limits(), &session()).unwrap();
    assert_eq!((prices(&second), second.bid.round), ((350, 700, 45), 2));
    assert_eq!(second.bid.offer, counter(450, 900).digest());
}

#[test]
fn no_bid_is_above_the_limits() {
    let dear = Offer { tariff: Tariff { uplink_msat_per_mib: 9_000, ..TARIFF }, ..offer() };
    let bid = Bargaining::new(signed(dear)).next(90, &limits(), &session()).unwrap();
    assert_eq!(bid.bid.tariff.uplink_msat_per_mib, limits().max_msat_per_mib);
}

#[test]
fn an_answer_that_is_forged_dearer_or_about_something_else_is_not_taken() {
    let taken = |answer| {
        let (mut bargaining, bid) = first_bid();
        let taken = bargaining.take(&bid, answer);
        assert!(taken.is_ok() || *bargaining.standing() == signed(offer()));
        taken
    };
    let honest = answer(BidVerdict::Countered, counter(450, 900));
    let forged = BidAnswer { signature: signed(offer()).signature, ..honest };
    assert_eq!(taken(forged), Err(BidRefused::Forged));
    let dearer = answer(BidVerdict::Countered, counter(501, 900));
    assert_eq!(taken(dearer), Err(BidRefused::Higher));
    let longer = Offer { lock_blocks: 289, ..counter(450, 900) };
    assert_eq!(taken(answer(BidVerdict::Countered, longer)), Err(BidRefused::MoreThanPrices));
    let slower = Tariff { downlink_kbit_per_s: 1, ..counter(450, 900).tariff };
    let slower = answer(BidVerdict::Countered, Offer { tariff: slower, ..offer() });
    assert_eq!(taken(slower), Err(BidRefused::MoreThanPrices));
    let other = answer(BidVerdict::Accepted, counter(450, 900));
    assert_eq!(taken(other), Err(BidRefused::NotTheBid));
    assert_eq!(taken(answer(BidVerdict::Declined, offer())), Ok(false));
}

#[test]
fn a_payer_and_a_gateway_that_both_come_down_and_up_agree_above_the_floor() {
    let policy = BargainPolicy {
        floor_percent: 60,
        step_percent: 10,
        rounds: 6,
        demand: None,
        hours: vec![],
    };
    let mut bargaining = Bargaining::new(signed(offer()));
    while let Some(bid) = bargaining.next(50, &limits(), &session()) {
        let ask = bargaining.standing().offer.tariff;
        let (verdict, tariff) =
            match policy.judge((&TARIFF, &ask), &bid.bid.tariff, bid.bid.round, QUIET) {
                Judgement::Accept(tariff) => (BidVerdict::Accepted, tariff),
                Judgement::Counter(tariff) => (BidVerdict::Countered, tariff),
                Judgement::Decline => panic!("they should have met"),
            };
        if !bargaining.take(&bid, answer(verdict, Offer { tariff, ..offer() })).unwrap() {
            break;
        }
    }
    let agreed = bargaining.standing().offer.tariff;
    assert!((300..500).contains(&agreed.uplink_msat_per_mib), "{agreed:?}");
    assert!((600..1_000).contains(&agreed.downlink_msat_per_mib), "{agreed:?}");
}
