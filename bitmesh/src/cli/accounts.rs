//! `bitmesh accounts`

use clap::Args;
use serde::Serialize;

use super::args::{Agent, beside_the_point};
use super::failure::Failure;
use super::table::{Align, Table, Tone};
use super::{human, output};
use crate::control::{AccountLine, Request, Response, State};

/// A balance below this part of all that was credited is shown as low: one eighth.
const LOW_FRACTION: u64 = 8;

/// List the accounts: what was credited, charged, and is left
#[derive(Args)]
pub(super) struct Accounts {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: Agent,
}

#[derive(Serialize)]
struct Listed<'a> {
    at_ns: u64,
    accounts: &'a [AccountLine],
}

impl Accounts {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (at_ns, accounts) = read(&self.agent)?;
        if self.json {
            return output::write_json(&Listed { at_ns, accounts: &accounts });
        }
        if accounts.is_empty() {
            return output::write("no accounts yet: `bitmesh grant MAC --msat N` makes one\n");
        }
        output::write(&show(&accounts).render(output::wants_colour()))
    }
}

/// The accounts, and the time of their readings in ns.
pub(super) fn read(agent: &Agent) -> Result<(u64, Vec<AccountLine>), Failure> {
    match agent.ask(&Request::Accounts {})? {
        Response::Accounts { at_ns, accounts } => Ok((at_ns, accounts)),
        _ => Err(beside_the_point()),
    }
}

fn show(accounts: &[AccountLine]) -> Table {
    let mut table = Table::new(&[
        ("MAC", Align::Left),
        ("GATE", Align::Left),
        ("TARIFF", Align::Left),
        ("CREDITED", Align::Right),
        ("CHARGED", Align::Right),
        ("LEFT", Align::Right),
        ("UP", Align::Right),
        ("DOWN", Align::Right),
        ("DROPPED", Align::Right),
        ("LIMIT", Align::Left),
    ]);
    for account in accounts {
        let cells = vec![
            account.mac.to_string(),
            gate(account).to_owned(),
            account.tariff.clone().unwrap_or_else(|| "(own)".to_owned()),
            human::msat(account.credited_msat),
            human::msat(account.charged_msat),
            human::msat(account.balance_msat),
            human::bytes(account.uplink_bytes),
            human::bytes(account.downlink_bytes),
            human::grouped(account.unbilled.dropped()),
            limit(account),
        ];
        table.push(tone(account), cells);
    }
    table
}

/// How fast the session may be, in kbit/s up and down, and what passes when nothing is left.
fn limit(account: &AccountLine) -> String {
    let AccountLine { uplink_kbit_per_s, downlink_kbit_per_s, throttle_kbit_per_s, .. } = account;
    let word = |limit: u64| if limit == 0 { "none".to_owned() } else { human::grouped(limit) };
    let mut text = match (*uplink_kbit_per_s, *downlink_kbit_per_s) {
        (0, 0) => "none".to_owned(),
        (up, down) => format!("{} / {} kbit/s", word(up), word(down)),
    };
    if *throttle_kbit_per_s != 0 {
        text += &format!(", then {} free", human::grouped(*throttle_kbit_per_s));
    }
    text
}

/// The state of the gate, in a word.
pub(super) const fn gate(account: &AccountLine) -> &'static str {
    match account.state {
        State::Open => "open",
        State::Closed => "closed",
        State::Exhausted => "empty",
        State::Waiting => "waiting",
    }
}

/// How the line of an account is shown.
pub(super) const fn tone(account: &AccountLine) -> Tone {
    match account.state {
        State::Open if account.balance_msat < account.credited_msat / LOW_FRACTION => Tone::Careful,
        State::Open => Tone::Plain,
        State::Closed => Tone::Dim,
        State::Exhausted => Tone::Bad,
        State::Waiting => Tone::Careful,
    }
}
