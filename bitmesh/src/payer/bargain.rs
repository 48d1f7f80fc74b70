//! Bidding for a lower price before a channel is opened.

use bitmesh_core::channel::Role;
use bitmesh_core::payer::Bargaining;
use bitmesh_core::wire::SignedOffer;

use super::connect::Agent;
use super::error::PayerError;
use super::event::Event;

impl Agent<'_> {
    /// Bids until the gateway accepts, declines or does not bargain. Gives its last offer.
    pub(super) fn bargain(
        &mut self,
        offer: SignedOffer,
        percent: u32,
        index: u32,
    ) -> Result<SignedOffer, PayerError> {
        let limits = self.setup.limits;
        let session = self.state.seed().session_secret(limits.network, Role::Payer, index)?;
        let mut bargaining = Bargaining::new(offer);
        while let Some(bid) = bargaining.next(percent, &limits, &session) {
            // Asked again, it gives the same answer.
            let answer = match self.patiently(|gateway| gateway.bid(&bid)) {
                Ok(answer) => answer,
                Err(error) => {
                    self.warn(format!("no bargain: {error}"));
                    break;
                }
            };
            let verdict = answer.verdict;
            let goes_on = bargaining.take(&bid, answer)?;
            let asked = bargaining.standing().offer.tariff;
            self.watch.tell(&Event::Bid { bid: bid.bid.tariff, verdict, asked });
            if !goes_on {
                break;
            }
        }
        Ok(bargaining.standing().clone())
    }
}
