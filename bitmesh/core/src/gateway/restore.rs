//! From what was durable, and what the kernel holds, to a gateway.

use std::collections::BTreeMap;

use bitmesh_common::abi::Mac;

use super::change::{Asker, Change, Goal, Moment};
use super::channels::MAX_CHANNELS;
use super::{Gateway, Known, MAX_ACCOUNTS, MAX_BATCH_ACCOUNTS, MAX_CREDITS};
use crate::account::Account;
use crate::io::{Command, Gate, Held};
use crate::record::{AccountState, Credit, Epoch, Snapshot, Usage};
use crate::tariff::TariffError;
use crate::units::{BootTime, MilliSat};
use crate::view::mac_text;
use crate::wire::ChannelId;

/// Why a database can't be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A record of an account that is not there.
    #[error(
        "the database has money or usage of {}, but no such account: restore it from a backup",
        mac_text(*.0)
    )]
    NoAccount(Mac),
    /// Two states of one account.
    #[error("the database has the account {} twice: restore it from a backup", mac_text(*.0))]
    AccountTwice(Mac),
    /// Two credits of one identity.
    #[error("the database has the credit {:032x} twice: restore it from a backup", .0.0)]
    CreditTwice(crate::record::CreditId),
    /// Credits above the limit.
    #[error(
        "the database credits {} with more than {} msat: restore it from a backup",
        mac_text(*.0), MilliSat::MAX.0
    )]
    TooMuch(Mac),
    /// A session at a price that can't be charged.
    #[error("the session of {} can't be charged: {error}", mac_text(*.mac))]
    Tariff {
        /// Whose session.
        mac: Mac,
        /// What is wrong with its prices.
        error: TariffError,
    },
    /// A channel's update without the channel.
    #[error("the database has an update of {0}, but no such channel: restore it from a backup")]
    NoChannel(ChannelId),
    /// A channel's transfers don't follow one another.
    #[error("the database lacks a transfer of channel {0}: restore it from a backup")]
    Transfers(ChannelId),
    /// Two rows of one channel.
    #[error("the database has the channel {0} twice: restore it from a backup")]
    ChannelTwice(ChannelId),
    /// More channels than the ledger holds.
    #[error("the database has {0} channels, {MAX_CHANNELS} are possible: begin a new one")]
    TooManyChannels(usize),
    /// More accounts than the ledger holds.
    #[error("the database has {0} accounts, {MAX_ACCOUNTS} are possible: begin a new one")]
    TooManyAccounts(usize),
    /// More credits than the ledger remembers.
    #[error("the database has {0} credits, {MAX_CREDITS} are possible: begin a new one")]
    TooManyCredits(usize),
}

impl Gateway {
    /// The gateway as it was when the last agent died, whenever that was. It then tells the
    /// kernel what it must hold.
    ///
    /// `now` is an instant before the meters were read. `epoch` names the life of the meters now;
    /// another than before means a reboot or a teardown: what was durable is settled, and open
    /// sessions go on with new meters. `held` has an entry for each meter of the kernel, a
    /// [`Held`] with what the gate says, or just a [`crate::Sample`].
    ///
    /// # Errors
    ///
    /// Fails if the snapshot contradicts itself or is above a limit.
    pub fn restore<H: Into<Held>>(
        now: BootTime,
        epoch: Epoch,
        snapshot: Snapshot,
        held: Vec<H>,
    ) -> Result<Self, RestoreError> {
        let mut gateway = Self::empty(now, epoch);
        gateway.load_accounts(&snapshot.accounts)?;
        gateway.load_credits(&snapshot.credits)?;
        gateway.load_channels(&snapshot)?;
        gateway.load_usages(&snapshot.usages)?;
        let held = held.into_iter().map(Into::into).map(|held: Held| (held.sample.mac, held));
        gateway.adopt(&held.collect());
        // What was used while no agent ran must not wait for the next sample.
        gateway.persist_usage();
        gateway.hold_all();
        gateway.lapse_all_unknown();
        Ok(gateway)
    }

    fn load_accounts(&mut self, states: &[AccountState]) -> Result<(), RestoreError> {
        if states.len() > MAX_ACCOUNTS {
            return Err(RestoreError::TooManyAccounts(states.len()));
        }
        for state in states {
            let mac = state.mac;
            state.tariff.check().map_err(|error| RestoreError::Tariff { mac, error })?;
            if self.accounts.insert(mac, Account::new(*state)).is_some() {
                return Err(RestoreError::AccountTwice(mac));
            }
        }
        Ok(())
    }

    fn load_credits(&mut self, credits: &[Credit]) -> Result<(), RestoreError> {
        if credits.len() > MAX_CREDITS {
            return Err(RestoreError::TooManyCredits(credits.len()));
        }
        for credit in credits {
            let Credit { id, mac, kind, amount } = *credit;
            self.allowances.remember(credit);
            if self.credits.insert(id, Known { mac, amount }).is_some() {
                return Err(RestoreError::CreditTwice(id));
            }
            let account = self.accounts.get_mut(&mac).ok_or(RestoreError::NoAccount(mac))?;
            account.credits =
                account.credits.with(kind, amount).ok_or(RestoreError::TooMuch(mac))?;
        }
        Ok(())
    }

    fn load_usages(&mut self, usages: &[Usage]) -> Result<(), RestoreError> {
        for usage in usages {
            let mac = usage.mac;
            let account = self.accounts.get_mut(&mac).ok_or(RestoreError::NoAccount(mac))?;
            account.time_charged = account.time_charged.max(usage.time_charged);
            if usage.epoch == self.epoch {
                account.reading = usage.reading;
                account.persisted = (usage.reading, usage.time_charged);
            } else {
                account.earlier = account.earlier.plus(&usage.reading);
            }
        }
        Ok(())
    }

    /// Takes over what the kernel holds, and what its meters say.
    fn adopt(&mut self, held: &BTreeMap<Mac, Held>) {
        let (epoch, now) = (self.epoch, self.now);
        for (mac, held) in held {
            let account = self.accounts.get_mut(mac);
            if !account.as_ref().is_some_and(|account| account.state.open) {
                // Nothing durable says that this gate may be open.
                if held.gate != Gate::Closed {
                    self.commands.push_back(Command::CloseAccount(*mac));
                }
            } else if let Some(account) = account
                && account.state.epoch == epoch
            {
                account.held = match held.gate {
                    Gate::Open(image) => Some(image),
                    Gate::Closed => None,
                    Gate::Unknown => Some(account.image(now)),
                };
            }
        }
        // Without a meter the newest reading is the one on disk; charges never exceed credits.
        for (mac, account) in &mut self.accounts {
            account.is_metered = held.contains_key(mac);
            account.active = now;
            let reading = held.get(mac).map_or(account.reading, |held| held.sample.reading);
            account.observe(now, reading);
            account.observe(now, account.reading);
        }
    }

    /// Has the kernel hold every open session; those that start anew are durable first.
    fn hold_all(&mut self) {
        let at = Moment { read_at: Some(self.now), ..self.moment() };
        let open = |(mac, account): (&Mac, &Account)| account.state.open.then_some(*mac);
        let open: Vec<Mac> = self.accounts.iter().filter_map(open).collect();
        for some in open.chunks(MAX_BATCH_ACCOUNTS) {
            let mut drafts = Vec::new();
            for mac in some {
                let change = Change::new(Asker::Nobody, Goal::Hold);
                drafts.extend(self.step(*mac, change, at).map(|draft| (*mac, draft)));
            }
            if !drafts.is_empty() {
                self.persist_changes(drafts);
            }
        }
    }
}
