//! Refusals, as HTTP answers.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bitmesh_core::wire::ApiError;

/// A refusal with its status (RFC 9110, 15.5 and 15.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) error: ApiError,
    /// Whether the rest of the request is not worth reading.
    pub(super) hang_up: bool,
}

impl Problem {
    /// What the core refused.
    pub(super) fn of(error: ApiError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Self { status, error, hang_up: false }
    }

    fn new(status: StatusCode, reason: &str, message: &str) -> Self {
        Self { status, error: ApiError::new(reason, message), hang_up: false }
    }

    pub(super) fn last(self) -> Self {
        Self { hang_up: true, ..self }
    }

    pub(super) fn malformed(what: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", what)
    }

    pub(super) fn no_such_route() -> Self {
        let message = "there is nothing here: the payment API is under /api/v1";
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn wrong_method() -> Self {
        let message = "this route has another method: see the API's description";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message)
    }

    pub(super) fn too_long(limit: usize) -> Self {
        let message = format!("the body is longer than {limit} bytes: send less");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_long", &message).last()
    }

    pub(super) fn long_target() -> Self {
        let message = "the target of the request is too long: see the API's limits";
        Self::new(StatusCode::URI_TOO_LONG, "too_long", message).last()
    }

    pub(super) fn long_head() -> Self {
        let message = "the head of the request is too long, or has too many headers: see the \
                       API's limits";
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_long", message).last()
    }

    pub(super) fn slow_body() -> Self {
        let message = "the body did not come in time: send it again, faster";
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow_body", message).last()
    }

    pub(super) fn not_json() -> Self {
        let message = "the body must be JSON: send `Content-Type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message)
    }

    pub(super) fn wrong_host() -> Self {
        let message = "this is not the host that was meant: use the gateway's own address";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", message).last()
    }

    pub(super) fn foreign_origin() -> Self {
        let message = "a page of another site can't use a stream: open the gateway's own";
        Self::new(StatusCode::FORBIDDEN, "foreign_origin", message)
    }

    pub(super) fn no_station() -> Self {
        let message = "the gateway does not see a station behind this address: ask from its LAN";
        Self::new(StatusCode::FORBIDDEN, "no_station", message).last()
    }

    pub(super) fn too_fast() -> Self {
        let message = "too many requests of this station: wait a second";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_fast", message)
    }

    pub(super) fn no_upgrade() -> Self {
        let message = "this route is a WebSocket (RFC 6455): ask for the upgrade";
        Self::new(StatusCode::UPGRADE_REQUIRED, "no_upgrade", message)
    }

    pub(super) fn too_many_connections() -> Self {
        let message = "too many connections of this station: close some";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_connections", message).last()
    }

    pub(super) fn overloaded() -> Self {
        let message = "the gateway has too much to do: try again in a second";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    /// The question may have been carried out all the same.
    pub(super) fn no_answer() -> Self {
        let message = "the gateway did not answer in time: ask for the channel's state, try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// The same as bytes, for a connection that gets no server.
    pub(super) fn raw(&self) -> Vec<u8> {
        let body = serde_json::to_string(&self.error).unwrap_or_default();
        format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            self.status,
            body.len()
        )
        .into_bytes()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.error)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.hang_up {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
