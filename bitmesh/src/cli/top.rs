//! `bitmesh top`

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use bitmesh_core::Mac;
use clap::Args;
use serde::Serialize;

use super::accounts::{self, gate, tone};
use super::args::Agent;
use super::failure::Failure;
use super::table::{Align, Table};
use super::{human, output};
use crate::control::{AccountLine, State};

/// Back to the first place of the terminal, and erase what is below (ECMA-48 §8.3.21, §8.3.39).
const CLEAR: &str = "\x1b[H\x1b[J";
/// Lines of a terminal whose height is unknown.
const DEFAULT_ROWS: u16 = 24;
/// Lines that are not for accounts: the head, the sum, the last.
const OTHER_ROWS: usize = 3;

/// Watch the accounts: used, left, spent, and how fast
#[derive(Args)]
pub(super) struct Top {
    /// Seconds between two readings
    #[arg(long, value_name = "SECONDS", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    interval: u64,
    /// Print one table, from two readings, and end
    #[arg(long)]
    once: bool,
    /// Print a line of JSON for each reading
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: Agent,
}

/// An account and how fast it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Moving {
    #[serde(flatten)]
    account: AccountLine,
    uplink_bytes_per_second: u64,
    downlink_bytes_per_second: u64,
    msat_per_second: u64,
}

#[derive(Serialize)]
struct Frame<'a> {
    at_ns: u64,
    accounts: &'a [Moving],
}

impl Top {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (mut before_ns, mut before) = accounts::read(&self.agent)?;
        loop {
            thread::sleep(Duration::from_secs(self.interval));
            let (at_ns, now) = accounts::read(&self.agent)?;
            let moving = rates(&before, &now, at_ns.saturating_sub(before_ns));
            self.show(at_ns, &moving)?;
            if self.once {
                return Ok(());
            }
            (before_ns, before) = (at_ns, now);
        }
    }

    fn show(&self, at_ns: u64, moving: &[Moving]) -> Result<(), Failure> {
        if self.json {
            return output::write_json(&Frame { at_ns, accounts: moving });
        }
        if self.once || !output::is_terminal() {
            return output::write(&render(moving, usize::MAX, output::wants_colour()));
        }
        let rows = rustix::termios::tcgetwinsize(std::io::stdout())
            .map_or(DEFAULT_ROWS, |size| size.ws_row);
        let room = usize::from(rows).saturating_sub(OTHER_ROWS);
        let text = render(moving, room, output::wants_colour());
        output::write(&format!("{CLEAR}{text}"))
    }
}

/// What changed between two readings, a second.
fn rates(before: &[AccountLine], now: &[AccountLine], elapsed_ns: u64) -> Vec<Moving> {
    let before: BTreeMap<Mac, &AccountLine> = before.iter().map(|a| (a.mac.0, a)).collect();
    let per_second = |new: u64, old: u64| {
        let difference = u128::from(new.saturating_sub(old)) * 1_000_000_000;
        let rate = difference.checked_div(u128::from(elapsed_ns)).unwrap_or(0);
        u64::try_from(rate).unwrap_or(u64::MAX)
    };
    let mut moving: Vec<_> = now
        .iter()
        .map(|account| {
            let old = before.get(&account.mac.0).copied().unwrap_or(account);
            Moving {
                account: account.clone(),
                uplink_bytes_per_second: per_second(account.uplink_bytes, old.uplink_bytes),
                downlink_bytes_per_second: per_second(account.downlink_bytes, old.downlink_bytes),
                msat_per_second: per_second(account.charged_msat, old.charged_msat),
            }
        })
        .collect();
    moving.sort_by_key(|line| {
        let bytes = line.uplink_bytes_per_second.saturating_add(line.downlink_bytes_per_second);
        (Reverse(bytes), line.account.state == State::Closed, line.account.mac)
    });
    moving
}

fn render(moving: &[Moving], room: usize, colour: bool) -> String {
    let mut table = Table::new(&[
        ("MAC", Align::Left),
        ("GATE", Align::Left),
        ("USED UP", Align::Right),
        ("USED DOWN", Align::Right),
        ("UP/s", Align::Right),
        ("DOWN/s", Align::Right),
        ("SPENT", Align::Right),
        ("SPENT/s", Align::Right),
        ("LEFT", Align::Right),
    ]);
    for line in moving.iter().take(room) {
        let account = &line.account;
        let cells = vec![
            account.mac.to_string(),
            gate(account).to_owned(),
            human::bytes(account.uplink_bytes),
            human::bytes(account.downlink_bytes),
            human::bytes(line.uplink_bytes_per_second),
            human::bytes(line.downlink_bytes_per_second),
            human::msat(account.charged_msat),
            human::msat(line.msat_per_second),
            human::msat(account.balance_msat),
        ];
        table.push(tone(account), cells);
    }
    let open = moving.iter().filter(|line| line.account.state != State::Closed).count();
    let hidden = moving.len().saturating_sub(room);
    let mut text = table.render(colour);
    text += &format!("accounts: {}, {open} open", moving.len());
    if hidden > 0 {
        text += &format!(", {hidden} not shown");
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Unbilled;

    fn account(mac: &str, bytes: u64, charged_msat: u64) -> AccountLine {
        AccountLine {
            mac: mac.parse().expect("valid"),
            state: State::Open,
            session: 1,
            tariff: Some("default".into()),
            uplink_msat_per_mib: 0,
            downlink_msat_per_mib: 0,
            msat_per_minute: 0,
            uplink_kbit_per_s: 0,
            downlink_kbit_per_s: 0,
            throttle_kbit_per_s: 0,
            credited_msat: 100_000,
            charged_msat,
            balance_msat: 100_000 - charged_msat,
            charged_for_bytes_msat: charged_msat,
            charged_for_time_msat: 0,
            rounding_msat: 0,
            uplink_bytes: bytes,
            uplink_packets: 0,
            downlink_bytes: 2 * bytes,
            downlink_packets: 0,
            unbilled: Unbilled::default(),
        }
    }

    const ALICE: &str = "02:00:00:00:00:0a";
    const BOB: &str = "02:00:00:00:00:0b";

    #[test]
    fn rates_are_what_changed_a_second() {
        let before = [account(ALICE, 1_000, 0), account(BOB, 0, 0)];
        let now = [account(ALICE, 1_000, 0), account(BOB, 3_000, 500)];
        let moving = rates(&before, &now, 2_000_000_000);
        assert_eq!(moving[0].account.mac.to_string(), BOB, "the fastest comes first");
        assert_eq!(moving[0].uplink_bytes_per_second, 1_500);
        assert_eq!(moving[0].downlink_bytes_per_second, 3_000);
        assert_eq!(moving[0].msat_per_second, 250);
        assert_eq!(moving[1].uplink_bytes_per_second, 0);
    }

    #[test]
    fn a_new_account_and_two_readings_at_once_have_no_rate() {
        let now = [account(ALICE, 5_000, 5)];
        assert_eq!(rates(&[], &now, 1_000_000_000)[0].uplink_bytes_per_second, 0);
        let before = [account(ALICE, 0, 0)];
        assert_eq!(rates(&before, &now, 0)[0].uplink_bytes_per_second, 0);
    }

    #[test]
    fn lines_that_do_not_fit_are_counted() {
        let now = [account(ALICE, 1, 0), account(BOB, 1, 0)];
        let text = render(&rates(&now, &now, 1), 1, false);
        assert_eq!(text.lines().count(), 3);
        assert!(text.ends_with("accounts: 2, 2 open, 1 not shown\n"), "{text}");
    }
}
