//! Numbers for people.

const KIB: u64 = 1 << 10;

/// Bytes in the largest unit that leaves a whole number before the point.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < KIB {
        return format!("{bytes} B");
    }
    let exponent = bytes.ilog2() / 10;
    let unit = units.get(exponent as usize - 1).copied().unwrap_or("EiB");
    // Hundredths, rounded down: what is left is never shown as more than it is.
    let hundredths = (u128::from(bytes) * 100) >> (10 * exponent);
    format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100)
}

/// An amount in sat, to the msat.
pub(super) fn msat(msat: u64) -> String {
    format!("{}.{:03} sat", grouped(msat / 1_000), msat % 1_000)
}

/// An amount in whole sat.
pub(super) fn sat(sat: u64) -> String {
    format!("{} sat", grouped(sat))
}

/// A whole number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time in its two largest units.
pub(super) fn seconds(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_largest_unit_that_fits() {
        for (number, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.00 KiB"),
            (10 << 20, "10.00 MiB"),
            ((10 << 20) - 1, "9.99 MiB"),
            (u64::MAX, "15.99 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn amounts_are_exact_to_the_msat() {
        for (number, text) in [
            (0, "0.000 sat"),
            (999, "0.999 sat"),
            (1_234_567_890, "1,234,567.890 sat"),
            (u64::MAX, "18,446,744,073,709,551.615 sat"),
        ] {
            assert_eq!(msat(number), text);
        }
    }

    #[test]
    fn time_has_its_two_largest_units() {
        for (number, text) in
            [(59, "59 s"), (60, "1 min 0 s"), (3_661, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(seconds(number), text);
        }
    }
}
