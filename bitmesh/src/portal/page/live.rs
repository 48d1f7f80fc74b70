//! What changes while a page is open: server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::fields::{Field, Pace, fields, sentence, word};
use super::language;
use super::numbers::prices;
use super::text::Text;
use crate::portal::STREAM_EVERY;
use crate::portal::caller::Caller;
use crate::portal::places::Place;
use crate::portal::problem::Problem;
use crate::portal::visit::Visit;

/// How many visits a pace is taken over, at most: ten seconds.
const MAX_SEEN: usize = 11;

/// Where the stream of a page in this language is.
pub(super) fn address(text: &Text) -> String {
    format!("/live?lang={}", text.tag)
}

/// One event, in the language of its page.
#[derive(Debug, Serialize)]
struct Event {
    /// The state in a word, and in a sentence.
    state: &'static str,
    sentence: &'static str,
    price: String,
    fields: Vec<Field>,
    /// Bytes a second, up and down, for the graph.
    up: u64,
    down: u64,
}

/// What a stream remembers.
struct Live {
    caller: Caller,
    text: &'static Text,
    pulse: Interval,
    seen: VecDeque<Visit>,
    _place: Place,
}

/// Streams until the page is closed. One page too many of a visitor gets none, and is told so in
/// the way that makes a browser stop asking.
pub(super) async fn live(
    State(caller): State<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mac = caller.mac()?;
    let Ok(place) = caller.hall.pages.take(Some(mac)) else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut pulse = interval(STREAM_EVERY);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let text = language(&uri, &headers);
    let live = Live { caller, text, pulse, seen: VecDeque::new(), _place: place };
    let events = unfold(live, async |mut live| {
        let event = live.next().await;
        Some((Ok::<_, Infallible>(event), live))
    });
    let kind = HeaderValue::from_static("text/event-stream");
    let no_store = HeaderValue::from_static("no-store");
    let head = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, no_store)];
    Ok((head, Body::from_stream(Box::pin(events))).into_response())
}

impl Live {
    async fn next(&mut self) -> Bytes {
        self.pulse.tick().await;
        let event = match self.caller.visit().await {
            Ok(visit) => serde_json::to_string(&self.event(visit)).ok(),
            Err(_) => None,
        };
        // A comment, while the gateway has too much to do: the stream stays.
        let text = event.map_or_else(|| ":\n\n".to_owned(), |event| format!("data: {event}\n\n"));
        Bytes::from(text)
    }

    fn event(&mut self, visit: Visit) -> Event {
        self.seen.push_back(visit);
        if self.seen.len() > MAX_SEEN {
            self.seen.pop_front();
        }
        let newest = self.seen.len().saturating_sub(2);
        let last = self.seen.get(newest).and_then(|last| pace(last, &visit)).unwrap_or_default();
        let mean = self.seen.front().and_then(|first| pace(first, &visit));
        Event {
            state: word(&visit),
            sentence: sentence(self.text, &visit),
            price: prices(self.text, &visit.tariff()),
            fields: fields(self.text, &visit, mean),
            up: last.up as u64,
            down: last.down as u64,
        }
    }
}

/// How fast it went between two visits, if they are apart.
fn pace(earlier: &Visit, later: &Visit) -> Option<Pace> {
    let span = later.now.since(earlier.now);
    let (Some(before), Some(after)) = (earlier.account, later.account) else { return None };
    if span < Duration::from_millis(500) {
        return None;
    }
    let grown = |before: u64, after: u64| after.saturating_sub(before) as f64 / span.as_secs_f64();
    let charged = |account: bitmesh_core::AccountView| account.charged().0;
    Some(Pace {
        up: grown(before.reading.uplink_bytes, after.reading.uplink_bytes),
        down: grown(before.reading.downlink_bytes, after.reading.downlink_bytes),
        msat: grown(charged(before), charged(after)),
    })
}

#[cfg(test)]
mod tests {
    use bitmesh_core::{BootTime, MilliSat, StateWord, Tariff};

    use super::*;
    use crate::portal::visit::tests::{account, visit};

    #[test]
    fn the_pace_is_what_was_used_in_the_time_that_passed() {
        let earlier = visit(Some(account(StateWord::Open, Tariff::default(), 1_000)));
        let mut later = earlier;
        later.now = BootTime(earlier.now.0 + 2_000_000_000);
        let used = later.account.as_mut().expect("an account");
        used.reading.uplink_bytes += 100;
        used.reading.downlink_bytes += 4_000;
        used.charged_for_bytes = MilliSat(50);
        assert_eq!(pace(&earlier, &later), Some(Pace { up: 50.0, down: 2_000.0, msat: 25.0 }));
        assert_eq!(pace(&earlier, &earlier), None);
        assert_eq!(pace(&visit(None), &later), None);
    }
}
