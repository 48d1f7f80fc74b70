//! Numbers for people, in their language.

use bitmesh_core::Tariff;

use super::text::{Text, fill};

/// What stands where there is no number.
pub(super) const NONE: &str = "–";

/// Longer than this is forever: a hundred days.
const MAX_SPAN_SECONDS: u64 = 100 * 86_400;

/// Bytes in the largest unit that leaves a whole number before the point, rounded down.
pub(super) fn bytes(text: &Text, bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let exponent = bytes.checked_ilog2().unwrap_or(0) / 10;
    let Some(unit) = exponent.checked_sub(1).and_then(|place| units.get(place as usize)) else {
        return format!("{bytes} B");
    };
    let hundredths = (u128::from(bytes) * 100) >> (10 * exponent);
    format!("{}{}{:02} {unit}", hundredths / 100, text.point, hundredths % 100)
}

/// An amount in sat, to the msat.
pub(super) fn amount(text: &Text, msat: u64) -> String {
    format!("{}{}{:03} sat", grouped(text, msat / 1_000), text.point, msat % 1_000)
}

/// A price in sat, without zeros at the end.
fn price(text: &Text, msat: u64) -> String {
    let whole = grouped(text, msat / 1_000);
    let parts = format!("{:03}", msat % 1_000);
    match parts.trim_end_matches('0') {
        "" => format!("{whole} sat"),
        parts => format!("{whole}{}{parts} sat", text.point),
    }
}

/// All prices in a line.
pub(super) fn prices(text: &Text, tariff: &Tariff) -> String {
    let Tariff {
        uplink_msat_per_mib: up, downlink_msat_per_mib: down, msat_per_minute: time, ..
    } = *tariff;
    let bytes = if up == down {
        vec![(up, text.mib)]
    } else {
        vec![(down, text.mib_down), (up, text.mib_up)]
    };
    let all = bytes.into_iter().chain([(time, text.minute)]);
    let dear = all.filter(|(msat, _)| *msat > 0);
    let said = dear.map(|(msat, what)| fill(text.per, &[&price(text, msat), what]));
    match said.collect::<Vec<_>>().join(text.plus) {
        said if said.is_empty() => text.free.to_owned(),
        said => said,
    }
}

/// A length of time in its two largest units.
pub(super) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        _ if seconds > MAX_SPAN_SECONDS => format!("> {} d", MAX_SPAN_SECONDS / 86_400),
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

fn grouped(text: &Text, number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(text.group);
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::super::text::of_tag;
    use super::*;

    #[test]
    fn numbers_are_exact_in_the_notation_of_the_language() {
        let (en, de) = (of_tag("en").expect("English"), of_tag("de").expect("German"));
        assert_eq!(amount(en, 1_234_567_890), "1,234,567.890 sat");
        assert_eq!(amount(de, 1_234_567), "1\u{202f}234,567 sat");
        assert_eq!(bytes(en, 0), "0 B");
        assert_eq!(bytes(en, 1_023), "1023 B");
        assert_eq!(bytes(de, (10 << 20) - 1), "9,99 MiB");
        assert_eq!(bytes(en, u64::MAX), "15.99 EiB");
    }

    #[test]
    fn a_price_is_one_line_however_many_there_are() {
        let en = of_tag("en").expect("English");
        let of = |up, down, time| {
            let (uplink_msat_per_mib, downlink_msat_per_mib) = (up, down);
            let tariff = Tariff {
                uplink_msat_per_mib,
                downlink_msat_per_mib,
                msat_per_minute: time,
                ..Tariff::FREE
            };
            prices(en, &tariff)
        };
        assert_eq!(of(20_000, 20_000, 0), "20 sat per MiB");
        assert_eq!(of(1, 20_500, 0), "20.5 sat per MiB down + 0.001 sat per MiB up");
        assert_eq!(of(0, 5_000, 50_000), "5 sat per MiB down + 50 sat per minute");
        assert_eq!(of(0, 0, 0), "Free of charge");
    }

    #[test]
    fn time_has_its_two_largest_units_and_ends_somewhere() {
        for (number, text) in [
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3_661, "1 h 1 min"),
            (90_000, "1 d 1 h"),
            (u64::MAX, "> 100 d"),
        ] {
            assert_eq!(span(number), text);
        }
    }
}
