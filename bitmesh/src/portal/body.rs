//! Reading bodies, within their limits.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::BODY_TIMEOUT;
use super::problem::Problem;

/// A body of JSON, of at most `MAX` bytes.
#[derive(Debug)]
pub(super) struct Given<T, const MAX: usize>(pub(super) T);

impl<S: Sync, T: DeserializeOwned, const MAX: usize> FromRequest<S> for Given<T, MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        if declared(&head.headers)? > MAX {
            return Err(Problem::too_long(MAX));
        }
        // A page of another site can't send this type without asking first (CORS).
        if !is_json(&head.headers) {
            return Err(Problem::not_json());
        }
        let bytes = read(body, MAX).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Problem::malformed(&format!("the body can't be read: {error}")))
    }
}

/// The length that the head declares, or 0.
fn declared(headers: &HeaderMap) -> Result<usize, Problem> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(0) };
    let number = length.to_str().ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Problem::malformed("the length of the body is no number"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// All of it, if it is not longer than this.
pub(super) async fn read(body: Body, limit: usize) -> Result<axum::body::Bytes, Problem> {
    match timeout(BODY_TIMEOUT, to_bytes(body, limit + 1)).await {
        Err(_) => Err(Problem::slow_body()),
        Ok(Ok(bytes)) if bytes.len() <= limit => Ok(bytes),
        // It is longer, or the connection broke: then nobody reads this.
        Ok(_) => Err(Problem::too_long(limit)),
    }
}
