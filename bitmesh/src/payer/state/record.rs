//! What is kept of a channel.

use bitcoin::amount::serde::as_sat;
use bitcoin::{Amount, Network, OutPoint, Txid};
use bitmesh_core::MilliSat;
use bitmesh_core::channel::message::{Agreement, Message as _, MessageSignature};
use bitmesh_core::channel::{ChannelSecret, Funded, Opened, OutputScript, PublicKey, Role, Update};
use bitmesh_core::payer::Used;
use bitmesh_core::wire::{ChannelId, RawTx, UpdateBody};
use serde::{Deserialize, Serialize};

use super::{State, StateError};

/// The layout of a record.
pub(super) const VERSION: u32 = 1;

/// How far a channel has come, as the payer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its keys are taken; nothing else is known of it.
    Asked,
    /// It can be funded and refunded, and once it is funded, paid through.
    Open,
    /// It takes no updates any more.
    Closing,
    /// The gateway has forgotten it or it can't be used any more: only the refund is left.
    Abandoned,
    /// The close or the refund is made.
    Over,
}

/// The pinned output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Funding {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it holds.
    #[serde(rename = "capacity_sat", with = "as_sat")]
    pub capacity: Amount,
}

/// How the channel ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// By which transaction.
    pub txid: Txid,
    /// The transaction, if it is known here.
    pub raw_tx: Option<RawTx>,
    /// What the payer got back, if it is known.
    pub returned_sat: Option<u64>,
}

/// All that is kept of one channel. Secrets are not in it: they follow from the seed and `index`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelRecord {
    /// The layout of this record.
    pub version: u32,
    /// The index of its keys. Never used twice.
    pub index: u32,
    /// Where the gateway was.
    pub gateway_url: String,
    /// The key that signed the offer.
    pub gateway_key: PublicKey,
    /// The chain.
    pub network: Network,
    /// Where the payer's side goes.
    pub change_script: OutputScript,
    /// What the funding should hold.
    #[serde(rename = "wanted_sat", with = "as_sat")]
    pub wanted: Amount,
    /// The most that is paid in all.
    #[serde(rename = "budget_sat", with = "as_sat")]
    pub budget: Amount,
    /// How far it has come.
    pub phase: Phase,
    /// What was agreed: with `index`, all that a refund needs.
    pub agreement: Option<Agreement>,
    /// The gateway's, of the agreement.
    pub payee_signature: Option<MessageSignature>,
    /// The funding that this agent had signed: sent again rather than paid twice.
    pub raw_funding: Option<RawTx>,
    /// The pinned output.
    pub funding: Option<Funding>,
    /// The newest update that was signed.
    pub newest: Option<UpdateBody>,
    /// What was counted.
    pub used: Used,
    /// What the gateway charged while nobody counted.
    pub unseen_msat: MilliSat,
    /// How it ended.
    pub end: Option<End>,
}

impl ChannelRecord {
    /// The channel's name, once there is an agreement.
    #[must_use]
    pub fn id(&self) -> Option<ChannelId> {
        self.agreement.as_ref().map(|agreement| ChannelId::from(agreement.digest()))
    }

    /// What was agreed.
    ///
    /// # Errors
    ///
    /// [`StateError::Damaged`] if nothing was.
    pub fn agreed(&self) -> Result<&Agreement, StateError> {
        self.agreement.as_ref().ok_or_else(|| self.damaged("it has no agreement"))
    }

    /// The channel, once there is an agreement.
    ///
    /// # Errors
    ///
    /// [`StateError::Damaged`] if there is none, or its terms can't stand.
    pub fn opened(&self) -> Result<Opened, StateError> {
        let terms = self.agreed()?.terms.clone();
        Opened::new(terms).map_err(|error| self.damaged(&error.to_string()))
    }

    /// The channel with its pinned output.
    ///
    /// # Errors
    ///
    /// As [`Self::opened`], and if nothing is pinned.
    pub fn funded(&self) -> Result<Funded, StateError> {
        let Funding { outpoint, capacity } =
            self.funding.ok_or_else(|| self.damaged("it has no funding"))?;
        let funded = self.opened()?.pinned(outpoint, capacity);
        funded.map_err(|error| self.damaged(&error.to_string()))
    }

    /// The newest update.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    pub fn newest_update(&self) -> Result<Option<Update>, StateError> {
        let Some(funding) = self.funding else { return Ok(None) };
        let newest = self.newest.as_ref().map(|newest| newest.of(funding.outpoint));
        newest.transpose().map_err(|error| self.damaged(&error.to_string()))
    }

    /// C.
    ///
    /// # Errors
    ///
    /// If the seed can't be read or gives no key.
    pub fn secret(&self, state: &State) -> Result<ChannelSecret, StateError> {
        let secret = state.seed().channel_secret(self.network, Role::Payer, self.index);
        secret.map_err(|error| self.damaged(&error.to_string()))
    }

    pub(super) fn file(&self) -> String {
        format!("channel-{:010}.json", self.index)
    }

    pub(super) fn damaged(&self, what: &str) -> StateError {
        StateError::Damaged { file: self.file(), what: what.to_owned() }
    }
}
