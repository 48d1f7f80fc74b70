//! What the subscriber is willing to accept.

use bitcoin::{Amount, Network};

use crate::channel::message::{Challenge, Message, MessageSignature, Offer};
use crate::channel::{MAX_CAPACITY, MIN_MARGIN_BLOCKS};
use crate::wire::SignedOffer;

/// How far apart the clocks of gateway and payer may be when an offer ends, in seconds.
const CLOCK_SLACK_S: u64 = 60;

/// The subscriber's limits. An offer beyond any of them is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The chain that the subscriber pays on.
    pub network: Network,
    /// The most for a MiB, either way.
    pub max_msat_per_mib: u64,
    /// The most for a minute.
    pub max_msat_per_minute: u64,
    /// The most that is put into the channel, and paid.
    pub budget: Amount,
    /// The most that is paid at once before anything was received; also the most that a
    /// cooperative close may cost.
    pub max_first_update: Amount,
    /// The longest time, in blocks, until the subscriber can take its money back alone.
    pub max_lock_blocks: u32,
}

/// Why an offer is not accepted. Nothing was signed or shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferRefused {
    /// Somebody else made it, or it was changed.
    #[error("the offer's signature does not hold: whoever answered is not the gateway it names")]
    Forged,
    /// An old one, replayed.
    #[error("the offer answers another question than was asked: ask again")]
    OtherChallenge,
    /// Too late.
    #[error("the offer has ended: check this machine's clock, and ask again")]
    Expired,
    /// Another chain.
    #[error("the gateway sells for coins of {offered}, not of {wanted}: see --network")]
    Network {
        /// What the subscriber pays with.
        wanted: Network,
        /// What the gateway asks for.
        offered: Network,
    },
    /// Bytes are too dear.
    #[error("{way} costs {offered} msat per MiB, above --max-msat-per-mib {limit}")]
    MibTooDear {
        /// Which way.
        way: &'static str,
        /// The price.
        offered: u64,
        /// The limit.
        limit: u64,
    },
    /// Time is too dear.
    #[error("time costs {offered} msat per minute, above --max-msat-per-minute {limit}")]
    MinuteTooDear {
        /// The price.
        offered: u64,
        /// The limit.
        limit: u64,
    },
    /// The channel would hold more than the subscriber wants to spend.
    #[error(
        "a channel holds {} sat or more here, above --budget-sat {}", .least.to_sat(), .budget.to_sat()
    )]
    OverBudget {
        /// The least that a channel holds.
        least: Amount,
        /// The limit.
        budget: Amount,
    },
    /// Too much is paid beforehand.
    #[error(
        "the first payment is {} sat, above --max-first-update-sat {}", .offered.to_sat(), .limit.to_sat()
    )]
    FirstUpdate {
        /// What the gateway asks for.
        offered: Amount,
        /// The limit.
        limit: Amount,
    },
    /// A close could cost too much.
    #[error(
        "a close may cost up to {} sat, above --max-first-update-sat {}", .offered.to_sat(), .limit.to_sat()
    )]
    CloseFee {
        /// What the gateway asks for.
        offered: Amount,
        /// The limit.
        limit: Amount,
    },
    /// The money would be locked too long.
    #[error("the channel locks coins for {offered} blocks, above --max-lock-blocks {limit}")]
    LockedTooLong {
        /// For how long.
        offered: u32,
        /// The limit.
        limit: u32,
    },
    /// The terms contradict themselves.
    #[error("the offer makes no sense ({0}): look for another gateway")]
    Nonsense(&'static str),
}

/// An offer that is within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub(super) offer: Offer,
    signature: MessageSignature,
    capacity: Amount,
}

impl Accepted {
    /// The offer.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The gateway's, of the offer.
    #[must_use]
    pub fn signature(&self) -> MessageSignature {
        self.signature
    }

    /// What to put into the channel: the budget, or the most that a channel holds.
    #[must_use]
    pub fn capacity(&self) -> Amount {
        self.capacity
    }
}

impl Limits {
    /// Checks that an offer answers `challenge`, is its gateway's and still holds. Its prices and
    /// terms are not looked at.
    ///
    /// # Errors
    ///
    /// [`OfferRefused`] says what is wrong.
    pub fn authentic(
        &self,
        signed: &SignedOffer,
        challenge: &Challenge,
        now_unix_s: u64,
    ) -> Result<(), OfferRefused> {
        let SignedOffer { offer, signature, .. } = signed;
        offer.verify(&offer.gateway_key, signature).map_err(|_| OfferRefused::Forged)?;
        if offer.challenge != *challenge {
            return Err(OfferRefused::OtherChallenge);
        }
        if offer.valid_until_unix_s.saturating_add(CLOCK_SLACK_S) < now_unix_s {
            return Err(OfferRefused::Expired);
        }
        if offer.network != self.network {
            return Err(OfferRefused::Network { wanted: self.network, offered: offer.network });
        }
        Ok(())
    }

    /// Accepts an offer that answers `challenge` and is within the limits.
    ///
    /// # Errors
    ///
    /// [`OfferRefused`] names the limit and what was offered.
    pub fn accept(
        &self,
        signed: SignedOffer,
        challenge: &Challenge,
        now_unix_s: u64,
    ) -> Result<Accepted, OfferRefused> {
        self.authentic(&signed, challenge, now_unix_s)?;
        let SignedOffer { offer, signature, .. } = signed;
        self.check_prices(&offer)?;
        self.check_amounts(&offer)?;
        self.check_blocks(&offer)?;
        let capacity = self.budget.min(offer.max_capacity);
        Ok(Accepted { offer, signature, capacity })
    }

    fn check_prices(&self, offer: &Offer) -> Result<(), OfferRefused> {
        let tariff = &offer.tariff;
        tariff.check().map_err(|_| OfferRefused::Nonsense("no tariff can be that dear"))?;
        let limit = self.max_msat_per_mib;
        for (way, offered) in
            [("uplink", tariff.uplink_msat_per_mib), ("downlink", tariff.downlink_msat_per_mib)]
        {
            if offered > limit {
                return Err(OfferRefused::MibTooDear { way, offered, limit });
            }
        }
        let (offered, limit) = (tariff.msat_per_minute, self.max_msat_per_minute);
        if offered > limit {
            return Err(OfferRefused::MinuteTooDear { offered, limit });
        }
        Ok(())
    }

    fn check_amounts(&self, offer: &Offer) -> Result<(), OfferRefused> {
        let ordered = offer.min_first_update <= offer.min_capacity
            && offer.min_capacity <= offer.max_capacity
            && offer.max_capacity <= MAX_CAPACITY;
        if !ordered {
            return Err(OfferRefused::Nonsense("its amounts contradict each other"));
        }
        if offer.min_capacity > self.budget {
            return Err(OfferRefused::OverBudget {
                least: offer.min_capacity,
                budget: self.budget,
            });
        }
        let limit = self.max_first_update;
        if offer.min_first_update > limit {
            return Err(OfferRefused::FirstUpdate { offered: offer.min_first_update, limit });
        }
        if offer.max_close_fee > limit {
            return Err(OfferRefused::CloseFee { offered: offer.max_close_fee, limit });
        }
        Ok(())
    }

    fn check_blocks(&self, offer: &Offer) -> Result<(), OfferRefused> {
        let (offered, limit) = (offer.lock_blocks, self.max_lock_blocks);
        if offered > limit {
            return Err(OfferRefused::LockedTooLong { offered, limit });
        }
        if offer.margin_blocks < MIN_MARGIN_BLOCKS || offer.margin_blocks >= offered {
            return Err(OfferRefused::Nonsense("its margin leaves no time to pay"));
        }
        Ok(())
    }
}
