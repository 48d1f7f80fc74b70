//! Coming back under another MAC address: the channel and its balance come along.

use bitmesh_core::Mac;
use bitmesh_core::channel::Role;
use bitmesh_core::channel::message::{Message as _, Resume};
use bitmesh_core::wire::{ChannelView, ChannelWord, ResumeBody};

use super::connect::{Agent, id_of};
use super::error::PayerError;
use super::event::Event;
use super::http::HttpError;
use super::state::ChannelRecord;
use crate::mac::MacText;

impl Agent<'_> {
    /// If the gateway serves another address than this machine has now, proves whose the channel
    /// is. Gives the channel as it is then. What goes wrong is tried again with the next look.
    pub(super) fn follow(
        &mut self,
        record: &ChannelRecord,
        view: ChannelView,
    ) -> Result<ChannelView, PayerError> {
        let is_live = matches!(view.state, ChannelWord::Open | ChannelWord::Unconfirmed);
        let follows = is_live && !self.setup.only_close;
        let Some(mac) = (self.station)().filter(|mac| follows && *mac != view.mac) else {
            return Ok(view);
        };
        match self.prove(record, mac) {
            Ok(moved) => {
                let channel = id_of(record)?;
                self.watch.tell(&Event::Moved { channel, mac: MacText(mac) });
                Ok(moved)
            }
            Err(PayerError::Http(error)) => {
                let (to, from) = (MacText(mac), MacText(view.mac));
                self.warn(format!("the gateway still serves {from}, not {to}: {error}"));
                Ok(view)
            }
            Err(error) => Err(error),
        }
    }

    fn prove(&mut self, record: &ChannelRecord, mac: Mac) -> Result<ChannelView, PayerError> {
        let channel = id_of(record)?;
        let asked = self.setup.gateway.challenge(channel)?;
        // Signed is the own address, whatever a gateway says: a proof that somebody relays is
        // good for nobody else.
        if asked.mac != mac {
            let (seen, own) = (MacText(asked.mac), MacText(mac));
            let what = format!("it takes this machine for {seen}, and it is {own}");
            return Err(HttpError::Nonsense(what).into());
        }
        let request = Resume {
            agreement: record.agreed()?.digest(),
            outpoint: record.funded()?.outpoint(),
            mac,
            challenge: asked.challenge,
        };
        let session =
            self.state.seed().session_secret(record.network, Role::Payer, record.index)?;
        let signature = request.sign(&session);
        Ok(self.setup.gateway.resume(channel, &ResumeBody { request, signature })?)
    }
}
