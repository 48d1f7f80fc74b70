//! Closing together: the gate is closed and the last sample durable, then comes the plan, then
//! the payer's signature, then the disk, then the chain, then the answer.

use std::time::Duration;

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bitcoin::{Amount, Txid};
use bitmesh_common::abi::Mac;

use super::book::{Channel, Closer, Side, Signing};
use super::end::read_spend;
use super::refusal::Refused;
use super::{ChannelAnswer, Entropy, UNKNOWN_HEIGHT};
use crate::channel::message::{Challenge, Message as _, MessageSignature, Receipt};
use crate::channel::{
    CloseError, CooperativePlan, NonceSeed, PayeeClosing, Role, Seed, SessionSecret, Settlement,
    SpendPath, fee_for,
};
use crate::channel_record::{ChannelPhase, CloseTx, Countersigned, Frozen, Meter, SpendKind};
use crate::gateway::Gateway;
use crate::gateway::change::{Asker, Change, Goal};
use crate::io::RequestId;
use crate::units::Units;
use crate::wire::{
    ApiError, ChallengeResponse, ChannelId, CloseBody, CloseCompletion, CloseHalf, CloseOffer,
    Closed, PlanBody, RawTx,
};

/// A challenge is good for this long.
pub const CHALLENGE_VALID: Duration = Duration::from_secs(60);

const MS_PER_MINUTE: u128 = 60_000;

impl Gateway {
    /// A channel takes no updates from now on. Before, the one that waits is credited.
    pub(super) fn freeze(&mut self, id: ChannelId, target: ChannelPhase) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        if channel.state.frozen.is_some() {
            self.want(id, |state| state.phase = state.phase.max(target));
            return;
        }
        let mac = channel.mac();
        channel.to_freeze = Some(channel.to_freeze.map_or(target, |other| other.max(target)));
        if channel.freezing.is_none() {
            self.channels.due.insert((mac, id));
            self.next_turn(mac);
        }
    }

    pub(super) fn start_freeze(&mut self, id: ChannelId) {
        let height = self.channels.chain.tip.unwrap_or(UNKNOWN_HEIGHT);
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        let Some(phase) = channel.to_freeze else { return };
        if channel.newest.is_some() {
            let goal = Goal::Freeze(id, channel.credit_here());
            let (mac, change) = (channel.mac(), Change::new(Asker::Nobody, goal));
            return self.go_on(mac, change, self.moment());
        }
        // Nothing was paid, so nothing was used.
        channel.to_freeze = None;
        let frozen = Frozen { charged: Units(0), meter: Meter::default(), height };
        self.want(id, |state| {
            state.phase = phase;
            state.frozen = Some(frozen);
        });
    }

    pub(super) fn challenge(
        &mut self,
        id: ChannelId,
        mac: Mac,
        entropy: &Entropy,
    ) -> Result<ChannelAnswer, ApiError> {
        let (now, challenge) = (self.now, Challenge(self.draw(entropy)));
        let channel = self.payers_channel(id)?;
        channel.talk.challenges.add(mac, challenge, now);
        Ok(ChannelAnswer::Challenge(ChallengeResponse { challenge, mac }))
    }

    /// 32 bytes that were never drawn before, even if the shell gave the same entropy twice: a
    /// nonce that signs twice gives the key away.
    fn draw(&mut self, entropy: &Entropy) -> [u8; 32] {
        self.channels.draws += 1;
        let mut engine = sha256::Hash::engine();
        engine.input(&entropy.0);
        engine.input(&self.channels.draws.to_le_bytes());
        sha256::Hash::from_engine(engine).to_byte_array()
    }

    pub(super) fn close(
        &mut self,
        request: RequestId,
        id: ChannelId,
        body: &CloseBody,
        entropy: Entropy,
    ) {
        if let Err(error) = self.check_close(id, body) {
            return self.answer(request, Err(error));
        }
        let now = self.now;
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        channel.talk.heard = Some(now);
        let path = body.request.path;
        let earlier = channel.talk.closer.replace(Closer { request, path, entropy });
        self.refuse_all(earlier.map(|closer| closer.request).into_iter().collect(), Refused::Busy);
        self.freeze(id, ChannelPhase::Closing);
        self.offer_close(id);
    }

    fn check_close(&mut self, id: ChannelId, body: &CloseBody) -> Result<(), ApiError> {
        let now = self.now;
        let channel = self.payers_channel(id)?;
        let wanted = channel.wanted();
        if let Some(end) = wanted.end {
            return Err(Refused::Closed(end.txid).into());
        }
        if let Some(close) = &wanted.close {
            return Err(Refused::Closed(close.tx.compute_txid()).into());
        }
        let target = channel.to_freeze.unwrap_or(ChannelPhase::Live);
        if wanted.phase.max(target) > ChannelPhase::Closing {
            return Err(Refused::Closing.into());
        }
        let funding = channel.state.funding.ok_or(Refused::Unfunded)?;
        let named = ChannelId::from(body.request.agreement);
        if named != id || body.request.outpoint != funding.outpoint {
            return Err(CloseError::WrongChannel.into());
        }
        let key = channel.state.agreement.payer_session_key;
        body.request.verify(&key, &body.signature).map_err(Refused::from)?;
        match channel.talk.challenges.take(None, body.request.challenge, now) {
            true => Ok(()),
            false => Err(Refused::Challenge.into()),
        }
    }

    /// Tells a payer who waits what to sign, once the charges are final.
    pub(super) fn offer_close(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        if channel.state.frozen.is_none() {
            return;
        }
        let Some(Closer { request, path, entropy }) = channel.talk.closer.take() else { return };
        let seed = NonceSeed::new(self.draw(&entropy));
        let offer = self.start_signing(id, path, seed).map(ChannelAnswer::CloseOffer);
        self.answer(request, offer);
    }

    fn start_signing(
        &mut self,
        id: ChannelId,
        path: SpendPath,
        seed: NonceSeed,
    ) -> Result<CloseOffer, ApiError> {
        let feerate = self.channels.chain.feerate;
        let channel = self.channels.all.get_mut(&id).ok_or(Refused::NoChannel)?;
        let wanted = channel.wanted();
        if wanted.phase != ChannelPhase::Closing || wanted.close.is_some() {
            return Err(Refused::Closing.into());
        }
        let Side::Closing(closing) = &channel.side else { return Err(Refused::Unfunded.into()) };
        let plan = plan_close(closing, path, feerate)?;
        let body = PlanBody::new(path, plan.charges().to_sat(), plan.settlement());
        let receipt = receipt_of(channel, closing, &plan).ok_or(Refused::Closing)?;
        let (signing, nonce) = match path {
            SpendPath::KeyPath => {
                let signing = closing.start_key_path(plan, seed)?;
                let nonce = signing.nonce();
                (Signing::KeyPath(Box::new(signing)), Some(nonce))
            }
            SpendPath::PayLeaf => (Signing::PayLeaf(Box::new(plan)), None),
        };
        channel.talk.signing = Some(signing);
        Ok(CloseOffer { plan: body, nonce, receipt })
    }

    pub(super) fn complete(&mut self, request: RequestId, id: ChannelId, body: &CloseCompletion) {
        match self.take_completion(request, id, body) {
            Ok(None) => {}
            Ok(Some(closed)) => self.answer(request, Ok(ChannelAnswer::Closed(closed))),
            Err(error) => self.answer(request, Err(error)),
        }
    }

    /// The answer, if the close is durable already.
    fn take_completion(
        &mut self,
        request: RequestId,
        id: ChannelId,
        body: &CloseCompletion,
    ) -> Result<Option<Closed>, ApiError> {
        let (now, height) = (self.now, self.channels.chain.tip.unwrap_or(UNKNOWN_HEIGHT));
        let shop = self.channels.shop.as_ref().ok_or(Refused::ChannelsOff)?;
        let channel = self.channels.all.get(&id).ok_or(Refused::NoChannel)?;
        let own = session_secret(channel, &shop.policy.seed)?;
        let channel = self.payers_channel(id)?;
        let together = |close: &&CloseTx| close.kind == SpendKind::Together;
        if channel.state.close.as_ref().filter(together).is_some() {
            return self.closed_answer(id).map(Some);
        }
        if channel.talk.completer.is_some() {
            return Err(Refused::Busy.into());
        }
        let signing = channel.talk.signing.take().ok_or(Refused::NoCloseOffer)?;
        let wanted = channel.wanted();
        if wanted.phase != ChannelPhase::Closing || wanted.close.is_some() {
            return Err(Refused::Closing.into());
        }
        let Side::Closing(closing) = &channel.side else { return Err(Refused::Closing.into()) };
        let receipt = receipt_of(channel, closing, signing.plan()).ok_or(Refused::Closing)?;
        let receipt = match &body.receipt_signature {
            None => None,
            Some(signature) => Some(countersigned(channel, receipt, signature, &own)?),
        };
        let tx = match (signing, &body.half) {
            (Signing::KeyPath(signing), CloseHalf::KeyPath(payer)) => {
                signing.complete(closing, payer)?
            }
            (Signing::PayLeaf(plan), CloseHalf::PayLeaf(payer)) => {
                closing.complete_pay_leaf(&plan, &payer.0)?
            }
            _ => return Err(CloseError::WrongPath.into()),
        };
        channel.talk.heard = Some(now);
        channel.talk.completer = Some(request);
        let close = CloseTx { kind: SpendKind::Together, tx, height };
        self.want(id, |state| {
            state.close = Some(close);
            state.receipt = receipt;
        });
        Ok(None)
    }

    /// Answers the payer whose close is durable, and handed to the node.
    pub(super) fn answer_completer(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        let together = |close: &CloseTx| close.kind == SpendKind::Together;
        if !channel.state.close.as_ref().is_some_and(together) {
            return;
        }
        if let Some(request) = channel.talk.completer.take() {
            let closed = self.closed_answer(id).map(ChannelAnswer::Closed);
            self.answer(request, closed);
        }
    }

    fn closed_answer(&self, id: ChannelId) -> Result<Closed, ApiError> {
        let shop = self.channels.shop.as_ref().ok_or(Refused::ChannelsOff)?;
        let channel = self.channels.all.get(&id).ok_or(Refused::NoChannel)?;
        let close = channel.state.close.as_ref().ok_or(Refused::NoCloseOffer)?;
        let txid = close.tx.compute_txid();
        let Side::Closing(closing) = &channel.side else {
            return Err(Refused::Closed(txid).into());
        };
        let (credit, charges) = (closing.credit(), closing.charges());
        let end = read_spend(closing.channel(), credit, charges, &close.tx, (close.height, None))
            .ok_or(CloseError::WrongChannel)?;
        let raw = bitcoin::consensus::serialize(&close.tx);
        let raw_tx = RawTx::new(raw).map_err(|error| ApiError::new("too_long", error))?;
        let settlement = Settlement { payout: end.payout, change: end.change, fee: end.fee };
        let receipt = receipt(channel, closing, settlement, end.txid).ok_or(Refused::Closing)?;
        let secret = session_secret(channel, &shop.policy.seed)?;
        Ok(Closed {
            txid,
            raw_tx,
            settled_sat: end.payout.to_sat(),
            returned_sat: end.change.to_sat(),
            fee_sat: end.fee.to_sat(),
            receipt_signature: receipt.sign(&secret),
            receipt,
        })
    }
}

/// The plan at the present feerate. If neither side can pay that, at the fee that the payer
/// agreed to pay at most: it can still be confirmed, only later.
fn plan_close(
    closing: &PayeeClosing,
    path: SpendPath,
    feerate: bitcoin::FeeRate,
) -> Result<CooperativePlan, CloseError> {
    let (channel, charges) = (closing.channel(), closing.charges());
    match CooperativePlan::at_feerate(channel, path, charges, feerate) {
        Err(CloseError::FeeTooHigh { fee }) => {
            let most = channel.terms().max_close_fee;
            let plan = CooperativePlan::new(channel, path, charges, most)?;
            let least = fee_for(plan.weight(), crate::channel::MIN_FEERATE);
            if most < least { Err(CloseError::FeeTooHigh { fee }) } else { Ok(plan) }
        }
        plan => plan,
    }
}

fn session_secret(channel: &Channel, seed: &Seed) -> Result<SessionSecret, ApiError> {
    let network = channel.state.agreement.terms.network;
    let secret = seed.session_secret(network, Role::Payee, channel.state.index);
    Ok(secret.map_err(CloseError::from)?)
}

/// The receipt with both signatures, if the payer's is one.
fn countersigned(
    channel: &Channel,
    receipt: Receipt,
    payer_signature: &MessageSignature,
    own: &SessionSecret,
) -> Result<Countersigned, ApiError> {
    let key = &channel.state.agreement.payer_session_key;
    receipt.verify(key, payer_signature).map_err(Refused::from)?;
    let payee_signature = receipt.sign(own);
    Ok(Countersigned { receipt, payee_signature, payer_signature: *payer_signature })
}

/// The end state of the session, if this close is made.
fn receipt_of(
    channel: &Channel,
    closing: &PayeeClosing,
    plan: &CooperativePlan,
) -> Option<Receipt> {
    receipt(channel, closing, plan.settlement(), plan.unsigned().compute_txid())
}

fn receipt(
    channel: &Channel,
    closing: &PayeeClosing,
    settlement: Settlement,
    close_txid: Txid,
) -> Option<Receipt> {
    let frozen = channel.state.frozen?;
    let used = channel.used(&frozen.meter);
    let credited: Amount = closing.credit();
    Some(Receipt {
        agreement: bitcoin::hashes::sha256::Hash::from_byte_array(channel.state.id.0),
        outpoint: closing.channel().outpoint(),
        uplink_bytes: used.uplink_bytes,
        downlink_bytes: used.downlink_bytes,
        time_ms: billed_ms(used.time_charged, channel.state.agreement.tariff.msat_per_minute),
        charged_msat: frozen.charged.ceil(),
        credited,
        settled: settlement.payout,
        returned: settlement.change,
        fee: settlement.fee,
        close_txid,
    })
}

/// The time that costs this much. Saturates.
fn billed_ms(charged: Units, msat_per_minute: u64) -> u64 {
    let per_minute = u128::from(crate::units::MilliSat(msat_per_minute).units().0);
    let ms = (u128::from(charged.0) * MS_PER_MINUTE).checked_div(per_minute).unwrap_or(0);
    u64::try_from(ms).unwrap_or(u64::MAX)
}
