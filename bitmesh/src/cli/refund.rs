//! `bitmesh refund`

use std::path::PathBuf;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, FeeRate, OutPoint, Script, Transaction};
use bitmesh_core::wire::ChannelId;
use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::node::{NodeAuth, hex_of, script_of};
use super::{human, output};
use crate::payer::{
    ChannelRecord, Funding, Node, Phase, Refunded, State, build_refund, default_directory,
};

/// Take coins back from channels that have expired, without their gateway
///
/// The coins go where the channel's change goes, unless --to says otherwise. What was paid to the
/// gateway and not claimed in time comes back too.
#[derive(Args)]
pub(super) struct Refund {
    /// The channel, as `bitmesh connect` named it
    #[arg(required_unless_present = "all")]
    channel: Option<ChannelId>,
    /// Every channel that is not closed
    #[arg(long, conflicts_with = "channel")]
    all: bool,
    /// The node that knows the chain and takes the transaction, as http://HOST:PORT
    #[arg(long, value_name = "URL", required_unless_present = "print")]
    node: Option<String>,
    #[command(flatten)]
    auth: NodeAuth,
    /// Where the coins go [default: where the channel's change goes]
    #[arg(long, value_name = "ADDRESS")]
    to: Option<Address<NetworkUnchecked>>,
    /// The fee rate [default: what the node estimates]
    #[arg(long, value_name = "SAT_PER_VB", value_parser = clap::value_parser!(u32).range(1..=5_000))]
    feerate: Option<u32>,
    /// Print the transactions, and don't send them. Without a node, of the outputs that are known
    #[arg(long)]
    print: bool,
    /// Where keys and channels are kept [default: ~/.local/share/bitmesh]
    #[arg(long, value_name = "DIRECTORY", env = "BITMESH_STATE")]
    state: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of one channel.
#[derive(Serialize)]
struct Line {
    channel: ChannelId,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Outcome {
    NotBefore { block: u32 },
    Nothing,
    Refunded { txid: String, returned_sat: u64, fee_sat: u64, raw_tx: String },
}

/// Knows what is on disk, and nothing of the chain.
struct Offline {
    known: Option<Funding>,
}

impl Node for Offline {
    /// A node will say whether it is too early.
    fn height(&mut self) -> Result<u32, String> {
        Ok(u32::MAX)
    }

    fn outputs(&mut self, _: &Script) -> Result<Vec<(OutPoint, Amount)>, String> {
        Ok(self.known.iter().map(|known| (known.outpoint, known.capacity)).collect())
    }

    fn feerate(&mut self) -> Result<FeeRate, String> {
        Err("without a node nobody knows the fees: give --feerate".to_owned())
    }

    fn broadcast(&mut self, _: &Transaction) -> Result<(), String> {
        Err("without a node nothing can be sent: give --node".to_owned())
    }
}

impl Refund {
    pub(super) fn run(self) -> Result<(), Failure> {
        let directory = self.state.clone().map_or_else(default_directory, Ok)?;
        let mut state = State::open(&directory)?;
        let records = self.wanted(&state)?;
        let mut is_early = false;
        for mut record in records {
            let line = self.refund(&mut state, &mut record)?;
            is_early |= matches!(line.outcome, Outcome::NotBefore { .. });
            if self.json {
                output::write_json(&line)?;
            } else {
                self.show(&line)?;
            }
        }
        // Who asked for one channel is told by the exit code; all of them are never ready at once.
        if is_early && !self.all { Err(Failure::Silent) } else { Ok(()) }
    }

    fn wanted(&self, state: &State) -> Result<Vec<ChannelRecord>, Failure> {
        let mut records = state.channels()?;
        records.retain(|record| match self.channel {
            Some(channel) => record.id() == Some(channel),
            None => record.agreement.is_some() && record.phase != Phase::Over,
        });
        if records.is_empty() {
            let what = match self.channel {
                Some(channel) => {
                    format!("there is no channel {channel} in this state: see --state")
                }
                None => "there is no channel that is not closed".to_owned(),
            };
            return Err(Failure::Told(what));
        }
        Ok(records)
    }

    fn refund(&self, state: &mut State, record: &mut ChannelRecord) -> Result<Line, Failure> {
        let mut node: Box<dyn Node> = match &self.node {
            Some(url) => Box::new(self.auth.connect(url, record.network)?),
            None => Box::new(Offline { known: record.funding }),
        };
        let to = self.to.as_ref().map(|to| script_of(to, record.network)).transpose()?;
        let feerate = self.feerate.map(FeeRate::from_sat_per_vb_u32);
        let channel = record.id().ok_or_else(|| "the channel has no agreement".to_owned())?;
        let refunded = build_refund(state, record, &mut *node, to.as_ref(), feerate, !self.print)?;
        let outcome = match refunded {
            Refunded::NotBefore(block) => Outcome::NotBefore { block },
            Refunded::Nothing => Outcome::Nothing,
            Refunded::Built(signed) => Outcome::Refunded {
                txid: signed.tx.compute_txid().to_string(),
                returned_sat: signed.returned.to_sat(),
                fee_sat: signed.fee.to_sat(),
                raw_tx: hex_of(&signed.tx),
            },
        };
        Ok(Line { channel, outcome })
    }

    fn show(&self, line: &Line) -> Result<(), Failure> {
        let channel = line.channel;
        match &line.outcome {
            Outcome::NotBefore { block } => {
                let what = format!(
                    "bitmesh: channel {channel} can be refunded from block {block} on, not before"
                );
                eprintln!("{what}");
                Ok(())
            }
            Outcome::Nothing => output::write(&format!("{channel}: nothing is at its address\n")),
            Outcome::Refunded { raw_tx, .. } if self.print => output::write(&format!("{raw_tx}\n")),
            Outcome::Refunded { txid, returned_sat, fee_sat, .. } => {
                let (returned, fee) = (human::grouped(*returned_sat), human::grouped(*fee_sat));
                output::write(&format!(
                    "{channel}: {returned} sat back, fee {fee} sat, by {txid}\n"
                ))
            }
        }
    }
}
