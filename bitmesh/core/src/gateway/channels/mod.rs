//! The payee's side of channels: from the offer to the confirmed close.
//!
//! ```text
//! offer → open → fund ──→ updates ──→ freeze ─┬→ plan → completed close ─┬→ end → buried
//!           └── lapses unfunded               └→ unilateral close ───────┘
//! ```
//!
//! - A channel's row says what is durable. What is to become of it is written first
//!   ([`write`](self)), and what follows happens when it is known to be on the disk.
//! - Updates and the freeze are changes of the subscriber's account, one at a time, like grants:
//!   so the account's gate, its ledger and the channel never disagree.
//! - The freeze ends a channel's updates: the gate is closed, the last sample is durable, and in
//!   the same batch the channel learns what it owes. Closes only ever follow it.

mod alone;
mod backup;
mod batch;
mod book;
mod close;
mod early;
mod end;
mod fund;
mod haggle;
mod io;
mod lapse;
mod open;
mod operator;
mod pay;
mod policy;
mod refusal;
mod restore;
mod resume;
mod silence;
mod spend;
mod view;
mod write;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::backup::FromBackup;
pub use self::batch::{LATE_BLOCKS, MAX_BATCH_WAIT};
pub(super) use self::book::Channels;
pub use self::close::CHALLENGE_VALID;
pub use self::early::LOSS_COUNTS_S;
pub use self::io::{ChannelAnswer, ChannelCommand, ChannelInput, ChannelResult, Entropy, Purpose};
pub use self::lapse::{MAX_LAPSED, MAX_STRAYS};
pub use self::operator::{CLOSE_GRACE, MAX_CLOSING_OPERATORS, PAYER_THERE};
pub use self::policy::{ChannelPolicy, EarlyCredit, Payout};
pub use self::restore::PolicyError;
pub use self::resume::{MAX_CHALLENGES, MAX_RESUMERS, MAX_RESUMES};
pub use self::silence::{MAX_BLOCK_SILENCE, MAX_CLOCK_SILENCE, UNSEEN_BLOCK_EVERY};
pub use self::view::ChannelLine;
pub(super) use self::write::ChannelWrite;

use self::refusal::Refused;
use super::Gateway;
use crate::channel_record::{ChannelEnd, ChannelPhase};
use crate::io::{Command, RequestId};
use crate::wire::ApiError;

/// How long sessions go on and updates count while the chain can't be seen: well within the
/// margin, whose least is six hours.
pub const MAX_CHAIN_SILENCE: Duration = Duration::from_secs(2 * 3_600);

/// How long an offer holds, in seconds.
pub const OFFER_VALID_S: u64 = 600;

/// A channel whose payer did not countersign lapses after this many seconds.
pub const UNSIGNED_LAPSE_S: u64 = 600;

/// A channel that was countersigned, but whose funding was not seen, lapses after this many
/// seconds.
pub const SIGNED_LAPSE_S: u64 = 6 * 3_600;

/// Bargains under way, those included that ended and whose offers still hold.
pub const MAX_BARGAINS: usize = 1_024;

/// The same of one station.
pub const MAX_BARGAINS_PER_STATION: usize = 8;

/// Channels that wait for their funding.
pub const MAX_UNFUNDED: usize = 256;

/// Channels of one station that wait for their funding.
pub const MAX_UNFUNDED_PER_STATION: usize = 4;

/// Channels that are not over.
pub const MAX_LIVE_CHANNELS: usize = 8_192;

/// Channels in the ledger, those included that are over.
pub const MAX_CHANNELS: usize = 1 << 16;

/// Askers that wait for one update; as many again for the one that is on its way.
pub const MAX_UPDATE_ASKERS: usize = 16;

/// Askers that wait for one countersignature to be durable.
pub const MAX_FUNDERS: usize = 16;

/// Blocks that a close together may take, from the freeze to the payer's signature and from there
/// to a block. Then the gateway closes alone.
pub const CLOSE_PATIENCE_BLOCKS: u32 = 6;

/// Blocks after which the fee of an unconfirmed unilateral close is raised.
pub const BUMP_BLOCKS: u32 = 3;

/// Blocks, its own included, after which a spend is taken for final: no reorganisation that was ever
/// seen undid so many.
pub const BURIED_BLOCKS: u32 = 100;

/// Blocks in which the chain must show the end of a channel that the disk knows of. Then it was
/// undone while the agent was dead.
pub const SOUGHT_BLOCKS: u32 = 6;

/// The height of what happened before the gateway knew of any block; the first one sets it.
const UNKNOWN_HEIGHT: u32 = 0;

impl Gateway {
    /// Takes a fact about channels.
    pub(super) fn channel_input(&mut self, input: ChannelInput) {
        match input {
            ChannelInput::Offer { request, tariff, challenge, unix_s } => {
                let offer = self.offer(tariff, challenge, unix_s).map(ChannelAnswer::Offer);
                self.answer(request, offer);
            }
            ChannelInput::Bid { request, mac, body, list, minute_of_day, unix_s } => {
                let answer = self.bid(mac, &body, &list, (minute_of_day, unix_s));
                self.answer(request, answer.map(|answer| ChannelAnswer::Bid(Box::new(answer))));
            }
            ChannelInput::Open { request, mac, body, unix_s } => {
                self.open(request, mac, &body, unix_s);
            }
            ChannelInput::Fund { request, channel, body } => self.fund(request, channel, &body),
            ChannelInput::Update { request, channel, body } => self.update(request, channel, &body),
            ChannelInput::Challenge { request, channel, mac, entropy } => {
                let challenge = self.challenge(channel, mac, &entropy);
                self.answer(request, challenge);
            }
            ChannelInput::Resume { request, channel, mac, body } => {
                self.resume(request, channel, mac, &body);
            }
            ChannelInput::Close { request, channel, body, entropy } => {
                self.close(request, channel, &body, entropy);
            }
            ChannelInput::Complete { request, channel, body } => {
                self.complete(request, channel, &body);
            }
            ChannelInput::CloseByOperator { request, channel } => {
                if let Err(error) = self.close_by_operator(request, channel) {
                    self.answer(request, Err(error));
                }
            }
            fact => self.chain_fact(fact),
        }
    }

    fn chain_fact(&mut self, fact: ChannelInput) {
        match fact {
            ChannelInput::Tip { height, unix_s, block_unix_s } => {
                self.new_tip(height, unix_s, block_unix_s);
            }
            ChannelInput::ChainDown => self.channels.chain.is_up = false,
            ChannelInput::FeeRate(feerate) => self.channels.chain.feerate = feerate,
            ChannelInput::FundingSeen { channel, outpoint, capacity, height } => {
                self.funding_seen(channel, outpoint, capacity, height);
            }
            ChannelInput::FundingGone { channel, outpoint } => self.funding_gone(channel, outpoint),
            ChannelInput::SpendSeen { channel, tx, height } => {
                self.spend_seen(channel, *tx, height);
            }
            ChannelInput::SpendGone { channel, txid } => self.spend_gone(channel, txid),
            ChannelInput::BroadcastRefused { channel, purpose, why } => {
                self.broadcast_refused(channel, purpose, why);
            }
            _ => {}
        }
    }

    fn new_tip(&mut self, height: u32, unix_s: u64, block_unix_s: Option<u64>) {
        let now = self.now;
        let chain = &mut self.channels.chain;
        let is_new = chain.tip != Some(height);
        if is_new {
            chain.news = now;
        }
        chain.tip = Some(height);
        chain.heard = now;
        chain.is_up = true;
        chain.unix_s = chain.unix_s.max(unix_s);
        chain.tip_age = block_unix_s.map(|at| Duration::from_secs(unix_s.saturating_sub(at)));
        if self.channels.shop.is_some() {
            self.forget_lapsed();
            self.look_at_deadlines(height, is_new);
        }
    }

    fn answer(&mut self, request: RequestId, result: Result<ChannelAnswer, ApiError>) {
        let result = result.map(Box::new);
        self.commands.push_back(Command::ChannelReply { request, result });
    }

    fn refuse_all(&mut self, requests: Vec<RequestId>, refused: Refused) {
        for request in requests {
            self.answer(request, Err(refused.into()));
        }
    }
}
