//! Closing because the operator says so: the answer comes when it is durable.

use std::collections::BTreeSet;
use std::time::Duration;

use super::ChannelAnswer;
use super::book::Channel;
use super::refusal::Refused;
use crate::channel_record::ChannelPhase;
use crate::gateway::Gateway;
use crate::io::RequestId;
use crate::wire::{ApiError, ChannelId};

/// A payer that was heard of within this time is there.
pub const PAYER_THERE: Duration = Duration::from_secs(60);

/// How long a payer that is there has to close together when the operator closes.
pub const CLOSE_GRACE: Duration = Duration::from_secs(30);

/// Operators that wait for closes to be durable, at most.
pub const MAX_CLOSING_OPERATORS: usize = 16;

/// An operator who waits until it is on the disk that these channels are being closed.
#[derive(Debug)]
pub(super) struct ClosingOperator {
    request: RequestId,
    asked: Vec<ChannelId>,
    waits_for: BTreeSet<ChannelId>,
}

impl Gateway {
    pub(super) fn close_by_operator(
        &mut self,
        request: RequestId,
        channel: Option<ChannelId>,
    ) -> Result<(), ApiError> {
        if self.channels.shop.is_none() {
            return Err(Refused::ChannelsOff.into());
        }
        if self.channels.operators.len() >= MAX_CLOSING_OPERATORS {
            return Err(Refused::Overloaded.into());
        }
        let asked = self.closable(channel)?;
        let waits_for = asked.iter().copied().collect();
        self.channels.operators.push(ClosingOperator { request, asked: asked.clone(), waits_for });
        for id in &asked {
            self.close_one(*id);
        }
        self.answer_operators(asked);
        Ok(())
    }

    fn closable(&self, channel: Option<ChannelId>) -> Result<Vec<ChannelId>, ApiError> {
        let Some(id) = channel else {
            let open = self.channels.all.values().filter(|channel| may_be_closed(channel));
            return Ok(open.map(|channel| channel.state.id).collect());
        };
        let channel = self.channels.all.get(&id).ok_or(Refused::NoChannel)?;
        if let Some(end) = channel.wanted().end {
            return Err(Refused::Closed(end.txid).into());
        }
        Ok(vec![id])
    }

    fn close_one(&mut self, id: ChannelId) {
        let now = self.now;
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        if !channel.is_paid() {
            // Without the countersignature nobody pays to its address. Else there is nothing to
            // claim: the payer closes with us, or takes a refund.
            let unsigned = channel.wanted().payer_signature.is_none();
            return match unsigned && channel.is_unfunded() && channel.next.is_none() {
                true => self.forget(id),
                false => self.freeze(id, ChannelPhase::Closing),
            };
        }
        let there = channel.talk.heard.is_some_and(|heard| now.since(heard) <= PAYER_THERE);
        if there && channel.talk.grace_until.is_none() {
            let until = now.after(CLOSE_GRACE);
            channel.talk.grace_until = Some(until);
            self.channels.alarm(until, id);
            self.freeze(id, ChannelPhase::Closing);
        } else {
            self.freeze(id, ChannelPhase::ClosingAlone);
        }
    }

    /// Answers the operators for whom one of these channels was the last to wait for.
    pub(super) fn answer_operators(&mut self, changed: impl IntoIterator<Item = ChannelId>) {
        if self.channels.operators.is_empty() {
            return;
        }
        let all = &self.channels.all;
        let is_done = |id: &ChannelId| all.get(id).is_none_or(is_durably_closing);
        let done: Vec<ChannelId> = changed.into_iter().filter(is_done).collect();
        for operator in &mut self.channels.operators {
            operator.waits_for.retain(|id| !done.contains(id));
        }
        let ready = |operator: &mut ClosingOperator| operator.waits_for.is_empty();
        let ready: Vec<_> = self.channels.operators.extract_if(.., ready).collect();
        for ClosingOperator { request, asked, .. } in ready {
            self.answer(request, Ok(ChannelAnswer::Closing(asked)));
        }
    }

    /// Tells the operators who wait for this channel that the disk failed. The close is tried
    /// again, but not promised.
    pub(super) fn refuse_operators(&mut self, id: ChannelId) {
        let waits = |operator: &mut ClosingOperator| operator.waits_for.contains(&id);
        let failed = self.channels.operators.extract_if(.., waits);
        let requests = failed.map(|operator| operator.request).collect();
        self.refuse_all(requests, Refused::CloseNotDurable);
    }
}

fn may_be_closed(channel: &Channel) -> bool {
    channel.wanted().end.is_none() && !channel.talk.is_forgotten
}

/// Whether a gateway that dies now goes on with the close, and with all that was asked of it.
fn is_durably_closing(channel: &Channel) -> bool {
    let state = &channel.state;
    let frozen = state.frozen.is_some() && channel.to_freeze.is_none();
    frozen && state.phase > ChannelPhase::Live && state.phase >= channel.wanted().phase
}
