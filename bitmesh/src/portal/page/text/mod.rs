//! What the page says, one file a language. A language that leaves out a key does not compile.

mod ar;
mod de;
mod en;
mod es;
mod fr;
pub(super) mod pay;

use axum::http::{HeaderMap, header};

/// Languages that a browser may list, at most; those after them are not read.
const MAX_LISTED: usize = 32;

/// All words of one language. `{}` is where a value goes.
#[derive(Debug)]
pub(super) struct Text {
    /// Its tag (RFC 5646).
    pub(super) tag: &'static str,
    /// Its own name.
    pub(super) name: &'static str,
    /// `ltr` or `rtl`.
    pub(super) direction: &'static str,
    /// Between whole and parts of a number.
    pub(super) point: char,
    /// Between the thousands of a number.
    pub(super) group: char,
    pub(super) title: &'static str,
    /// A price, twice `{}`: the amount, and what it is for.
    pub(super) per: &'static str,
    pub(super) mib: &'static str,
    pub(super) mib_up: &'static str,
    pub(super) mib_down: &'static str,
    pub(super) minute: &'static str,
    pub(super) free: &'static str,
    pub(super) plus: &'static str,
    pub(super) offline: &'static str,
    pub(super) online: &'static str,
    pub(super) used_up: &'static str,
    pub(super) stopped: &'static str,
    pub(super) waiting: &'static str,
    pub(super) session: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) time: &'static str,
    pub(super) left: &'static str,
    pub(super) speed: &'static str,
    pub(super) lasts: &'static str,
    pub(super) graph: &'static str,
    pub(super) stop: &'static str,
    pub(super) stop_hint: &'static str,
    pub(super) too_old: &'static str,
    pub(super) not_stopped: &'static str,
    pub(super) reload: &'static str,
    pub(super) reload_hint: &'static str,
    pub(super) lost: &'static str,
    pub(super) ways: &'static str,
    pub(super) connect: &'static str,
    pub(super) connect_how: &'static str,
    pub(super) connect_back: &'static str,
    pub(super) operator: &'static str,
    pub(super) operator_how: &'static str,
    pub(super) languages: &'static str,
    /// Paying from the page.
    pub(super) pay: pay::PayText,
}

/// All languages; the first is for who asks for none of them.
pub(super) const ALL: [&Text; 5] = [&en::TEXT, &de::TEXT, &es::TEXT, &fr::TEXT, &ar::TEXT];

/// The language of this tag.
pub(super) fn of_tag(tag: &str) -> Option<&'static Text> {
    let language = tag.split('-').next().unwrap_or_default();
    ALL.into_iter().find(|text| text.tag.eq_ignore_ascii_case(language))
}

/// The language that a browser likes best (RFC 9110 §12.5.4), of those there are.
pub(super) fn of_headers(headers: &HeaderMap) -> &'static Text {
    let listed = headers.get(header::ACCEPT_LANGUAGE).and_then(|listed| listed.to_str().ok());
    let listed = listed.unwrap_or_default().split(',').take(MAX_LISTED);
    let mut best: Option<(f32, &'static Text)> = None;
    for range in listed {
        let (tag, weight) = range.split_once(';').unwrap_or((range, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        let (Some(text), Ok(weight)) = (of_tag(tag.trim()), weight) else { continue };
        if weight > best.map_or(0.0, |(best, _)| best) {
            best = Some((weight, text));
        }
    }
    best.map_or(ALL[0], |(_, text)| text)
}

/// Puts values where a template has `{}`, in their order.
pub(super) fn fill(template: &str, values: &[&str]) -> String {
    let mut parts = template.split("{}");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (number, part) in parts.enumerate() {
        text += values.get(number).copied().unwrap_or_default();
        text += part;
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// Every string of a language, as the derived `Debug` lists its fields.
    fn strings(text: &Text) -> Vec<(String, String)> {
        let shown = format!("{text:#?}");
        let lines = shown.lines().filter_map(|line| line.trim().split_once(": "));
        lines.map(|(key, value)| (key.to_owned(), value.trim_end_matches(',').to_owned())).collect()
    }

    #[test]
    fn every_language_has_every_key_with_the_same_places_for_values() {
        let first = strings(ALL[0]);
        assert!(first.len() > 30);
        for text in ALL {
            for ((key, value), (_, original)) in strings(text).iter().zip(&first) {
                assert!(value.len() > 2, "{}: {key} is empty", text.tag);
                let places = |value: &str| value.matches("{}").count();
                assert_eq!(places(value), places(original), "{}: {key}", text.tag);
            }
        }
    }

    #[test]
    fn no_language_repeats_the_sentences_of_another() {
        for (number, text) in ALL.iter().enumerate() {
            for other in &ALL[number + 1..] {
                for (key, value) in strings(text) {
                    let long = value.len() > 30;
                    let same = strings(other).into_iter().any(|(k, v)| k == key && v == value);
                    assert!(!(long && same), "{} and {} share {key}", text.tag, other.tag);
                }
            }
        }
    }

    #[test]
    fn one_language_at_least_is_written_from_the_right() {
        assert!(ALL.iter().any(|text| text.direction == "rtl"));
    }

    #[test]
    fn the_best_language_that_there_is_is_taken() {
        let of = |listed: &'static str| {
            let listed = HeaderValue::from_static(listed);
            of_headers(&HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, listed)])).tag
        };
        assert_eq!(of("de-AT,de;q=0.9,en;q=0.8"), "de");
        assert_eq!(of("nl, fr;q=0.4, es;q=0.7"), "es");
        assert_eq!(of("AR-eg"), "ar");
        assert_eq!(of("de;q=0, fr;q=x, *"), "en");
        assert_eq!(of_headers(&HeaderMap::new()).tag, "en");
    }

    #[test]
    fn values_go_where_their_places_are() {
        assert_eq!(fill("{} per {}", &["1 sat", "MiB"]), "1 sat per MiB");
        assert_eq!(fill("none", &["x"]), "none");
        assert_eq!(fill("{}{}", &["a"]), "a");
    }
}
