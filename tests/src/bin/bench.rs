//! `cargo xtask bench`: measures, prints a table, and writes JSON.

use std::path::PathBuf;

use anyhow::Result;
use bitmesh_tests::bench::{Options, data_plane};
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
}

fn main() -> Result<()> {
    let Bench::DataPlane { quick, json } = Args::parse().bench;
    let report = data_plane(if quick { Options::QUICK } else { Options::FULL })?;
    report.print();
    report.write(&json)
}
