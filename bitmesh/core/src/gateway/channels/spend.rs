//! What the chain says of a channel's output.

use bitcoin::{Amount, Transaction, Txid};

use super::book::Channel;
use super::end::{read_spend, whole_sat};
use super::{ChannelCommand, ChannelPhase};
use crate::channel::Opened;
use crate::channel_record::{ChannelEnd, SpendKind};
use crate::gateway::Gateway;
use crate::io::Command;
use crate::wire::ChannelId;

impl Gateway {
    /// Goes on with a channel as far as its durable state allows.
    pub(super) fn proceed(&mut self, id: ChannelId) {
        self.take_side(id);
        self.answer_funders(id);
        self.take_spend(id);
        self.offer_close(id);
        self.close_alone(id);
        self.send_close(id);
        self.answer_completer(id);
        self.answer_operators([id]);
        self.balance_after(id);
    }

    pub(super) fn spend_seen(&mut self, id: ChannelId, tx: Transaction, height: Option<u32>) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        // Unconfirmed it is a hint: only a block ends a channel.
        let Some(height) = height else { return };
        if channel.state.funding.is_none() || channel.is_over() || channel.talk.is_forgotten {
            return;
        }
        channel.talk.spend = Some(Box::new((tx, height)));
        if channel.state.frozen.is_some() {
            self.take_spend(id);
        } else {
            self.freeze(id, ChannelPhase::Closing);
        }
    }

    /// Notes the end of a channel, once its charges are final.
    fn take_spend(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        if channel.state.frozen.is_none() {
            return;
        }
        let Some(spend) = channel.talk.spend.take() else { return };
        let (tx, height) = *spend;
        let Some(channel) = self.channels.all.get(&id) else { return };
        let share = self.share_of(channel, &tx);
        if let Some(end) = read_end(channel, &tx, height, share) {
            if let Some(channel) = self.channels.all.get_mut(&id) {
                channel.talk.end_seen = true;
            }
            self.want(id, |state| {
                state.end = Some(end);
                state.phase = ChannelPhase::Ended;
            });
        }
    }

    pub(super) fn spend_gone(&mut self, id: ChannelId, txid: Txid) {
        let Some(channel) = self.channels.all.get_mut(&id) else { return };
        channel.talk.spend.take_if(|spend| spend.0.compute_txid() == txid);
        channel.talk.sent = None;
        channel.talk.end_seen = false;
        channel.talk.end_sought = None;
        let gone = channel.wanted().end.filter(|end| end.txid == txid && !end.buried);
        if gone.is_some() {
            self.want(id, |state| {
                let alone = state.close.as_ref().is_some_and(|c| c.kind == SpendKind::Alone);
                state.end = None;
                state.phase =
                    if alone { ChannelPhase::ClosingAlone } else { ChannelPhase::Closing };
            });
        }
    }

    /// The account's ledger follows the channel's row.
    fn balance_after(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get(&id) else { return };
        if channel.state.frozen.is_none() {
            return;
        }
        let (mac, over) = (channel.mac(), channel.is_over());
        self.recount(Some(mac));
        if over {
            let command = ChannelCommand::Unwatch { channel: id };
            self.commands.push_back(Command::Channel(command));
            // What could not be returned is the subscriber's again.
            if self.is_unheld(mac) {
                self.try_later(mac);
            }
        }
    }
}

fn read_end(
    channel: &Channel,
    tx: &Transaction,
    height: u32,
    share: Option<Amount>,
) -> Option<ChannelEnd> {
    let state = &channel.state;
    let (funding, frozen) = (state.funding?, state.frozen?);
    let opened = Opened::new(state.agreement.terms.clone()).ok()?;
    let funded = opened.pinned(funding.outpoint, funding.capacity).ok()?;
    let credit = Amount::from_sat(channel.credit().0 / 1_000);
    read_spend(&funded, credit, whole_sat(frozen.charged), tx, (height, share))
}
