//! A small payer, made of the core's parts.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use bitcoin::{Amount, Network, OutPoint, Transaction};
use bitmesh_core::MilliSat;
use bitmesh_core::channel::message::{
    Agreement, Challenge, CloseRequest, Message as _, MessageSignature,
};
use bitmesh_core::channel::{
    ChannelSecret, CooperativePlan, Count, NonceSeed, Opened, Payer, PayerClosing, Role, Seed,
    SessionSecret, SpendPath, Update,
};
use bitmesh_core::wire::{
    ApiError, ChallengeResponse, ChannelId, ChannelView, ChannelWord, CloseBody, CloseCompletion,
    CloseOffer, Closed, FundingRequest, OpenRequest, OpenResponse, RawTx, SignedOffer,
    UpdateAccepted, UpdateBody,
};
use bitmesh_tests::lab::Subscriber;
use bitmesh_tests::wait::until;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::world::World;

/// The host of the portal, for the header and the address.
pub(crate) const HOST: &str = "10.77.0.1:2121";

/// No channel of a test has the keys of another.
static INDEX: AtomicU32 = AtomicU32::new(1);

/// As much as a test likes to sign.
const ANY: Count = Count { counted: MilliSat(1_000_000_000), step: Amount::from_sat(1_000) };

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let text = String::from_utf8_lossy(&self.body);
        ensure!(self.status == 200, "status {}: {text}", self.status);
        serde_json::from_slice(&self.body).with_context(|| text.into_owned())
    }

    /// The status and the reason of a refusal.
    pub(crate) fn refusal(&self) -> Result<(i32, String)> {
        let error: ApiError = serde_json::from_slice(&self.body)
            .with_context(|| String::from_utf8_lossy(&self.body).into_owned())?;
        ensure!(!error.message.is_empty(), "no message");
        Ok((self.status, error.reason))
    }
}

/// Asks the portal from where the subscriber is.
pub(crate) fn get(from: &Subscriber, path: &str) -> Result<Answer> {
    send(from, bitreq::get(format!("http://{HOST}/api/v1{path}")))
}

/// Posts JSON.
pub(crate) fn post(from: &Subscriber, path: &str, body: &impl Serialize) -> Result<Answer> {
    post_text(from, path, serde_json::to_string(body)?)
}

/// Posts what is to pass for JSON.
pub(crate) fn post_text(from: &Subscriber, path: &str, body: impl Into<Vec<u8>>) -> Result<Answer> {
    let request = bitreq::post(format!("http://{HOST}/api/v1{path}"));
    send(from, request.with_header("Content-Type", "application/json").with_body(body))
}

pub(crate) fn send(from: &Subscriber, request: bitreq::Request) -> Result<Answer> {
    from.namespace.enter(|| {
        let response = request.with_timeout(std::time::Duration::from_secs(30)).send()?;
        Ok(Answer { status: response.status_code, body: response.into_bytes() })
    })
}

/// Sends bytes as they are, and gives all that comes back.
pub(crate) fn raw(from: &Subscriber, bytes: &[u8]) -> Result<String> {
    raw_at(from, HOST, bytes)
}

/// The same at another address.
pub(crate) fn raw_at(from: &Subscriber, address: &str, bytes: &[u8]) -> Result<String> {
    use std::io::Read as _;
    from.namespace.enter(|| {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
        let mut writer = stream.try_clone()?;
        let sent = bytes.to_vec();
        let writing = std::thread::spawn(move || writer.write_all(&sent));
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said);
        let _ = writing.join();
        if said.is_empty() {
            bail!("no answer: {read:?}");
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    })
}

/// A channel of Bob's that can be paid over.
pub(crate) struct Bob<'a> {
    pub(crate) station: &'a Subscriber,
    pub(crate) id: ChannelId,
    pub(crate) agreement: Agreement,
    pub(crate) opened: Opened,
    session: SessionSecret,
    secret: Option<ChannelSecret>,
    pub(crate) payer: Option<Payer>,
}

/// What an open takes.
pub(crate) fn open_request(world: &World, station: &Subscriber, index: u32) -> Result<OpenRequest> {
    let challenge = Challenge([7; 32]);
    let asked = format!("/offer?challenge={}", "07".repeat(32));
    let SignedOffer { offer, signature } = get(station, &asked)?.json()?;
    offer.verify(&offer.gateway_key, &signature)?;
    ensure!(offer.challenge == challenge, "an old offer");
    Ok(OpenRequest {
        offer,
        signature,
        payer_key: secret(index)?.public_key(),
        payer_session_key: session(index)?.public_key(),
        change_script: world.script()?,
    })
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

pub(crate) fn next_index() -> u32 {
    INDEX.fetch_add(1, Ordering::Relaxed)
}

impl<'a> Bob<'a> {
    /// Takes an offer.
    pub(crate) fn open(world: &World, station: &'a Subscriber) -> Result<Self> {
        let index = next_index();
        let request = open_request(world, station, index)?;
        let opened: OpenResponse = post(station, "/channels", &request)?.json()?;
        let again: OpenResponse = post(station, "/channels", &request)?.json()?;
        ensure!(opened == again, "the same request, another channel");
        let OpenResponse { channel, agreement, signature, address } = opened;
        agreement.verify(&agreement.payee_session_key, &signature)?;
        ensure!(agreement.mac.octets == station.mac(), "for another station");
        let opened = Opened::new(agreement.terms.clone())?;
        opened.check_address(&address)?;
        let (session, secret) = (session(index)?, Some(secret(index)?));
        Ok(Self { station, id: channel, agreement, opened, session, secret, payer: None })
    }

    /// Has a funding relayed.
    pub(crate) fn fund(&mut self, tx: &Transaction) -> Result<ChannelView> {
        let raw = bitcoin::consensus::encode::serialize(tx);
        let funded = self.opened.clone().fund(&raw)?;
        let secret = self.secret.take().context("funded twice")?;
        self.payer = Some(Payer::new(funded, secret, None)?);
        let agreement_signature = self.agreement.sign(&self.session);
        let body = FundingRequest { agreement_signature, raw_tx: Some(RawTx::new(raw)?) };
        self.post("/funding", &body)?.json()
    }

    /// A channel with a confirmed funding, which the gateway relayed.
    pub(crate) fn funded(world: &World, station: &'a Subscriber, sat: u64) -> Result<Self> {
        let mut bob = Self::open(world, station)?;
        let tx = world.signed_payment(bob.opened.address(), Amount::from_sat(sat))?;
        bob.fund(&tx)?;
        let txid = tx.compute_txid().to_string();
        until("the node has the funding", || {
            let known = |node: &bitmesh_tests::regtest::Regtest| {
                Ok(node.call("getmempoolentry", &serde_json::json!([txid])).is_ok())
            };
            world.node(known)
        })?;
        world.mine(1)?;
        bob.until(ChannelWord::Open)?;
        Ok(bob)
    }

    pub(crate) fn view(&self) -> Result<ChannelView> {
        get(self.station, &self.path(""))?.json()
    }

    pub(crate) fn until(&self, state: ChannelWord) -> Result<()> {
        until("the channel is in that state", || Ok(self.view()?.state == state))
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/channels/{}{rest}", self.id)
    }

    pub(crate) fn post(&self, rest: &str, body: &impl Serialize) -> Result<Answer> {
        post(self.station, &self.path(rest), body)
    }

    pub(crate) fn payer(&mut self) -> Result<&mut Payer> {
        self.payer.as_mut().context("not funded")
    }

    pub(crate) fn outpoint(&self) -> Result<OutPoint> {
        Ok(self.payer.as_ref().context("not funded")?.channel().outpoint())
    }

    /// Signs an update that credits so much in all.
    pub(crate) fn sign(&mut self, sat: u64) -> Result<UpdateBody> {
        let update: Update = self.payer()?.sign(Amount::from_sat(sat), &ANY)?;
        Ok(UpdateBody::from(&update))
    }

    /// Pays until so much is credited in all.
    pub(crate) fn pay(&mut self, sat: u64) -> Result<UpdateAccepted> {
        let body = self.sign(sat)?;
        self.post("/updates", &body)?.json()
    }

    /// Asks for a cooperative close.
    pub(crate) fn ask_to_close(&self, path: SpendPath) -> Result<CloseOffer> {
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
    pub(crate) fn close(mut self, path: SpendPath) -> Result<Closed> {
        let CloseOffer { plan: numbers, nonce } = self.ask_to_close(path)?;
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
        let completion = match path {
            SpendPath::KeyPath => {
                let (seed, nonce) = (NonceSeed::new([9; 32]), nonce.context("no nonce")?);
                let signed = closing.sign_key_path(&plan, &ANY, &nonce, seed)?;
                CloseCompletion::KeyPath(signed)
            }
            SpendPath::PayLeaf => {
                let signed = closing.sign_pay_leaf(&plan, &ANY)?;
                CloseCompletion::PayLeaf(MessageSignature(signed))
            }
        };
        let closed: Closed = self.post("/close/complete", &completion)?.json()?;
        let key = &self.agreement.payee_session_key;
        closed.receipt.verify(key, &closed.receipt_signature)?;
        ensure!(closed.receipt.agreement == self.agreement.digest(), "another agreement");
        ensure!(closed.settled_sat == numbers.payout_sat, "{closed:?}");
        ensure!(closed.returned_sat == numbers.change_sat, "{closed:?}");
        Ok(closed)
    }
}
