//! What the page links to.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::packed;

/// A file that is part of the program.
pub(super) struct Asset {
    pub(super) path: &'static str,
    kind: &'static str,
    body: &'static str,
}

/// How it looks.
pub(super) const STYLE: Asset =
    Asset { path: "/style.css", kind: "text/css; charset=utf-8", body: include_str!("style.css") };

/// What keeps its numbers fresh.
pub(super) const SCRIPT: Asset = Asset {
    path: "/live.js",
    kind: "text/javascript; charset=utf-8",
    body: include_str!("live.js"),
};

/// What pays by a channel, from `bitmesh/portal`. Loaded by who pays so.
pub(super) const PAY: Asset =
    Asset { path: "/pay.js", kind: "text/javascript; charset=utf-8", body: include_str!("pay.js") };

/// What a browser shows beside its title.
pub(super) const ICON: Asset =
    Asset { path: "/icon.svg", kind: "image/svg+xml", body: include_str!("icon.svg") };

/// Asked for again each time, and sent again only if it changed.
const CACHE: HeaderValue = HeaderValue::from_static("no-cache");

impl Asset {
    /// Answers who asks for it.
    pub(super) fn answer(&self, asked: &HeaderMap) -> Response {
        let tag = self.tag();
        if asked.get(header::IF_NONE_MATCH) == Some(&tag) {
            return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
        }
        let mut response = packed::answer(self.kind, self.body.as_bytes().to_vec(), asked);
        let headers = response.headers_mut();
        headers.insert(header::ETAG, tag);
        headers.insert(header::CACHE_CONTROL, CACHE);
        response
    }

    /// It changes with the program only (RFC 9110 §8.8.3).
    fn tag(&self) -> HeaderValue {
        let length = self.body.len();
        let tag = format!("W/\"{}-{length}-{:08x}\"", env!("CARGO_PKG_VERSION"), sum(self.body));
        HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))
    }
}

/// FNV-1a: tells versions apart, and need not be secure.
fn sum(body: &str) -> u32 {
    body.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
