//! Answers that are compressed for who takes it.

use std::io::Write as _;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Shorter bodies gain nothing.
const MIN_BYTES: usize = 512;

/// A body of this kind, with what keeps a browser from taking it for another.
pub(super) fn answer(kind: &'static str, body: Vec<u8>, asked: &HeaderMap) -> Response {
    let packed = (body.len() >= MIN_BYTES && takes_gzip(asked)).then(|| pack(&body)).flatten();
    respond(kind, body, packed)
}

/// A body of this kind, and the same packed.
pub(super) fn respond(kind: &'static str, body: Vec<u8>, packed: Option<Vec<u8>>) -> Response {
    let is_packed = packed.is_some();
    let mut response = packed.unwrap_or(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // With `no-referrer`, browsers send forms with `Origin: null`, and none could be admitted.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    let policy = HeaderValue::from_static("same-origin");
    headers.insert("cross-origin-resource-policy", policy);
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// RFC 9110 §12.5.3.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let listed = headers.get(header::ACCEPT_ENCODING).and_then(|listed| listed.to_str().ok());
    let mut codings = listed.unwrap_or_default().split(',');
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0)
    })
}

/// None if it can't be packed, which memory alone could cause.
pub(super) fn pack(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_gzip_gets_it_and_others_do_not() {
        let takes = |listed: &'static str| {
            let listed = HeaderValue::from_static(listed);
            takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, listed)]))
        };
        assert!(takes("gzip") && takes("br, GZIP;q=0.1") && takes("deflate, gzip;q=1.0, *;q=0.5"));
        assert!(!takes("") && !takes("gzip;q=0") && !takes("x-gzip") && !takes("gzip;q=x"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
