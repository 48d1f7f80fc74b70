//! From a gateway to a channel, and through its life.

use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::Amount;
use bitmesh_core::channel::message::{Challenge, Message as _};
use bitmesh_core::channel::{OutputScript, Role, first_refund_block};
use bitmesh_core::payer::{Accepted, ChainView, Limits, OwnSide, Used};
use bitmesh_core::wire::ChannelId;
use bitmesh_core::{Mac, MilliSat};

use super::error::PayerError;
use super::event::{Event, Watch};
use super::funding::Wallet;
use super::http::{Gateway, HttpError};
use super::paying::{Backoff, Meter};
use super::state::{ChannelRecord, Phase, State, random};
use super::stop::Stop;

/// How often something is asked that may have got lost.
pub(super) const TRIES: u32 = 6;

/// What the subscriber wants.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where the gateway is.
    pub gateway: Gateway,
    /// What is accepted.
    pub limits: Limits,
    /// The share of the list price that is bid at first, in percent; none takes the list price.
    pub bid_percent: Option<u32>,
    /// A step of prepayment; by the rate if none is given.
    pub step: Option<Amount>,
    /// Where the change goes; the wallet is asked if it is not given.
    pub change_script: Option<OutputScript>,
    /// The height of the chain, if somebody looked.
    pub tip_height: Option<u32>,
    /// Close the open channel, and open none.
    pub only_close: bool,
}

/// The subscriber's agent.
pub struct Agent<'a> {
    /// What the subscriber wants.
    pub setup: Setup,
    /// The disk.
    pub state: State,
    /// Who pays the funding, if not a person.
    pub wallet: Option<Box<dyn Wallet + 'a>>,
    /// The own count.
    pub meter: Box<dyn Meter + 'a>,
    /// The MAC address that the gateway sees, if the system tells.
    pub station: Box<dyn Fn() -> Option<Mac> + 'a>,
    /// Who is told.
    pub watch: &'a mut dyn Watch,
    /// Who may stop it.
    pub stop: Stop,
}

impl Agent<'_> {
    /// Connects, pays until it is stopped or the budget is used, and closes. A channel of an
    /// earlier run goes on.
    ///
    /// # Errors
    ///
    /// [`PayerError`] says what is wrong and how to mend it. What was paid is on disk.
    pub fn run(&mut self) -> Result<(), PayerError> {
        if let Some(mut record) = self.unfinished(|record, url| record.gateway_url == url)? {
            let was_closing = record.phase == Phase::Closing;
            self.resume(&mut record)?;
            // What was closing is closed now; the subscriber wants to be online.
            if !was_closing || self.setup.only_close || self.stop.asked() > 0 {
                return Ok(());
            }
        } else if self.setup.only_close {
            return Err(PayerError::NothingToClose);
        }
        let mut record = self.open()?;
        self.live(&mut record)
    }

    /// The channel that is not over and fits; one that is funded comes first.
    fn unfinished(
        &self,
        fits: impl Fn(&ChannelRecord, &str) -> bool,
    ) -> Result<Option<ChannelRecord>, PayerError> {
        let url = self.setup.gateway.to_string();
        let mut found: Vec<ChannelRecord> = self.state.channels()?;
        found.retain(|record| {
            matches!(record.phase, Phase::Open | Phase::Closing)
                && record.network == self.setup.limits.network
                && fits(record, &url)
        });
        found.sort_by_key(|record| (record.newest.is_some(), record.funding.is_some()));
        Ok(found.pop())
    }

    fn resume(&mut self, record: &mut ChannelRecord) -> Result<(), PayerError> {
        let channel = id_of(record)?;
        let paid_sat = match (&record.newest, record.funding) {
            (Some(newest), Some(funding)) => {
                funding.capacity.to_sat().saturating_sub(newest.change_sat)
            }
            _ => 0,
        };
        self.watch.tell(&Event::Resumed { channel, paid_sat });
        self.live(record)
    }

    /// Takes a channel with an agreement through the rest of its life.
    fn live(&mut self, record: &mut ChannelRecord) -> Result<(), PayerError> {
        if record.funding.is_none() {
            self.fund(record)?;
        }
        let paused = if record.phase == Phase::Open && !self.setup.only_close {
            self.pay(record)?
        } else {
            self.take_stock(record)?
        };
        match paused {
            Some(paused) => self.close(record, paused),
            None => Ok(()),
        }
    }

    /// Takes an offer and opens a channel; or finds the one that is open with this gateway, which
    /// may have another address now.
    fn open(&mut self) -> Result<ChannelRecord, PayerError> {
        let challenge = Challenge(random()?);
        let signed = self.patiently(|gateway| gateway.offer(&challenge))?;
        self.setup.limits.authentic(&signed, &challenge, now_unix_s())?;
        let key = signed.offer.gateway_key;
        if let Some(mut known) = self.unfinished(|record, _| record.gateway_key == key)? {
            known.gateway_url = self.setup.gateway.to_string();
            self.state.save(&known)?;
            return Ok(known);
        }
        let index = self.state.new_index()?;
        let signed = match self.setup.bid_percent {
            Some(percent) => self.bargain(signed, percent, index)?,
            None => signed,
        };
        let unconfirmed_sat = signed.unconfirmed.as_ref().map_or(0, |early| early.credit_sat);
        let accepted = self.setup.limits.accept(signed, &challenge, now_unix_s())?;
        self.watch.tell(&Event::Offer {
            gateway: self.setup.gateway.to_string(),
            tariff: accepted.offer().tariff,
            first_update_sat: accepted.offer().min_first_update.to_sat(),
            capacity_sat: accepted.capacity().to_sat(),
            unconfirmed_sat,
        });
        self.open_new(&accepted, index)
    }

    fn open_new(&mut self, accepted: &Accepted, index: u32) -> Result<ChannelRecord, PayerError> {
        let view = self.chain_view()?;
        let change_script = self.change_script()?;
        let mut record = self.reserve(accepted, change_script, index)?;
        let network = record.network;
        let seed = self.state.seed();
        let own = OwnSide {
            payer_key: seed.channel_secret(network, Role::Payer, record.index)?.public_key(),
            session_key: seed.session_secret(network, Role::Payer, record.index)?.public_key(),
            change_script: record.change_script.clone(),
        };
        let request = accepted.request(&own);
        // Asked again, it gives the same answer.
        let answer = self.patiently(|gateway| gateway.open(&request))?;
        accepted.check(&own, view, &answer)?;
        record.agreement = Some(answer.agreement);
        record.payee_signature = Some(answer.signature);
        record.phase = Phase::Open;
        // All that a refund needs is on disk before the address is shown.
        self.state.save(&record)?;
        Ok(record)
    }

    /// Asks a few times, unless that can't help.
    pub(super) fn patiently<T>(
        &mut self,
        ask: impl Fn(&Gateway) -> Result<T, HttpError>,
    ) -> Result<T, HttpError> {
        let mut backoff = Backoff::default();
        for _ in 1..TRIES {
            match ask(&self.setup.gateway) {
                Err(error) if error.is_transient() => self.warn(error),
                answer => return answer,
            }
            if self.stop.wait(backoff.fail(0), 1) {
                break;
            }
        }
        ask(&self.setup.gateway)
    }

    /// The channel is on disk before the gateway hears of its keys.
    fn reserve(
        &mut self,
        accepted: &Accepted,
        change_script: OutputScript,
        index: u32,
    ) -> Result<ChannelRecord, PayerError> {
        let record = ChannelRecord {
            version: ChannelRecord::VERSION,
            index,
            gateway_url: self.setup.gateway.to_string(),
            gateway_key: accepted.offer().gateway_key,
            network: accepted.offer().network,
            change_script,
            wanted: accepted.capacity(),
            budget: self.setup.limits.budget,
            phase: Phase::Asked,
            agreement: None,
            payee_signature: None,
            raw_funding: None,
            funding: None,
            newest: None,
            used: Used::default(),
            unseen_msat: MilliSat(0),
            end: None,
        };
        self.state.save(&record)?;
        Ok(record)
    }

    fn change_script(&mut self) -> Result<OutputScript, PayerError> {
        match (&self.setup.change_script, &mut self.wallet) {
            (Some(script), _) => Ok(script.clone()),
            (None, Some(wallet)) => wallet.change_script().map_err(PayerError::Node),
            (None, None) => Err(PayerError::NoChange),
        }
    }

    /// How high the chain is, from anybody but the gateway.
    fn chain_view(&mut self) -> Result<ChainView, PayerError> {
        if let Some(height) = self.setup.tip_height {
            return Ok(ChainView::told(height));
        }
        if let Some(wallet) = &mut self.wallet {
            return wallet.height().map(ChainView::told).map_err(PayerError::Node);
        }
        let network = self.setup.limits.network;
        ChainView::by_clock(network, now_unix_s()).ok_or(PayerError::NoView(network))
    }

    /// How a channel is left that is neither closed nor lost.
    pub(super) fn left(&self, record: &ChannelRecord, why: &str) -> PayerError {
        PayerError::Left {
            why: why.to_owned(),
            id: record.id().map(|id| id.to_string()).unwrap_or_default(),
            url: record.gateway_url.clone(),
            block: refund_block(record),
        }
    }

    pub(super) fn warn(&mut self, message: impl ToString) {
        self.watch.tell(&Event::Warning { message: message.to_string() });
    }
}

/// The block from which on the payer can take its money back alone; 0 without an agreement.
pub(super) fn refund_block(record: &ChannelRecord) -> u32 {
    let agreement = record.agreement.as_ref();
    agreement.map_or(0, |agreement| first_refund_block(agreement.terms.expiry_height))
}

pub(super) fn id_of(record: &ChannelRecord) -> Result<ChannelId, PayerError> {
    Ok(record.agreed()?.digest().into())
}

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
