//! Channels that came to nothing: forgotten on the disk, and told of for a while.

use super::book::Channel;
use super::view::ChannelLine;
use crate::gateway::Gateway;
use crate::wire::{ChannelId, ChannelWord};

/// Channels that lapsed and are still told of, at most: the newest, until the agent ends.
pub const MAX_LAPSED: usize = 64;

/// Payments to a channel's address, beside its funding, that are told of, at most.
pub const MAX_STRAYS: usize = 16;

impl Gateway {
    /// Notes a channel that is being forgotten.
    pub(super) fn note_lapsed(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.all.get(&id) else { return };
        let sentence = format!("lapsed: {}", why(channel));
        let line = ChannelLine { state: ChannelWord::Lapsed, sentence, ..self.line(channel) };
        if self.channels.lapsed.len() >= MAX_LAPSED {
            self.channels.lapsed.pop_front();
        }
        self.channels.lapsed.push_back(line);
    }
}

fn why(channel: &Channel) -> String {
    let state = &channel.state;
    let expiry = state.agreement.terms.expiry_height;
    if state.funding.is_some() {
        return "nothing was paid on it, and its payer can take everything back now".to_owned();
    }
    match &channel.talk.notice {
        Some(notice) => {
            format!("{notice}; what is at its address is its payer's after block {expiry}")
        }
        None if state.payer_signature.is_none() => "its payer never signed it".to_owned(),
        None => format!(
            "no funding was seen in time; one that comes later is its payer's after block {expiry}"
        ),
    }
}

/// What else is at the channel's address; nothing if nothing is.
pub(super) fn strays(channel: &Channel) -> String {
    let sat: u64 = channel.talk.strays.values().map(|amount| amount.to_sat()).sum();
    if sat == 0 {
        return String::new();
    }
    let expiry = channel.state.agreement.terms.expiry_height;
    format!(
        "; {sat} sat more at its address earn nothing, and are its payer's after block {expiry}"
    )
}
