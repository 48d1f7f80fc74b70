//! `bitmesh recover`

use std::path::PathBuf;

use bitmesh_core::ChannelLine;
use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::table::{Align, Table, Tone};
use super::{human, output};
use crate::agent::{Recovering, recover};
use crate::backup::{Read, read};
use crate::config::Config;
use crate::control::ChainState;

/// Letters of a channel's name.
const SHORT_NAME: usize = 12;

/// Close every channel of a gateway whose machine is gone
///
/// It takes the seed (`bitmesh init --words` makes it again), and what there is of the books: a copy
/// of the database at the place that the configuration names, a backup, or both. It runs until
/// every close is in a block, and can be interrupted and run again. What the seed alone can't bring
/// back: which channels there were, the updates that payers signed, and grants.
#[derive(Args)]
pub(super) struct Recover {
    /// The configuration, as it was
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The directory or file that [backup] wrote
    #[arg(long, value_name = "PATH")]
    backup: Option<PathBuf>,
    /// Print JSON at the end
    #[arg(long)]
    json: bool,
}

/// A channel that is closed.
#[derive(Serialize)]
struct Row {
    channel: String,
    sentence: String,
    credited_sat: u64,
    settled_sat: u64,
    returned_sat: u64,
    fee_sat: u64,
    closing_txid: Option<String>,
}

#[derive(Serialize)]
struct Rows {
    channels: Vec<Row>,
}

impl Recover {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = Config::load(&self.config)?;
        let Read { lines, damaged } = match &self.backup {
            Some(path) => read(path)?,
            None if !config.database.exists() => return Err(nothing()),
            None => Read::default(),
        };
        for what in damaged {
            eprintln!("bitmesh: of no use, the rest is used: {what}");
        }
        let Some(closed) = recover(&config, lines, &mut tell)? else {
            let what =
                "interrupted: not every close is in a block: run it again, or `bitmesh gateway`";
            return Err(Failure::Told(what.to_owned()));
        };
        if closed.is_empty() {
            return Err(nothing());
        }
        let channels: Vec<Row> = closed.iter().map(row).collect();
        if self.json {
            return output::write_json(&Rows { channels });
        }
        output::write(&show(&channels).render(output::wants_colour()))
    }
}

/// There is no channel to close.
fn nothing() -> Failure {
    let what = "no channel is known on which anything was paid: the seed brings back the keys alone, \
                not which channels there were, nor the updates that payers signed: put a copy of the \
                database where the configuration names it, or give --backup";
    Failure::Told(what.to_owned())
}

fn tell(what: Recovering) {
    let line = match what {
        Recovering::Refused(channel, error) => format!("channel {channel} of the backup: {error}"),
        Recovering::Taken(channels) => format!("{channels} channels are taken from the backup"),
        Recovering::Channel(ChannelLine { channel, sentence, .. }) => {
            let name: String = channel.to_string().chars().take(SHORT_NAME).collect();
            format!("{name}  {sentence}")
        }
        Recovering::Chain(status) => match (status.state, status.why) {
            (ChainState::Unavailable, Some(why)) => format!("the chain is not seen: {why}"),
            (ChainState::CatchingUp, _) => "the chain is read".to_owned(),
            (ChainState::Following, _) => "the chain is followed".to_owned(),
            _ => return,
        },
        Recovering::NotWritten(why) => format!("{why}: it is tried again"),
    };
    eprintln!("{line}");
}

fn row(line: &ChannelLine) -> Row {
    Row {
        channel: line.channel.to_string(),
        sentence: line.sentence.clone(),
        credited_sat: line.credited_sat,
        settled_sat: line.settled_sat,
        returned_sat: line.returned_sat,
        fee_sat: line.fee_sat,
        closing_txid: line.closing_txid.map(|txid| txid.to_string()),
    }
}

fn show(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        ("CHANNEL", Align::Left),
        ("CREDITED", Align::Right),
        ("SETTLED", Align::Right),
        ("RETURNED", Align::Right),
        ("FEE", Align::Right),
        ("STATE", Align::Left),
    ]);
    for row in rows {
        let name: String = row.channel.chars().take(SHORT_NAME).collect();
        let sats = [row.credited_sat, row.settled_sat, row.returned_sat, row.fee_sat];
        let [credited, settled, returned, fee] = sats.map(human::sat);
        table.push(Tone::Plain, vec![name, credited, settled, returned, fee, row.sentence.clone()]);
    }
    table
}
