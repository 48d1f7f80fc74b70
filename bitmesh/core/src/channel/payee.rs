//! The payee's side: verifies, has the newest stored, credits, closes.

use bitcoin::Amount;

use super::Role;
use super::error::{CloseError, UpdateError};
use super::funding::{Funded, millisat, sat_ceil};
use super::keys::ChannelSecret;
use super::update::Update;
use crate::units::MilliSat;

/// An update that holds. It counts once it is stored and accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedUpdate(Update);

impl VerifiedUpdate {
    /// What to store.
    #[must_use]
    pub fn update(&self) -> &Update {
        &self.0
    }
}

/// What an accepted update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credited {
    /// All that the channel credits now.
    pub total: MilliSat,
    /// What this update added.
    pub added: MilliSat,
}

/// The payee of a funded channel.
#[derive(Debug)]
pub struct Payee {
    channel: Funded,
    secret: ChannelSecret,
    newest: Option<Update>,
}

impl Payee {
    /// Takes up a channel, with the newest update that was stored, if any.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] if the stored update does not hold, [`UpdateError::WrongChannel`] also if
    /// the secret is not R.
    pub fn new(
        channel: Funded,
        secret: ChannelSecret,
        newest: Option<Update>,
    ) -> Result<Self, UpdateError> {
        channel
            .opened()
            .check_secret(Role::Payee, &secret)
            .map_err(|_| UpdateError::WrongChannel(channel.outpoint()))?;
        if let Some(update) = &newest {
            update.check(&channel)?;
        }
        Ok(Self { channel, secret, newest })
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &Funded {
        &self.channel
    }

    /// The newest update that is accepted; the answer to a stale one.
    #[must_use]
    pub fn newest(&self) -> Option<&Update> {
        self.newest.as_ref()
    }

    /// All that the channel credits.
    #[must_use]
    pub fn credit(&self) -> MilliSat {
        millisat(credit_of(&self.channel, self.newest.as_ref()))
    }

    /// Whether the payee should close now, seen from the chain's tip.
    #[must_use]
    pub fn is_expiring(&self, tip_height: u32) -> bool {
        tip_height >= self.channel.terms().last_call()
    }

    /// Checks an update, cheap tests first. Changes nothing: store it, then [`Self::accept`] it.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] says why it does not count.
    pub fn verify(&self, update: Update, tip_height: u32) -> Result<VerifiedUpdate, UpdateError> {
        if update.outpoint() != self.channel.outpoint() {
            return Err(UpdateError::WrongChannel(update.outpoint()));
        }
        let (change, capacity) = (update.change(), self.channel.capacity());
        if change > capacity {
            return Err(UpdateError::OverCapacity { change, capacity });
        }
        if self.is_expiring(tip_height) {
            return Err(UpdateError::Expiring(self.channel.terms().last_call()));
        }
        self.check_newer(&update)?;
        let (credit, min) = (self.channel.credit(change), self.channel.terms().min_first_update);
        if credit < min {
            return Err(UpdateError::FirstTooSmall { credit, min });
        }
        update.check(&self.channel)?;
        Ok(VerifiedUpdate(update))
    }

    /// Credits an update that is verified and stored. Updates can be stored in one order and
    /// accepted in another: an older one never replaces a newer one.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Stale`] or [`UpdateError::WrongChannel`]; nothing changes then.
    pub fn accept(&mut self, verified: VerifiedUpdate) -> Result<Credited, UpdateError> {
        let update = verified.0;
        if update.outpoint() != self.channel.outpoint() {
            return Err(UpdateError::WrongChannel(update.outpoint()));
        }
        self.check_newer(&update)?;
        let before = self.credit();
        self.newest = Some(update);
        let total = self.credit();
        Ok(Credited { total, added: MilliSat(total.0.saturating_sub(before.0)) })
    }

    fn check_newer(&self, update: &Update) -> Result<(), UpdateError> {
        match &self.newest {
            Some(newest) if update.change() >= newest.change() => {
                Err(UpdateError::Stale { newest_change: newest.change() })
            }
            _ => Ok(()),
        }
    }

    /// No updates from here on: the gate is closed and the last sample durable. `charges` is what
    /// the channel pays of them; it is rounded up to the satoshi.
    ///
    /// # Errors
    ///
    /// [`CloseError::OverCredit`] if that is more than was paid; the payee is given back.
    pub fn close(self, charges: MilliSat) -> Result<PayeeClosing, (Box<Self>, CloseError)> {
        let credit = credit_of(&self.channel, self.newest.as_ref());
        let charges = sat_ceil(charges);
        if charges > credit {
            return Err((Box::new(self), CloseError::OverCredit { charges, credit }));
        }
        let Self { channel, secret, newest } = self;
        Ok(PayeeClosing { channel, secret, newest, charges })
    }
}

/// The payee of a channel that is being closed.
#[derive(Debug)]
pub struct PayeeClosing {
    channel: Funded,
    secret: ChannelSecret,
    newest: Option<Update>,
    charges: Amount,
}

impl PayeeClosing {
    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &Funded {
        &self.channel
    }

    /// The newest update: the one that a unilateral close is made of.
    #[must_use]
    pub fn newest(&self) -> Option<&Update> {
        self.newest.as_ref()
    }

    /// What the channel pays of the charges.
    #[must_use]
    pub fn charges(&self) -> Amount {
        self.charges
    }

    /// What was paid.
    #[must_use]
    pub fn credit(&self) -> Amount {
        credit_of(&self.channel, self.newest.as_ref())
    }

    /// What was paid and not used.
    #[must_use]
    pub fn unused(&self) -> Amount {
        self.credit().checked_sub(self.charges).unwrap_or(Amount::ZERO)
    }

    pub(super) fn secret(&self) -> &ChannelSecret {
        &self.secret
    }
}

fn credit_of(channel: &Funded, newest: Option<&Update>) -> Amount {
    newest.map_or(Amount::ZERO, |update| channel.credit(update.change()))
}
