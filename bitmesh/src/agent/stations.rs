//! What stations ask, and what the chain says.

use bitmesh_core::channel::PublicKey;
use bitmesh_core::wire::{ApiError, ChannelId, SessionView};
use bitmesh_core::{
    AccountView, ChannelAnswer, ChannelInput, ChannelLine, Entropy, Input, Mac, RequestId,
};
use jiff::Zoned;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::oneshot;

use super::chain::{News, unix_s};
use super::event_loop::EventLoop;
use super::now;
use super::requests::Asker;
use crate::config::DEFAULT_TARIFF;
use crate::control::{ChainStatus, ChannelRow, Response};
use crate::mac::MacText;
use crate::portal::{Answered, Asked, Question, Told, Visit};

impl EventLoop {
    /// How the chain is seen, and whether the core believes that it is seen whole.
    pub(super) fn chain_told(&self) -> Option<ChainStatus> {
        let silence = self.gateway.block_silence();
        let silent_minutes = silence.map(|silence| silence.as_secs() / 60);
        self.chain_status.clone().map(|told| ChainStatus { silent_minutes, ..told })
    }

    /// Answers a station, or lets the core do so.
    pub(super) fn station_asks(&mut self, asked: Asked) {
        let Asked { question, answer } = asked;
        match question {
            Question::View { channel } => drop(answer.send(self.view(channel))),
            Question::Find { payer_key } => drop(answer.send(self.find(payer_key))),
            Question::Session { mac } => {
                let session = self.gateway.account(mac).map(|account| session_of(&account));
                drop(answer.send(session.map(Told::Session).ok_or_else(no_session)));
            }
            Question::Visit { mac } => {
                drop(answer.send(Ok(Told::Visit(Box::new(self.visit(mac))))))
            }
            Question::Stop { mac } => {
                let input = self.requests.stop(MacText(mac), Asker::Station(answer));
                self.gateway.handle_input(now(), input);
            }
            question => match Draw::new() {
                Ok(draw) => self.ask_core(question, draw, answer),
                Err(error) => drop(answer.send(Err(error))),
            },
        }
    }

    fn ask_core(&mut self, question: Question, draw: Draw, answer: oneshot::Sender<Answered>) {
        let request = self.requests.about_channels(Asker::Station(answer));
        if let Some(input) = self.input_of(request, question, draw) {
            self.gateway.handle_input(now(), Input::Channel(input));
        }
    }

    fn input_of(&self, request: RequestId, question: Question, draw: Draw) -> Option<ChannelInput> {
        let Draw { entropy, unix_s } = draw;
        Some(match question {
            Question::Offer { challenge } => {
                ChannelInput::Offer { request, tariff: self.price(), challenge, unix_s }
            }
            Question::Bid { mac, body } => {
                let (list, minute_of_day) = (self.price(), minute_of_day());
                ChannelInput::Bid { request, mac, body, list, minute_of_day, unix_s }
            }
            Question::Open { mac, body } => ChannelInput::Open { request, mac, body, unix_s },
            Question::Fund { channel, body } => ChannelInput::Fund { request, channel, body },
            Question::Update { channel, body } => ChannelInput::Update { request, channel, body },
            Question::Challenge { mac, channel } => {
                ChannelInput::Challenge { request, channel, mac, entropy }
            }
            Question::Resume { mac, channel, body } => {
                ChannelInput::Resume { request, channel, mac, body }
            }
            Question::Close { channel, body } => {
                ChannelInput::Close { request, channel, body, entropy }
            }
            Question::Complete { channel, body } => {
                ChannelInput::Complete { request, channel, body }
            }
            // These were answered.
            Question::View { .. }
            | Question::Find { .. }
            | Question::Session { .. }
            | Question::Visit { .. }
            | Question::Stop { .. } => return None,
        })
    }

    /// The prices that channels are sold at.
    fn price(&self) -> bitmesh_core::Tariff {
        let sold = self.config.payments.as_ref().map(|payments| payments.channels.tariff);
        sold.or_else(|| self.config.tariffs.get(DEFAULT_TARIFF).copied()).unwrap_or_default()
    }

    fn visit(&self, mac: Mac) -> Visit {
        let payments = self.config.payments.as_ref();
        Visit {
            price: self.price(),
            sells_channels: payments.map(|payments| payments.chain.network),
            bargains: payments.is_some_and(|payments| payments.bargaining.is_some()),
            account: self.gateway.account(mac),
            now: now(),
        }
    }

    fn view(&self, channel: ChannelId) -> Answered {
        let view = self
            .gateway
            .channel(channel)
            .ok_or_else(|| ApiError::new("no_channel", "there is no such channel: open one"))?;
        Ok(Told::Channel(Box::new(ChannelAnswer::View(view))))
    }

    fn find(&self, payer_key: PublicKey) -> Answered {
        let opened = self.gateway.opened_with(payer_key)?;
        Ok(Told::Channel(Box::new(ChannelAnswer::Opened(opened))))
    }

    /// Takes in what the chain's thread says.
    pub(super) fn take_news(&mut self, news: News) {
        match news {
            News::Fact(fact) => self.gateway.handle_input(now(), Input::Channel(*fact)),
            News::Status(status) => {
                if self.chain_status.as_ref().map(|old| old.state) != Some(status.state) {
                    tracing::info!(state = ?status.state, height = status.height, "the chain");
                }
                self.chain_status = Some(status);
            }
            News::Settled(cursor) => self.keep_cursor(&cursor),
        }
    }

    /// The channels as operators see them: those that are over at the end.
    pub(super) fn channel_rows(&self) -> Response {
        let mut lines = self.gateway.channels();
        lines.sort_by_key(|line| (is_over(line), line.last_call_height, line.channel));
        Response::Channels { channels: lines.iter().map(row_of).collect() }
    }

    /// What both sides signed at the end of a channel.
    pub(super) fn receipt(&self, channel: ChannelId) -> Response {
        let none = "there is no receipt of this channel: it was not closed together, or the payer \
                    did not sign one: see `bitmesh channels`";
        let receipt = self.gateway.receipt(channel).map(Box::new);
        receipt.map_or_else(|| Response::refused(none), Response::Receipt)
    }

    /// Channels that are not over.
    pub(super) fn live_channels(&self) -> u64 {
        self.gateway.channels().iter().filter(|line| !is_over(line)).count() as u64
    }

    /// The operator closes one channel, or all.
    pub(super) fn close_channels(
        &mut self,
        channel: Option<ChannelId>,
        answer: oneshot::Sender<Response>,
    ) -> Input {
        let request = self.requests.about_channels(Asker::Operator(answer));
        Input::Channel(ChannelInput::CloseByOperator { request, channel })
    }
}

/// What a core without clock and dice is given with a question.
struct Draw {
    entropy: Entropy,
    unix_s: u64,
}

impl Draw {
    fn new() -> Result<Self, ApiError> {
        let mut bytes = [0; 32];
        getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|error| {
            ApiError::new("overloaded", format!("the gateway has no random numbers: {error}"))
        })?;
        Ok(Self { entropy: Entropy(bytes), unix_s: unix_s() })
    }
}

/// Minutes since midnight, by this machine's time zone.
fn minute_of_day() -> u16 {
    let time = Zoned::now().time();
    let minute = i32::from(time.hour()) * 60 + i32::from(time.minute());
    u16::try_from(minute).unwrap_or(0)
}

fn no_session() -> ApiError {
    ApiError::new("no_session", "this station has no account: take an offer and pay")
}

fn session_of(account: &AccountView) -> SessionView {
    SessionView {
        open: account.open,
        tariff: account.tariff,
        uplink_bytes: account.reading.uplink_bytes,
        downlink_bytes: account.reading.downlink_bytes,
        charged_for_bytes_msat: account.charged_for_bytes,
        charged_for_time_msat: account.charged_for_time,
        balance_msat: account.balance,
    }
}

/// Whether nothing is left to do on the channel.
pub(super) fn is_over(line: &ChannelLine) -> bool {
    use bitmesh_core::wire::ChannelWord as Word;
    match line.state {
        Word::Opened | Word::Unconfirmed | Word::Open | Word::Closing => false,
        Word::ClosedTogether
        | Word::ClosedAlone
        | Word::Refunded
        | Word::SpentOtherwise
        | Word::Lapsed
        | Word::FundingLost => true,
    }
}

fn row_of(line: &ChannelLine) -> ChannelRow {
    ChannelRow {
        channel: line.channel,
        mac: MacText(line.mac),
        state: line.state,
        sentence: line.sentence.clone(),
        outpoint: line.outpoint,
        capacity_sat: line.capacity_sat,
        credited_sat: line.credited_sat,
        charged_msat: line.charged_msat.0,
        settled_sat: line.settled_sat,
        returned_sat: line.returned_sat,
        fee_sat: line.fee_sat,
        closing_txid: line.closing_txid,
        last_call_height: line.last_call_height,
        expiry_height: line.expiry_height,
    }
}
