//! HTTP/1.1 with a gateway on the LAN: JSON each way, bounded in time and size.

use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use bitmesh_core::wire::{ApiError, MAX_MESSAGE_BYTES};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// How long one request may take: longer than a gateway takes to say that it is busy.
pub(super) const TIMEOUT: Duration = Duration::from_secs(25);

/// Bytes of one answer, at most: a close with its transaction and receipt has a tenth of it.
pub(super) const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Bytes of the headers of an answer, at most.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// The port of the payment API, unless the URL names one.
pub const DEFAULT_PORT: u16 = 2121;

/// The path of the payment API.
const API: &str = "/api/v1";

/// Where a gateway answers: `http://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway(String);

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No address of a gateway.
    #[error("{0:?} is no address of a gateway: write http://HOST:PORT, without a path")]
    Address(String),
    /// Nobody answers.
    #[error("the gateway at {url} does not answer ({reason}): are you on its network?")]
    Down {
        /// Where it should be.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// It says no.
    #[error("the gateway refuses: {0}")]
    Refused(ApiError),
    /// What it says can't be used.
    #[error("the gateway's answer makes no sense ({0}): use its version of this program")]
    Nonsense(String),
}

impl HttpError {
    /// Whether it passes by itself: ask again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Down { .. } => true,
            Self::Refused(error) => {
                TRANSIENT.contains(&error.reason.as_str()) || LATER.contains(&error.status())
            }
            Self::Address(_) | Self::Nonsense(_) => false,
        }
    }

    /// The machine-readable reason of a refusal.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => Some(&error.reason),
            _ => None,
        }
    }
}

/// Refusals that pass by themselves, beside those whose status says so.
const TRANSIENT: &[&str] = &[
    "busy",
    "unconfirmed",
    "unfunded",
    "no_answer",
    "too_fast",
    "too_many_connections",
    "slow_body",
];

/// Statuses that say: ask again later (RFC 9110, 15.6.4; RFC 6585, 4).
const LATER: [u16; 2] = [503, 429];

impl Gateway {
    /// Its address, if it is named by one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let host = self.0.strip_prefix("http://")?.rsplit_once(':')?.0;
        host.trim_matches(['[', ']']).parse().ok()
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        self.ask(bitreq::get(self.url(path)))
    }

    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, HttpError> {
        let body =
            serde_json::to_vec(body).map_err(|error| HttpError::Nonsense(error.to_string()))?;
        let request = bitreq::post(self.url(path)).with_header("Content-Type", "application/json");
        self.ask(request.with_body(body))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{API}{path}", self.0)
    }

    fn ask<T: DeserializeOwned>(&self, request: bitreq::Request) -> Result<T, HttpError> {
        let response = request
            .with_timeout(TIMEOUT)
            .with_max_redirects(0)
            .with_max_headers_size(MAX_HEADER_BYTES)
            .with_max_status_line_length(MAX_HEADER_BYTES)
            .with_max_body_size(MAX_ANSWER_BYTES)
            .send()
            .map_err(|error| self.unanswered(error))?;
        let (status, body) = (response.status_code, response.as_bytes());
        if status == 200 || status == 201 {
            return serde_json::from_slice(body).map_err(|error| match error.classify() {
                Category::Eof => self.down("its answer breaks off"),
                _ => HttpError::Nonsense(one_line(&error.to_string())),
            });
        }
        match serde_json::from_slice::<ApiError>(body) {
            Ok(error) => Err(HttpError::Refused(printable(error))),
            // Also what the client makes of a connection that ends without an answer.
            Err(_) if status >= 500 => Err(self.down("it broke the connection off")),
            Err(_) => Err(HttpError::Nonsense(format!("HTTP status {status} without a reason"))),
        }
    }

    fn down(&self, reason: &str) -> HttpError {
        HttpError::Down { url: self.0.clone(), reason: reason.to_owned() }
    }

    fn unanswered(&self, error: bitreq::Error) -> HttpError {
        match error {
            bitreq::Error::IoError(error) if error.kind() == ErrorKind::TimedOut => {
                self.down(&format!("not within {} s", TIMEOUT.as_secs()))
            }
            bitreq::Error::IoError(error) => self.down(&error.to_string()),
            bitreq::Error::AddressNotFound => self.down("its name is unknown"),
            bitreq::Error::BodyOverflow => {
                HttpError::Nonsense(format!("it is longer than {MAX_ANSWER_BYTES} bytes"))
            }
            other => HttpError::Nonsense(one_line(&other.to_string())),
        }
    }
}

/// A gateway's words, safe to be shown in a line of a terminal.
fn printable(error: ApiError) -> ApiError {
    ApiError { reason: one_line(&error.reason), message: one_line(&error.message), ..error }
}

fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_BYTES).collect()
}

impl FromStr for Gateway {
    type Err = HttpError;

    fn from_str(text: &str) -> Result<Self, HttpError> {
        let wrong = || HttpError::Address(text.to_owned());
        let host = text.strip_prefix("http://").ok_or_else(wrong)?;
        let host = host.strip_suffix('/').unwrap_or(host);
        let clean = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]%".contains(&b));
        if !clean {
            return Err(wrong());
        }
        // An IPv6 address has its colons in brackets (RFC 3986, 3.2.2).
        let after_address = host.rsplit(']').next().unwrap_or(host);
        match after_address.split_once(':') {
            None => Ok(Self(format!("http://{host}:{DEFAULT_PORT}"))),
            Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(Self(format!("http://{host}")))
            }
            Some(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<String> {
        text.parse::<Gateway>().ok().map(|gateway| gateway.to_string())
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (text, url) in [
            ("http://192.0.2.1", "http://192.0.2.1:2121"),
            ("http://192.0.2.1:80/", "http://192.0.2.1:80"),
            ("http://[fd77::1]", "http://[fd77::1]:2121"),
            ("http://[fd77::1]:99", "http://[fd77::1]:99"),
            ("http://router.test", "http://router.test:2121"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(url), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "192.0.2.1",
            "https://192.0.2.1",
            "http://",
            "http://a/b",
            "http://a b",
            "http://u:p@a",
            "http://a:0",
            "http://a:99999",
            "http://a\r\nX: y",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn a_gateways_words_can_not_write_to_the_terminal() {
        let error = ApiError::new("busy", "one\r\n\x1b[31mtwo\x07");
        assert_eq!(printable(error).message, "one [31mtwo");
    }
}
