//! `cargo xtask bench`: measures, prints a table, and writes JSON.

use std::path::PathBuf;

use anyhow::Result;
use bitmesh_tests::bench::{Options, PaymentOptions, data_plane, payments};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures what BitMesh costs, beside what else one could do.")]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Small packets, TCP, and reading the meters.
    DataPlane {
        /// Fewer turns, for a first impression.
        #[arg(long)]
        quick: bool,
        /// Where the JSON goes.
        #[arg(long)]
        json: PathBuf,
    },
    /// Durable updates, and keysend beside them.
    Payments {
        /// Fewer turns and channels, for a first impression.
        #[arg(long)]
        quick: bool,
        /// Where the JSON goes.
        #[arg(long)]
        json: PathBuf,
        /// The program of `tests/keysend`.
        #[arg(long)]
        keysend: PathBuf,
    },
}

fn main() -> Result<()> {
    let (report, json) = match Args::parse().bench {
        Bench::DataPlane { quick, json } => {
            (data_plane(if quick { Options::QUICK } else { Options::FULL })?, json)
        }
        Bench::Payments { quick, json, keysend } => {
            let options = if quick { PaymentOptions::QUICK } else { PaymentOptions::FULL };
            (payments(options, &keysend)?, json)
        }
    };
    report.print();
    report.write(&json)
}
