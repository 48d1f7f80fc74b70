//! From an agreement to a funding that is pinned.

use bitcoin::consensus::deserialize;
use bitcoin::{Amount, OutPoint, Transaction};

use super::book::{Channel, Side};
use super::refusal::Refused;
use super::{ChannelAnswer, ChannelCommand, MAX_FUNDERS, MAX_STRAYS, Purpose};
use crate::channel::message::Message as _;
use crate::channel::{FundingError, Opened, Payee, Role, Update};
use crate::channel_record::{ChannelPhase, Funding};
use crate::gateway::Gateway;
use crate::io::{Command, RequestId};
use crate::wire::{ApiError, ChannelId, FundingRequest, RawTx};

impl Gateway {
    pub(super) fn fund(&mut self, request: RequestId, id: ChannelId, body: &FundingRequest) {
        match self.take_funding(request, id, body) {
            Ok(()) => {}
            Err(error) => self.answer(request, Err(error)),
        }
    }

    fn take_funding(
        &mut self,
        request: RequestId,
        id: ChannelId,
        body: &FundingRequest,
    ) -> Result<(), ApiError> {
        let now = self.now;
        let channel = self.payers_channel(id)?;
        let agreement = &channel.state.agreement;
        agreement
            .verify(&agreement.payer_session_key, &body.agreement_signature)
            .map_err(Refused::from)?;
        let relay = body.raw_tx.as_ref().map(|raw| check_relay(channel, raw)).transpose()?;
        channel.talk.heard = Some(now);
        if channel.talk.funders.len() >= MAX_FUNDERS {
            return Err(Refused::Overloaded.into());
        }
        channel.talk.funders.push(request);
        if let Some(relay) = relay {
            channel.talk.relay = Some(Box::new(relay));
            channel.talk.notice = None;
        }
        let signature = body.agreement_signature;
        self.want(id, |state| {
            state.payer_signature.get_or_insert(signature);
        });
        self.answer_funders(id);
        Ok(())
    }

    /// A channel that this gateway sells and its payer speaks of.
    pub(super) fn payers_channel(&mut self, id: ChannelId) -> Result<&mut Channel, Refused> {
        if self.channels.shop.is_none() {
            return Err(Refused::ChannelsOff);
        }
        let channel = self.channels.all.get_mut(&id).ok_or(Refused::NoChannel)?;
        if channel.talk.is_forgotten { Err(Refused::NoChannel) } else { Ok(channel) }
    }

    /// Relays the funding and answers, once the countersignature is durable.
    pub(super) fn answer_funders(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        if channel.state.payer_signature.is_none() {
            return;
        }
        let askers = std::mem::take(&mut channel.talk.funders);
        if let Some(tx) = channel.talk.relay.take() {
            let (channel, purpose) = (id, Purpose::Funding);
            let command = ChannelCommand::Broadcast { channel, purpose, tx };
            self.commands.push_back(Command::Channel(command));
        }
        for asker in askers {
            if let Some(view) = self.channel(id) {
                self.answer(asker, Ok(ChannelAnswer::View(view)));
            }
        }
    }

    pub(super) fn funding_seen(
        &mut self,
        id: ChannelId,
        outpoint: OutPoint,
        capacity: Amount,
        height: Option<u32>,
    ) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        if channel.talk.is_forgotten || channel.is_over() {
            return;
        }
        let seen = Funding { outpoint, capacity, height };
        if !may_pin(channel, &seen) {
            if channel.talk.strays.len() < MAX_STRAYS {
                channel.talk.strays.insert(outpoint, capacity);
            }
            return;
        }
        if let Some(error) = misfit(channel, &seen) {
            channel.talk.notice = Some(error.to_string());
            return;
        }
        channel.talk.notice = None;
        channel.talk.strays.remove(&outpoint);
        self.want(id, |state| {
            state.funding = Some(seen);
            // It is back, but its charges are final: only a close is left.
            if state.phase == ChannelPhase::Lost {
                state.phase = ChannelPhase::Closing;
            }
        });
    }

    pub(super) fn funding_gone(&mut self, id: ChannelId, outpoint: OutPoint) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        channel.talk.strays.remove(&outpoint);
        let held = channel.wanted().funding;
        if channel.is_over() || held.is_none_or(|funding| funding.outpoint != outpoint) {
            return;
        }
        if channel.is_paid() {
            self.want(id, |state| {
                state.funding = state.funding.map(|funding| Funding { height: None, ..funding });
                // What spent it is gone with it.
                if state.end.take().is_some() {
                    state.phase = ChannelPhase::Lost;
                }
            });
            self.freeze(id, ChannelPhase::Lost);
        } else {
            let gone = "its funding was replaced or double-spent before anything was paid on it";
            channel.talk.notice = Some(gone.to_owned());
            self.want(id, |state| {
                state.funding = None;
                state.end = None;
                if state.frozen.is_some() {
                    state.phase = ChannelPhase::Lost;
                }
            });
        }
    }

    /// Makes the payee of the channel, once its funding is durable, and again if that is another.
    pub(super) fn take_side(&mut self, id: ChannelId) {
        let Some(shop) = &self.channels.shop else { return };
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        let known = match &channel.side {
            Side::None => None,
            Side::Paying(payee) => Some(payee.channel().outpoint()),
            Side::Closing(closing) => Some(closing.channel().outpoint()),
        };
        let pinned = channel.state.funding.map(|funding| funding.outpoint);
        if known != pinned {
            channel.side = match payee_of(channel, &shop.policy.seed) {
                Some(payee) => Side::Paying(Box::new(payee)),
                None => Side::None,
            };
        }
        if let Some(frozen) = channel.state.frozen
            && let Side::Paying(_) = channel.side
            && let Side::Paying(payee) = std::mem::replace(&mut channel.side, Side::None)
        {
            channel.side = match payee.close(frozen.charged.ceil()) {
                Ok(closing) => Side::Closing(Box::new(closing)),
                Err((payee, _)) => Side::Paying(payee),
            };
        }
    }
}

/// The channel's own code, from what is on disk.
pub(super) fn payee_of(channel: &Channel, seed: &crate::channel::Seed) -> Option<Payee> {
    let state = &channel.state;
    if channel.is_over() {
        return None;
    }
    let Funding { outpoint, capacity, .. } = state.funding?;
    let terms = &state.agreement.terms;
    let funded = Opened::new(terms.clone()).ok()?.pinned(outpoint, capacity).ok()?;
    let secret = seed.channel_secret(terms.network, Role::Payee, state.index).ok()?;
    let newest = channel.newest.as_ref();
    let newest =
        newest.map(|update| Update::from_wire(outpoint, update.change_sat, &update.signature));
    Payee::new(funded, secret, newest.transpose().ok()?).ok()
}

/// A funding is pinned by the first update, or by a block. Before, the payer may replace it.
fn may_pin(channel: &Channel, seen: &Funding) -> bool {
    let Some(held) = channel.wanted().funding else { return channel.newest.is_none() };
    if held.outpoint == seen.outpoint {
        return true;
    }
    let same_tx = held.outpoint.txid == seen.outpoint.txid;
    !channel.is_paid() && !same_tx && held.height.is_none()
}

fn misfit(channel: &Channel, seen: &Funding) -> Option<FundingError> {
    let opened = Opened::new(channel.state.agreement.terms.clone()).ok()?;
    opened.pinned(seen.outpoint, seen.capacity).err()
}

/// Whether this transaction funds the channel, and the same output as before once that is pinned.
fn check_relay(channel: &Channel, raw: &RawTx) -> Result<Transaction, ApiError> {
    let opened = Opened::new(channel.state.agreement.terms.clone())?;
    let funded = opened.fund(raw.as_bytes())?;
    let pinned = channel.wanted().funding.filter(|_| channel.is_paid());
    if pinned.is_some_and(|pinned| pinned.outpoint != funded.outpoint()) {
        return Err(FundingError::OtherOutpoint.into());
    }
    deserialize(raw.as_bytes()).map_err(|_| FundingError::Malformed.into())
}
