//! The payer's side: signs no more than it counted itself, and one step.

use bitcoin::Amount;

use super::Role;
use super::error::PayError;
use super::funding::{Funded, sat_ceil};
use super::keys::ChannelSecret;
use super::terms::is_legal_change;
use super::update::Update;
use crate::units::MilliSat;

/// What the payer itself counted on this channel, and how far ahead of it it pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Charges for the bytes and the time that the payer counted, all sessions of the channel.
    pub counted: MilliSat,
    /// One step of prepayment: all that the payer can lose to the payee.
    pub step: Amount,
}

impl Count {
    /// The count, rounded up to the satoshi, and one step.
    #[must_use]
    pub fn allowed(&self) -> Amount {
        sat_ceil(self.counted).checked_add(self.step).unwrap_or(Amount::MAX)
    }
}

/// The payer of a funded channel.
#[derive(Debug)]
pub struct Payer {
    channel: Funded,
    secret: ChannelSecret,
    newest: Option<Update>,
}

impl Payer {
    /// Takes up a channel, with the newest update that was stored, if any.
    ///
    /// # Errors
    ///
    /// [`PayError::Key`] if the secret is not C, [`PayError::NotOurs`] if the update does not hold.
    pub fn new(
        channel: Funded,
        secret: ChannelSecret,
        newest: Option<Update>,
    ) -> Result<Self, PayError> {
        channel.opened().check_secret(Role::Payer, &secret)?;
        if let Some(update) = &newest {
            update.check(&channel).map_err(PayError::NotOurs)?;
        }
        Ok(Self { channel, secret, newest })
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &Funded {
        &self.channel
    }

    /// The newest update that this payer knows to have signed.
    #[must_use]
    pub fn newest(&self) -> Option<&Update> {
        self.newest.as_ref()
    }

    /// What the newest update credits.
    #[must_use]
    pub fn signed(&self) -> Amount {
        self.newest.as_ref().map_or(Amount::ZERO, |update| self.channel.credit(update.change()))
    }

    /// The largest credit that this payer signs at this count. The first update may be as large
    /// as the terms ask for, which the payer accepted when it opened the channel.
    #[must_use]
    pub fn allowed(&self, count: &Count) -> Amount {
        let first = self.channel.terms().min_first_update;
        self.channel.creditable(count.allowed().max(first))
    }

    /// Signs an update that credits `credit` in all. Store it before it is sent.
    ///
    /// # Errors
    ///
    /// [`PayError`]; nothing is signed then.
    pub fn sign(&mut self, credit: Amount, count: &Count) -> Result<Update, PayError> {
        let capacity = self.channel.capacity();
        if credit > capacity {
            return Err(PayError::OverCapacity { asked: credit, capacity });
        }
        let allowed = self.allowed(count);
        if credit > allowed {
            return Err(PayError::BeyondCount { asked: credit, allowed });
        }
        let (signed, min) = (self.signed(), self.channel.terms().min_first_update);
        if credit <= signed {
            return Err(PayError::NotMore { signed });
        }
        if credit < min {
            return Err(PayError::FirstTooSmall { min });
        }
        let change = self.channel.credit(credit);
        if !is_legal_change(change) {
            return Err(PayError::DustChange(change));
        }
        let update = Update::signed(&self.channel, change, &self.secret)?;
        self.newest = Some(update.clone());
        Ok(update)
    }

    /// Takes up the newest update that the payee holds, after a payer was restored from an old
    /// state. It has to be this payer's own; then it binds it anyway.
    ///
    /// # Errors
    ///
    /// [`PayError::NotOurs`] if it does not hold. An older one is ignored.
    pub fn adopt(&mut self, update: Update) -> Result<(), PayError> {
        update.check(&self.channel).map_err(PayError::NotOurs)?;
        let newer = self.newest.as_ref().is_none_or(|newest| update.change() < newest.change());
        if newer {
            self.newest = Some(update);
        }
        Ok(())
    }

    /// No updates from here on.
    #[must_use]
    pub fn close(self) -> PayerClosing {
        PayerClosing { channel: self.channel, secret: self.secret, newest: self.newest }
    }
}

/// The payer of a channel that is being closed.
#[derive(Debug)]
pub struct PayerClosing {
    channel: Funded,
    secret: ChannelSecret,
    newest: Option<Update>,
}

impl PayerClosing {
    /// Takes up a close that was under way, from the disk.
    ///
    /// # Errors
    ///
    /// As [`Payer::new`].
    pub fn new(
        channel: Funded,
        secret: ChannelSecret,
        newest: Option<Update>,
    ) -> Result<Self, PayError> {
        Payer::new(channel, secret, newest).map(Payer::close)
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &Funded {
        &self.channel
    }

    /// What the newest update credits: the payee can take that much without asking.
    #[must_use]
    pub fn signed(&self) -> Amount {
        self.newest.as_ref().map_or(Amount::ZERO, |update| self.channel.credit(update.change()))
    }

    pub(super) fn secret(&self) -> &ChannelSecret {
        &self.secret
    }
}
