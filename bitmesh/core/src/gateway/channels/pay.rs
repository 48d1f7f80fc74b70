//! Updates: each is checked at once, durable before it counts, and answered once.
//!
//! While the account is being changed, the newest that came waits for its turn; those that it
//! overtook are answered with it.

use bitmesh_common::abi::Mac;

use super::book::{Channel, Paying, Side};
use super::refusal::Refused;
use super::{ChannelAnswer, MAX_CHAIN_SILENCE, MAX_UPDATE_ASKERS};
use crate::account::{Account, Money};
use crate::channel::VerifiedUpdate;
use crate::channel_record::ChannelUpdate;
use crate::gateway::change::{Asker, Change, Goal};
use crate::gateway::{Gateway, MAX_ACCOUNTS, MAX_CHANGES};
use crate::io::{Answer, Refusal, RequestId};
use crate::ledger::Credits;
use crate::record::CreditKind;
use crate::tariff::Tariff;
use crate::units::MilliSat;
use crate::wire::{ApiError, ChannelId, UpdateAccepted, UpdateBody, UpdateSignature};

impl Gateway {
    pub(super) fn update(&mut self, request: RequestId, id: ChannelId, body: &UpdateBody) {
        match self.check_update(id, body) {
            Ok(verified) => self.take_update(request, id, verified),
            Err(error) => {
                let error = self.with_newest(id, error);
                self.answer(request, Err(error));
            }
        }
    }

    /// A refusal, and the newest update, which a payer that was restored can go on from.
    fn with_newest(&self, id: ChannelId, error: ApiError) -> ApiError {
        let newest = self.channels.all.get(&id).and_then(|channel| channel.newest);
        ApiError { newest: newest.map(|update| Box::new(UpdateBody::from(&update))), ..error }
    }

    fn check_update(
        &mut self,
        id: ChannelId,
        body: &UpdateBody,
    ) -> Result<VerifiedUpdate, ApiError> {
        let now = self.now;
        let chain = self.channels.chain;
        let silence = self.check_silence();
        let other = self.other_in_use(id);
        let channel = self.payers_channel(id)?;
        channel.check_agreed_and_live()?;
        let Side::Paying(payee) = &channel.side else { return Err(Refused::Unfunded.into()) };
        let outpoint = payee.channel().outpoint();
        // A funding that is gone, or replaced, counts as such before that is on the disk.
        if channel.wanted().funding.is_none_or(|funding| funding.outpoint != outpoint) {
            return Err(Refused::Unfunded.into());
        }
        let update = body.of(outpoint)?;
        let tip = chain.tip.filter(|_| now.since(chain.heard) <= MAX_CHAIN_SILENCE);
        let tip = tip.ok_or(Refused::ChainUnavailable)?;
        silence?;
        let (have, required) = (channel.confirmations(tip), channel.state.confirmations);
        if have >= required {
            // As agreed.
        } else if update.change() <= payee.channel().capacity() {
            let credit = payee.channel().capacity() - update.change();
            self.check_early(id, credit, (have, required))?;
        } else {
            return Err(Refused::Unconfirmed { have, required }.into());
        }
        if other {
            return Err(Refused::OneChannel.into());
        }
        let channel = self.payers_channel(id)?;
        let Side::Paying(payee) = &channel.side else { return Err(Refused::Unfunded.into()) };
        let verified = payee.verify(update, tip)?;
        channel.talk.heard = Some(now);
        Ok(verified)
    }

    /// Whether the station pays on another channel.
    fn other_in_use(&self, id: ChannelId) -> bool {
        let Some(channel) = self.channels.all.get(&id) else { return false };
        let arriving = self.channels.arriving.get(&channel.mac());
        let others = self.channels.of(channel.mac()).filter(|other| other.state.id != id);
        arriving.is_some_and(|other| *other != id) || others.into_iter().any(Channel::is_in_payment)
    }

    fn take_update(&mut self, request: RequestId, id: ChannelId, verified: VerifiedUpdate) {
        let no_place = self.changes.len() >= MAX_CHANGES;
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        let mac = channel.mac();
        if no_place && !self.changes.contains_key(&mac) {
            return self.refuse_all(vec![request], Refused::Overloaded);
        }
        let change_sat = verified.update().change().to_sat();
        let overtaken = channel.in_flight.as_mut().filter(|ahead| ahead.change_sat <= change_sat);
        let is_overtaken = overtaken.is_some();
        let waits_for = match overtaken {
            Some(ahead) => ahead,
            None => channel.pending.get_or_insert_default(),
        };
        if waits_for.askers.len() >= MAX_UPDATE_ASKERS {
            return self.refuse_all(vec![request], Refused::Overloaded);
        }
        waits_for.askers.push(request);
        // What is on its way credits more already: its answer is the answer to this one, too.
        if !is_overtaken {
            waits_for.replace_with(verified);
            self.channels.due.insert((mac, id));
            self.next_turn(mac);
        }
    }

    /// Goes on with what waits for this account, as long as it is free.
    pub(in crate::gateway) fn next_turn(&mut self, mac: Mac) {
        while !self.changes.contains_key(&mac) {
            let Some(id) = self.channels.next_due(mac) else { return };
            self.channels.due.remove(&(mac, id));
            let Some(channel) = self.channels.all.get_mut(&id) else { continue };
            let (is_ending, is_to_move) = (channel.to_freeze.is_some(), channel.is_to_move());
            let paying = channel.pending.take();
            let waits_for = [paying.is_some(), is_to_move, is_ending];
            if waits_for.iter().filter(|waits| **waits).count() > 1 {
                self.channels.due.insert((mac, id));
            }
            match paying {
                Some(paying) => self.start_update(id, paying),
                None if is_to_move => self.start_move(id),
                None if is_ending => self.start_freeze(id),
                None => {}
            }
        }
    }

    fn start_update(&mut self, id: ChannelId, paying: Paying) {
        match self.draft_update(id, &paying) {
            Ok((mac, money, tariff)) => {
                if let Some(channel) = self.channels.all.get_mut(&id) {
                    channel.in_flight = Some(paying);
                }
                let goal = Goal::Credit(mac, money, tariff);
                self.go_on(mac, Change::new(Asker::Channel(id), goal), self.moment());
            }
            Err(refused) => self.refuse_all(paying.askers, refused),
        }
    }

    fn draft_update(
        &self,
        id: ChannelId,
        paying: &Paying,
    ) -> Result<(Mac, Money, Tariff), Refused> {
        let channel = self.channels.all.get(&id).ok_or(Refused::NoChannel)?;
        let verified = paying.verified.as_ref().ok_or(Refused::Closing)?;
        let account = self.accounts.get(&channel.mac());
        let at_first = account.map(Account::meter).unwrap_or_default();
        let update = ChannelUpdate {
            channel: id,
            change_sat: paying.change_sat,
            signature: verified.update().wire_signature(),
            began: channel.newest.as_ref().map_or(at_first, |newest| newest.began),
        };
        let credit = channel.state.credit(&update);
        let added = MilliSat(credit.0.saturating_sub(channel.credit().0));
        let credits = account.map_or_else(Credits::default, |account| account.credits);
        credits.with(CreditKind::Channel, added).ok_or(Refused::Amount)?;
        if account.is_none() && self.accounts_to_be() >= MAX_ACCOUNTS {
            return Err(Refused::LedgerFull);
        }
        let money = Money::Update { update, added };
        Ok((channel.mac(), money, channel.state.agreement.tariff))
    }

    /// The update counts from here on.
    pub(in crate::gateway) fn update_durable(&mut self, update: &ChannelUpdate) {
        let Some(channel) = self.channels.all.get_mut(&update.channel) else { return };
        channel.newest = Some(*update);
        let verified = channel.in_flight.as_mut().and_then(|paying| paying.verified.take());
        if let (Side::Paying(payee), Some(verified)) = (&mut channel.side, verified) {
            // It can't be stale: one update of an account is under way at a time.
            drop(payee.accept(verified));
        }
    }

    /// Tells all who wait for the update that was under way.
    pub(in crate::gateway) fn change_answered(
        &mut self,
        id: ChannelId,
        result: Result<Answer, Refusal>,
    ) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        let Some(paying) = channel.in_flight.take() else { return };
        let result = match result {
            Ok(Answer::Granted { balance } | Answer::Stopped { balance }) => {
                Ok(ChannelAnswer::Accepted(UpdateAccepted {
                    change_sat: paying.change_sat,
                    credit_msat: channel.credit(),
                    balance_msat: balance,
                }))
            }
            Err(Refusal::NoRoom) => Err(self.with_newest(id, Refused::NoRoom.into())),
            Err(_) => Err(self.with_newest(id, Refused::NotDurable.into())),
        };
        for asker in paying.askers {
            self.answer(asker, result.clone());
        }
    }
}

impl Paying {
    /// Replaces the update by one that credits more.
    fn replace_with(&mut self, verified: VerifiedUpdate) {
        let change_sat = verified.update().change().to_sat();
        if self.verified.is_none() || change_sat < self.change_sat {
            self.change_sat = change_sat;
            self.verified = Some(verified);
        }
    }
}

impl From<&ChannelUpdate> for UpdateBody {
    fn from(update: &ChannelUpdate) -> Self {
        Self { change_sat: update.change_sat, signature: UpdateSignature(update.signature) }
    }
}
