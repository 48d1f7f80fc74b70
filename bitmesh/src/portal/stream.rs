//! Updates and the state of the session over a WebSocket (RFC 6455).

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequest as _, Path, Request, State};
use axum::response::Response;
use bitmesh_core::ChannelAnswer;
use bitmesh_core::wire::{ChannelId, SessionView, StreamMessage, UpdateBody};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::ask::{Question, Told};
use super::caller::Caller;
use super::problem::Problem;
use super::routes::channel_of;
use super::{MAX_STREAM_MESSAGE_BYTES, STREAM_EVERY};

/// Bytes that wait to be sent on a stream, at most.
const MAX_UNSENT_BYTES: usize = 64 * 1_024;

/// A stream of one channel, if there is such a channel.
pub(super) async fn stream(
    State(caller): State<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let channel = channel_of(&id)?;
    caller.admit_origin(&request)?;
    let upgrade = WebSocketUpgrade::from_request(request, &caller).await;
    let upgrade = upgrade.map_err(|_| Problem::no_upgrade())?;
    session_of(&caller, channel).await?;
    Ok(upgrade
        .max_message_size(MAX_STREAM_MESSAGE_BYTES)
        .max_frame_size(MAX_STREAM_MESSAGE_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNSENT_BYTES)
        .on_upgrade(move |socket| run(socket, caller, channel)))
}

/// Until the other side leaves or breaks the protocol.
async fn run(mut socket: WebSocket, caller: Caller, channel: ChannelId) {
    let mut pulse = interval(STREAM_EVERY);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let said = tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => Some(answer(&caller, channel, &text).await),
                Some(Ok(Message::Binary(_))) => {
                    Some(refused(Problem::malformed("an update is a text message")))
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => None,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
            _ = pulse.tick() => match session_of(&caller, channel).await {
                Ok(session) => session.map(StreamMessage::Session),
                Err(problem) => Some(refused(problem)),
            },
        };
        let Some(said) = said else { continue };
        let Ok(text) = serde_json::to_string(&said) else { return };
        if socket.send(Message::text(text)).await.is_err() {
            return;
        }
    }
}

async fn answer(caller: &Caller, channel: ChannelId, text: &str) -> StreamMessage {
    match take_update(caller, channel, text).await {
        Ok(said) => said,
        Err(problem) => refused(problem),
    }
}

async fn take_update(
    caller: &Caller,
    channel: ChannelId,
    text: &str,
) -> Result<StreamMessage, Problem> {
    // Who sends too fast waits: nothing is lost, and nobody else is disturbed.
    let mac = caller.mac()?;
    while let Err(pause) = caller.hall.rates.take(mac) {
        sleep(pause).await;
    }
    let body: UpdateBody = serde_json::from_str(text)
        .map_err(|error| Problem::malformed(&format!("the message can't be read: {error}")))?;
    match caller.ask(Question::Update { channel, body }).await? {
        Told::Channel(answer) => match *answer {
            ChannelAnswer::Accepted(accepted) => {
                caller.hall.rates.has_paid();
                Ok(StreamMessage::Accepted(accepted))
            }
            _ => Err(Problem::no_answer()),
        },
        _ => Err(Problem::no_answer()),
    }
}

/// The session of the channel's subscriber; none before the first credit.
async fn session_of(caller: &Caller, channel: ChannelId) -> Result<Option<SessionView>, Problem> {
    match caller.ask(Question::View { channel }).await? {
        Told::Channel(answer) => match *answer {
            ChannelAnswer::View(view) => Ok(view.session),
            _ => Err(Problem::no_answer()),
        },
        Told::Session(session) => Ok(Some(session)),
        Told::Visit(_) | Told::Stopped => Err(Problem::no_answer()),
    }
}

fn refused(problem: Problem) -> StreamMessage {
    StreamMessage::Refused(problem.error)
}
