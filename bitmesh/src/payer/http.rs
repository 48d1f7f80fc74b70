//! HTTP/1.1 with a gateway on the LAN: JSON each way, bounded in time and size.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use bitmesh_core::wire::{ApiError, MAX_MESSAGE_BYTES};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::http::{Answer, Ask, Authority, NoAnswer};

/// How long one request may take: longer than a gateway takes to say that it is busy.
pub(super) const TIMEOUT: Duration = Duration::from_secs(25);

/// Bytes of one answer, at most: a close with its transaction and receipt has a tenth of it.
pub(super) const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The port of the payment API, unless the URL names one.
pub const DEFAULT_PORT: u16 = 2121;

/// The path of the payment API.
const API: &str = "/api/v1";

/// Where a gateway answers: `http://HOST:PORT`. A link-local address has the interface that leads
/// there as its zone: `http://[fe80::1%eth0]:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway(Authority);

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
    /// Its address, if it is named by one, without a zone.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.0.host().split('%').next()?.parse().ok()
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        self.ask(path, None)
    }

    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, HttpError> {
        let body =
            serde_json::to_vec(body).map_err(|error| HttpError::Nonsense(error.to_string()))?;
        self.ask(path, Some(body))
    }

    fn ask<T: DeserializeOwned>(&self, path: &str, json: Option<Vec<u8>>) -> Result<T, HttpError> {
        let ask = Ask {
            authority: &self.0,
            path: &format!("{API}{path}"),
            json,
            authorization: None,
            within: TIMEOUT,
            max_bytes: MAX_ANSWER_BYTES,
        };
        let Answer { status, body } = ask.send().map_err(|error| self.unanswered(error))?;
        if status == 200 || status == 201 {
            return serde_json::from_slice(&body).map_err(|error| match error.classify() {
                Category::Eof => self.down("its answer breaks off"),
                _ => HttpError::Nonsense(one_line(&error.to_string())),
            });
        }
        match serde_json::from_slice::<ApiError>(&body) {
            Ok(error) => Err(HttpError::Refused(printable(error))),
            Err(_) => Err(HttpError::Nonsense(format!("HTTP status {status} without a reason"))),
        }
    }

    fn down(&self, reason: &str) -> HttpError {
        HttpError::Down { url: self.to_string(), reason: reason.to_owned() }
    }

    fn unanswered(&self, error: NoAnswer) -> HttpError {
        match error {
            NoAnswer::Unreachable(error) => self.down(&error.to_string()),
            NoAnswer::BrokenOff => self.down("it broke the connection off"),
            NoAnswer::Late => self.down(&format!("not within {} s", TIMEOUT.as_secs())),
            NoAnswer::Long => {
                HttpError::Nonsense(format!("it is longer than {MAX_ANSWER_BYTES} bytes"))
            }
            NoAnswer::Nonsense(what) => HttpError::Nonsense(one_line(&what)),
            NoAnswer::Question => HttpError::Address(self.to_string()),
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
        let host = text.strip_prefix("http://");
        let host = host.map(|host| host.strip_suffix('/').unwrap_or(host));
        let parsed = host.and_then(|host| Authority::parse(host, DEFAULT_PORT).ok());
        parsed.map(Self).ok_or_else(|| HttpError::Address(text.to_owned()))
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
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
            ("http://[fe80::1%wlan0]/", "http://[fe80::1%wlan0]:2121"),
            ("http://router.test", "http://router.test:2121"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(url), "{text}");
        }
    }

    #[test]
    fn an_address_is_known_without_its_zone() {
        let address = |text: &str| text.parse::<Gateway>().unwrap().address();
        assert_eq!(address("http://[fe80::1%wlan0]"), "fe80::1".parse().ok());
        assert_eq!(address("http://192.0.2.1"), "192.0.2.1".parse().ok());
        assert_eq!(address("http://router.test"), None);
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
