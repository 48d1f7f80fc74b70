//! A gateway with the channel's own code, a ledger in memory and a script of lies.

use std::collections::BTreeMap;

use bitcoin::hashes::Hash as _;
use bitcoin::{Address, Amount, Network, OutPoint, ScriptBuf, Txid};
use bitmesh_common::abi::Tally;
use bitmesh_core::channel::message::{Agreement, Challenge, Message as _, Offer, Receipt};
use bitmesh_core::channel::{
    CooperativePlan, NonceSeed, Opened, OutputScript, Payee, PayeeClosing, PayeeSigning, Role,
    Seed, SpendPath, Terms,
};
use bitmesh_core::payer::Used;
use bitmesh_core::wire::{
    ApiError, ChallengeResponse, ChannelId, ChannelView, ChannelWord, CloseBody, CloseCompletion,
    CloseHalf, CloseOffer, Closed, FundingRequest, OpenRequest, OpenResponse, PlanBody, RawTx,
    ResumeBody, SignedOffer, UpdateAccepted, UpdateBody,
};
use bitmesh_core::{Mac, MilliSat, Tariff};

pub(super) const TIP: u32 = 1_000;
pub(super) const CHANGE: u8 = 0xaa;
const PAYOUT: u8 = 0xbb;
const CLOSE_FEE: u64 = 300;
pub(super) const TARIFF: Tariff = Tariff {
    uplink_msat_per_mib: 0,
    downlink_msat_per_mib: 1_000_000,
    msat_per_minute: 0,
    ..Tariff::FREE
};

/// What this gateway is dishonest about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    None,
    OfferSignature,
    Address,
    ChangeScript,
    Expiry,
    Price,
    PayerKey,
    Outpoint,
    Count,
    Charges,
    Payout,
    ClosedTxid,
    ClosedWitness,
    Receipt,
    Newest,
}

/// The address that a payer has at first.
pub(super) const FIRST: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

/// What this gateway knows.
pub(super) struct Book {
    pub(super) lie: Lie,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    /// What was asked, in order.
    pub(super) asked: Vec<String>,
    /// How many of the coming answers get lost after they had their effect.
    pub(super) lose: u32,
    /// Says this instead of an answer.
    pub(super) refuse: Option<ApiError>,
    /// Whether a funding counts as soon as it is seen.
    pub(super) confirms: bool,
    pub(super) passed: Tally,
    /// The address of who asks.
    pub(super) station: Mac,
    pub(super) next_index: u32,
}

pub(super) struct Channel {
    pub(super) agreement: Agreement,
    index: u32,
    pub(super) is_countersigned: bool,
    pub(super) funding: Option<(OutPoint, Amount)>,
    pub(super) side: Side,
    pub(super) updates: u64,
    /// Whom it pays for.
    pub(super) served: Mac,
    /// What was charged before its first update.
    before: MilliSat,
    signing: Option<PayeeSigning>,
    challenge: [u8; 32],
}

pub(super) enum Side {
    None,
    Paying(Payee),
    Closing(PayeeClosing),
    Closed(Box<Closed>),
}

pub(super) fn script(byte: u8) -> OutputScript {
    let script = ScriptBuf::from_bytes([&[0x51, 0x20][..], &[byte; 32]].concat());
    OutputScript::new(script).unwrap()
}

fn seed() -> Seed {
    Seed::new([2; 32])
}

fn used(tally: &Tally) -> Used {
    Used { uplink_bytes: 0, downlink_bytes: tally.downlink_bytes, time_ns: 0 }
}

impl Book {
    /// What the channel that is paid on owes; channels come one after the other.
    pub(super) fn charged(&self) -> MilliSat {
        let before = self.channels.values().map(|channel| channel.before.0).max();
        MilliSat(used(&self.passed).cost(&TARIFF).0 - before.unwrap_or(0))
    }

    /// All that was paid on the channel that is paid on.
    pub(super) fn credit(&self) -> MilliSat {
        let credits = self.channels.values().map(|channel| match &channel.side {
            Side::Paying(payee) => payee.credit().0,
            _ => 0,
        });
        MilliSat(credits.max().unwrap_or(0))
    }

    /// The gate: what is paid for passes, a packet of 1,000 bytes at a time.
    pub(super) fn pass(&mut self, bytes: u64) {
        if self.channels.values().any(|channel| channel.served != self.station) {
            return;
        }
        for _ in 0..bytes / 1_000 {
            let more = Tally { downlink_bytes: self.passed.downlink_bytes + 1_000, ..self.passed };
            let passed = std::mem::replace(&mut self.passed, more);
            if self.charged() > self.credit() {
                self.passed = passed;
                return;
            }
        }
    }

    fn stated(&self) -> MilliSat {
        let charged = self.charged();
        if self.lie == Lie::Count { MilliSat(charged.0 + 700_000) } else { charged }
    }

    pub(super) fn offer(&self, challenge: Challenge) -> SignedOffer {
        let secret = seed().offer_secret(Network::Regtest).unwrap();
        let offer = Offer {
            network: Network::Regtest,
            gateway_key: secret.public_key(),
            tariff: TARIFF,
            min_capacity: Amount::from_sat(10_000),
            max_capacity: Amount::from_sat(1_000_000),
            min_first_update: Amount::from_sat(1_000),
            max_close_fee: Amount::from_sat(1_000),
            lock_blocks: 288,
            margin_blocks: 36,
            confirmations: 1,
            valid_until_unix_s: u64::MAX,
            challenge,
        };
        let mut signature = offer.sign(&secret);
        if self.lie == Lie::OfferSignature {
            signature.0[10] ^= 1;
        }
        SignedOffer { offer, signature, unconfirmed: None }
    }

    pub(super) fn open(&mut self, request: &OpenRequest) -> OpenResponse {
        let index = self.next_index;
        self.next_index += 1;
        let payee = seed().channel_secret(Network::Regtest, Role::Payee, index).unwrap();
        let session = seed().session_secret(Network::Regtest, Role::Payee, index).unwrap();
        let offer = &request.offer;
        let mut terms = Terms {
            network: Network::Regtest,
            payer_key: request.payer_key,
            payee_key: payee.public_key(),
            expiry_height: TIP + offer.lock_blocks,
            margin_blocks: offer.margin_blocks,
            change_script: request.change_script.clone(),
            payout_script: script(PAYOUT),
            min_capacity: offer.min_capacity,
            max_capacity: offer.max_capacity,
            min_first_update: offer.min_first_update,
            max_close_fee: offer.max_close_fee,
        };
        let mut tariff = offer.tariff;
        match self.lie {
            Lie::ChangeScript => terms.change_script = script(PAYOUT),
            Lie::Expiry => terms.expiry_height = 499_999_999,
            Lie::Price => tariff.downlink_msat_per_mib += 1,
            Lie::PayerKey => terms.payer_key = session.public_key(),
            _ => {}
        }
        let agreement = Agreement {
            offer: offer.digest(),
            tariff,
            terms,
            payer_session_key: request.payer_session_key,
            payee_session_key: session.public_key(),
            mac: self.station,
        };
        let mut shown = Opened::new(agreement.terms.clone()).unwrap().address().to_string();
        if self.lie == Lie::Address {
            let own = Address::from_script(script(PAYOUT).as_script(), Network::Regtest);
            shown = own.unwrap().to_string();
        }
        let signature = agreement.sign(&session);
        let id = ChannelId::from(agreement.digest());
        let channel = Channel {
            agreement: agreement.clone(),
            index,
            is_countersigned: false,
            funding: None,
            side: Side::None,
            updates: 0,
            served: self.station,
            before: MilliSat(0),
            signing: None,
            challenge: [0; 32],
        };
        self.channels.insert(id, channel);
        OpenResponse { channel: id, agreement, signature, address: shown }
    }

    fn channel(&mut self, id: ChannelId) -> Result<&mut Channel, ApiError> {
        self.channels.get_mut(&id).ok_or_else(|| ApiError::new("no_channel", "none"))
    }

    pub(super) fn fund(&mut self, id: ChannelId, request: &FundingRequest) -> Result<(), ApiError> {
        let channel = self.channel(id)?;
        let key = channel.agreement.payer_session_key;
        channel
            .agreement
            .verify(&key, &request.agreement_signature)
            .map_err(|error| ApiError::new("forged", error))?;
        channel.is_countersigned = true;
        if let Some(raw) = &request.raw_tx {
            let opened = Opened::new(channel.agreement.terms.clone()).unwrap();
            let funded = opened.fund(raw.as_bytes()).map_err(|e| ApiError::new("funding", e))?;
            let seen = (funded.outpoint(), funded.capacity());
            assert!(channel.funding.is_none_or(|held| held == seen), "paid twice");
            channel.seen(seen.0, seen.1);
        }
        Ok(())
    }

    pub(super) fn view(&self, id: ChannelId) -> Result<ChannelView, ApiError> {
        let channel = self.channels.get(&id).ok_or_else(|| ApiError::new("no_channel", "none"))?;
        let state = match &channel.side {
            Side::None => ChannelWord::Opened,
            Side::Paying(_) if !self.confirms => ChannelWord::Unconfirmed,
            Side::Paying(_) => ChannelWord::Open,
            Side::Closing(_) => ChannelWord::Closing,
            Side::Closed(_) => ChannelWord::ClosedTogether,
        };
        let mut newest = match &channel.side {
            Side::Paying(payee) => payee.newest().map(UpdateBody::from),
            Side::Closing(closing) => closing.newest().map(UpdateBody::from),
            _ => None,
        };
        if self.lie == Lie::Newest
            && let Some(newest) = &mut newest
        {
            newest.change_sat = 0;
            newest.signature.0[64] = 0x82;
        }
        let mut outpoint = channel.funding.map(|funding| funding.0);
        if self.lie == Lie::Outpoint
            && let Some(outpoint) = &mut outpoint
        {
            outpoint.vout += 1;
        }
        Ok(ChannelView {
            channel: id,
            mac: channel.served,
            state,
            outpoint,
            capacity_sat: channel.funding.map_or(0, |funding| funding.1.to_sat()),
            confirmations: u32::from(self.confirms),
            required: 1,
            tip_height: TIP,
            last_call_height: channel.agreement.terms.last_call(),
            newest,
            credit_msat: self.credit(),
            charged_msat: self.stated(),
            notice: None,
            closing_txid: match &channel.side {
                Side::Closed(closed) => Some(closed.txid),
                _ => None,
            },
            session: None,
        })
    }

    pub(super) fn update(
        &mut self,
        id: ChannelId,
        body: &UpdateBody,
    ) -> Result<UpdateAccepted, ApiError> {
        let charged = self.charged();
        let all = used(&self.passed).cost(&TARIFF);
        let channel = self.channel(id)?;
        let Side::Paying(payee) = &mut channel.side else {
            return Err(ApiError::new("closing", "no more"));
        };
        let newest = payee.newest().map(UpdateBody::from);
        let refused = |error: bitmesh_core::channel::UpdateError| ApiError {
            newest: newest.map(Box::new),
            ..ApiError::new(error.reason(), error)
        };
        let update = body.of(payee.channel().outpoint()).map_err(refused)?;
        let verified = payee.verify(update, TIP).map_err(refused)?;
        let credited = payee.accept(verified).map_err(refused)?;
        if channel.updates == 0 {
            channel.before = all;
        }
        channel.updates += 1;
        Ok(UpdateAccepted {
            change_sat: body.change_sat,
            credit_msat: credited.total,
            balance_msat: MilliSat(credited.total.0.saturating_sub(charged.0)),
        })
    }

    pub(super) fn challenge(&mut self, id: ChannelId) -> Result<ChallengeResponse, ApiError> {
        let channel = self.channel(id)?;
        channel.challenge[0] += 1;
        let challenge = Challenge(channel.challenge);
        Ok(ChallengeResponse { challenge, mac: self.station })
    }

    pub(super) fn resume(&mut self, id: ChannelId, body: &ResumeBody) -> Result<(), ApiError> {
        let station = self.station;
        let channel = self.channel(id)?;
        let ResumeBody { request, signature } = body;
        let key = channel.agreement.payer_session_key;
        request.verify(&key, signature).map_err(|error| ApiError::new("forged", error))?;
        assert_eq!(request.agreement, channel.agreement.digest());
        assert_eq!(Some(request.outpoint), channel.funding.map(|funding| funding.0));
        assert_eq!((request.mac, request.challenge.0), (station, channel.challenge));
        channel.served = station;
        Ok(())
    }

    pub(super) fn close(
        &mut self,
        id: ChannelId,
        body: &CloseBody,
    ) -> Result<CloseOffer, ApiError> {
        let (charged, lie, passed) = (self.charged(), self.lie, self.passed);
        let channel = self.channel(id)?;
        let key = channel.agreement.payer_session_key;
        body.request
            .verify(&key, &body.signature)
            .map_err(|error| ApiError::new("forged", error))?;
        if body.request.challenge.0 != channel.challenge {
            return Err(ApiError::new("challenge", "another"));
        }
        channel.stop(charged)?;
        let Side::Closing(closing) = &channel.side else {
            return Err(ApiError::new("closed", "it is closed"));
        };
        let mut charges = closing.charges();
        if lie == Lie::Charges {
            charges = closing.credit() + Amount::ONE_SAT;
        }
        let fee = Amount::from_sat(CLOSE_FEE);
        let plan = CooperativePlan::new(closing.channel(), SpendPath::KeyPath, charges, fee);
        let plan = plan.map_err(|error| ApiError::new("plan", error))?;
        let receipt = channel.receipt(passed, charged, &plan);
        let mut numbers = PlanBody::new(SpendPath::KeyPath, charges.to_sat(), plan.settlement());
        if lie == Lie::Payout {
            numbers.payout_sat += 100;
            numbers.change_sat -= 100;
        }
        if lie == Lie::Charges {
            let nonce = closing.start_key_path(
                CooperativePlan::new(closing.channel(), SpendPath::KeyPath, closing.charges(), fee)
                    .unwrap(),
                NonceSeed::new([5; 32]),
            );
            let nonce = nonce.ok().map(|n| n.nonce());
            return Ok(CloseOffer { plan: numbers, nonce, receipt });
        }
        let entropy = [channel.challenge[0]; 32];
        let signing = closing.start_key_path(plan, NonceSeed::new(entropy)).unwrap();
        let nonce = Some(signing.nonce());
        channel.signing = Some(signing);
        Ok(CloseOffer { plan: numbers, nonce, receipt })
    }

    pub(super) fn complete(
        &mut self,
        id: ChannelId,
        body: &CloseCompletion,
    ) -> Result<Closed, ApiError> {
        let (lie, passed, charged_msat) = (self.lie, self.passed, self.charged());
        let channel = self.channel(id)?;
        let CloseHalf::KeyPath(half) = &body.half else { panic!("another path") };
        let signing = channel.signing.take();
        let signing = signing.ok_or_else(|| ApiError::new("no_close_offer", "none"))?;
        let Side::Closing(closing) = &channel.side else { panic!("not closing") };
        let plan = signing.plan().clone();
        let settlement = plan.settlement();
        let mut tx = signing.complete(closing, half).map_err(|e| ApiError::new("forged", e))?;
        let mut txid = tx.compute_txid();
        if lie == Lie::ClosedTxid {
            txid = Txid::from_byte_array([1; 32]);
        }
        if lie == Lie::ClosedWitness {
            tx.input[0].witness = bitcoin::Witness::from_slice(&[[7; 64]]);
        }
        let mut receipt = channel.receipt(passed, charged_msat, &plan);
        receipt.close_txid = txid;
        let session = seed().session_secret(Network::Regtest, Role::Payee, channel.index).unwrap();
        let mut receipt_signature = receipt.sign(&session);
        if lie == Lie::Receipt {
            receipt_signature.0[5] ^= 1;
        }
        let closed = Closed {
            txid,
            raw_tx: RawTx::new(bitcoin::consensus::serialize(&tx)).unwrap(),
            settled_sat: settlement.payout.to_sat(),
            returned_sat: settlement.change.to_sat(),
            fee_sat: settlement.fee.to_sat(),
            receipt,
            receipt_signature,
        };
        channel.side = Side::Closed(Box::new(closed.clone()));
        Ok(closed)
    }
}

impl Channel {
    /// What both sides are to sign of the session.
    fn receipt(&self, passed: Tally, charged_msat: MilliSat, plan: &CooperativePlan) -> Receipt {
        let Side::Closing(closing) = &self.side else { panic!("not closing") };
        let settlement = plan.settlement();
        Receipt {
            agreement: self.agreement.digest(),
            outpoint: closing.channel().outpoint(),
            uplink_bytes: 0,
            downlink_bytes: passed.downlink_bytes,
            time_ms: 0,
            charged_msat,
            credited: closing.credit(),
            settled: settlement.payout,
            returned: settlement.change,
            fee: settlement.fee,
            close_txid: plan.unsigned().compute_txid(),
        }
    }

    /// The chain has a funding.
    pub(super) fn seen(&mut self, outpoint: OutPoint, capacity: Amount) {
        if !matches!(self.side, Side::None) {
            return;
        }
        let opened = Opened::new(self.agreement.terms.clone()).unwrap();
        let funded = opened.pinned(outpoint, capacity).unwrap();
        let secret = seed().channel_secret(Network::Regtest, Role::Payee, self.index).unwrap();
        self.side = Side::Paying(Payee::new(funded, secret, None).unwrap());
        self.funding = Some((outpoint, capacity));
    }

    fn stop(&mut self, charged: MilliSat) -> Result<(), ApiError> {
        match std::mem::replace(&mut self.side, Side::None) {
            Side::Paying(payee) => {
                let closing = payee.close(charged).map_err(|(_, e)| ApiError::new("x", e))?;
                self.side = Side::Closing(closing);
            }
            other => self.side = other,
        }
        Ok(())
    }
}
