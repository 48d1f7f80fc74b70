//! What is where.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bitmesh_core::ChannelAnswer;
use bitmesh_core::channel::PublicKey;
use bitmesh_core::channel::message::Challenge;
use bitmesh_core::wire::{ApiError, ChannelId};
use bitmesh_core::wire::{
    BidRequest, CloseBody, CloseCompletion, FundingRequest, MAX_BODY_BYTES, MAX_FUNDING_BODY_BYTES,
    OpenRequest, ResumeBody, UpdateBody, WireError,
};

use super::ask::{Question, Told};
use super::body::Given;
use super::caller::Caller;
use super::captive::{CAPTIVE_PATH, captive};
use super::page;
use super::problem::Problem;
use super::stream::stream;

const OTHER_OFFER: &str = "the path names another offer than the bid: name the one that it is on";

type Answer = Result<Response, Problem>;
type Small<T> = Given<T, MAX_BODY_BYTES>;

/// All routes.
pub(super) fn routes() -> Router<Caller> {
    Router::new()
        .merge(page::routes())
        .route(CAPTIVE_PATH, get(captive))
        .route("/api/v1/offer", get(offer))
        .route("/api/v1/offers/{id}/bids", post(bid))
        .route("/api/v1/session", get(session))
        .route("/api/v1/channels", post(open))
        .route("/api/v1/payers/{key}/channel", get(find))
        .route("/api/v1/channels/{id}", get(view))
        .route("/api/v1/channels/{id}/funding", post(fund))
        .route("/api/v1/channels/{id}/updates", post(update))
        .route("/api/v1/channels/{id}/challenge", post(challenge))
        .route("/api/v1/channels/{id}/resume", post(resume))
        .route("/api/v1/channels/{id}/close", post(close))
        .route("/api/v1/channels/{id}/close/complete", post(complete))
        .route("/api/v1/channels/{id}/stream", get(stream))
        .fallback(async || Problem::no_such_route())
        .method_not_allowed_fallback(async || Problem::wrong_method())
}

async fn offer(State(caller): State<Caller>, request: Request) -> Answer {
    let challenge = challenge_in(request.uri().query().unwrap_or_default())?;
    tell(&caller, Question::Offer { challenge }).await
}

/// Hex needs no escapes, so the query is read as it is.
fn challenge_in(query: &str) -> Result<Challenge, Problem> {
    let challenge = query.strip_prefix("challenge=").map(str::to_owned);
    challenge.and_then(|hex| Challenge::try_from(hex).ok()).ok_or_else(|| {
        Problem::malformed("ask with ?challenge= and 64 hexadecimal digits that you drew")
    })
}

async fn bid(
    State(caller): State<Caller>,
    Path(id): Path<String>,
    Given(body): Small<BidRequest>,
) -> Answer {
    let mac = caller.mac()?;
    if body.bid.offer.to_string() != id {
        return Err(Problem::of(ApiError::new("other_offer", OTHER_OFFER)));
    }
    tell(&caller, Question::Bid { mac, body: Box::new(body) }).await
}

async fn session(State(caller): State<Caller>) -> Answer {
    let mac = caller.mac()?;
    tell(&caller, Question::Session { mac }).await
}

async fn open(State(caller): State<Caller>, Given(body): Small<OpenRequest>) -> Answer {
    let mac = caller.mac()?;
    tell(&caller, Question::Open { mac, body: Box::new(body) }).await
}

async fn view(State(caller): State<Caller>, Path(id): Path<String>) -> Answer {
    let channel = channel_of(&id)?;
    tell(&caller, Question::View { channel }).await
}

async fn find(State(caller): State<Caller>, Path(key): Path<String>) -> Answer {
    let payer_key = PublicKey::try_from(key)
        .map_err(|_| Problem::malformed("a payer is named by its key, as 66 hexadecimal digits"))?;
    tell(&caller, Question::Find { payer_key }).await
}

async fn fund(
    State(caller): State<Caller>,
    Path(id): Path<String>,
    Given(body): Given<FundingRequest, MAX_FUNDING_BODY_BYTES>,
) -> Answer {
    let channel = channel_of(&id)?;
    tell(&caller, Question::Fund { channel, body }).await
}

async fn update(
    State(caller): State<Caller>,
    Path(id): Path<String>,
    Given(body): Small<UpdateBody>,
) -> Answer {
    let channel = channel_of(&id)?;
    let accepted = tell(&caller, Question::Update { channel, body }).await?;
    caller.hall.rates.has_paid();
    Ok(accepted)
}

async fn challenge(State(caller): State<Caller>, Path(id): Path<String>) -> Answer {
    let channel = channel_of(&id)?;
    let mac = caller.mac()?;
    tell(&caller, Question::Challenge { mac, channel }).await
}

async fn resume(
    State(caller): State<Caller>,
    Path(id): Path<String>,
    Given(body): Small<ResumeBody>,
) -> Answer {
    let (mac, channel) = (caller.mac()?, channel_of(&id)?);
    tell(&caller, Question::Resume { mac, channel, body: Box::new(body) }).await
}

async fn close(
    State(caller): State<Caller>,
    Path(id): Path<String>,
    Given(body): Small<CloseBody>,
) -> Answer {
    let channel = channel_of(&id)?;
    tell(&caller, Question::Close { channel, body: Box::new(body) }).await
}

async fn complete(
    State(caller): State<Caller>,
    Path(id): Path<String>,
    Given(body): Small<CloseCompletion>,
) -> Answer {
    let channel = channel_of(&id)?;
    tell(&caller, Question::Complete { channel, body: Box::new(body) }).await
}

/// The channel that a path names.
pub(super) fn channel_of(id: &str) -> Result<ChannelId, Problem> {
    id.parse().map_err(|error: WireError| Problem::of(ApiError::new("no_channel", error)))
}

/// Asks, and answers with what is told.
async fn tell(caller: &Caller, question: Question) -> Answer {
    let mut response = match caller.ask(question).await? {
        Told::Session(session) => Json(session).into_response(),
        Told::Channel(answer) => match *answer {
            ChannelAnswer::Offer(offer) => Json(offer).into_response(),
            ChannelAnswer::Bid(answer) => Json(answer).into_response(),
            ChannelAnswer::Opened(opened) => Json(opened).into_response(),
            ChannelAnswer::View(view) => Json(view).into_response(),
            ChannelAnswer::Accepted(accepted) => Json(accepted).into_response(),
            ChannelAnswer::Challenge(challenge) => Json(challenge).into_response(),
            ChannelAnswer::CloseOffer(offer) => Json(offer).into_response(),
            ChannelAnswer::Closed(closed) => Json(closed).into_response(),
            // Only the operator asks for this.
            ChannelAnswer::Closing(_) => return Err(Problem::no_answer()),
        },
        // Only pages ask for these.
        Told::Visit(_) | Told::Stopped => return Err(Problem::no_answer()),
    };
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    Ok(response)
}
