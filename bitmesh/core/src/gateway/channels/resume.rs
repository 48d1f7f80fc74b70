//! A payer that comes back under another MAC address takes along what its channel has left.
//!
//! ```text
//! close the old gate → one batch: its last reading, the end of its session, the transfer, a
//! session of the new account → open the new gate → answer
//! ```
//!
//! Both accounts are locked meanwhile: neither takes credit, nor does the channel. What the channel
//! paid of the old account's charges stays there, rounded up to the msat, and what was granted or
//! topped up there does too: the key of the session proves the channel, not the address.

use bitmesh_common::abi::Mac;

use super::book::Channel;
use super::refusal::Refused;
use super::{CHALLENGE_VALID, ChannelAnswer};
use crate::account::{Account, Draft, Leave, Money};
use crate::channel::CloseError;
use crate::channel::message::{Challenge, Message as _};
use crate::channel_record::{Meter, Transfer};
use crate::gateway::change::{Asker, Change, Goal, Leaving, Step, arriving};
use crate::gateway::{Gateway, MAX_ACCOUNTS, MAX_CHANGES};
use crate::io::{Answer, Refusal, RequestId};
use crate::ledger::Credits;
use crate::record::CreditKind;
use crate::tariff::Tariff;
use crate::units::{BootTime, MilliSat};
use crate::wire::{ApiError, ChannelId, ResumeBody};

/// How often one channel may go to another MAC address.
pub const MAX_RESUMES: u32 = 256;

/// Requests that wait for one channel to come to an address.
pub const MAX_RESUMERS: usize = 4;

/// Stations that have a challenge of one channel; the oldest gives way.
pub const MAX_CHALLENGES: usize = 8;

/// A channel on its way to another account.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    to: Mac,
    askers: Vec<RequestId>,
    started: bool,
}

/// Where a channel pays, and what it left behind: the sum of its transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Whose account it pays for.
    pub(super) mac: Mac,
    /// What stays with the accounts before.
    pub(super) kept: MilliSat,
    /// What was used on it there.
    pub(super) used: Meter,
    /// What the meter said when it came; nothing if it was not paid on yet, or never moved.
    pub(super) began: Option<Meter>,
    /// How often it moved.
    pub(super) moves: u32,
}

/// Challenges of one channel, one a station.
#[derive(Debug, Default)]
pub(super) struct Challenges(Vec<(Mac, Challenge, BootTime)>);

impl Challenges {
    /// The newest of this station, instead of an earlier one.
    pub(super) fn add(&mut self, mac: Mac, challenge: Challenge, now: BootTime) {
        self.0.retain(|(other, _, _)| *other != mac);
        if self.0.len() >= MAX_CHALLENGES {
            self.0.remove(0);
        }
        self.0.push((mac, challenge, now));
    }

    /// Whether this challenge of this station holds. It does so once.
    pub(super) fn take(&mut self, mac: Option<Mac>, challenge: Challenge, now: BootTime) -> bool {
        let fresh = |(of, held, at): &(Mac, Challenge, BootTime)| {
            *held == challenge
                && mac.is_none_or(|mac| mac == *of)
                && now.since(*at) <= CHALLENGE_VALID
        };
        let place = self.0.iter().position(fresh);
        place.map(|place| self.0.remove(place)).is_some()
    }
}

impl Place {
    pub(super) const fn at(mac: Mac) -> Self {
        let used = Meter { uplink_bytes: 0, downlink_bytes: 0, time_charged: crate::Units(0) };
        Self { mac, kept: MilliSat(0), used, began: None, moves: 0 }
    }

    /// Whether this is the next transfer.
    pub(super) fn is_followed_by(&self, transfer: &Transfer) -> bool {
        transfer.number == self.moves.saturating_add(1) && transfer.from == self.mac
    }

    pub(super) const fn follow(&mut self, transfer: &Transfer) {
        let kept = MilliSat(self.kept.0.saturating_add(transfer.kept.0));
        let Transfer { to: mac, used, began, number: moves, .. } = *transfer;
        *self = Self { mac, kept, used, began, moves };
    }
}

impl Channel {
    /// Of what was paid, what the present account has.
    pub(super) fn credit_here(&self) -> MilliSat {
        MilliSat(self.credit().0.saturating_sub(self.place.kept.0))
    }

    /// What was used on it until the meter of its present account said this.
    pub(super) fn used(&self, meter: &Meter) -> Meter {
        let first = self.newest.as_ref().map(|newest| newest.began);
        let began = self.place.began.or(first).unwrap_or(*meter);
        self.place.used.plus(&meter.since(&began))
    }

    /// Whether it waits to go to another account.
    pub(super) fn is_to_move(&self) -> bool {
        self.moving.as_ref().is_some_and(|moving| !moving.started)
    }
}

impl Gateway {
    pub(super) fn resume(
        &mut self,
        request: RequestId,
        id: ChannelId,
        mac: Mac,
        body: &ResumeBody,
    ) {
        match self.check_resume(id, mac, body) {
            Ok(()) => self.take_resume(request, id, mac),
            Err(error) => self.answer(request, Err(error)),
        }
    }

    fn check_resume(&mut self, id: ChannelId, mac: Mac, body: &ResumeBody) -> Result<(), ApiError> {
        let now = self.now;
        if mac.is_group() || mac == Mac::default() {
            return Err(Refused::NotAStation.into());
        }
        let channel = self.payers_channel(id)?;
        channel.check_agreed_and_live()?;
        let funding = channel.state.funding.ok_or(Refused::Unfunded)?;
        let named = ChannelId::from(body.request.agreement);
        if named != id || body.request.outpoint != funding.outpoint {
            return Err(CloseError::WrongChannel.into());
        }
        if body.request.mac != mac {
            return Err(Refused::OtherStation.into());
        }
        let key = channel.state.agreement.payer_session_key;
        body.request.verify(&key, &body.signature).map_err(Refused::from)?;
        if !channel.talk.challenges.take(Some(mac), body.request.challenge, now) {
            return Err(Refused::Challenge.into());
        }
        Ok(())
    }

    fn take_resume(&mut self, request: RequestId, id: ChannelId, mac: Mac) {
        let now = self.now;
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        channel.talk.heard = Some(now);
        let from = channel.mac();
        match &mut channel.moving {
            Some(moving) if moving.to != mac => self.refuse_all(vec![request], Refused::Busy),
            Some(moving) if moving.askers.len() >= MAX_RESUMERS => {
                self.refuse_all(vec![request], Refused::Overloaded);
            }
            Some(moving) => moving.askers.push(request),
            None if from == mac => self.answer_resumers(id, vec![request]),
            None => {
                channel.moving = Some(Moving { to: mac, askers: vec![request], started: false });
                self.channels.due.insert((from, id));
                self.next_turn(from);
            }
        }
    }

    /// The channel's turn has come, and its account is free.
    pub(super) fn start_move(&mut self, id: ChannelId) {
        let (from, to, tariff) = match self.check_move(id) {
            Ok(checked) => checked,
            Err(refused) => return self.end_move(id, Err(refused)),
        };
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        let leave = Goal::Leave(id, channel.credit_here());
        let tariff = channel.newest.map(|_| tariff);
        if let Some(moving) = &mut channel.moving {
            moving.started = true;
        }
        self.channels.arriving.insert(to, id);
        let mut leaving = Change::new(Asker::Nobody, leave);
        leaving.step = Step::Other;
        self.changes.insert(from, leaving);
        let arrive = Change::new(Asker::Resume(id), Goal::Arrive(id, tariff));
        self.go_on(to, arrive, self.moment());
    }

    fn check_move(&self, id: ChannelId) -> Result<(Mac, Mac, Tariff), Refused> {
        let channel = self.channels.all.get(&id).ok_or(Refused::NoChannel)?;
        let to = channel.moving.as_ref().map(|moving| moving.to).ok_or(Refused::NoChannel)?;
        if !channel.is_live() {
            return Err(Refused::Closing);
        }
        if channel.place.moves >= MAX_RESUMES {
            return Err(Refused::TooManyResumes);
        }
        let other_pays = self.channels.of(to).any(Channel::is_in_payment);
        if other_pays || self.channels.arriving.contains_key(&to) {
            return Err(Refused::OneChannel);
        }
        if self.changes.contains_key(&to) {
            return Err(Refused::Busy);
        }
        if self.changes.len().saturating_add(2) > MAX_CHANGES {
            return Err(Refused::Overloaded);
        }
        let account = self.accounts.get(&to);
        if account.is_none() && channel.newest.is_some() && self.accounts_to_be() >= MAX_ACCOUNTS {
            return Err(Refused::LedgerFull);
        }
        let credits = account.map_or_else(Credits::default, |account| account.credits);
        credits.with(CreditKind::Channel, channel.credit_here()).ok_or(Refused::Amount)?;
        Ok((channel.mac(), to, channel.state.agreement.tariff))
    }

    /// The account that the channel comes to is ready: now it leaves the other.
    pub(in crate::gateway) fn depart(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get(&id) else { return };
        let from = channel.mac();
        let leaving = self.changes.get(&from).filter(|change| change.step == Step::Other).copied();
        if let Some(change) = leaving {
            self.go_on(from, change, self.moment());
        }
    }

    /// The draft of the account that the channel leaves, with the line in the ledger.
    pub(in crate::gateway) fn leave_draft(&self, from: Mac, leaving: &Leaving) -> Draft {
        let Leaving { channel: id, kept, meter, draft } = leaving;
        let Some(channel) = self.channels.all.get(id) else { return *draft };
        let Some(moving) = &channel.moving else { return *draft };
        let is_paid = channel.newest.is_some();
        let there = self.accounts.get(&moving.to).map(Account::meter).unwrap_or_default();
        let transfer = Transfer {
            channel: *id,
            number: channel.place.moves.saturating_add(1),
            from,
            to: moving.to,
            kept: *kept,
            used: if is_paid { channel.used(meter) } else { Meter::default() },
            began: is_paid.then_some(there),
        };
        let taken = MilliSat(channel.credit_here().0.saturating_sub(kept.0));
        Draft { leave: Some(Leave { transfer, taken }), ..*draft }
    }

    /// The draft of the account that the channel comes to, for the same batch.
    pub(in crate::gateway) fn arrival(&mut self, draft: &Draft) -> Option<(Mac, Draft)> {
        let Leave { transfer, taken } = draft.leave?;
        let to = transfer.to;
        let channel = self.channels.all.get(&transfer.channel)?;
        let arrival = match &channel.newest {
            None => Draft::default(),
            Some(_) => {
                let (money, tariff) = (Money::Moved(taken), channel.state.agreement.tariff);
                arriving(self.accounts.get(&to), to, money, tariff, self.moment())
            }
        };
        self.changes.get_mut(&to)?.step = Step::Persisting;
        Some((to, arrival))
    }

    /// From here on the channel pays for another account.
    pub(in crate::gateway) fn transfer_durable(&mut self, transfer: &Transfer) {
        self.channels.rehome(transfer);
    }

    /// Tells all who wait for the channel to come to another account.
    pub(in crate::gateway) fn resume_answered(
        &mut self,
        id: ChannelId,
        result: Result<Answer, Refusal>,
    ) {
        self.end_move(
            id,
            match result {
                Ok(_) => Ok(()),
                Err(Refusal::NoRoom) => Err(Refused::NoRoom),
                Err(_) => Err(Refused::NotDurable),
            },
        );
    }

    fn end_move(&mut self, id: ChannelId, result: Result<(), Refused>) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        let Some(moving) = channel.moving.take() else { return };
        if moving.started {
            self.channels.arriving.remove(&moving.to);
        }
        match result {
            Ok(()) => self.answer_resumers(id, moving.askers),
            Err(refused) => self.refuse_all(moving.askers, refused),
        }
    }

    fn answer_resumers(&mut self, id: ChannelId, askers: Vec<RequestId>) {
        for asker in askers {
            if let Some(view) = self.channel(id) {
                self.answer(asker, Ok(ChannelAnswer::View(view)));
            }
        }
    }
}
