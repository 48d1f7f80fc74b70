//! Bidding below an offer, and what may come of it. Pure.

use bitcoin::hashes::sha256;

use super::Limits;
use crate::bargain::{covers, differ_in_prices_only, map_prices};
use crate::channel::SessionSecret;
use crate::channel::message::{Bid, Message, Offer};
use crate::tariff::Tariff;
use crate::wire::{BidAnswer, BidRequest, BidVerdict, SignedOffer};

/// Bids in one bargain, at most, whatever the gateway allows.
pub const MAX_BIDS: u32 = 16;

/// Why a gateway's answer to a bid is not taken. Nothing was signed but the bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BidRefused {
    /// Somebody else made it, or it was changed.
    #[error("the answer to the bid is not signed by the gateway that made the offer: not taken")]
    Forged,
    /// The bargain is for the prices alone.
    #[error("the gateway changed more than prices in its answer to the bid: not taken")]
    MoreThanPrices,
    /// It went the wrong way.
    #[error("the gateway answered the bid with a higher price than before: not taken")]
    Higher,
    /// It says one thing and signs another.
    #[error("the gateway says that it accepts the bid, and signs another price: not taken")]
    NotTheBid,
}

/// One bargain from the payer's side.
#[derive(Clone, Debug)]
pub struct Bargaining {
    standing: SignedOffer,
    bid: Option<Tariff>,
    round: u32,
}

impl Bargaining {
    /// Over an offer that was found to be [authentic](Limits::authentic).
    #[must_use]
    pub fn new(offer: SignedOffer) -> Self {
        Self { standing: offer, bid: None, round: 0 }
    }

    /// The newest offer.
    #[must_use]
    pub fn standing(&self) -> &SignedOffer {
        &self.standing
    }

    /// The next bid: at first this percentage of the list, then halfway from the last bid to the
    /// gateway's newest ask; never above the limits. `None` if there is nothing to bid for.
    #[must_use]
    pub fn next(
        &self,
        percent: u32,
        limits: &Limits,
        session: &SessionSecret,
    ) -> Option<BidRequest> {
        let ask = &self.standing.offer.tariff;
        let meet = |bid: u64, ask: u64| bid.min(ask).midpoint(ask);
        let wish = match &self.bid {
            None => map_prices(ask, ask, |ask, _| part(ask, percent)),
            Some(bid) => map_prices(bid, ask, meet),
        };
        let tariff = Tariff {
            uplink_msat_per_mib: wish.uplink_msat_per_mib.min(limits.max_msat_per_mib),
            downlink_msat_per_mib: wish.downlink_msat_per_mib.min(limits.max_msat_per_mib),
            msat_per_minute: wish.msat_per_minute.min(limits.max_msat_per_minute),
            ..*ask
        };
        if self.round >= MAX_BIDS || tariff == *ask {
            return None;
        }
        let digest: sha256::Hash = self.standing.offer.digest();
        let bid = Bid {
            offer: digest,
            round: self.round + 1,
            tariff,
            payer_session_key: session.public_key(),
        };
        let bid_signature = bid.sign(session);
        let SignedOffer { offer, signature, .. } = self.standing.clone();
        Some(BidRequest { offer, signature, bid, bid_signature })
    }

    /// Takes the answer to a bid. Gives whether another bid may follow.
    ///
    /// # Errors
    ///
    /// [`BidRefused`] if the answer is not what an honest gateway says.
    pub fn take(&mut self, bid: &BidRequest, answer: BidAnswer) -> Result<bool, BidRefused> {
        let BidAnswer { verdict, rounds_left, offer, signature } = answer;
        let before = &self.standing.offer;
        offer.verify(&before.gateway_key, &signature).map_err(|_| BidRefused::Forged)?;
        let prices = offer.tariff;
        let same = differ_in_prices_only(&prices, &before.tariff)
            && Offer { tariff: before.tariff, ..offer.clone() } == *before;
        if !same {
            return Err(BidRefused::MoreThanPrices);
        }
        if !covers(&before.tariff, &prices) {
            return Err(BidRefused::Higher);
        }
        if verdict == BidVerdict::Accepted && !covers(&bid.bid.tariff, &prices) {
            return Err(BidRefused::NotTheBid);
        }
        // What counts early is not bargained for.
        let unconfirmed = self.standing.unconfirmed.take();
        self.standing = SignedOffer { offer, signature, unconfirmed };
        self.bid = Some(bid.bid.tariff);
        self.round = bid.bid.round;
        Ok(verdict == BidVerdict::Countered && rounds_left > 0)
    }
}

fn part(price: u64, percent: u32) -> u64 {
    let part = u128::from(price) * u128::from(percent) / 100;
    u64::try_from(part).unwrap_or(u64::MAX)
}
