//! Credit before the funding is confirmed, as far as the operator risks it.

use bitcoin::Amount;

use super::book::Channel;
use super::policy::EarlyCredit;
use super::refusal::Refused;
use crate::channel_record::ChannelPhase;
use crate::gateway::Gateway;
use crate::wire::{ChannelId, EarlyTerms};

/// What a replaced funding took counts against the limit for this long, in seconds.
pub const LOSS_COUNTS_S: u64 = 86_400;

impl Gateway {
    fn early(&self) -> Option<EarlyCredit> {
        self.channels.shop.as_ref()?.policy.early
    }

    /// What an offer says of it.
    pub(super) fn early_terms(&self) -> Option<EarlyTerms> {
        let early = self.early()?;
        let credit_sat = early.per_channel.min(early.in_total).to_sat();
        Some(EarlyTerms {
            credit_sat,
            explanation: format!(
                "up to {credit_sat} sat count at once, before the funding is confirmed, as long as \
                 the gateway has room for it; the rest counts when it is. If the funding is replaced \
                 after something was paid, the channel is lost, and needs a new one"
            ),
        })
    }

    /// The most that this channel may be credited while its funding is not confirmed as often as
    /// agreed.
    pub(super) fn early_limit(&self, id: ChannelId) -> Amount {
        let Some(early) = self.early() else { return Amount::ZERO };
        let others = self.channels.all.values().filter(|other| other.state.id != id);
        let at_risk: u64 = others.map(|other| self.at_risk(other)).sum();
        let left = early.in_total.to_sat().saturating_sub(at_risk);
        early.per_channel.min(Amount::from_sat(left))
    }

    /// What this channel credits, or is about to, and nobody may ever be able to claim.
    fn at_risk(&self, channel: &Channel) -> u64 {
        let chain = &self.channels.chain;
        let wanted = channel.wanted();
        let is_early = channel.confirmations(chain.tip.unwrap_or(0)) < channel.state.confirmations;
        let since = chain.unix_s.saturating_sub(channel.state.opened_unix_s);
        let is_lost = wanted.phase == ChannelPhase::Lost && since <= LOSS_COUNTS_S;
        let is_open = wanted.phase < ChannelPhase::Lost && wanted.end.is_none() && is_early;
        if is_open || is_lost { channel.credit_to_be().to_sat() } else { 0 }
    }

    /// Whether an update that credits so much in all may count before the funding is confirmed.
    pub(super) fn check_early(
        &self,
        id: ChannelId,
        credit: Amount,
        (have, required): (u32, u32),
    ) -> Result<(), Refused> {
        let limit = self.early_limit(id);
        match limit {
            Amount::ZERO => Err(Refused::Unconfirmed { have, required }),
            limit if credit > limit => Err(Refused::UnconfirmedBeyond(limit)),
            _ => Ok(()),
        }
    }

    /// Whether the channel takes updates although its funding is not confirmed as often as agreed.
    pub(super) fn is_open_early(&self, channel: &Channel) -> bool {
        self.early_limit(channel.state.id) >= channel.state.agreement.terms.min_first_update
    }
}

impl Channel {
    /// What is credited when all that is on its way is durable.
    fn credit_to_be(&self) -> Amount {
        let capacity = self.wanted().funding.map_or(0, |funding| funding.capacity.to_sat());
        let durable = self.newest.as_ref().map(|newest| newest.change_sat);
        let coming =
            [&self.in_flight, &self.pending].into_iter().flatten().map(|one| one.change_sat);
        let change = durable.into_iter().chain(coming).min();
        Amount::from_sat(change.map_or(0, |change| capacity.saturating_sub(change)))
    }
}
