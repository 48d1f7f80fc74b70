//! Bids: what is sold below the list price, and what is refused.

use bitcoin::Network;
use bitmesh_core::bargain::{BargainPolicy, map_prices};
use bitmesh_core::channel::message::{Bid, Message as _, MessageSignature};
use bitmesh_core::channel::{Role, Seed, SessionSecret};
use bitmesh_core::gateway::channels::{MAX_BARGAINS, MAX_BARGAINS_PER_STATION, OFFER_VALID_S};
use bitmesh_core::wire::{BidAnswer, BidRequest, BidVerdict, SignedOffer};
use bitmesh_core::{ChannelAnswer, ChannelInput, Mac};

use super::opening::{STATION, offer, open, request};
use super::*;

const POLICY: BargainPolicy = BargainPolicy {
    floor_percent: 60,
    step_percent: 10,
    rounds: 3,
    demand: None,
    hours: Vec::new(),
};

fn bargaining() -> World {
    let mut world = world();
    world.bargaining = Some(POLICY);
    world.restart();
    world
}

fn session(index: u32) -> SessionSecret {
    Seed::new([9; 32]).session_secret(Network::Regtest, Role::Payer, index).unwrap()
}

/// A bid of this share of the list.
fn bid_on(offer: &SignedOffer, round: u32, percent: u64) -> BidRequest {
    let tariff = map_prices(&BYTES, &BYTES, |price, _| price * percent / 100);
    let payer_session_key = session(1).public_key();
    let bid = Bid { offer: offer.offer.digest(), round, tariff, payer_session_key };
    let bid_signature = bid.sign(&session(1));
    let SignedOffer { offer, signature, .. } = offer.clone();
    BidRequest { offer, signature, bid, bid_signature }
}

fn say(world: &mut World, mac: Mac, body: &BidRequest) -> Result<BidAnswer, ApiError> {
    let (body, unix_s) = (Box::new(body.clone()), world.unix_s());
    let input =
        |request| ChannelInput::Bid { request, mac, body, list: BYTES, minute_of_day: 0, unix_s };
    match *world.ask(input).unwrap().unwrap()? {
        ChannelAnswer::Bid(answer) => Ok(*answer),
        other => panic!("{other:?}"),
    }
}

fn reason_of(world: &mut World, body: &BidRequest) -> String {
    say(world, STATION, body).unwrap_err().reason
}

fn offer_in(answer: &BidAnswer) -> SignedOffer {
    SignedOffer { offer: answer.offer.clone(), signature: answer.signature, unconfirmed: None }
}

/// In percent of the list, rounded up.
fn uplink(answer: &BidAnswer) -> u64 {
    (answer.offer.tariff.uplink_msat_per_mib * 100).div_ceil(BYTES.uplink_msat_per_mib)
}

#[test]
fn what_is_agreed_is_a_signed_offer_that_a_channel_opens_on() {
    let mut world = bargaining();
    let list = offer(&mut world);
    let countered = say(&mut world, STATION, &bid_on(&list, 1, 50)).unwrap();
    assert_eq!((countered.verdict, countered.rounds_left), (BidVerdict::Countered, 2));
    assert_eq!(uplink(&countered), 90);
    let agreed = say(&mut world, STATION, &bid_on(&offer_in(&countered), 2, 85)).unwrap();
    assert_eq!((agreed.verdict, agreed.rounds_left), (BidVerdict::Accepted, 0));
    assert_eq!(uplink(&agreed), 85);
    agreed.offer.verify(&list.offer.gateway_key, &agreed.signature).unwrap();
    assert_eq!(agreed.offer.valid_until_unix_s, list.offer.valid_until_unix_s);
    let opened = open(&mut world, STATION, &request(offer_in(&agreed), 1)).unwrap();
    opened.agreement.check_against(&agreed.offer).unwrap();
    assert_eq!(opened.agreement.tariff, agreed.offer.tariff);
}

#[test]
fn the_same_bid_gets_the_same_answer_and_an_old_or_skipped_round_none() {
    let mut world = bargaining();
    let list = offer(&mut world);
    let first = bid_on(&list, 1, 50);
    assert_eq!(reason_of(&mut world, &bid_on(&list, 2, 50)), "other_round");
    let answer = say(&mut world, STATION, &first).unwrap();
    assert_eq!(say(&mut world, STATION, &first), Ok(answer.clone()));
    assert_eq!(reason_of(&mut world, &bid_on(&list, 1, 51)), "other_round");
    assert_eq!(reason_of(&mut world, &bid_on(&list, 2, 51)), "other_round");
    assert_eq!(reason_of(&mut world, &bid_on(&offer_in(&answer), 3, 51)), "other_round");
}

#[test]
fn a_bargain_ends_with_its_rounds_and_the_last_offer_still_opens_a_channel() {
    let mut world = bargaining();
    let mut standing = offer(&mut world);
    for (round, verdict) in
        [(1, BidVerdict::Countered), (2, BidVerdict::Countered), (3, BidVerdict::Declined)]
    {
        let answer = say(&mut world, STATION, &bid_on(&standing, round, 10)).unwrap();
        assert_eq!((answer.verdict, answer.rounds_left), (verdict, 3 - round));
        standing = offer_in(&answer);
    }
    assert_eq!(reason_of(&mut world, &bid_on(&standing, 4, 79)), "bargain_over");
    open(&mut world, STATION, &request(standing, 1)).unwrap();
}

#[test]
fn a_bid_that_is_forged_or_changes_more_than_prices_is_refused() {
    let mut world = bargaining();
    let list = offer(&mut world);
    let honest = bid_on(&list, 1, 50);
    let forged = BidRequest { bid_signature: MessageSignature([1; 64]), ..honest.clone() };
    assert_eq!(reason_of(&mut world, &forged), "forged");
    let mut own_offer = honest.clone();
    own_offer.offer.tariff = Tariff::FREE;
    assert_eq!(reason_of(&mut world, &own_offer), "forged_offer");
    let mut other = honest.clone();
    other.offer.challenge.0[0] ^= 1;
    assert_eq!(reason_of(&mut world, &other), "forged_offer");
    let mut unrelated = honest.clone();
    unrelated.bid.offer = session_digest();
    unrelated.bid_signature = unrelated.bid.sign(&session(1));
    assert_eq!(reason_of(&mut world, &unrelated), "other_offer");
    let mut faster = honest.clone();
    faster.bid.tariff.downlink_kbit_per_s = 1_000_000;
    faster.bid_signature = faster.bid.sign(&session(1));
    assert_eq!(reason_of(&mut world, &faster), "bid_prices");
    say(&mut world, STATION, &honest).unwrap();
    let mut stolen = bid_on(&list, 1, 50);
    stolen.bid.payer_session_key = session(2).public_key();
    stolen.bid_signature = stolen.bid.sign(&session(2));
    assert_eq!(reason_of(&mut world, &stolen), "forged");
}

fn session_digest() -> bitcoin::hashes::sha256::Hash {
    bitcoin::hashes::Hash::hash(b"another offer")
}

#[test]
fn a_gateway_with_fixed_prices_says_so() {
    let mut world = world();
    let list = offer(&mut world);
    assert_eq!(reason_of(&mut world, &bid_on(&list, 1, 50)), "no_bargaining");
}

#[test]
fn bargains_have_a_limit_and_are_forgotten_when_their_offers_end() {
    let mut world = bargaining();
    let fill = |world: &mut World, mac: Mac, number: usize| {
        let mut list = offer(world);
        // Another challenge, another bargain.
        let [.., high, low] = number.to_be_bytes();
        let (challenge, unix_s) = ([high, low].repeat(16).try_into().unwrap(), world.unix_s());
        let challenge = bitmesh_core::channel::message::Challenge(challenge);
        let input = |request| ChannelInput::Offer { request, tariff: BYTES, challenge, unix_s };
        if let ChannelAnswer::Offer(own) = *world.ask(input).unwrap().unwrap().unwrap() {
            list = own;
        }
        say(world, mac, &bid_on(&list, 1, 50)).map_err(|error| error.reason)
    };
    for number in 0..MAX_BARGAINS_PER_STATION {
        fill(&mut world, STATION, number).unwrap();
    }
    let refused = fill(&mut world, STATION, MAX_BARGAINS_PER_STATION);
    assert_eq!(refused, Err("too_many_bargains".to_owned()));
    let stations = MAX_BARGAINS / MAX_BARGAINS_PER_STATION;
    let mac = |n: usize| Mac::new([2, 0, 0, 1, n.to_be_bytes()[6], n.to_be_bytes()[7]]);
    for station in 1..stations {
        for number in 0..MAX_BARGAINS_PER_STATION {
            fill(&mut world, mac(station), number).unwrap();
        }
    }
    assert_eq!(fill(&mut world, mac(0), 0), Err("too_many_bargains".to_owned()));
    world.pass(Duration::from_secs(OFFER_VALID_S + 1)).unwrap();
    fill(&mut world, mac(0), 0).unwrap();
}
