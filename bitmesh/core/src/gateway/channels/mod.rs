//! The payee's side of channels: from the offer to the confirmed close.

mod io;
mod policy;

pub use self::io::{ChannelAnswer, ChannelCommand, ChannelInput, ChannelResult, Entropy, Purpose};
pub use self::policy::ChannelPolicy;

use std::time::Duration;

use super::Gateway;
use crate::io::{Command, RequestId};
use crate::wire::ApiError;

/// How long sessions go on and updates count while the chain can't be seen: well within the
/// margin, whose least is six hours.
pub const MAX_CHAIN_SILENCE: Duration = Duration::from_secs(2 * 3_600);

impl Gateway {
    /// Takes a fact about channels.
    pub(super) fn channel_input(&mut self, input: ChannelInput) {
        if let Some(request) = input.request() {
            let why = "this gateway sells no channels: give it a seed and a node";
            self.channel_reply(request, Err(ApiError::new("channels_off", why)));
        }
    }

    fn channel_reply(&mut self, request: RequestId, result: ChannelResult) {
        self.commands.push_back(Command::ChannelReply { request, result });
    }
}
