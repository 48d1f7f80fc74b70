//! `bitmesh channels`

use bitmesh_core::wire::ChannelWord;
use clap::Args;
use serde::Serialize;

use super::args::{Agent, beside_the_point};
use super::failure::Failure;
use super::table::{Align, Table, Tone};
use super::{human, output};
use crate::control::{ChannelRow, Request, Response};

/// Letters of a channel's name in the table.
const SHORT_NAME: usize = 12;

/// List the payment channels: what they hold, credit and charge, and where each is
#[derive(Args)]
pub(super) struct Channels {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: Agent,
}

#[derive(Serialize)]
struct Listed<'a> {
    channels: &'a [ChannelRow],
}

impl Channels {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Response::Channels { channels } = self.agent.ask(&Request::Channels {})? else {
            return Err(beside_the_point());
        };
        if self.json {
            return output::write_json(&Listed { channels: &channels });
        }
        if channels.is_empty() {
            return output::write(
                "no channels yet: subscribers open them with `bitmesh connect`\n",
            );
        }
        output::write(&show(&channels).render(output::wants_colour()))
    }
}

fn show(channels: &[ChannelRow]) -> Table {
    let mut table = Table::new(&[
        ("CHANNEL", Align::Left),
        ("MAC", Align::Left),
        ("HOLDS", Align::Right),
        ("CREDITED", Align::Right),
        ("CHARGED", Align::Right),
        ("STATE", Align::Left),
    ]);
    for row in channels {
        let name: String = row.channel.to_string().chars().take(SHORT_NAME).collect();
        let cells = vec![
            name,
            row.mac.to_string(),
            human::sat(row.capacity_sat),
            human::sat(row.credited_sat),
            human::msat(row.charged_msat),
            row.sentence.clone(),
        ];
        table.push(tone(row.state), cells);
    }
    table
}

const fn tone(state: ChannelWord) -> Tone {
    match state {
        ChannelWord::Open => Tone::Good,
        ChannelWord::Opened | ChannelWord::Unconfirmed => Tone::Plain,
        ChannelWord::Closing => Tone::Careful,
        ChannelWord::ClosedTogether | ChannelWord::ClosedAlone | ChannelWord::Lapsed => Tone::Dim,
        ChannelWord::Refunded | ChannelWord::SpentOtherwise | ChannelWord::FundingLost => Tone::Bad,
    }
}
