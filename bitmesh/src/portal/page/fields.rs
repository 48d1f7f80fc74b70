//! The numbers that change while a page is open: at first in the page, then on its stream.

use bitmesh_core::StateWord;
use serde::Serialize;

use super::numbers::{NONE, amount, bytes, span};
use super::text::Text;
use crate::portal::visit::Visit;

/// One number, for machines and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Field {
    /// Its element in the page.
    pub(super) id: &'static str,
    /// In the unit of its kind: bytes, msat, seconds; empty if there is none.
    pub(super) value: String,
    /// In words.
    pub(super) said: String,
}

/// How fast it goes, as seen over some seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pace {
    /// Bytes a second from the visitor.
    pub(super) up: f64,
    /// Bytes a second to the visitor.
    pub(super) down: f64,
    /// What is charged a second.
    pub(super) msat: f64,
}

/// All numbers, in the order of the page. The pace is not known at first.
pub(super) fn fields(text: &Text, visit: &Visit, pace: Option<Pace>) -> Vec<Field> {
    let account = visit.account.as_ref();
    let number = |id, value: Option<u64>, say: &dyn Fn(u64) -> String| Field {
        id,
        value: value.map(|value| value.to_string()).unwrap_or_default(),
        said: value.map_or_else(|| NONE.to_owned(), say),
    };
    let up = account.map_or(0, |account| account.reading.uplink_bytes);
    let down = account.map_or(0, |account| account.reading.downlink_bytes);
    let left = account.map_or(0, |account| account.balance.0);
    let speed = pace.map(|pace| whole(pace.up + pace.down));
    vec![
        number("left", Some(left), &|left| amount(text, left)),
        number("down", Some(down), &|down| bytes(text, down)),
        number("up", Some(up), &|up| bytes(text, up)),
        number("time", visit.seconds_online(), &span),
        number("speed", speed, &|speed| format!("{}/s", bytes(text, speed))),
        number("lasts", lasts(visit, pace), &span),
    ]
}

/// The label of a number.
pub(super) fn label(text: &Text, id: &str) -> &'static str {
    match id {
        "left" => text.left,
        "down" => text.down,
        "up" => text.up,
        "time" => text.time,
        "speed" => text.speed,
        _ => text.lasts,
    }
}

/// Seconds until the balance is used up: at this pace, but no more than time alone allows.
fn lasts(visit: &Visit, pace: Option<Pace>) -> Option<u64> {
    let account = visit.account.filter(|_| visit.is_online())?;
    let charged = pace.map_or(0.0, |pace| pace.msat);
    let at_pace = (charged > 0.0).then(|| whole(account.balance.0 as f64 / charged));
    at_pace.into_iter().chain(visit.seconds_remaining()).min()
}

/// Floats saturate when they are cast.
fn whole(number: f64) -> u64 {
    number as u64
}

/// What the visitor is told of its state.
pub(super) fn sentence(text: &Text, visit: &Visit) -> &'static str {
    match visit.state() {
        None => text.offline,
        Some(StateWord::Open) => text.online,
        Some(StateWord::Exhausted) => text.used_up,
        Some(StateWord::Closed) => text.stopped,
        Some(StateWord::Waiting) => text.waiting,
    }
}

/// The same for machines.
pub(super) fn word(visit: &Visit) -> &'static str {
    match visit.state() {
        None => "offline",
        Some(StateWord::Open) => "open",
        Some(StateWord::Exhausted) => "exhausted",
        Some(StateWord::Closed) => "closed",
        Some(StateWord::Waiting) => "waiting",
    }
}

#[cfg(test)]
mod tests {
    use bitmesh_core::Tariff;

    use super::super::text::of_tag;
    use super::*;
    use crate::portal::visit::tests::{account, visit};

    fn said(visit: &Visit, pace: Option<Pace>) -> Vec<(&'static str, String, String)> {
        let fields = fields(of_tag("en").expect("English"), visit, pace);
        fields.into_iter().map(|field| (field.id, field.value, field.said)).collect()
    }

    #[test]
    fn numbers_are_those_of_the_account_in_words_and_for_machines() {
        let tariff = Tariff { uplink_msat_per_mib: 1_000, ..Tariff::default() };
        let bob = visit(Some(account(StateWord::Open, tariff, 61_000)));
        let pace = Pace { up: 1_024.0, down: 1_024.0, msat: 500.0 };
        let own = |id, value: &str, said: &str| (id, value.to_owned(), said.to_owned());
        let expected = [
            own("left", "61000", "61.000 sat"),
            own("down", "3145728", "3.00 MiB"),
            own("up", "1000000", "976.56 KiB"),
            own("time", "61", "1 min 1 s"),
            own("speed", "2048", "2.00 KiB/s"),
            own("lasts", "122", "2 min 2 s"),
        ];
        assert_eq!(said(&bob, Some(pace)), expected);
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let stranger = said(&visit(None), None);
        let unknown: Vec<_> = stranger.iter().filter(|(_, value, _)| value.is_empty()).collect();
        assert_eq!(unknown.len(), 3, "{stranger:?}");
        assert!(unknown.iter().all(|(_, _, said)| said == NONE));
    }

    #[test]
    fn time_that_costs_ends_however_slow_the_traffic_is() {
        let timed = Tariff { msat_per_minute: 600, ..Tariff::default() };
        let bob = visit(Some(account(StateWord::Open, timed, 1_000)));
        assert_eq!(lasts(&bob, None), Some(100));
        assert_eq!(lasts(&bob, Some(Pace { msat: 0.1, ..Pace::default() })), Some(100));
        assert_eq!(lasts(&bob, Some(Pace { msat: 100.0, ..Pace::default() })), Some(10));
    }
}
