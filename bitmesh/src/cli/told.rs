//! What `bitmesh connect` says: lines for people, or JSON for programs.

use std::time::{Duration, Instant};

use bitmesh_core::Tariff;
use bitmesh_core::wire::BidVerdict;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::{human, output};
use crate::payer::{Event, Settled, Standing, Watch};

/// How often the standing is written where nobody watches.
const QUIET: Duration = Duration::from_secs(10);
/// Back to the first column, and erase the line (ECMA-48 §8.3.41).
const CLEAR_LINE: &str = "\r\x1b[K";

/// Writes what happens to standard output.
pub(super) struct Told {
    json: bool,
    on_terminal: bool,
    has_live_line: bool,
    last_standing: Option<Instant>,
}

impl Told {
    pub(super) fn new(json: bool) -> Self {
        let on_terminal = output::is_terminal() && !json;
        Self { json, on_terminal, has_live_line: false, last_standing: None }
    }

    fn text(&mut self, event: &Event) -> Option<String> {
        if let Event::Paying(standing) = event {
            return self.live(standing);
        }
        let text = lines(event, self.on_terminal);
        let after = if std::mem::take(&mut self.has_live_line) { "\n" } else { "" };
        Some(format!("{after}{text}\n"))
    }

    /// One line that is written over, or one now and then.
    fn live(&mut self, standing: &Standing) -> Option<String> {
        let line = standing_line(standing);
        if self.on_terminal {
            self.has_live_line = true;
            return Some(format!("{CLEAR_LINE}{line}"));
        }
        let is_due = self.last_standing.is_none_or(|last| last.elapsed() >= QUIET);
        is_due.then(|| {
            self.last_standing = Some(Instant::now());
            format!("{line}\n")
        })
    }
}

impl Watch for Told {
    fn tell(&mut self, event: &Event) {
        // Nobody may be listening any more; the channel is closed all the same.
        if self.json {
            let _ = output::write_json(event);
        } else if let Some(text) = self.text(event) {
            let _ = output::write(&text);
        }
    }
}

/// What is said of credit before the funding is confirmed.
fn early(sat: u64) -> String {
    match sat {
        0 => String::new(),
        sat => format!(
            "; up to {} sat count at once, the rest when the funding is confirmed; don't replace it",
            human::grouped(sat)
        ),
    }
}

fn lines(event: &Event, with_code: bool) -> String {
    match event {
        Event::Offer { gateway, tariff, first_update_sat, capacity_sat, unconfirmed_sat } => {
            format!(
                "{gateway} asks {}; {} sat first, {} sat in the channel{}",
                prices(tariff),
                human::grouped(*first_update_sat),
                human::grouped(*capacity_sat),
                early(*unconfirmed_sat)
            )
        }
        Event::Bid { bid, verdict, asked } => {
            let said = match verdict {
                BidVerdict::Accepted => "accepted",
                BidVerdict::Countered => "the gateway counters with",
                BidVerdict::Declined => "declined, the gateway stays at",
            };
            format!("bid {}: {said} {}", prices(bid), prices(asked))
        }
        Event::Resumed { channel, paid_sat } => {
            format!(
                "going on with channel {channel}: {} sat paid so far",
                human::grouped(*paid_sat)
            )
        }
        Event::Moved { channel, mac } => {
            format!("channel {channel} pays for {mac} now; its balance came along")
        }
        Event::Fund { address, amount_sat, uri, refund_block, .. } => {
            let code = if with_code { code(uri) } else { String::new() };
            format!(
                "{code}pay {} sat to {address}\n{uri}\nwhat is not used comes back; from block \
                 {refund_block} on also without the gateway",
                human::grouped(*amount_sat)
            )
        }
        Event::Relayed { txid, .. } => format!("the gateway relays the funding {txid}"),
        Event::Waiting { confirmations, required, .. } => {
            format!("waiting for the funding: {confirmations} of {required} confirmations")
        }
        Event::Paying(standing) => standing_line(standing),
        Event::Warning { message } => format!("warning: {message}"),
        Event::Closing { channel, why } => format!("closing channel {channel}: {why}"),
        Event::Closed(settled) => settled_lines(settled),
    }
}

fn prices(tariff: &Tariff) -> String {
    let mut parts = Vec::new();
    for (price, of) in [
        (tariff.uplink_msat_per_mib, "a MiB up"),
        (tariff.downlink_msat_per_mib, "a MiB down"),
        (tariff.msat_per_minute, "a minute"),
    ] {
        if price > 0 {
            parts.push(format!("{} {of}", human::msat(price)));
        }
    }
    if parts.is_empty() {
        parts.push("nothing".to_owned());
    }
    for (limit, of) in [
        (tariff.uplink_kbit_per_s, "up at most"),
        (tariff.downlink_kbit_per_s, "down at most"),
        (tariff.throttle_kbit_per_s, "when nothing is left"),
    ] {
        if limit > 0 {
            parts.push(format!("{} kbit/s {of}", human::grouped(limit)));
        }
    }
    parts.join(", ")
}

fn standing_line(standing: &Standing) -> String {
    format!(
        "used {} up, {} down, {}: {}; paid {} sat, {} sat left; {} a second",
        human::bytes(standing.uplink_bytes),
        human::bytes(standing.downlink_bytes),
        human::seconds(standing.seconds),
        human::msat(standing.used_msat),
        human::grouped(standing.paid_sat),
        human::grouped(standing.left_sat),
        human::msat(standing.msat_per_second),
    )
}

fn settled_lines(settled: &Settled) -> String {
    let sat = |sat: Option<u64>| sat.map_or("?".to_owned(), human::grouped);
    let mut text = format!(
        "closed by {}\nused {} up, {} down: {}",
        settled.txid,
        human::bytes(settled.uplink_bytes),
        human::bytes(settled.downlink_bytes),
        human::msat(settled.used_msat),
    );
    if settled.unseen_msat > 0 {
        text += &format!(", of it {} while nobody counted", human::msat(settled.unseen_msat));
    }
    text += &format!(
        "\nto the gateway {} sat, back {} sat, fee {} sat",
        sat(settled.settled_sat),
        sat(settled.returned_sat),
        sat(settled.fee_sat)
    );
    text
}

/// A code for a wallet's camera (ISO/IEC 18004), dark on light, whatever the terminal's colours.
fn code(uri: &str) -> String {
    let Ok(code) = QrCode::new(uri) else { return String::new() };
    let image =
        code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    format!("{image}\n")
}

#[cfg(test)]
mod tests {
    use bitcoin::Txid;
    use bitcoin::hashes::Hash as _;
    use bitmesh_core::wire::ChannelId;

    use super::*;

    const STANDING: Standing = Standing {
        uplink_bytes: 1 << 20,
        downlink_bytes: 10 << 20,
        seconds: 61,
        used_msat: 11_500,
        paid_sat: 1_000,
        left_sat: 49_000,
        step_sat: 3,
        msat_per_second: 1_500,
        updates: 1,
    };

    #[test]
    fn the_standing_says_what_is_used_paid_left_and_how_fast() {
        let mut told =
            Told { json: false, on_terminal: true, has_live_line: false, last_standing: None };
        let line = told.text(&Event::Paying(STANDING)).unwrap();
        assert_eq!(
            line,
            "\r\x1b[Kused 1.00 MiB up, 10.00 MiB down, 1 min 1 s: 11.500 sat; paid 1,000 sat, \
             49,000 sat left; 1.500 sat a second"
        );
        let next = told.text(&Event::Warning { message: "careful".into() }).unwrap();
        assert_eq!(next, "\nwarning: careful\n", "the live line stays");
    }

    #[test]
    fn where_nobody_watches_the_standing_comes_now_and_then() {
        let mut told =
            Told { json: false, on_terminal: false, has_live_line: false, last_standing: None };
        assert!(told.text(&Event::Paying(STANDING)).is_some());
        assert!(told.text(&Event::Paying(STANDING)).is_none());
    }

    #[test]
    fn the_end_says_what_was_used_what_comes_back_and_by_which_transaction() {
        let text = settled_lines(&Settled {
            channel: ChannelId([1; 32]),
            txid: Txid::from_byte_array([2; 32]),
            uplink_bytes: 0,
            downlink_bytes: 1 << 20,
            used_msat: 1_000,
            unseen_msat: 100,
            settled_sat: Some(1_000),
            returned_sat: Some(48_000),
            fee_sat: None,
        });
        for part in
            [&"02".repeat(32), "0.100 sat while nobody counted", "back 48,000 sat, fee ? sat"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_uri_has_a_code_with_a_quiet_zone() {
        let image = code("bitcoin:bcrt1qexample?amount=0.0005&label=BitMesh");
        assert!(image.lines().count() > 15);
        assert!(
            image
                .lines()
                .all(|line| line.chars().count() == image.lines().next().unwrap().chars().count())
        );
    }
}
