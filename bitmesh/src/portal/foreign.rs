//! Requests that were for another host and were led here: the gate redirects the plain HTTP of
//! who has not paid.
//!
//! Every system asks a page whose answer it knows, to see whether it is online:
//!
//! | system | asks | online if | takes for a portal |
//! | --- | --- | --- | --- |
//! | Android, ChromeOS | `/generate_204` | 204 | a redirect |
//! | Apple | `/hotspot-detect.html` | the word Success | anything else |
//! | Windows | `/connecttest.txt`, `/ncsi.txt` | the known text | a redirect, which it opens |
//! | Firefox | `/canonical.html`, `/success.txt` | the known text | a redirect |
//! | GNOME, KDE | NetworkManager's check page | the known text | a redirect, or 511 |
//!
//! So a page gets a redirect to the portal, whoever asks. What is not a page (a POST, say) gets 511
//! (RFC 6585 §6): sent on, its body would go to another host than was meant.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};

use super::host::{HTTP_PORT, authority_of, port_of};

/// Whether a request was for a web server somewhere else: it names one host, at the port of plain
/// HTTP. A page whose own name points at the portal (DNS rebinding) has the portal's port in it.
pub(super) fn was_led_here(uri: &Uri, headers: &HeaderMap) -> bool {
    let host = authority_of(headers);
    let target = uri.authority().is_none_or(|authority| port_of(authority, HTTP_PORT) == HTTP_PORT);
    target && host.is_some_and(|host| port_of(&host, HTTP_PORT) == HTTP_PORT)
}

/// Leads it to the portal. The connection ends: after the payment, a new one goes where it was
/// meant to go.
pub(super) fn lead_to(portal: &str, method: &Method) -> Response {
    let status = match *method {
        Method::GET | Method::HEAD => StatusCode::FOUND,
        _ => StatusCode::NETWORK_AUTHENTICATION_REQUIRED,
    };
    // A captive portal's address is made of our own addresses and names: nothing to escape.
    let body = format!(
        "<!doctype html><title>Portal</title><p>You are not online yet. \
         <a href=\"{portal}\">Open the portal</a>.</p>\n"
    );
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let mut response = (status, [(header::CONTENT_TYPE, html)], body).into_response();
    let headers = response.headers_mut();
    if let (StatusCode::FOUND, Ok(portal)) = (status, HeaderValue::from_str(portal)) {
        headers.insert(header::LOCATION, portal);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(uri: &'static str, host: &'static str) -> bool {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
        was_led_here(&Uri::from_static(uri), &headers)
    }

    #[test]
    fn plain_http_to_another_host_was_led_here_and_rebinding_was_not() {
        assert!(led("/generate_204", "connectivitycheck.example"));
        assert!(led("/", "captive.example:80") && led("/", "192.0.2.1"));
        assert!(led("http://captive.example/", "captive.example"));
        assert!(!led("/", "evil.example:2121") && !led("/", "evil.example:443"));
        assert!(!led("http://evil.example:2121/", "captive.example"));
        assert!(!was_led_here(&Uri::from_static("/"), &HeaderMap::new()));
    }
}
