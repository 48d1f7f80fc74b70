//! Channels as payers and operators see them.

use bitcoin::{OutPoint, Txid};
use bitmesh_common::abi::Mac;
use serde::Serialize;

use super::book::Channel;
use super::lapse::strays;
use crate::channel_record::{ChannelPhase, Countersigned, SpendKind};
use crate::gateway::Gateway;
use crate::units::{MilliSat, Units};
use crate::view::serialize_mac;
use crate::wire::{ChannelId, ChannelView, ChannelWord, SessionView, SignedReceipt, UpdateBody};

/// One channel, for its operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelLine {
    /// Its name.
    pub channel: ChannelId,
    /// Whose station; as text.
    #[serde(serialize_with = "serialize_mac")]
    pub mac: Mac,
    /// Where it is.
    pub state: ChannelWord,
    /// The same as a sentence.
    pub sentence: String,
    /// Its funding.
    pub outpoint: Option<OutPoint>,
    /// What it holds; 0 without a funding.
    pub capacity_sat: u64,
    /// What the newest update credits.
    pub credited_sat: u64,
    /// What is charged to it, rounded up to the msat.
    pub charged_msat: MilliSat,
    /// What a confirmed close paid to the gateway.
    pub settled_sat: u64,
    /// What a confirmed close paid to the payer, the change included that was never paid.
    pub returned_sat: u64,
    /// What a confirmed close paid to the miners.
    pub fee_sat: u64,
    /// The close that is on its way or confirmed.
    pub closing_txid: Option<Txid>,
    /// From this height on there is no credit, and the gateway closes.
    pub last_call_height: u32,
    /// From the block after this height on the payer can take everything back.
    pub expiry_height: u32,
}

impl Gateway {
    /// All channels, in no particular order, and those that came to nothing lately.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelLine> {
        let open = self.channels.all.values().map(|channel| self.line(channel));
        open.chain(self.channels.lapsed.iter().cloned()).collect()
    }

    /// What both sides signed at the end of a channel, if they did.
    #[must_use]
    pub fn receipt(&self, id: ChannelId) -> Option<SignedReceipt> {
        let state = &self.channels.all.get(&id)?.state;
        let Countersigned { receipt, payee_signature, payer_signature } = state.receipt?;
        let agreement = state.agreement.clone();
        Some(SignedReceipt { agreement, receipt, payee_signature, payer_signature })
    }

    /// One channel, as its payer sees it.
    #[must_use]
    pub fn channel(&self, id: ChannelId) -> Option<ChannelView> {
        let channel = self.channels.all.get(&id)?;
        let state = &channel.state;
        let tip_height = self.channels.chain.tip.unwrap_or(0);
        Some(ChannelView {
            channel: id,
            mac: channel.mac(),
            state: self.word(channel),
            outpoint: state.funding.map(|funding| funding.outpoint),
            capacity_sat: state.funding.map_or(0, |funding| funding.capacity.to_sat()),
            confirmations: channel.confirmations(tip_height),
            required: state.confirmations,
            tip_height,
            last_call_height: state.agreement.terms.last_call(),
            newest: channel.newest.as_ref().map(UpdateBody::from),
            credit_msat: channel.credit(),
            charged_msat: self.charged(channel).ceil(),
            notice: channel.talk.notice.clone(),
            closing_txid: closing_txid(channel),
            session: channel.newest.and_then(|_| self.session(channel.mac())),
        })
    }

    fn session(&self, mac: Mac) -> Option<SessionView> {
        let account = self.account(mac)?;
        Some(SessionView {
            open: account.open,
            tariff: account.tariff,
            uplink_bytes: account.reading.uplink_bytes,
            downlink_bytes: account.reading.downlink_bytes,
            charged_for_bytes_msat: account.charged_for_bytes,
            charged_for_time_msat: account.charged_for_time,
            balance_msat: account.balance,
        })
    }

    /// What the channel pays of its account's charges, by now.
    pub(super) fn charged(&self, channel: &Channel) -> Units {
        let final_charge = channel.state.frozen.map(|frozen| frozen.charged);
        final_charge.unwrap_or_else(|| {
            let account = self.accounts.get(&channel.mac());
            let credit = channel.credit_here();
            let here = account.map_or(Units(0), |account| account.charged_to_channel(credit));
            channel.place.kept.units().saturating_add(here)
        })
    }

    fn word(&self, channel: &Channel) -> ChannelWord {
        let state = &channel.state;
        match (state.phase, state.end.map(|end| end.kind)) {
            (_, Some(SpendKind::Together)) => ChannelWord::ClosedTogether,
            (_, Some(SpendKind::Alone)) => ChannelWord::ClosedAlone,
            (_, Some(SpendKind::Refund)) => ChannelWord::Refunded,
            (_, Some(SpendKind::Other)) => ChannelWord::SpentOtherwise,
            (ChannelPhase::Lost, None) => ChannelWord::FundingLost,
            (ChannelPhase::Live, None) if channel.is_live() => self.live_word(channel),
            _ => ChannelWord::Closing,
        }
    }

    fn live_word(&self, channel: &Channel) -> ChannelWord {
        let tip = self.channels.chain.tip.unwrap_or(0);
        if channel.state.funding.is_none() {
            ChannelWord::Opened
        } else if channel.confirmations(tip) < channel.state.confirmations
            && !self.is_open_early(channel)
        {
            ChannelWord::Unconfirmed
        } else {
            ChannelWord::Open
        }
    }

    pub(super) fn line(&self, channel: &Channel) -> ChannelLine {
        let state = &channel.state;
        let word = self.word(channel);
        let of_end = |amount: fn(&super::ChannelEnd) -> bitcoin::Amount| {
            state.end.as_ref().map_or(0, |end| amount(end).to_sat())
        };
        ChannelLine {
            channel: state.id,
            mac: channel.mac(),
            state: word,
            sentence: self.sentence(channel, word),
            outpoint: state.funding.map(|funding| funding.outpoint),
            capacity_sat: state.funding.map_or(0, |funding| funding.capacity.to_sat()),
            credited_sat: channel.credit().0 / 1_000,
            charged_msat: self.charged(channel).ceil(),
            settled_sat: of_end(|end| end.payout),
            returned_sat: of_end(|end| end.change),
            fee_sat: of_end(|end| end.fee),
            closing_txid: closing_txid(channel),
            last_call_height: state.agreement.terms.last_call(),
            expiry_height: state.agreement.terms.expiry_height,
        }
    }

    fn sentence(&self, channel: &Channel, word: ChannelWord) -> String {
        let state = &channel.state;
        let tip = self.channels.chain.tip.unwrap_or(0);
        let terms = &state.agreement.terms;
        match word {
            ChannelWord::Opened => match &channel.talk.notice {
                Some(notice) => format!("waits for its funding: {notice}"),
                None => "waits for its funding".to_owned(),
            },
            ChannelWord::Unconfirmed => {
                let (have, due) = (channel.confirmations(tip), state.confirmations);
                format!("its funding has {have} of {due} confirmations{}", strays(channel))
            }
            ChannelWord::Open if channel.confirmations(tip) < state.confirmations => {
                let (have, due) = (channel.confirmations(tip), state.confirmations);
                let limit = self.early_limit(state.id).to_sat();
                format!(
                    "takes updates up to {limit} sat; its funding has {have} of {due} confirmations"
                )
            }
            ChannelWord::Open => {
                let (at, strays) = (terms.last_call(), strays(channel));
                format!("takes updates; the gateway closes it at height {at}{strays}")
            }
            ChannelWord::Closing => closing_sentence(channel, self.channels.chain.tip),
            ChannelWord::ClosedTogether => ended_sentence(channel, "both sides closed it"),
            ChannelWord::ClosedAlone => ended_sentence(channel, "the gateway closed it"),
            ChannelWord::Refunded => ended_sentence(channel, "the payer took a refund"),
            ChannelWord::SpentOtherwise => ended_sentence(channel, "it was spent otherwise"),
            // Told of by `note_lapsed`.
            ChannelWord::Lapsed => "came to nothing".to_owned(),
            ChannelWord::FundingLost => {
                "its funding was replaced: what it credited can't be claimed".to_owned()
            }
        }
    }
}

fn closing_txid(channel: &Channel) -> Option<Txid> {
    let state = &channel.state;
    let on_its_way = state.close.as_ref().map(|close| close.tx.compute_txid());
    state.end.map(|end| end.txid).or(on_its_way)
}

fn closing_sentence(channel: &Channel, tip: Option<u32>) -> String {
    let state = &channel.state;
    match (&state.close, state.phase) {
        _ if state.frozen.is_none() => "takes no more updates; its gate is being closed".to_owned(),
        (Some(close), _) if channel.talk.close_refused => format!(
            "the node refuses its close {}: it is built anew with the next block",
            close.tx.compute_txid()
        ),
        (Some(close), _) => format!("waits for its close {} to confirm", close.tx.compute_txid()),
        (None, _) if channel.newest.is_none() => {
            "nothing was paid: the payer closes it with the gateway, or takes a refund".to_owned()
        }
        (None, ChannelPhase::ClosingAlone) if channel.wanted().close.is_some() => {
            "its close is being written to the disk".to_owned()
        }
        (None, ChannelPhase::ClosingAlone) if tip.is_none() => {
            "is closed as soon as the gateway sees the chain".to_owned()
        }
        (None, ChannelPhase::ClosingAlone) => format!(
            "is too small to be closed at this feerate: it is tried again each block; its payer can \
             take it back after block {}",
            state.agreement.terms.expiry_height
        ),
        (None, _) => "waits for the payer to sign the close".to_owned(),
    }
}

fn ended_sentence(channel: &Channel, how: &str) -> String {
    match channel.state.end {
        Some(end) if end.buried => format!("{how} at height {}", end.height),
        Some(end) => format!("{how} at height {}, not yet buried", end.height),
        None => how.to_owned(),
    }
}
