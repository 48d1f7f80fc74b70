//! The captive portal API (RFC 8908): what a device asks to learn whether it is online.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::ask::{Question, Told};
use super::caller::Caller;
use super::problem::Problem;
use super::visit::Visit;

/// Where the API is; what DHCP and router advertisements name (RFC 8910 §2).
pub const CAPTIVE_PATH: &str = "/captive";

const CAPTIVE_JSON: HeaderValue = HeaderValue::from_static("application/captive+json");
/// It is one visitor's answer (RFC 8908 §4), and old in a moment.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// RFC 8908 §5.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct State8908 {
    captive: bool,
    user_portal_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    venue_info_url: Option<String>,
    can_extend_session: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_remaining: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_remaining: Option<u64>,
}

impl State8908 {
    fn new(visit: &Visit, portal: String, venue: Option<&str>) -> Self {
        Self {
            captive: !visit.is_online(),
            user_portal_url: portal,
            venue_info_url: venue.map(str::to_owned),
            // More can be paid at any time, without losing the connection.
            can_extend_session: true,
            seconds_remaining: visit.seconds_remaining(),
            bytes_remaining: visit.bytes_remaining(),
        }
    }
}

/// Answers a device.
pub(super) async fn captive(State(caller): State<Caller>) -> Result<Response, Problem> {
    let visit = caller.visit().await?;
    let state = State8908::new(&visit, caller.page_url("/"), caller.hall.venue.as_deref());
    let body = serde_json::to_string(&state).map_err(|_| Problem::no_answer())?;
    Ok(([(header::CONTENT_TYPE, CAPTIVE_JSON), (header::CACHE_CONTROL, PRIVATE)], body)
        .into_response())
}

impl Caller {
    /// Asks for all that is known of the visitor.
    pub(super) async fn visit(&self) -> Result<Visit, Problem> {
        let mac = self.mac()?;
        match self.ask(Question::Visit { mac }).await? {
            Told::Visit(visit) => Ok(*visit),
            _ => Err(Problem::no_answer()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bitmesh_core::{StateWord, Tariff};

    use super::super::visit::tests::{account, visit};
    use super::*;

    const PORTAL: &str = "http://10.77.0.1:2121/";

    fn said(visit: &Visit, venue: Option<&str>) -> String {
        serde_json::to_string(&State8908::new(visit, PORTAL.to_owned(), venue)).expect("JSON")
    }

    #[test]
    fn the_answer_follows_the_state_of_the_account() {
        let tariff = Tariff {
            uplink_msat_per_mib: 1,
            downlink_msat_per_mib: 2,
            msat_per_minute: 6,
            ..Tariff::FREE
        };
        let has = |state| Some(account(state, tariff, 4));
        let captive = r#"{"captive":true,"user-portal-url":"http://10.77.0.1:2121/","can-extend-session":true}"#;
        let open = r#"{"captive":false,"user-portal-url":"http://10.77.0.1:2121/","can-extend-session":true,"seconds-remaining":40,"bytes-remaining":2097152}"#;
        let table = [
            (None, captive),
            (has(StateWord::Waiting), captive),
            (has(StateWord::Open), open),
            (has(StateWord::Exhausted), captive),
            (has(StateWord::Closed), captive),
        ];
        for (account, expected) in table {
            assert_eq!(said(&visit(account), None), expected, "{account:?}");
        }
    }

    #[test]
    fn the_venue_is_named_if_it_has_a_page() {
        let said = said(&visit(None), Some("https://cafe.example/"));
        assert!(said.contains(r#""venue-info-url":"https://cafe.example/""#), "{said}");
    }
}
