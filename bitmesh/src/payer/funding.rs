//! Waiting for the money to be in the channel.

use std::time::Duration;

use bitcoin::{Address, Amount, Transaction};
use bitmesh_core::channel::message::Message as _;
use bitmesh_core::channel::{Opened, OutputScript, Role};
use bitmesh_core::wire::{ChannelView, ChannelWord, FundingRequest, RawTx};

use super::connect::{Agent, id_of, refund_block};
use super::error::PayerError;
use super::event::Event;
use super::http::HttpError;
use super::state::{ChannelRecord, Funding, Phase};

/// How often the gateway is asked whether the funding is confirmed.
const LOOK: Duration = Duration::from_millis(1_000);

/// How often, in looks, the funding is handed to the gateway again while it is not seen.
const LOOKS_PER_RELAY: u32 = 30;

/// A wallet that pays fundings. Its errors are lines for people.
#[allow(clippy::missing_errors_doc)]
pub trait Wallet {
    /// The height of the chain.
    fn height(&mut self) -> Result<u32, String>;

    /// An address of its own, for the change.
    fn change_script(&mut self) -> Result<OutputScript, String>;

    /// Makes and signs a transaction that pays, and does not broadcast it (BIP 144 bytes).
    fn pay(&mut self, to: &Address, amount: Amount) -> Result<Vec<u8>, String>;

    /// Sends a transaction to the network.
    fn broadcast(&mut self, tx: &Transaction) -> Result<(), String>;
}

impl Agent<'_> {
    /// Countersigns, has the channel funded, waits until it is confirmed, and pins it.
    pub(super) fn fund(&mut self, record: &mut ChannelRecord) -> Result<(), PayerError> {
        let opened = record.opened()?;
        if record.raw_funding.is_none() && self.wallet.is_some() && !self.setup.only_close {
            self.pay_from_wallet(record, &opened)?;
        }
        let mut shown = None;
        for look in 0_u32.. {
            let view = if look.is_multiple_of(LOOKS_PER_RELAY) {
                self.hand_over(record, &opened, look == 0)
            } else {
                self.setup.gateway.view(id_of(record)?).map_err(PayerError::from)
            };
            match view {
                Ok(view) => {
                    if self.is_funded(record, &view, &mut shown)? {
                        return self.pin(record, opened, &view);
                    }
                }
                Err(PayerError::Http(error)) if error.is_transient() => self.warn(error),
                Err(PayerError::Http(error)) if is_unknown(&error) => {
                    record.phase = Phase::Abandoned;
                    self.state.save(record)?;
                    let (id, block) = (id_of(record)?.to_string(), refund_block(record));
                    return Err(PayerError::Forgotten { id, block });
                }
                Err(error) => return Err(error),
            }
            if self.stop.wait(LOOK, 1) {
                break;
            }
        }
        Err(self.left(record, "stopped before the funding was confirmed"))
    }

    /// The signed transaction is on disk before anybody sees it: it is sent again, never paid
    /// again.
    fn pay_from_wallet(
        &mut self,
        record: &mut ChannelRecord,
        opened: &Opened,
    ) -> Result<(), PayerError> {
        let Some(wallet) = &mut self.wallet else { return Ok(()) };
        let raw = wallet.pay(opened.address(), record.wanted).map_err(PayerError::Node)?;
        opened.clone().fund(&raw)?;
        let raw = RawTx::new(raw).map_err(|error| PayerError::Node(error.to_string()))?;
        record.raw_funding = Some(raw);
        Ok(self.state.save(record)?)
    }

    /// Countersigns the agreement, and has the funding relayed if it is here.
    fn hand_over(
        &mut self,
        record: &ChannelRecord,
        opened: &Opened,
        is_first: bool,
    ) -> Result<ChannelView, PayerError> {
        let agreement = record.agreed()?;
        let session =
            self.state.seed().session_secret(record.network, Role::Payer, record.index)?;
        let agreement_signature = agreement.sign(&session);
        let raw_tx = record.raw_funding.clone();
        let channel = id_of(record)?;
        let view =
            self.setup.gateway.fund(channel, &FundingRequest { agreement_signature, raw_tx })?;
        if is_first {
            let event = match &record.raw_funding {
                Some(raw) => {
                    let txid = opened.clone().fund(raw.as_bytes())?.outpoint().txid;
                    Event::Relayed { channel, txid }
                }
                None => Event::Fund {
                    channel,
                    address: opened.address().to_string(),
                    amount_sat: record.wanted.to_sat(),
                    uri: opened.uri(record.wanted),
                    refund_block: refund_block(record),
                },
            };
            self.watch.tell(&event);
        }
        Ok(view)
    }

    /// Whether the gateway says that it can be paid through, or closed.
    fn is_funded(
        &mut self,
        record: &mut ChannelRecord,
        view: &ChannelView,
        shown: &mut Option<(u32, Option<String>)>,
    ) -> Result<bool, PayerError> {
        let now = (view.confirmations, view.notice.clone());
        if shown.as_ref() != Some(&now) {
            let (channel, confirmations) = (id_of(record)?, view.confirmations);
            let required = view.required;
            self.watch.tell(&Event::Waiting { channel, confirmations, required });
            if let Some(notice) = &view.notice {
                self.warn(format!("the gateway says of the funding: {notice}"));
            }
            *shown = Some(now);
        }
        match view.state {
            ChannelWord::Opened | ChannelWord::Unconfirmed => Ok(false),
            ChannelWord::Open | ChannelWord::Closing => Ok(true),
            ChannelWord::FundingLost => Err(PayerError::FundingLost(id_of(record)?.to_string())),
            ChannelWord::ClosedTogether
            | ChannelWord::ClosedAlone
            | ChannelWord::Refunded
            | ChannelWord::Lapsed
            | ChannelWord::SpentOtherwise => {
                record.phase = Phase::Abandoned;
                self.state.save(record)?;
                let (id, block) = (id_of(record)?.to_string(), refund_block(record));
                Err(PayerError::Forgotten { id, block })
            }
        }
    }

    /// One outpoint, for good, on disk before the first update. A false one harms nobody but the
    /// gateway: signatures commit to it and to its amount (BIP 341).
    fn pin(
        &mut self,
        record: &mut ChannelRecord,
        opened: Opened,
        view: &ChannelView,
    ) -> Result<(), PayerError> {
        let named = view.outpoint.ok_or(PayerError::NoFunding)?;
        let capacity = Amount::from_sat(view.capacity_sat);
        let funded = match &record.raw_funding {
            Some(raw) => opened.fund(raw.as_bytes())?,
            None => opened.pinned(named, capacity)?,
        };
        let own = funded.outpoint();
        if own != named || funded.capacity() != capacity {
            return Err(PayerError::OtherFunding { named, own });
        }
        record.funding = Some(Funding { outpoint: named, capacity });
        Ok(self.state.save(record)?)
    }
}

pub(super) fn is_unknown(error: &HttpError) -> bool {
    error.reason() == Some("no_channel")
}
