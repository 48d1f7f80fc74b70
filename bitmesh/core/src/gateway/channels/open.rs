//! From the question for an offer to a channel that can be funded.

use bitcoin::Amount;
use bitmesh_common::abi::Mac;

use super::book::{Channel, Shop};
use super::refusal::Refused;
use super::write::ChannelWrite;
use super::{
    ChannelAnswer, ChannelCommand, MAX_CHANNELS, MAX_LIVE_CHANNELS, MAX_UNFUNDED,
    MAX_UNFUNDED_PER_STATION, OFFER_VALID_S, SIGNED_LAPSE_S, UNSIGNED_LAPSE_S,
};
use crate::channel::message::{Agreement, Challenge, Message as _, MessageSignature, Offer};
use crate::channel::{
    KeyError, MAX_KEY_INDEX, Opened, OutputScript, PublicKey, Role, Terms, TermsError,
    first_update_for,
};
use crate::channel_record::{ChannelPhase, ChannelState};
use crate::gateway::Gateway;
use crate::gateway::change::PendingBatch;
use crate::io::{Command, RequestId};
use crate::record::Record;
use crate::tariff::Tariff;
use crate::wire::{ApiError, ChannelId, OpenRequest, OpenResponse, SignedOffer};

impl Gateway {
    pub(super) fn offer(
        &self,
        tariff: Tariff,
        challenge: Challenge,
        unix_s: u64,
    ) -> Result<SignedOffer, ApiError> {
        let Shop { policy, offer_secret } =
            self.channels.shop.as_ref().ok_or(Refused::ChannelsOff)?;
        self.chain_tip()?;
        tariff.check().map_err(|_| Refused::Tariff)?;
        let close = first_update_for(self.channels.chain.feerate, policy.headroom);
        let min_first_update = policy.min_first_update.max(close);
        let min_capacity = policy.min_capacity.max(min_first_update);
        if min_capacity > policy.max_capacity {
            return Err(Refused::FeesTooHigh.into());
        }
        let offer = Offer {
            network: policy.network,
            gateway_key: offer_secret.public_key(),
            tariff,
            min_capacity,
            max_capacity: policy.max_capacity,
            min_first_update,
            max_close_fee: policy.max_close_fee,
            lock_blocks: policy.lock_blocks,
            margin_blocks: policy.margin_blocks,
            confirmations: policy.confirmations,
            valid_until_unix_s: unix_s.saturating_add(OFFER_VALID_S),
            challenge,
        };
        self.signed(offer)
    }

    /// An offer with the gateway's signature.
    pub(super) fn signed(&self, offer: Offer) -> Result<SignedOffer, ApiError> {
        let shop = self.channels.shop.as_ref().ok_or(Refused::ChannelsOff)?;
        let signature = offer.sign(&shop.offer_secret);
        Ok(SignedOffer { offer, signature, unconfirmed: self.early_terms() })
    }

    /// The newest block, if the chain is being watched.
    pub(super) fn chain_tip(&self) -> Result<u32, Refused> {
        let chain = &self.channels.chain;
        let tip = chain.tip.filter(|_| chain.is_up).ok_or(Refused::ChainUnavailable)?;
        self.check_silence().map(|()| tip)
    }

    pub(super) fn open(&mut self, request: RequestId, mac: Mac, body: &OpenRequest, unix_s: u64) {
        self.channels.chain.unix_s = self.channels.chain.unix_s.max(unix_s);
        self.forget_lapsed();
        match self.open_again(mac, body) {
            Some(answer) => self.answer(request, Ok(answer)),
            None => match self.draft_channel(mac, body, unix_s) {
                Ok(state) => self.persist_opening(request, state),
                Err(error) => self.answer(request, Err(error)),
            },
        }
    }

    /// What the payer of this key was told when it opened its channel: enough to go on, for a payer
    /// that kept nothing but the key.
    ///
    /// # Errors
    ///
    /// `no_channel` if there is none, or it was forgotten.
    pub fn opened_with(&self, payer_key: PublicKey) -> Result<OpenResponse, ApiError> {
        let id = self.channels.payer_keys.get(&payer_key).ok_or(Refused::NoChannel)?;
        let channel = self.channels.all.get(id).filter(|channel| !channel.talk.is_forgotten);
        let channel = channel.ok_or(Refused::NoChannel)?;
        Ok(open_response(&channel.state)?)
    }

    /// The answer that this request got before, perhaps without reaching the payer.
    fn open_again(&self, mac: Mac, body: &OpenRequest) -> Option<ChannelAnswer> {
        let id = self.channels.payer_keys.get(&body.payer_key)?;
        let channel = self.channels.all.get(id).filter(|channel| channel.is_unfunded())?;
        let agreement = &channel.state.agreement;
        let same = agreement.mac == mac
            && agreement.offer == body.offer.digest()
            && agreement.payer_session_key == body.payer_session_key
            && agreement.terms.change_script == body.change_script;
        if !same || channel.talk.is_forgotten {
            return None;
        }
        opened_answer(&channel.state).ok()
    }

    /// A channel that stands on these terms, under new keys.
    fn draft_channel(
        &mut self,
        mac: Mac,
        body: &OpenRequest,
        unix_s: u64,
    ) -> Result<ChannelState, ApiError> {
        let tip = self.chain_tip()?;
        self.check_offer(&body.offer, &body.signature, unix_s)?;
        self.check_room(mac, tip)?;
        if self.channels.payer_keys.contains_key(&body.payer_key)
            || self.channels.opening.contains_key(&body.payer_key)
        {
            return Err(Refused::RepeatedKey.into());
        }
        let index = self.channels.next_index;
        if index > MAX_KEY_INDEX {
            return Err(TermsError::Key(KeyError::Index(index)).into());
        }
        let shop = self.channels.shop.as_ref().ok_or(Refused::ChannelsOff)?;
        let payout = shop.policy.payout.script(index)?;
        if body.change_script == payout {
            return Err(Refused::ChangeScript.into());
        }
        let agreed = agree(shop, mac, body, payout, (index, tip))?;
        // Never used again, whatever becomes of this channel.
        self.channels.next_index = index.saturating_add(1);
        Ok(agreed.into_state(body, index, tip, unix_s))
    }

    /// Whether this is an offer of ours that holds.
    pub(super) fn check_offer(
        &self,
        offer: &Offer,
        signature: &MessageSignature,
        unix_s: u64,
    ) -> Result<(), Refused> {
        let shop = self.channels.shop.as_ref().ok_or(Refused::ChannelsOff)?;
        let key = shop.offer_secret.public_key();
        let ours = offer.gateway_key == key && offer.network == shop.policy.network;
        if !ours || offer.verify(&key, signature).is_err() {
            return Err(Refused::ForgedOffer);
        }
        if unix_s > offer.valid_until_unix_s {
            return Err(Refused::OfferExpired);
        }
        Ok(())
    }

    fn check_room(&self, mac: Mac, tip: u32) -> Result<(), Refused> {
        if mac.is_group() || mac == Mac::default() {
            return Err(Refused::NotAStation);
        }
        let channels = &self.channels;
        if channels.of(mac).any(|channel| channel.is_in_use(tip)) {
            return Err(Refused::OneChannel);
        }
        let opening = channels.opening.values().filter(|other| **other == mac).count();
        let waiting = channels.of(mac).filter(|channel| channel.is_unfunded()).count();
        if opening + waiting >= MAX_UNFUNDED_PER_STATION {
            return Err(Refused::TooManyUnfunded);
        }
        if channels.all.len() + channels.opening.len() >= MAX_CHANNELS {
            return Err(Refused::LedgerFull);
        }
        let live = channels.all.values().filter(|channel| !channel.is_over());
        let unfunded = live.clone().filter(|channel| channel.is_unfunded()).count();
        if live.count() + channels.opening.len() >= MAX_LIVE_CHANNELS
            || unfunded + channels.opening.len() >= MAX_UNFUNDED
        {
            return Err(Refused::TooManyChannels);
        }
        Ok(())
    }

    /// The index and the channel are durable before the payer sees any of it.
    fn persist_opening(&mut self, request: RequestId, state: ChannelState) {
        let agreement = &state.agreement;
        self.channels.opening.insert(agreement.terms.payer_key, agreement.mac);
        let state = Box::new(state);
        let records = vec![Record::KeyIndex(state.index), Record::Channel(state.clone())];
        self.persist(PendingBatch::Channel(ChannelWrite::Open(request, state)), records);
    }

    pub(super) fn opened(&mut self, request: RequestId, state: ChannelState) {
        self.channels.opening.remove(&state.agreement.terms.payer_key);
        let (id, answer) = (state.id, opened_answer(&state));
        self.channels.insert(Channel::new(state));
        self.watch(id);
        self.answer(request, answer.map_err(ApiError::from));
    }

    pub(super) fn not_opened(&mut self, request: RequestId, state: &ChannelState) {
        self.channels.opening.remove(&state.agreement.terms.payer_key);
        self.refuse_all(vec![request], Refused::NotDurable);
    }

    /// Has the chain watched for this channel.
    pub(super) fn watch(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get(&id) else { return };
        let state = &channel.state;
        let Ok(opened) = Opened::new(state.agreement.terms.clone()) else { return };
        let command = ChannelCommand::Watch {
            channel: id,
            script: opened.script().script_pubkey().clone(),
            outpoint: state.funding.map(|funding| funding.outpoint),
            since_height: state.opened_height,
        };
        self.commands.push_back(Command::Channel(command));
    }

    /// Forgets channels that were not funded in time, and those that can't be used any more and
    /// never were.
    pub(super) fn forget_lapsed(&mut self) {
        let chain = self.channels.chain;
        let lapsed = |channel: &&Channel| channel.has_lapsed(chain.unix_s, chain.tip.unwrap_or(0));
        let lapsed: Vec<ChannelId> =
            self.channels.all.values().filter(lapsed).map(|channel| channel.state.id).collect();
        for id in lapsed {
            self.forget(id);
        }
    }

    pub(super) fn forget(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        channel.talk.is_forgotten = true;
        let write = ChannelWrite::Forget(id);
        self.persist(PendingBatch::Channel(write), vec![Record::Forget(id)]);
    }

    pub(super) fn forgotten(&mut self, id: ChannelId) {
        self.note_lapsed(id);
        self.channels.remove(id);
        self.commands.push_back(Command::Channel(ChannelCommand::Unwatch { channel: id }));
        self.answer_operators([id]);
    }
}

impl Channel {
    /// Whether nobody needs it: nothing was ever paid, and it was not funded in time, or the
    /// payer can take its money back alone.
    fn has_lapsed(&self, unix_s: u64, tip: u32) -> bool {
        let state = self.wanted();
        let idle = !self.is_paid() && state.close.is_none() && state.end.is_none();
        let on_its_way = self.next.is_some() || self.freezing.is_some() || self.moving.is_some();
        if !idle || on_its_way || self.talk.is_forgotten {
            return false;
        }
        let signed = state.payer_signature.is_some();
        let patience = if signed { SIGNED_LAPSE_S } else { UNSIGNED_LAPSE_S };
        let late = unix_s > state.opened_unix_s.saturating_add(patience);
        let terms = &state.agreement.terms;
        match state.funding {
            None => late || tip >= terms.last_call(),
            Some(_) => tip >= terms.expiry_height,
        }
    }
}

/// An agreement and the gateway's signature.
struct Agreed {
    agreement: Agreement,
    signature: MessageSignature,
}

fn agree(
    shop: &Shop,
    mac: Mac,
    body: &OpenRequest,
    payout_script: OutputScript,
    (index, tip): (u32, u32),
) -> Result<Agreed, TermsError> {
    let policy = &shop.policy;
    let offer = &body.offer;
    let payee = policy.seed.channel_secret(policy.network, Role::Payee, index)?;
    let session = policy.seed.session_secret(policy.network, Role::Payee, index)?;
    let terms = Terms {
        network: policy.network,
        payer_key: body.payer_key,
        payee_key: payee.public_key(),
        expiry_height: tip.saturating_add(offer.lock_blocks),
        margin_blocks: offer.margin_blocks,
        change_script: body.change_script.clone(),
        payout_script,
        min_capacity: offer.min_capacity,
        max_capacity: offer.max_capacity,
        min_first_update: offer.min_first_update,
        max_close_fee: offer.max_close_fee,
    };
    // Names what can't stand before anything is signed.
    Opened::new(terms.clone())?;
    let agreement = Agreement {
        offer: offer.digest(),
        tariff: offer.tariff,
        terms,
        payer_session_key: body.payer_session_key,
        payee_session_key: session.public_key(),
        mac,
    };
    let signature = agreement.sign(&session);
    Ok(Agreed { agreement, signature })
}

impl Agreed {
    fn into_state(self, body: &OpenRequest, index: u32, tip: u32, unix_s: u64) -> ChannelState {
        ChannelState {
            id: self.agreement.digest().into(),
            revision: 1,
            index,
            agreement: self.agreement,
            payee_signature: self.signature,
            payer_signature: None,
            confirmations: body.offer.confirmations,
            opened_height: tip,
            opened_unix_s: unix_s,
            funding: None,
            phase: ChannelPhase::Live,
            frozen: None,
            receipt: None,
            close: None,
            end: None,
        }
    }
}

fn opened_answer(state: &ChannelState) -> Result<ChannelAnswer, TermsError> {
    open_response(state).map(ChannelAnswer::Opened)
}

fn open_response(state: &ChannelState) -> Result<OpenResponse, TermsError> {
    let opened = Opened::new(state.agreement.terms.clone())?;
    Ok(OpenResponse {
        channel: state.id,
        agreement: state.agreement.clone(),
        signature: state.payee_signature,
        address: opened.address().to_string(),
    })
}

/// The least that a policy can ask for, for [`super::PolicyError`].
pub(super) fn least_first_update() -> Amount {
    first_update_for(crate::channel::MIN_FEERATE, 1)
}
