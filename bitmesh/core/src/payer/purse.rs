//! When to sign which update, and what to make of the gateway's statements.

use bitcoin::Amount;

use super::Used;
use super::pace::Pace;
use crate::channel::{Count, PayError, Payer, PayerClosing, Update};
use crate::tariff::Tariff;
use crate::units::MilliSat;
use crate::wire::{UpdateAccepted, UpdateBody};

/// A new update is signed when less than this part of a step is left ahead.
const LOW_PART: u64 = 2;

/// What is on its way while the two sides look at their counts.
const IN_FLIGHT: Used =
    Used { uplink_bytes: 256 << 10, downlink_bytes: 256 << 10, time_ns: 1_000_000_000 };

/// What a balance does not cover any more when it is as good as used up.
const LAST_PACKET: Used = Used { uplink_bytes: 1_500, downlink_bytes: 1_500, time_ns: 1_000_000 };

/// Something that the subscriber should know. It changes nothing: no more is ever signed than the
/// own count and one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The gateway says that more was used than this side saw.
    #[error(
        "the gateway charges {stated}, this side counted {counted}: no more is paid than was \
         counted and one step"
    )]
    Overstated {
        /// What the gateway says.
        stated: MilliSat,
        /// What this side counted.
        counted: MilliSat,
    },
}

/// How the subscriber spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spending {
    /// The prices that were agreed.
    pub tariff: Tariff,
    /// The most that is paid in all.
    pub budget: Amount,
    /// A step that the subscriber chose.
    pub step: Option<Amount>,
}

/// Pays for one channel as it is used.
#[derive(Debug)]
pub struct Purse {
    payer: Payer,
    spending: Spending,
    pace: Pace,
    used: Used,
    unseen: MilliSat,
    acknowledged: Amount,
    warned_above: MilliSat,
    free: MilliSat,
}

impl Purse {
    /// Goes on where the disk says: `used` is what was counted, and `unseen` what the gateway
    /// charged while nobody counted (see [`Self::concede`]).
    #[must_use]
    pub fn new(payer: Payer, spending: Spending, used: Used, unseen: MilliSat) -> Self {
        let spendable = spending.budget.min(payer.channel().capacity());
        let pace = Pace::new(&spending.tariff, spendable, spending.step);
        let (acknowledged, warned_above) = (Amount::ZERO, MilliSat(0));
        let free = MilliSat(0);
        Self { payer, spending, pace, used, unseen, acknowledged, warned_above, free }
    }

    /// The payer's side of the channel.
    #[must_use]
    pub fn payer(&self) -> &Payer {
        &self.payer
    }

    /// What was counted.
    #[must_use]
    pub fn used(&self) -> Used {
        self.used
    }

    /// What the gateway charged while nobody counted.
    #[must_use]
    pub fn unseen(&self) -> MilliSat {
        self.unseen
    }

    /// What all of that costs, if none of it was free.
    #[must_use]
    pub fn counted(&self) -> MilliSat {
        let seen = self.used.cost(&self.spending.tariff);
        seen.checked_add(self.unseen).unwrap_or(MilliSat::MAX)
    }

    /// What was counted, less what the gateway let pass free of charge.
    fn charged(&self) -> MilliSat {
        MilliSat(self.counted().0.saturating_sub(self.free.0))
    }

    /// The count and the step, as the channel wants them.
    #[must_use]
    pub fn count(&self) -> Count {
        Count { counted: self.counted(), step: self.pace.step() }
    }

    /// How fast it is used, in msat a second.
    #[must_use]
    pub fn msat_per_second(&self) -> u64 {
        self.pace.msat_per_second()
    }

    /// The most that this purse pays in all.
    #[must_use]
    pub fn spendable(&self) -> Amount {
        let channel = self.payer.channel();
        channel.creditable(self.spending.budget.min(channel.capacity()))
    }

    /// Takes what was counted of this channel up to `now_ns`, by a clock that never goes back.
    pub fn see(&mut self, now_ns: u64, used: Used) {
        self.used = used;
        let counted = self.counted();
        self.pace.read(now_ns, counted);
    }

    /// After a time in which nobody counted: takes the gateway's word for what it charged, as far
    /// as it is paid for already. It could claim that much without asking, so nothing is lost by
    /// it; no new payment follows from the gateway's word alone.
    pub fn concede(&mut self, stated: MilliSat) {
        let paid = MilliSat(self.payer.signed().to_sat().saturating_mul(1_000));
        let more = stated.min(paid).0.saturating_sub(self.counted().0);
        self.unseen = MilliSat(self.unseen.0.saturating_add(more));
    }

    /// The update that is to be stored and then sent now, if any. It is signed here.
    ///
    /// # Errors
    ///
    /// [`PayError`] if the channel refuses it, which the rules here prevent.
    pub fn pay(&mut self) -> Result<Option<Update>, PayError> {
        let Some(credit) = self.due() else { return Ok(None) };
        let count = self.count();
        self.payer.sign(credit, &count).map(Some)
    }

    /// What the next update should credit in all.
    fn due(&self) -> Option<Amount> {
        let signed = self.payer.signed();
        let count = Count { counted: self.charged(), ..self.count() };
        let first = self.payer.channel().terms().min_first_update;
        let most = self.spendable();
        let wanted = count.allowed().max(first).min(most);
        let credit = self.payer.channel().creditable(wanted);
        if credit <= signed || credit < first {
            return None;
        }
        if signed == Amount::ZERO {
            return Some(credit);
        }
        let ahead = signed.to_sat().saturating_mul(1_000).saturating_sub(count.counted.0);
        let low = count.step.to_sat().saturating_mul(1_000) / LOW_PART;
        (ahead < low || credit == most).then_some(credit)
    }

    /// The newest update, if the gateway has not said yet that it has it.
    #[must_use]
    pub fn unacknowledged(&self) -> Option<&Update> {
        self.payer.newest().filter(|_| self.payer.signed() > self.acknowledged)
    }

    /// The gateway has an update. Gives whether it holds one that this side does not know: ask
    /// for it then.
    pub fn acknowledge(&mut self, accepted: &UpdateAccepted) -> bool {
        let credit = self.payer.channel().credit(Amount::from_sat(accepted.change_sat));
        self.acknowledged = self.acknowledged.max(credit.min(self.payer.signed()));
        credit > self.payer.signed()
    }

    /// Takes up the newest update that the gateway holds, when this side was restored from an old
    /// state. Gives whether it is newer than what this side had.
    ///
    /// # Errors
    ///
    /// [`PayError::NotOurs`] if this side never signed it.
    pub fn adopt(&mut self, newest: &UpdateBody) -> Result<bool, PayError> {
        let update = newest.of(self.payer.channel().outpoint()).map_err(PayError::NotOurs)?;
        let before = self.payer.signed();
        let held = self.payer.channel().credit(update.change());
        self.payer.adopt(update)?;
        self.acknowledged = self.acknowledged.max(held);
        Ok(self.payer.signed() > before)
    }

    /// Compares what the gateway says it charged with the own count, which must have been read
    /// after the gateway spoke. Warns once for each doubling of the difference.
    ///
    /// Under a tariff that throttles, what was counted and is not charged passed free of charge, and
    /// is not paid for: only an own count and a step is ever signed, and of that only what the
    /// gateway asks for. It costs the gateway alone if it says too little.
    pub fn compare(&mut self, stated: MilliSat) -> Option<Warning> {
        let counted = self.counted();
        if self.spending.tariff.throttle_kbit_per_s > 0 {
            self.free = MilliSat(counted.0.saturating_sub(stated.0));
        }
        let excess = stated.0.saturating_sub(counted.0);
        let in_flight = IN_FLIGHT.cost(&self.spending.tariff).0;
        if excess <= in_flight.max(self.warned_above.0.saturating_mul(2)) {
            return None;
        }
        self.warned_above = MilliSat(excess);
        Some(Warning::Overstated { stated, counted })
    }

    /// Whether all that may be paid is paid and used, but for less than a packet. `stated` is what
    /// the gateway says that it charged.
    #[must_use]
    pub fn is_spent(&self, stated: MilliSat) -> bool {
        let spendable = self.spendable();
        let rest = LAST_PACKET.cost(&self.spending.tariff).0;
        let used = self.charged().max(stated).0.saturating_add(rest);
        self.payer.signed() >= spendable && used >= spendable.to_sat().saturating_mul(1_000)
    }

    /// No updates from here on.
    #[must_use]
    pub fn close(self) -> (PayerClosing, Count) {
        let count = self.count();
        (self.payer.close(), count)
    }
}
