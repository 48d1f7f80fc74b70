//! A payer as small as can be, made of the core's parts: it signs whatever it is told to.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bitcoin::{Amount, FeeRate, Network, OutPoint, Transaction};
use bitmesh_core::MilliSat;
use bitmesh_core::channel::message::{
    Agreement, Challenge, CloseRequest, Message as _, MessageSignature, Resume,
};
use bitmesh_core::channel::{
    ChannelSecret, CooperativePlan, Count, NonceSeed, Opened, Payer, PayerClosing, Role, Seed,
    SessionSecret, SpendPath, refund,
};
use bitmesh_core::payer::check_receipt;
use bitmesh_core::wire::{
    ChallengeResponse, ChannelId, ChannelView, ChannelWord, CloseBody, CloseCompletion, CloseHalf,
    CloseOffer, Closed, FundingRequest, OpenRequest, OpenResponse, RawTx, ResumeBody, SignedOffer,
    UpdateAccepted, UpdateBody,
};
use serde::Serialize;
use serde_json::Value;

use super::confirmed::Expected;
use super::door::{Answer, get, post};
use super::market::Market;
use crate::lab::Subscriber;
use crate::wait::until;

/// No channel of a test has the keys of another.
static INDEX: AtomicU32 = AtomicU32::new(1);

/// Between two looks: the portal answers 25 requests of a station in a second.
const LOOK: Duration = Duration::from_millis(80);

/// As much as a test likes to sign.
const ANY: Count = Count { counted: MilliSat(1_000_000_000), step: Amount::from_sat(1_000) };

/// What became of an update that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It counts, and the gateway said so.
    Accepted(UpdateAccepted),
    /// The gateway held it, or a newer one, from an earlier time.
    Held,
    /// There was no answer, or one that asks for patience: send it again.
    Again(String),
}

/// A subscriber with a channel.
#[derive(Debug)]
pub struct Customer<'a> {
    /// Where it is.
    pub station: &'a Subscriber,
    /// The channel.
    pub id: ChannelId,
    /// What was agreed.
    pub agreement: Agreement,
    /// The channel's terms and address.
    pub opened: Opened,
    /// Of its keys.
    index: u32,
    session: SessionSecret,
    payer: Option<Payer>,
}

fn secret(index: u32) -> Result<ChannelSecret> {
    Ok(seed().channel_secret(Network::Regtest, Role::Payer, index)?)
}

fn session(index: u32) -> Result<SessionSecret> {
    Ok(seed().session_secret(Network::Regtest, Role::Payer, index)?)
}

fn seed() -> Seed {
    Seed::new([0xb0; 32])
}

impl<'a> Customer<'a> {
    /// What an open takes: an offer that was asked for now, and new keys, which have a number.
    ///
    /// # Errors
    ///
    /// Fails if there is no good offer.
    pub fn request(market: &Market, station: &Subscriber) -> Result<(u32, OpenRequest)> {
        let index = INDEX.fetch_add(1, Ordering::Relaxed);
        let asked = format!("/offer?challenge={}", "07".repeat(32));
        let SignedOffer { offer, signature, .. } = get(station, &asked)?.json()?;
        offer.verify(&offer.gateway_key, &signature)?;
        ensure!(offer.challenge == Challenge([7; 32]), "an old offer");
        let request = OpenRequest {
            offer,
            signature,
            payer_key: secret(index)?.public_key(),
            payer_session_key: session(index)?.public_key(),
            change_script: market.script()?,
        };
        Ok((index, request))
    }

    /// The same request as another payer would make it: with new keys.
    ///
    /// # Errors
    ///
    /// Fails if there are no more keys.
    pub fn another(request: &OpenRequest) -> Result<OpenRequest> {
        let index = INDEX.fetch_add(1, Ordering::Relaxed);
        let (payer_key, payer_session_key) =
            (secret(index)?.public_key(), session(index)?.public_key());
        Ok(OpenRequest { payer_key, payer_session_key, ..request.clone() })
    }

    /// Takes an offer.
    ///
    /// # Errors
    ///
    /// Fails if the gateway refuses, or writes something else into the agreement.
    pub fn open(market: &Market, station: &'a Subscriber) -> Result<Self> {
        let (index, request) = Self::request(market, station)?;
        let opened: OpenResponse = post(station, "/channels", &request)?.json()?;
        let again: OpenResponse = post(station, "/channels", &request)?.json()?;
        ensure!(opened == again, "the same request, another channel");
        let OpenResponse { channel, agreement, signature, address } = opened;
        agreement.verify(&agreement.payee_session_key, &signature)?;
        ensure!(agreement.mac.octets == station.mac(), "for another station");
        let opened = Opened::new(agreement.terms.clone())?;
        opened.check_address(&address)?;
        let session = session(index)?;
        Ok(Self { station, id: channel, agreement, opened, index, session, payer: None })
    }

    /// Has a funding relayed.
    ///
    /// # Errors
    ///
    /// Fails if it is none, or is refused.
    pub fn fund(&mut self, tx: &Transaction) -> Result<ChannelView> {
        ensure!(self.payer.is_none(), "funded twice");
        self.payer = Some(self.payer_of(tx)?);
        let raw = bitcoin::consensus::encode::serialize(tx);
        let agreement_signature = self.agreement.sign(&self.session);
        let body = FundingRequest { agreement_signature, raw_tx: Some(RawTx::new(raw)?) };
        self.post("/funding", &body)?.json()
    }

    /// Signs the agreement, and has nothing relayed.
    ///
    /// # Errors
    ///
    /// Fails if the gateway refuses.
    pub fn countersign(&self) -> Result<ChannelView> {
        let agreement_signature = self.agreement.sign(&self.session);
        self.post("/funding", &FundingRequest { agreement_signature, raw_tx: None })?.json()
    }

    /// Takes this for the funding, whoever broadcast it.
    ///
    /// # Errors
    ///
    /// Fails if it is none.
    pub fn is_funded_by(&mut self, tx: &Transaction) -> Result<()> {
        self.payer = Some(self.payer_of(tx)?);
        Ok(())
    }

    /// What takes these outputs back after the expiry, at so many satoshi a virtual byte.
    ///
    /// # Errors
    ///
    /// Fails if they don't pay for that.
    pub fn refund(&self, outputs: &[(OutPoint, Amount)], sat_per_vb: u32) -> Result<Transaction> {
        let to = &self.agreement.terms.change_script;
        let rate = FeeRate::from_sat_per_vb_u32(sat_per_vb);
        Ok(refund(&self.opened, &secret(self.index)?, outputs, to, rate)?.tx)
    }

    /// The payer's side if this is the funding.
    fn payer_of(&self, tx: &Transaction) -> Result<Payer> {
        let funded = self.opened.clone().fund(&bitcoin::consensus::encode::serialize(tx))?;
        Ok(Payer::new(funded, secret(self.index)?, None)?)
    }

    /// Signs an update of another payment to the same address.
    ///
    /// # Errors
    ///
    /// Fails if that is none, or too small.
    pub fn sign_on(&self, tx: &Transaction, sat: u64) -> Result<UpdateBody> {
        Ok(UpdateBody::from(&self.payer_of(tx)?.sign(Amount::from_sat(sat), &ANY)?))
    }

    /// A channel with a confirmed funding, which the gateway relayed.
    ///
    /// # Errors
    ///
    /// Fails if any step does.
    pub fn funded(market: &Market, station: &'a Subscriber, sat: u64) -> Result<Self> {
        let all = Self::all_funded(market, std::slice::from_ref(station), sat)?;
        all.into_iter().next().context("no channel")
    }

    /// Channels of all these, funded in one block.
    ///
    /// # Errors
    ///
    /// Fails if any step does.
    pub fn all_funded(market: &Market, stations: &'a [Subscriber], sat: u64) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for station in stations {
            let mut customer = Self::open(market, station)?;
            let tx = market.signed_payment(customer.opened.address(), Amount::from_sat(sat))?;
            customer.fund(&tx)?;
            all.push(customer);
        }
        market.node_holds(stations.len())?;
        market.mine(1)?;
        for customer in &all {
            customer.until(ChannelWord::Open)?;
        }
        Ok(all)
    }

    /// What the gateway says of the channel.
    ///
    /// # Errors
    ///
    /// Fails if it says nothing.
    pub fn view(&self) -> Result<ChannelView> {
        get(self.station, &self.path(""))?.json()
    }

    /// Waits until the gateway says that the channel is so.
    ///
    /// # Errors
    ///
    /// Fails if it does not say so.
    pub fn until(&self, state: ChannelWord) -> Result<()> {
        until("the channel is in that state", || {
            std::thread::sleep(LOOK);
            Ok(self.view()?.state == state)
        })
    }

    /// A path of the channel's.
    #[must_use]
    pub fn path(&self, rest: &str) -> String {
        format!("/channels/{}{rest}", self.id)
    }

    /// Posts to a path of the channel's.
    ///
    /// # Errors
    ///
    /// Fails without an answer.
    pub fn post(&self, rest: &str, body: &impl Serialize) -> Result<Answer> {
        post(self.station, &self.path(rest), body)
    }

    /// The channel's output.
    ///
    /// # Errors
    ///
    /// Fails before the funding.
    pub fn outpoint(&self) -> Result<OutPoint> {
        Ok(self.payer.as_ref().context("not funded")?.channel().outpoint())
    }

    /// What was signed away in all, in satoshi.
    #[must_use]
    pub fn signed(&self) -> u64 {
        self.payer.as_ref().map_or(0, |payer| payer.signed().to_sat())
    }

    /// What the block is to show of this channel, after so many bytes.
    ///
    /// # Errors
    ///
    /// Fails before the funding.
    pub fn expected(&self, bytes: u64) -> Result<Expected> {
        let channel = self.payer.as_ref().context("not funded")?.channel();
        Ok(Expected {
            outpoint: channel.outpoint(),
            capacity: channel.capacity().to_sat(),
            change: channel.terms().change_script.as_script().clone(),
            bytes,
        })
    }

    /// Signs an update that credits so much in all.
    ///
    /// # Errors
    ///
    /// Fails if that is not more than before, or too much.
    pub fn sign(&mut self, sat: u64) -> Result<UpdateBody> {
        let payer = self.payer.as_mut().context("not funded")?;
        Ok(UpdateBody::from(&payer.sign(Amount::from_sat(sat), &ANY)?))
    }

    /// Pays until so much is credited in all.
    ///
    /// # Errors
    ///
    /// Fails if it can't be signed, or is not taken.
    pub fn pay(&mut self, sat: u64) -> Result<UpdateAccepted> {
        let body = self.sign(sat)?;
        self.post("/updates", &body)?.json()
    }

    /// Sends an update, perhaps not for the first time.
    ///
    /// # Errors
    ///
    /// Fails if it is refused for good.
    pub fn send(&self, body: &UpdateBody) -> Result<Sent> {
        let answer = match self.post("/updates", body) {
            Ok(answer) => answer,
            Err(error) => return Ok(Sent::Again(format!("{error:#}"))),
        };
        if answer.status == 200 {
            return Ok(Sent::Accepted(answer.json()?));
        }
        let error = answer.error()?;
        match (error.reason.as_str(), error.newest) {
            ("stale", Some(newest)) if newest.change_sat <= body.change_sat => Ok(Sent::Held),
            ("chain_unavailable" | "overloaded" | "no_answer" | "too_fast", _) => {
                Ok(Sent::Again(error.reason))
            }
            (reason, newest) => bail!("refused: {reason}: {}, {newest:?}", error.message),
        }
    }

    /// A proof that this is its channel, for the station that it is now.
    ///
    /// # Errors
    ///
    /// Fails if the gateway has no challenge, or takes the station for another.
    pub fn prove(&self) -> Result<ResumeBody> {
        let asked: ChallengeResponse = self.post("/challenge", &Value::Null)?.json()?;
        ensure!(asked.mac.octets == self.station.mac(), "{asked:?} for another station");
        let (mac, challenge) = (asked.mac, asked.challenge);
        let agreement = self.agreement.digest();
        let request = Resume { agreement, outpoint: self.outpoint()?, mac, challenge };
        Ok(self.sign_proof(request))
    }

    /// Signs whatever is to be proved.
    #[must_use]
    pub fn sign_proof(&self, request: Resume) -> ResumeBody {
        ResumeBody { signature: request.sign(&self.session), request }
    }

    /// Sends a proof.
    ///
    /// # Errors
    ///
    /// Fails if the gateway refuses.
    pub fn resume_with(&self, proof: &ResumeBody) -> Result<ChannelView> {
        self.post("/resume", proof)?.json()
    }

    /// Takes the channel along to the station that it is now.
    ///
    /// # Errors
    ///
    /// Fails if the gateway refuses.
    pub fn resume(&self) -> Result<ChannelView> {
        self.resume_with(&self.prove()?)
    }

    /// Asks for a cooperative close.
    ///
    /// # Errors
    ///
    /// Fails if the gateway refuses.
    pub fn ask_to_close(&self, path: SpendPath) -> Result<CloseOffer> {
        let challenge: ChallengeResponse = self.post("/challenge", &Value::Null)?.json()?;
        let request = CloseRequest {
            agreement: self.agreement.digest(),
            outpoint: self.outpoint()?,
            path,
            counted_msat: MilliSat(0),
            challenge: challenge.challenge,
        };
        let signature = request.sign(&self.session);
        self.post("/close", &CloseBody { request, signature })?.json()
    }

    /// Closes together, and checks all that the gateway says.
    ///
    /// # Errors
    ///
    /// Fails if the gateway refuses, or its numbers, its transaction or its receipt differ.
    pub fn close(mut self, path: SpendPath) -> Result<Closed> {
        let CloseOffer { plan: numbers, nonce, receipt } = self.ask_to_close(path)?;
        let closing: PayerClosing = self.payer.take().context("not funded")?.close();
        let plan = CooperativePlan::new(
            closing.channel(),
            path,
            Amount::from_sat(numbers.charges_sat),
            Amount::from_sat(numbers.fee_sat),
        )?;
        let settlement = plan.settlement();
        ensure!(settlement.payout.to_sat() == numbers.payout_sat, "{numbers:?}");
        ensure!(settlement.change.to_sat() == numbers.change_sat, "{numbers:?}");
        check_receipt(&plan, &self.agreement, &receipt)?;
        let receipt_signature = Some(receipt.sign(&self.session));
        let half = match path {
            SpendPath::KeyPath => {
                let (seed, nonce) = (NonceSeed::new([9; 32]), nonce.context("no nonce")?);
                let signed = closing.sign_key_path(&plan, &ANY, &nonce, seed)?;
                CloseHalf::KeyPath(signed)
            }
            SpendPath::PayLeaf => {
                let signed = closing.sign_pay_leaf(&plan, &ANY)?;
                CloseHalf::PayLeaf(MessageSignature(signed))
            }
        };
        let completion = CloseCompletion { half, receipt_signature };
        let closed: Closed = self.post("/close/complete", &completion)?.json()?;
        let key = &self.agreement.payee_session_key;
        closed.receipt.verify(key, &closed.receipt_signature)?;
        ensure!(closed.receipt == receipt, "another receipt: {closed:?}");
        ensure!(closed.settled_sat == numbers.payout_sat, "{closed:?}");
        ensure!(closed.returned_sat == numbers.change_sat, "{closed:?}");
        Ok(closed)
    }
}
