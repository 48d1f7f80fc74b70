//! Channels for a backup, and from one.

use std::collections::BTreeMap;

use bitcoin::Amount;
use bitmesh_common::abi::Mac;

use super::UNKNOWN_HEIGHT;
use super::book::Channel;
use crate::backup::{BACKUP_FORMAT, BackedUp, BackupError, BackupLine};
use crate::channel::message::Message as _;
use crate::channel::{Opened, Payee, Role, Seed};
use crate::channel_record::{
    ChannelPhase, ChannelState, ChannelUpdate, Frozen, Funding, Meter, SpendKind,
};
use crate::gateway::Gateway;
use crate::record::{AccountState, Record};
use crate::units::{MilliSat, Units};
use crate::wire::{ChannelId, UpdateBody};

/// What a backup adds to the books.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FromBackup {
    /// To be made durable in one batch, before the books are loaded again.
    pub records: Vec<Record>,
    /// Channels that are newer in the backup than in the books, or only there.
    pub taken: Vec<ChannelId>,
    /// Channels whose lines are of no use.
    pub refused: Vec<(ChannelId, BackupError)>,
}

impl Gateway {
    /// What a backup must hold of this channel by now; nothing if nothing was ever paid.
    #[must_use]
    pub fn backup_line(&self, id: ChannelId) -> Option<BackupLine> {
        let channel = self.channels.all.get(&id)?;
        let newest = channel.newest.as_ref()?;
        if channel.is_over() {
            return Some(BackupLine::Over { channel: id });
        }
        let state = &channel.state;
        let funding = state.funding?;
        Some(BackupLine::Channel(Box::new(BackedUp {
            format: BACKUP_FORMAT,
            channel: id,
            revision: state.revision,
            index: state.index,
            agreement: state.agreement.clone(),
            payee_signature: state.payee_signature,
            payer_signature: state.payer_signature,
            confirmations: state.confirmations,
            opened_height: state.opened_height,
            opened_unix_s: state.opened_unix_s,
            outpoint: funding.outpoint,
            capacity_sat: funding.capacity.to_sat(),
            newest: UpdateBody::from(newest),
            charged_msat: self.charged(channel).ceil(),
        })))
    }

    /// What a backup must hold of all channels that are not over, and of the keys.
    #[must_use]
    pub fn backup_lines(&self) -> Vec<BackupLine> {
        let open = self.channels.all.values().filter(|channel| !channel.is_over());
        let lines = open.filter_map(|channel| self.backup_line(channel.state.id));
        self.highest_key().into_iter().chain(lines).collect()
    }

    /// The highest key index that was ever used.
    #[must_use]
    pub fn highest_key(&self) -> Option<BackupLine> {
        let highest_index = self.channels.next_index.checked_sub(1)?;
        Some(BackupLine::Keys { highest_index })
    }

    /// What these lines add to the books: channels that are only there, and newer updates. Those
    /// channels take no updates any more, and the gateway closes them alone.
    ///
    /// The account of a channel that only the backup knows is made, closed and without anything
    /// left: it was charged what its channels were. Grants and top-ups are not in a backup.
    #[must_use]
    pub fn taken_from_backup(
        &self,
        lines: impl IntoIterator<Item = BackupLine>,
        seed: &Seed,
    ) -> FromBackup {
        let (newest, highest_index) = newest_lines(lines);
        let mut from = FromBackup::default();
        let mut accounts: BTreeMap<Mac, AccountState> = BTreeMap::new();
        let mut highest = highest_index;
        for (id, line) in newest {
            highest = highest.max(Some(line.index));
            if let Err(error) = check(&line, seed) {
                from.refused.push((id, error));
            } else if let Some((state, update, more)) = self.state_from(&line) {
                let mac = self.channels.all.get(&id).map_or(line.agreement.mac, Channel::mac);
                let account = accounts.entry(mac).or_insert_with(|| self.account_from(mac, &line));
                account.time_settled = account.time_settled.saturating_add(more);
                from.records.push(Record::Channel(Box::new(state)));
                from.records.push(Record::Update(update));
                from.taken.push(id);
            }
        }
        from.records.extend(accounts.into_values().map(Record::Account));
        from.records.extend(highest.map(Record::KeyIndex));
        from
    }

    /// The channel as it is to be, its update, and what it was charged beyond what the books know;
    /// nothing if the books know as much.
    fn state_from(&self, line: &BackedUp) -> Option<(ChannelState, ChannelUpdate, Units)> {
        let held = self.channels.all.get(&line.channel);
        if held.is_some_and(|held| knows_as_much(held, line)) {
            return None;
        }
        let capacity = Amount::from_sat(line.capacity_sat);
        let credit = MilliSat(capacity.to_sat().saturating_sub(line.newest.change_sat) * 1_000);
        let known = held.map_or(Units(0), |held| self.charged(held));
        let charged = known.max(line.charged_msat.units()).min(credit.units());
        let frozen = Frozen { charged, meter: Meter::default(), height: UNKNOWN_HEIGHT };
        let held_revision = held.map_or(0, |held| held.state.revision);
        let height = held.and_then(|held| held.state.funding).and_then(|funding| funding.height);
        let state = ChannelState {
            id: line.channel,
            revision: line.revision.max(held_revision).saturating_add(1),
            index: line.index,
            agreement: line.agreement.clone(),
            payee_signature: line.payee_signature,
            payer_signature: line.payer_signature,
            confirmations: line.confirmations,
            opened_height: line.opened_height,
            opened_unix_s: line.opened_unix_s,
            funding: Some(Funding { outpoint: line.outpoint, capacity, height }),
            phase: ChannelPhase::ClosingAlone,
            frozen: Some(frozen),
            receipt: None,
            close: None,
            end: None,
        };
        let began = held.and_then(|held| held.newest).map(|newest| newest.began);
        let update = ChannelUpdate {
            channel: line.channel,
            change_sat: line.newest.change_sat,
            signature: line.newest.signature.0,
            began: began.unwrap_or_default(),
        };
        Some((state, update, charged.saturating_sub(known)))
    }

    /// The account of a station, closed.
    fn account_from(&self, mac: Mac, line: &BackedUp) -> AccountState {
        match self.accounts.get(&mac) {
            Some(account) => AccountState { open: false, ..account.settled(self.epoch, self.now) },
            None => AccountState {
                mac,
                revision: 1,
                session: 1,
                open: false,
                tariff: line.agreement.tariff,
                epoch: self.epoch,
                start: self.now,
                time_settled: Units(0),
            },
        }
    }
}

/// The newest line of each channel that is not over, and the highest key index.
fn newest_lines(
    lines: impl IntoIterator<Item = BackupLine>,
) -> (BTreeMap<ChannelId, BackedUp>, Option<u32>) {
    let mut newest: BTreeMap<ChannelId, BackedUp> = BTreeMap::new();
    let (mut over, mut highest) = (Vec::new(), None);
    for line in lines {
        match line {
            BackupLine::Keys { highest_index } => highest = highest.max(Some(highest_index)),
            BackupLine::Over { channel } => over.push(channel),
            BackupLine::Channel(line) => match newest.get(&line.channel) {
                Some(other) if !line.is_newer_than(other) => {}
                _ => drop(newest.insert(line.channel, *line)),
            },
        }
    }
    for channel in over {
        let line = newest.remove(&channel);
        highest = highest.max(line.map(|line| line.index));
    }
    (newest, highest)
}

/// Whether the backup adds nothing to what the books know of this channel.
fn knows_as_much(held: &Channel, line: &BackedUp) -> bool {
    let closed = held.state.close.as_ref().is_some_and(|close| close.kind == SpendKind::Together);
    let update = held.newest.is_some_and(|newest| newest.change_sat <= line.newest.change_sat);
    held.state.end.is_some() || closed || (update && held.state.funding.is_some())
}

/// Whether a close can be built from this line and the seed.
fn check(line: &BackedUp, seed: &Seed) -> Result<(), BackupError> {
    if line.format != BACKUP_FORMAT {
        return Err(BackupError::Format(line.format));
    }
    let agreement = &line.agreement;
    let named = ChannelId::from(agreement.digest()) == line.channel;
    let signed = agreement.verify(&agreement.payee_session_key, &line.payee_signature).is_ok();
    if !named || !signed {
        return Err(BackupError::Agreement);
    }
    let terms = &agreement.terms;
    let secret = seed
        .channel_secret(terms.network, Role::Payee, line.index)
        .map_err(|_| BackupError::OtherSeed)?;
    if secret.public_key() != terms.payee_key {
        return Err(BackupError::OtherSeed);
    }
    let capacity = Amount::from_sat(line.capacity_sat);
    let funded = Opened::new(terms.clone())
        .map_err(|_| BackupError::Agreement)?
        .pinned(line.outpoint, capacity)
        .map_err(|_| BackupError::Agreement)?;
    let update = line.newest.of(line.outpoint).map_err(|_| BackupError::Update)?;
    Payee::new(funded, secret, Some(update)).map(drop).map_err(|_| BackupError::Update)
}
