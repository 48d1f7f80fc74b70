//! A subscriber that pays: it keeps its keys, counts nothing, and trusts the test.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Network, OutPoint, Transaction, TxIn, TxOut};
use bitmesh_core::channel::message::{Challenge, CloseRequest, Message as _, Resume};
use bitmesh_core::channel::{
    CooperativePlan, Count, Funded, NonceSeed, Opened, Payer, Role, Seed, SpendPath,
};
use bitmesh_core::payer::check_receipt;
use bitmesh_core::wire::{
    ApiError, ChannelId, ChannelView, CloseBody, CloseCompletion, CloseHalf, CloseOffer, Closed,
    FundingRequest, OpenRequest, OpenResponse, RawTx, ResumeBody, UpdateBody,
};
use bitmesh_core::{ChannelAnswer, ChannelInput, ChannelResult, Mac, MilliSat, Tariff};
use rand::RngExt as _;

use crate::chain::outside;
use crate::world::{Violation, World, script};

const PLENTY: Count = Count { counted: MilliSat(u64::MAX), step: Amount::ZERO };

pub struct Subscriber {
    pub mac: Mac,
    /// Another address that it had.
    pub earlier: Mac,
    seed: Seed,
    next_index: u32,
    pub channel: Option<PayersChannel>,
}

pub struct PayersChannel {
    pub id: ChannelId,
    pub answer: OpenResponse,
    pub index: u32,
    pub opened: Opened,
    pub payer: Option<Payer>,
    pub path: SpendPath,
    pub close_asked: bool,
}

/// An answer, or none because the agent died.
pub type Heard<T> = Result<Option<Result<T, ApiError>>, Violation>;

macro_rules! heard {
    ($answer:expr, $kind:path) => {
        match $answer {
            None => Ok(None),
            Some(Err(error)) => Ok(Some(Err(error))),
            Some(Ok(answer)) => match *answer {
                $kind(answer) => Ok(Some(Ok(answer))),
                other => Err(format!("{other:?} is the wrong answer")),
            },
        }
    };
}

impl Subscriber {
    pub fn new(number: u8) -> Self {
        let mac = Mac::new([2, 0, 0, 0, 0, number]);
        Self { mac, earlier: mac, seed: Seed::new([number; 32]), next_index: 0, channel: None }
    }
}

impl PayersChannel {
    pub fn funded(&self) -> Option<&Funded> {
        self.payer.as_ref().map(Payer::channel)
    }
}

impl World {
    /// A new subscriber; its number.
    pub fn subscriber(&mut self) -> usize {
        let number = self.subscribers.len();
        self.subscribers.push(Subscriber::new(u8::try_from(number + 1).unwrap()));
        number
    }

    pub fn own(&self, who: usize) -> &PayersChannel {
        self.subscribers[who].channel.as_ref().expect("a channel")
    }

    pub fn own_mut(&mut self, who: usize) -> &mut PayersChannel {
        self.subscribers[who].channel.as_mut().expect("a channel")
    }

    /// Asks for an offer and takes it.
    pub fn open(&mut self, who: usize, tariff: Tariff) -> Heard<ChannelId> {
        let challenge = Challenge(self.rng.random());
        let unix_s = self.unix_s();
        let offered =
            self.ask(|request| ChannelInput::Offer { request, tariff, challenge, unix_s })?;
        let offered: Option<Result<_, ApiError>> = heard!(offered, ChannelAnswer::Offer)?;
        let signed = match offered {
            None => return Ok(None),
            Some(Err(error)) => return Ok(Some(Err(error))),
            Some(Ok(signed)) => signed,
        };
        let me = &mut self.subscribers[who];
        let index = me.next_index;
        me.next_index += 1;
        let key = me.seed.channel_secret(Network::Regtest, Role::Payer, index).unwrap();
        let session = me.seed.session_secret(Network::Regtest, Role::Payer, index).unwrap();
        let body = Box::new(OpenRequest {
            offer: signed.offer,
            signature: signed.signature,
            payer_key: key.public_key(),
            payer_session_key: session.public_key(),
            change_script: script(u8::try_from(who + 1).unwrap()),
        });
        let mac = me.mac;
        let opened = self.ask(|request| ChannelInput::Open { request, mac, body, unix_s })?;
        match heard!(opened, ChannelAnswer::Opened)? {
            None => Ok(None),
            Some(Err(error)) => Ok(Some(Err(error))),
            Some(Ok(answer)) => self.take_channel(who, index, answer),
        }
    }

    fn take_channel(&mut self, who: usize, index: u32, answer: OpenResponse) -> Heard<ChannelId> {
        let opened = Opened::new(answer.agreement.terms.clone()).map_err(|e| e.to_string())?;
        opened.check_address(&answer.address).map_err(|error| error.to_string())?;
        let key = &answer.agreement.payee_session_key;
        answer.agreement.verify(key, &answer.signature).map_err(|error| error.to_string())?;
        let id = answer.channel;
        let path = if who.is_multiple_of(2) { SpendPath::KeyPath } else { SpendPath::PayLeaf };
        let (payer, close_asked) = (None, false);
        self.subscribers[who].channel =
            Some(PayersChannel { id, answer, index, opened, payer, path, close_asked });
        Ok(Some(Ok(id)))
    }

    /// Countersigns and has a funding relayed. What the payer pins is what it sent last.
    pub fn fund(&mut self, who: usize, capacity: u64) -> Heard<()> {
        let number: u64 = self.rng.random();
        let own = self.own(who);
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn { previous_output: outside(number), ..TxIn::default() }],
            output: vec![TxOut {
                value: Amount::from_sat(capacity),
                script_pubkey: own.opened.script().script_pubkey().clone(),
            }],
        };
        self.fund_with(who, &tx)
    }

    pub fn fund_with(&mut self, who: usize, tx: &Transaction) -> Heard<()> {
        let raw = bitcoin::consensus::serialize(tx);
        let me = &self.subscribers[who];
        let own = self.own(who);
        let (id, index) = (own.id, own.index);
        let funded = own.opened.clone().fund(&raw).ok();
        let session = me.seed.session_secret(Network::Regtest, Role::Payer, index).unwrap();
        let key = me.seed.channel_secret(Network::Regtest, Role::Payer, index).unwrap();
        let agreement_signature = own.answer.agreement.sign(&session);
        let raw_tx = Some(RawTx::new(raw).unwrap());
        let body = FundingRequest { agreement_signature, raw_tx };
        let answer = self.ask(|request| ChannelInput::Fund { request, channel: id, body })?;
        let answer = heard!(answer, ChannelAnswer::View)?;
        if let (Some(Ok(_)), Some(funded)) = (&answer, funded) {
            self.own_mut(who).payer = Some(Payer::new(funded, key, None).unwrap());
        }
        Ok(answer.map(|answer| answer.map(drop)))
    }

    /// Opens, funds, and waits until the channel takes updates.
    pub fn ready(&mut self, who: usize, tariff: Tariff, capacity: u64) -> ChannelId {
        let id = self.open(who, tariff).unwrap().expect("alive").expect("opened");
        self.poll_chain().unwrap();
        self.fund(who, capacity).unwrap().expect("alive").expect("relayed");
        self.mine(self.confirmations.max(1)).unwrap();
        id
    }

    /// Signs an update that credits `more` than the last.
    pub fn sign(&mut self, who: usize, more: u64) -> Option<UpdateBody> {
        let payer = self.own_mut(who).payer.as_mut()?;
        let least = payer.channel().terms().min_first_update;
        let wanted = (payer.signed() + Amount::from_sat(more)).max(least);
        let credit = payer.channel().creditable(wanted);
        payer.sign(credit, &PLENTY).ok().map(|update| UpdateBody::from(&update))
    }

    /// Sends an update without waiting for the answer.
    pub fn send(
        &mut self,
        who: usize,
        body: UpdateBody,
    ) -> Result<bitmesh_core::RequestId, Violation> {
        let request = self.request();
        let channel = self.own(who).id;
        self.fact(ChannelInput::Update { request, channel, body })?;
        Ok(request)
    }

    /// Pays and waits for the answer.
    pub fn pay_with(&mut self, who: usize, body: UpdateBody) -> Heard<()> {
        let channel = self.own(who).id;
        let answer = self.ask(|request| ChannelInput::Update { request, channel, body })?;
        self.take_pay_answer(channel, answer)
    }

    pub fn take_pay_answer(&mut self, id: ChannelId, answer: Option<ChannelResult>) -> Heard<()> {
        let answer = heard!(answer, ChannelAnswer::Accepted)?;
        if let Some(Ok(accepted)) = &answer {
            let promised = self.promised.entry(id).or_insert(u64::MAX);
            *promised = (*promised).min(accepted.change_sat);
        }
        Ok(answer.map(|answer| answer.map(drop)))
    }

    pub fn pay(&mut self, who: usize, more: u64) -> Heard<()> {
        let Some(body) = self.sign(who, more) else { return Ok(None) };
        self.pay_with(who, body)
    }

    /// The subscriber has another address.
    pub fn moves_to(&mut self, who: usize, mac: Mac) {
        let me = &mut self.subscribers[who];
        if me.mac != mac {
            me.earlier = std::mem::replace(&mut me.mac, mac);
        }
    }

    /// A challenge of this subscriber's channel, and the proof that it signs with it.
    pub fn proof(&mut self, who: usize) -> Heard<ResumeBody> {
        let (mac, channel) = (self.subscribers[who].mac, self.own(who).id);
        let entropy = self.entropy();
        let asked = |request| ChannelInput::Challenge { request, channel, mac, entropy };
        let answer = self.ask(asked)?;
        let challenge = match heard!(answer, ChannelAnswer::Challenge)? {
            None => return Ok(None),
            Some(Err(error)) => return Ok(Some(Err(error))),
            Some(Ok(answer)) => answer.challenge,
        };
        let own = self.own(who);
        let agreement = own.answer.agreement.digest();
        let outpoint = own.funded().expect("funded").outpoint();
        let request = Resume { agreement, outpoint, mac, challenge };
        Ok(Some(Ok(self.sign_proof(who, request))))
    }

    pub fn sign_proof(&self, who: usize, request: Resume) -> ResumeBody {
        let (seed, index) = (&self.subscribers[who].seed, self.own(who).index);
        let session = seed.session_secret(Network::Regtest, Role::Payer, index).unwrap();
        ResumeBody { signature: request.sign(&session), request }
    }

    /// Sends a proof from the subscriber's present address.
    pub fn resume_with(&mut self, who: usize, body: ResumeBody) -> Heard<ChannelView> {
        let (mac, channel) = (self.subscribers[who].mac, self.own(who).id);
        let body = Box::new(body);
        let answer = self.ask(|request| ChannelInput::Resume { request, channel, mac, body })?;
        heard!(answer, ChannelAnswer::View)
    }

    /// Takes the channel along to the subscriber's present address.
    pub fn resume(&mut self, who: usize) -> Heard<ChannelView> {
        match self.proof(who)? {
            None => Ok(None),
            Some(Err(error)) => Ok(Some(Err(error))),
            Some(Ok(body)) => self.resume_with(who, body),
        }
    }

    /// Asks for a close; what to sign.
    pub fn ask_close(&mut self, who: usize) -> Heard<CloseOffer> {
        let (mac, channel) = (self.subscribers[who].mac, self.own(who).id);
        let entropy = self.entropy();
        let answer =
            self.ask(|request| ChannelInput::Challenge { request, channel, mac, entropy })?;
        let challenge = match heard!(answer, ChannelAnswer::Challenge)? {
            None => return Ok(None),
            Some(Err(error)) => return Ok(Some(Err(error))),
            Some(Ok(answer)) => answer.challenge,
        };
        let Some(body) = self.close_body(who, challenge) else { return Ok(None) };
        let entropy = self.entropy();
        let body = Box::new(body);
        self.own_mut(who).close_asked = true;
        let answer = self.ask(|request| ChannelInput::Close { request, channel, body, entropy })?;
        heard!(answer, ChannelAnswer::CloseOffer)
    }

    pub fn close_body(&self, who: usize, challenge: Challenge) -> Option<CloseBody> {
        let own = self.own(who);
        let outpoint = own.funded()?.outpoint();
        let request = CloseRequest {
            agreement: own.answer.agreement.digest(),
            outpoint,
            path: own.path,
            counted_msat: MilliSat(0),
            challenge,
        };
        let session =
            self.subscribers[who].seed.session_secret(Network::Regtest, Role::Payer, own.index);
        let signature = request.sign(&session.unwrap());
        Some(CloseBody { request, signature })
    }

    /// Signs what the gateway offers.
    pub fn sign_close(&mut self, who: usize, offer: &CloseOffer) -> CloseCompletion {
        let seed = NonceSeed::new(self.rng.random());
        let me = &self.subscribers[who];
        let own = self.own(who);
        let funded = own.funded().expect("funded").clone();
        let secret = me.seed.channel_secret(Network::Regtest, Role::Payer, own.index).unwrap();
        let newest = own.payer.as_ref().and_then(|payer| payer.newest().cloned());
        let plan = offer.plan;
        let (charges, fee) = (Amount::from_sat(plan.charges_sat), Amount::from_sat(plan.fee_sat));
        let built = CooperativePlan::new(&funded, plan.path, charges, fee).expect("a plan");
        assert_eq!(built.settlement().payout.to_sat(), plan.payout_sat, "as it was said");
        assert_eq!(built.settlement().change.to_sat(), plan.change_sat, "as it was said");
        let closing = Payer::new(funded, secret, newest).unwrap().close();
        let half = match offer.nonce {
            Some(nonce) => {
                let signed = closing.sign_key_path(&built, &PLENTY, &nonce, seed);
                CloseHalf::KeyPath(signed.expect("signed"))
            }
            None => {
                let signed = closing.sign_pay_leaf(&built, &PLENTY).expect("signed");
                CloseHalf::PayLeaf(bitmesh_core::channel::message::MessageSignature(signed))
            }
        };
        check_receipt(&built, &own.answer.agreement, &offer.receipt).expect("of this close");
        let session = me.seed.session_secret(Network::Regtest, Role::Payer, own.index).unwrap();
        let receipt_signature = Some(offer.receipt.sign(&session));
        CloseCompletion { half, receipt_signature }
    }

    pub fn complete(&mut self, who: usize, completion: CloseCompletion) -> Heard<Closed> {
        let channel = self.own(who).id;
        let body = Box::new(completion);
        let answer = self.ask(|request| ChannelInput::Complete { request, channel, body })?;
        heard!(answer, ChannelAnswer::Closed)
    }

    /// Closes together, from the question to the answer.
    pub fn close(&mut self, who: usize) -> Heard<Closed> {
        match self.ask_close(who)? {
            None => Ok(None),
            Some(Err(error)) => Ok(Some(Err(error))),
            Some(Ok(offer)) => {
                let completion = self.sign_close(who, &offer);
                self.complete(who, completion)
            }
        }
    }

    /// The payer forgets what it signed.
    pub fn forget_updates(&mut self, who: usize) {
        let me = &self.subscribers[who];
        let own = self.own(who);
        let secret = me.seed.channel_secret(Network::Regtest, Role::Payer, own.index).unwrap();
        let funded = own.funded().expect("funded").clone();
        self.own_mut(who).payer = Some(Payer::new(funded, secret, None).unwrap());
    }

    /// The payer goes on from an update that the gateway holds.
    pub fn adopt(&mut self, who: usize, newest: &UpdateBody) {
        let payer = self.own_mut(who).payer.as_mut().expect("funded");
        let update = newest.of(payer.channel().outpoint()).expect("an update");
        payer.adopt(update).expect("its own");
    }

    /// The payer takes everything back, alone.
    pub fn refund(&self, who: usize) -> Transaction {
        let own = self.own(who);
        let funded = own.funded().expect("funded");
        let secret =
            self.subscribers[who].seed.channel_secret(Network::Regtest, Role::Payer, own.index);
        let outputs = [(funded.outpoint(), funded.capacity())];
        let to = &own.opened.terms().change_script;
        let feerate = bitcoin::FeeRate::from_sat_per_vb_u32(1);
        let signed =
            bitmesh_core::channel::refund(&own.opened, &secret.unwrap(), &outputs, to, feerate);
        signed.expect("signed").tx
    }

    /// The outpoint that the payer pinned.
    pub fn outpoint(&self, who: usize) -> OutPoint {
        self.own(who).funded().expect("funded").outpoint()
    }
}
