//! Channels of the stations: opened, funded and confirmed, and updates that are signed before the
//! clock starts.

use std::collections::{HashMap, HashSet, VecDeque};

use anyhow::{Context as _, Result, ensure};
use bitcoin::{Amount, Network, OutPoint, Transaction};
use bitmesh_core::MilliSat;
use bitmesh_core::channel::message::Message as _;
use bitmesh_core::channel::{
    ChannelSecret, Count, Opened, OutputScript, Payee, Payer, Role, Seed, Terms, Update,
};
use bitmesh_core::wire::{
    ChannelId, ChannelView, FundingRequest, OpenRequest, OpenResponse, SignedOffer, UpdateBody,
};
use serde_json::{Value, json};

use super::crowd::Station;
use super::http::{ask, get, post};
use crate::payments::Market;
use crate::wait::until;

/// What each channel holds.
const CAPACITY: Amount = Amount::from_sat(200_000);

/// What the first update credits, and each that follows on top.
const FIRST_SAT: u64 = 5_000;
const STEP_SAT: u64 = 1;

/// Whatever is asked for: nothing is used here.
const ANY: Count = Count { counted: MilliSat(1_000_000_000), step: Amount::from_sat(1_000) };

/// Channels that wait for their funding together: the gateway takes 256.
pub(super) const LOT: u16 = 200;

/// A station with a channel, and what it will send.
#[derive(Debug)]
pub(super) struct Buyer {
    /// Where it is.
    pub(super) station: Station,
    /// Its channel.
    pub(super) channel: ChannelId,
    /// Updates that are signed and not sent, as whole requests.
    pub(super) requests: VecDeque<Vec<u8>>,
    /// Updates that the gateway said count.
    pub(super) accepted: u64,
    payer: Payer,
}

fn seed() -> Seed {
    Seed::new([0xb1; 32])
}

fn secret(station: Station) -> Result<ChannelSecret> {
    Ok(seed().channel_secret(Network::Regtest, Role::Payer, u32::from(station.0))?)
}

impl Buyer {
    /// Signs so many more updates.
    ///
    /// # Errors
    ///
    /// Fails if the channel is used up.
    pub(super) fn prepare(&mut self, count: usize) -> Result<()> {
        let path = format!("/channels/{}/updates", self.channel);
        for _ in 0..count {
            let credit = (self.payer.signed().to_sat() + STEP_SAT).max(FIRST_SAT);
            let update = self.payer.sign(Amount::from_sat(credit), &ANY)?;
            self.requests.push_back(post(&path, &UpdateBody::from(&update))?);
        }
        Ok(())
    }

    /// What all updates that count credit, in satoshi.
    pub(super) const fn credit_sat(&self) -> u64 {
        match self.accepted.checked_sub(1) {
            Some(more) => FIRST_SAT + more * STEP_SAT,
            None => 0,
        }
    }
}

/// Opens channels for these stations, funds them in one transaction, and waits for the block.
///
/// # Errors
///
/// Fails if any step does.
pub(super) fn open_lot(market: &Market, stations: &[Station]) -> Result<Vec<Buyer>> {
    let change = market.script()?;
    let far = &market.lab.subscriber().namespace;
    let opened = far.enter(|| open_all(stations, &change))?;
    let amounts: serde_json::Map<String, Value> = opened
        .iter()
        .map(|(_, _, opened)| (opened.address().to_string(), json!(CAPACITY.to_btc())))
        .collect();
    let funding = market.node(|node| {
        let txid = node.wallet("sendmany", &json!(["", amounts]))?;
        let sent = node.wallet("gettransaction", &json!([txid]))?;
        let hex = sent["hex"].as_str().context("no transaction")?;
        Ok(bitcoin::consensus::encode::deserialize_hex::<Transaction>(hex)?)
    })?;
    market.mine(1)?;
    let raw = bitcoin::consensus::encode::serialize(&funding);
    let buyers = opened.into_iter().map(|(station, channel, opened)| {
        let payer = Payer::new(opened.fund(&raw)?, secret(station)?, None)?;
        Ok(Buyer { station, channel, requests: VecDeque::new(), accepted: 0, payer })
    });
    let buyers: Vec<Buyer> = buyers.collect::<Result<_>>()?;
    let ours: HashSet<String> = buyers.iter().map(|buyer| buyer.channel.to_string()).collect();
    until("the channels of the lot are open", || {
        let rows = credits(market, "open")?;
        Ok(ours.iter().all(|channel| rows.contains_key(channel)))
    })?;
    Ok(buyers)
}

fn open_all(
    stations: &[Station],
    change: &OutputScript,
) -> Result<Vec<(Station, ChannelId, Opened)>> {
    let mut all = Vec::new();
    let first = stations.first().context("nobody")?;
    let asked = get(&format!("/offer?challenge={}", "07".repeat(32)));
    let SignedOffer { offer, signature, .. } = ask(&mut first.connect()?, &asked)?;
    offer.verify(&offer.gateway_key, &signature)?;
    for station in stations {
        let mut stream = station.connect()?;
        let index = u32::from(station.0);
        let session = seed().session_secret(Network::Regtest, Role::Payer, index)?;
        let request = OpenRequest {
            offer: offer.clone(),
            signature,
            payer_key: secret(*station)?.public_key(),
            payer_session_key: session.public_key(),
            change_script: change.clone(),
        };
        let opened: OpenResponse = ask(&mut stream, &post("/channels", &request)?)?;
        let OpenResponse { channel, agreement, address, .. } = opened;
        ensure!(agreement.mac.octets == station.mac(), "for another station");
        let opened = Opened::new(agreement.terms.clone())?;
        opened.check_address(&address)?;
        let agreement_signature = agreement.sign(&session);
        let body = FundingRequest { agreement_signature, raw_tx: None };
        let path = format!("/channels/{channel}/funding");
        let _: ChannelView = ask(&mut stream, &post(&path, &body)?)?;
        all.push((*station, channel, opened));
    }
    Ok(all)
}

/// What the gateway says that each channel in this state was credited, in satoshi.
///
/// # Errors
///
/// Fails if it does not say.
pub(super) fn credits(market: &Market, state: &str) -> Result<HashMap<String, u64>> {
    let listed = market.agent.ask(&["channels"])?;
    let rows = listed["channels"].as_array().context("no list")?;
    let rows = rows.iter().filter(|row| row["state"] == state);
    let credit = |row: &Value| {
        let channel = row["channel"].as_str().context("a channel has a name")?.to_owned();
        Ok((channel, row["credited_sat"].as_u64().context("a channel has a credit")?))
    };
    rows.map(credit).collect()
}

/// A channel both of whose sides are ours, and updates of it: what a check alone takes.
///
/// # Errors
///
/// Fails if the terms don't stand.
pub(super) fn both_sides(like: &Buyer, updates: u64) -> Result<(Payee, Vec<Update>)> {
    let (payer, payee) = (secret(like.station)?, seed());
    let payee = payee.channel_secret(Network::Regtest, Role::Payee, 1)?;
    let terms = Terms { payee_key: payee.public_key(), ..like.payer.channel().terms().clone() };
    let funded = Opened::new(terms)?.pinned(OutPoint::null(), CAPACITY)?;
    let mut payer = Payer::new(funded.clone(), payer, None)?;
    let credits = (FIRST_SAT..).step_by(STEP_SAT as usize).take(updates as usize);
    let signed: Result<Vec<_>, _> =
        credits.map(|credit| payer.sign(Amount::from_sat(credit), &ANY)).collect();
    Ok((Payee::new(funded, payee, None)?, signed?))
}
