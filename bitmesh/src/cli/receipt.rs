//! `bitmesh receipt`

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bitmesh_core::wire::{ChannelId, SignedReceipt};
use clap::{Args, Subcommand};

use super::args::{Agent, beside_the_point};
use super::failure::Failure;
use super::output;
use crate::control::{Request, Response};
use crate::mac::MacText;

/// Bytes of a receipt's file, at most.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// What a file with a receipt may be done with: its owner alone reads it.
const FILE_MODE: u32 = 0o600;

/// Check the receipt of a session, or take it from the gateway
///
/// When a channel is closed together, both sides sign what was used, at which price, and what the
/// close pays. The payer has its receipts in its state directory, as receipt-CHANNEL.json.
#[derive(Args)]
pub(super) struct Receipt {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Verify(Verify),
    Save(Save),
}

/// Check a receipt's file: no gateway, no node, no network
#[derive(Args)]
struct Verify {
    /// The receipt
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Write the gateway's copy of a receipt to a new file
#[derive(Args)]
struct Save {
    /// The channel: 64 hexadecimal digits
    #[arg(value_name = "CHANNEL")]
    channel: ChannelId,
    /// The file; there must be none yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    agent: Agent,
}

impl Receipt {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.what {
            What::Verify(verify) => verify.run(),
            What::Save(save) => save.run(),
        }
    }
}

impl Verify {
    fn run(self) -> Result<(), Failure> {
        let signed = read(&self.file)?;
        signed.verify().map_err(|error| {
            let file = self.file.display();
            Failure::Told(format!("{file}: {error}: it proves nothing, ask for another copy"))
        })?;
        if self.json { output::write_json(&signed.receipt) } else { output::write(&lines(&signed)) }
    }
}

impl Save {
    fn run(self) -> Result<(), Failure> {
        let asked = Request::Receipt { channel: self.channel };
        let Response::Receipt(signed) = self.agent.ask(&asked)? else {
            return Err(beside_the_point());
        };
        write(&self.file, &signed)
    }
}

fn failed(file: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::Told(format!("{}: {error}: give the file of a receipt", file.display()))
}

fn read(file: &Path) -> Result<SignedReceipt, Failure> {
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(|error| failed(file, error))?;
    opened.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(|error| failed(file, error))?;
    serde_json::from_slice(&bytes).map_err(|error| failed(file, error))
}

fn write(file: &Path, signed: &SignedReceipt) -> Result<(), Failure> {
    let told = |error| Failure::Told(format!("{}: {error}: give another file", file.display()));
    let json = serde_json::to_string_pretty(signed)?;
    let mut new = OpenOptions::new();
    let opened = new.write(true).create_new(true).mode(FILE_MODE).open(file);
    let mut opened = opened.map_err(told)?;
    opened.write_all(format!("{json}\n").as_bytes()).map_err(told)?;
    opened.sync_all().map_err(told)
}

fn lines(signed: &SignedReceipt) -> String {
    let (agreement, receipt) = (&signed.agreement, &signed.receipt);
    let tariff = &agreement.tariff;
    format!(
        "The receipt holds: gateway and payer signed it.\n\
         channel   {}\nstation   {}\n\
         used      {} bytes up, {} bytes down, {} ms\n\
         prices    {} msat a MiB up, {} msat a MiB down, {} msat a minute\n\
         charged   {} msat, of {} sat prepaid\n\
         paid      {} sat to the gateway, {} sat back to the payer, {} sat fee\n\
         close     {} (it counts once it is in a block)\n",
        receipt.agreement,
        MacText(agreement.mac),
        receipt.uplink_bytes,
        receipt.downlink_bytes,
        receipt.time_ms,
        tariff.uplink_msat_per_mib,
        tariff.downlink_msat_per_mib,
        tariff.msat_per_minute,
        receipt.charged_msat.0,
        receipt.credited.to_sat(),
        receipt.settled.to_sat(),
        receipt.returned.to_sat(),
        receipt.fee.to_sat(),
        receipt.close_txid,
    )
}
