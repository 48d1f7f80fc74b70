//! Bargains under way: who bid, in which round, and what was answered.
//!
//! They live in memory alone. After a restart the offers that were made still hold, for they are
//! signed, and a bid on one begins a new bargain from there: never below the floor.

use std::collections::BTreeMap;

use bitcoin::hashes::sha256;
use bitmesh_common::abi::Mac;

use super::refusal::Refused;
use super::{MAX_BARGAINS, MAX_BARGAINS_PER_STATION};
use crate::bargain::{BargainPolicy, Conditions, Judgement, differ_in_prices_only};
use crate::channel::PublicKey;
use crate::channel::message::{Bid, Challenge, Message as _, Offer};
use crate::gateway::Gateway;
use crate::tariff::Tariff;
use crate::wire::{ApiError, BidAnswer, BidRequest, BidVerdict, SignedOffer};

/// All of one station's offers with one challenge.
#[derive(Debug)]
struct Bargain {
    bidder: PublicKey,
    /// The newest bid, and what was said to it.
    last_bid: sha256::Hash,
    round: u32,
    answer: BidAnswer,
}

/// All bargains, and what they are judged by.
#[derive(Debug, Default)]
pub(super) struct Bargains {
    policy: Option<BargainPolicy>,
    open: BTreeMap<(Mac, [u8; 32]), Bargain>,
}

impl Bargains {
    /// Room for one more, or why there is none.
    fn check_room(&mut self, mac: Mac, unix_s: u64) -> Result<(), Refused> {
        self.open.retain(|_, bargain| bargain.answer.offer.valid_until_unix_s >= unix_s);
        let own = self.open.keys().filter(|(other, _)| *other == mac).count();
        if own >= MAX_BARGAINS_PER_STATION || self.open.len() >= MAX_BARGAINS {
            return Err(Refused::TooManyBargains);
        }
        Ok(())
    }
}

/// Where a bid stands in its bargain.
enum Place {
    /// It was answered before.
    Known(Box<BidAnswer>),
    /// It is the bid of this round.
    Round(u32),
}

impl Gateway {
    /// Bids are judged by this policy. Without one, they are refused.
    #[must_use]
    pub fn with_bargaining(mut self, policy: Option<BargainPolicy>) -> Self {
        self.channels.bargains.policy = policy;
        self
    }

    pub(super) fn bid(
        &mut self,
        mac: Mac,
        body: &BidRequest,
        list: &Tariff,
        (minute_of_day, unix_s): (u16, u64),
    ) -> Result<BidAnswer, ApiError> {
        let policy = self.channels.bargains.policy.clone().ok_or(Refused::NoBargaining)?;
        self.check_offer(&body.offer, &body.signature, unix_s)?;
        check_bid(body)?;
        let round = match self.place_of(mac, body, unix_s)? {
            Place::Known(answer) => return Ok(*answer),
            Place::Round(round) => round,
        };
        let now = Conditions { minute_of_day, kbit_per_s: self.demand.kbit_per_s() };
        let (bid, ask) = (&body.bid, &body.offer.tariff);
        let answer = match policy.judge((list, ask), &bid.tariff, round, now) {
            Judgement::Accept(agreed) => self.say(body, BidVerdict::Accepted, agreed, 0),
            Judgement::Counter(lower) => {
                let left = policy.rounds.saturating_sub(round);
                self.say(body, BidVerdict::Countered, lower, left)
            }
            Judgement::Decline => self.say(body, BidVerdict::Declined, *ask, 0),
        }?;
        let bargain = Bargain {
            bidder: bid.payer_session_key,
            last_bid: bid.digest(),
            round,
            answer: answer.clone(),
        };
        self.channels.bargains.open.insert(key(mac, &body.offer.challenge), bargain);
        Ok(answer)
    }

    fn place_of(&mut self, mac: Mac, body: &BidRequest, unix_s: u64) -> Result<Place, Refused> {
        let bid = &body.bid;
        let bargains = &mut self.channels.bargains;
        let Some(bargain) = bargains.open.get(&key(mac, &body.offer.challenge)) else {
            bargains.check_room(mac, unix_s)?;
            return if bid.round == 1 { Ok(Place::Round(1)) } else { Err(Refused::OtherRound) };
        };
        if bargain.bidder != bid.payer_session_key {
            return Err(Refused::ForgedMessage);
        }
        if bargain.last_bid == bid.digest() {
            return Ok(Place::Known(Box::new(bargain.answer.clone())));
        }
        if bargain.answer.rounds_left == 0 {
            return Err(Refused::BargainOver);
        }
        let is_next = bid.round == bargain.round.saturating_add(1);
        if !is_next || bargain.answer.offer != body.offer {
            return Err(Refused::OtherRound);
        }
        Ok(Place::Round(bid.round))
    }

    /// The offer at these prices. All else is as it was, its end too.
    fn say(
        &self,
        body: &BidRequest,
        verdict: BidVerdict,
        tariff: Tariff,
        rounds_left: u32,
    ) -> Result<BidAnswer, ApiError> {
        let offer = Offer { tariff, ..body.offer.clone() };
        let SignedOffer { offer, signature, .. } = self.signed(offer)?;
        Ok(BidAnswer { verdict, rounds_left, offer, signature })
    }
}

fn key(mac: Mac, challenge: &Challenge) -> (Mac, [u8; 32]) {
    (mac, challenge.0)
}

fn check_bid(body: &BidRequest) -> Result<(), Refused> {
    let Bid { offer, tariff, payer_session_key, .. } = &body.bid;
    if *offer != body.offer.digest() {
        return Err(Refused::OtherOffer);
    }
    body.bid.verify(payer_session_key, &body.bid_signature)?;
    if tariff.check().is_err() || !differ_in_prices_only(tariff, &body.offer.tariff) {
        return Err(Refused::BidPrices);
    }
    Ok(())
}
