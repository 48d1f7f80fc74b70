//! Closing together: what was used is paid, the rest comes back.

use std::time::Duration;

use bitcoin::Transaction;
use bitmesh_core::channel::message::{Agreement, CloseRequest, Message as _};
use bitmesh_core::channel::{Count, NonceSeed, PayerClosing, Role, SpendPath};
use bitmesh_core::payer::{check_closed, check_plan, check_receipt, signed_receipt};
use bitmesh_core::wire::{
    ChannelView, ChannelWord, CloseBody, CloseCompletion, CloseHalf, Closed, RawTx,
};

use super::connect::{Agent, TRIES, id_of};
use super::error::PayerError;
use super::event::{Event, Settled};
use super::http::HttpError;
use super::paying::{Backoff, Paused, now_ns};
use super::state::{ChannelRecord, End, Phase, random};

impl Agent<'_> {
    /// Closes together. From the first word on no update is signed any more.
    pub(super) fn close(
        &mut self,
        record: &mut ChannelRecord,
        paused: Paused,
    ) -> Result<(), PayerError> {
        let Paused { why, purse } = paused;
        self.watch.tell(&Event::Closing { channel: id_of(record)?, why: why.text() });
        (record.used, record.unseen_msat) = (purse.used(), purse.unseen());
        let (closing, count) = purse.close();
        record.phase = Phase::Closing;
        self.state.save(record)?;
        let mut backoff = Backoff::default();
        let mut last = String::new();
        for _ in 0..TRIES {
            match self.try_close(record, &closing, &count) {
                Ok(()) => return Ok(()),
                Err(PayerError::Http(error)) if is_worth_another_try(&error) => {
                    last = error.to_string();
                    // The answer may have been lost, and the close made.
                    if self.look_for_the_end(record)? {
                        return Ok(());
                    }
                }
                Err(PayerError::State(error)) => return Err(error.into()),
                Err(error) => return Err(self.left(record, &error.to_string())),
            }
            let pause: Duration = backoff.fail(now_ns());
            if self.stop.wait(pause, 2) {
                break;
            }
            self.warn(&last);
        }
        Err(self.left(record, &last))
    }

    fn try_close(
        &mut self,
        record: &mut ChannelRecord,
        closing: &PayerClosing,
        count: &Count,
    ) -> Result<(), PayerError> {
        let channel = id_of(record)?;
        let agreement = record.agreed()?.clone();
        let challenge = self.setup.gateway.challenge(channel)?.challenge;
        let request = CloseRequest {
            agreement: agreement.digest(),
            outpoint: closing.channel().outpoint(),
            path: SpendPath::KeyPath,
            counted_msat: count.counted,
            challenge,
        };
        let session =
            self.state.seed().session_secret(record.network, Role::Payer, record.index)?;
        let signature = request.sign(&session);
        let offer = self.setup.gateway.close(channel, &CloseBody { request, signature })?;
        let plan = check_plan(closing.channel(), &offer.plan)?;
        let nonce = offer
            .nonce
            .ok_or_else(|| HttpError::Nonsense("its offer to close has no nonce".to_owned()))?;
        let half = closing.sign_key_path(&plan, count, &nonce, NonceSeed::new(random()?))?;
        let good =
            check_receipt(&plan, &agreement, &offer.receipt).map_err(|e| self.warn(e)).is_ok();
        let receipt_signature = good.then(|| offer.receipt.sign(&session));
        let completion = CloseCompletion { half: CloseHalf::KeyPath(half), receipt_signature };
        let closed = self.setup.gateway.complete(channel, &completion)?;
        let tx = check_closed(&plan, &closed)?;
        if let Some(own) = receipt_signature {
            match signed_receipt(&agreement, &offer.receipt, own, &closed) {
                Ok(signed) => self.state.save_receipt(channel, &signed)?,
                Err(error) => self.warn(error),
            }
        }
        self.closed(record, &agreement, &closed, &tx)
    }

    fn closed(
        &mut self,
        record: &mut ChannelRecord,
        agreement: &Agreement,
        closed: &Closed,
        tx: &Transaction,
    ) -> Result<(), PayerError> {
        record.end = Some(End {
            txid: closed.txid,
            raw_tx: Some(closed.raw_tx.clone()),
            returned_sat: Some(closed.returned_sat),
        });
        record.phase = Phase::Over;
        self.state.save(record)?;
        if let Some(wallet) = &mut self.wallet
            && let Err(error) = wallet.broadcast(tx)
        {
            self.warn(format!("the gateway broadcast the close, the own node did not: {error}"));
        }
        let used = record.used.cost(&agreement.tariff);
        self.watch.tell(&Event::Closed(Settled {
            channel: id_of(record)?,
            txid: closed.txid,
            uplink_bytes: record.used.uplink_bytes,
            downlink_bytes: record.used.downlink_bytes,
            used_msat: used.0.saturating_add(record.unseen_msat.0),
            unseen_msat: record.unseen_msat.0,
            settled_sat: Some(closed.settled_sat),
            returned_sat: Some(closed.returned_sat),
            fee_sat: Some(closed.fee_sat),
        }));
        Ok(())
    }

    /// Whether the channel turns out to be closed already.
    fn look_for_the_end(&mut self, record: &mut ChannelRecord) -> Result<bool, PayerError> {
        match self.setup.gateway.view(id_of(record)?) {
            Ok(view) if is_end(view.state) => self.is_over(record, &view).map(|()| true),
            // The next try says what is wrong.
            _ => Ok(false),
        }
    }

    /// The gateway says how the channel ended, and this side did not see it end.
    pub(super) fn is_over(
        &mut self,
        record: &mut ChannelRecord,
        view: &ChannelView,
    ) -> Result<(), PayerError> {
        let Some(txid) = view.closing_txid else {
            return Err(self.left(record, "the gateway says that it is closed, and not how"));
        };
        // Only the chain proves it: until then the refund stays possible.
        record.phase = Phase::Abandoned;
        record.end = Some(End { txid, raw_tx: None::<RawTx>, returned_sat: None });
        self.state.save(record)?;
        let tariff = record.agreement.as_ref().map(|agreement| agreement.tariff);
        let used = record.used.cost(&tariff.unwrap_or_default());
        self.watch.tell(&Event::Closed(Settled {
            channel: id_of(record)?,
            txid,
            uplink_bytes: record.used.uplink_bytes,
            downlink_bytes: record.used.downlink_bytes,
            used_msat: used.0.saturating_add(record.unseen_msat.0),
            unseen_msat: record.unseen_msat.0,
            settled_sat: None,
            returned_sat: None,
            fee_sat: None,
        }));
        Ok(())
    }
}

const fn is_end(word: ChannelWord) -> bool {
    matches!(
        word,
        ChannelWord::ClosedTogether
            | ChannelWord::ClosedAlone
            | ChannelWord::Refunded
            | ChannelWord::Lapsed
            | ChannelWord::SpentOtherwise
    )
}

/// A new nonce, a new challenge or a little time may help.
fn is_worth_another_try(error: &HttpError) -> bool {
    let again = ["challenge", "no_close_offer", "forged", "closed"];
    error.is_transient() || error.reason().is_some_and(|reason| again.contains(&reason))
}
