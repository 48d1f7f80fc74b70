//! What the watcher sees: a table, or JSON lines.

use bitmesh_common::abi::{Account, Meter};
use bitmesh_common::money::UNITS_PER_MSAT;
use serde_json::{Value, json};

use super::Outcome;

/// How to show it.
#[derive(Clone, Copy, Debug)]
pub struct Show {
    /// JSON lines, for a program.
    pub json: bool,
}

/// One moment of the live table.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Milliseconds since the traffic began.
    pub at_ms: u64,
    /// What the kernel counts.
    pub meter: Meter,
    /// What is prepaid.
    pub account: Account,
    /// Both ways together, since the last moment.
    pub bytes_per_second: u64,
    /// Whether packets were dropped for want of money since the last moment, or nothing passed.
    pub closed: bool,
}

impl Show {
    /// Says what happens next.
    pub fn say(self, event: &str, text: &str) {
        if self.json {
            self.line(&json!({ "event": event, "text": text.trim() }));
        } else {
            println!("{text}");
        }
    }

    /// The heads of the live table.
    pub fn heads(self) {
        if !self.json {
            println!(
                "\n{:>6} {:>13} {:>13} {:>13} {:>13} {:>11}",
                "s", "up bytes", "down bytes", "spent msat", "left msat", "MiB/s"
            );
        }
    }

    /// One line of the live table.
    pub fn moment(self, moment: &Moment) {
        let Moment { at_ms, meter, account, bytes_per_second, closed } = moment;
        let left = account.prepaid.saturating_sub(meter.spent) / UNITS_PER_MSAT;
        let spent = meter.spent.div_ceil(UNITS_PER_MSAT);
        if self.json {
            return self.line(&json!({
                "event": "sample",
                "at_ms": at_ms,
                "uplink_bytes": meter.uplink_bytes,
                "downlink_bytes": meter.downlink_bytes,
                "spent_msat": spent,
                "left_msat": left,
                "bytes_per_second": bytes_per_second,
                "dropped_packets": meter.dropped_unpaid,
                "closed": closed,
            }));
        }
        let closed = if *closed { "  closed" } else { "" };
        println!(
            "{:>6.1} {:>13} {:>13} {:>13} {:>13} {:>11.2}{closed}",
            *at_ms as f64 / 1_000.0,
            grouped(meter.uplink_bytes),
            grouped(meter.downlink_bytes),
            grouped(spent),
            grouped(left),
            *bytes_per_second as f64 / f64::from(1 << 20),
        );
    }

    /// The comparison at the end.
    pub fn outcome(self, outcome: &Outcome) {
        if self.json {
            return self.line(&outcome.json());
        }
        let Outcome { uplink, downlink, meter, account, .. } = outcome;
        let heads = ["", "counted bytes", "metered bytes", "packets", "msat per MiB", "msat"];
        row(&heads.map(str::to_owned));
        let rows = [
            ("uplink", uplink, meter.uplink_bytes, account.uplink_msat_per_mib),
            ("downlink", downlink, meter.downlink_bytes, account.downlink_msat_per_mib),
        ];
        for (name, counted, metered, price) in rows {
            let msat = (counted.bytes * price).div_ceil(UNITS_PER_MSAT);
            let numbers = [counted.bytes, metered, counted.packets, price, msat].map(grouped);
            let [a, b, c, d, e] = numbers;
            row(&[name.to_owned(), a, b, c, d, e]);
        }
        let [prepaid, due, charged] =
            [outcome.prepaid_msat(), outcome.due_msat(), outcome.charged_msat].map(grouped);
        println!("\nprepaid {prepaid} msat, due {due} msat, charged {charged} msat");
        println!("bytes beyond what was paid for: {}", outcome.overshoot_bytes());
        let trade = &outcome.trade;
        let channels = [trade.funded_sat, trade.settled_sat, trade.returned_sat, trade.fee_sat];
        let [funded, settled, returned, fee] = channels.map(grouped);
        println!(
            "channels: {funded} sat funded = {settled} to the gateway + {returned} back to Bob + \
             {fee} fees, by {} updates",
            trade.updates
        );
        for fault in outcome.faults() {
            println!("FAULT: {fault}");
        }
        let verdict = if outcome.faults().is_empty() { "pass" } else { "FAIL" };
        println!("result: {verdict}");
    }

    /// What to try while it still runs.
    pub fn kept(self, tries: &[(&str, String)]) {
        if self.json {
            let tries: serde_json::Map<String, Value> =
                tries.iter().map(|(what, how)| ((*what).to_owned(), json!(how))).collect();
            return self.line(&json!({ "event": "kept", "try": tries }));
        }
        println!("\nIt still runs. Try:");
        for (what, how) in tries {
            println!("  {what}:\n    {how}");
        }
    }

    /// What ended the demonstration before its time.
    pub fn failure(self, error: &anyhow::Error) {
        if self.json {
            self.line(&json!({ "result": "fail", "why": format!("{error:#}") }));
        } else {
            eprintln!("demo: {error:#}");
        }
    }

    fn line(self, value: &Value) {
        println!("{value}");
    }
}

fn row(cells: &[String; 6]) {
    let [name, rest @ ..] = cells;
    let rest: String = rest.iter().map(|cell| format!(" {cell:>14}")).collect();
    println!("{name:<9}{rest}");
}

/// The number with commas between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut groups: Vec<&str> = digits.as_bytes()[first..]
        .chunks(3)
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    if first > 0 {
        groups.insert(0, &digits[..first]);
    }
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_grouped() {
        let numbers = [0, 12, 999, 1_000, 123_456, 1_234_567];
        assert_eq!(numbers.map(grouped), ["0", "12", "999", "1,000", "123,456", "1,234,567"]);
    }
}
