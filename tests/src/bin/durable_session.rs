//! Runs a scripted session in a folder, and says after each step that it is durable. Its writes
//! are recorded: see `power_cut`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bitmesh_tests::power_cut::gateway::GatewaySession;
use bitmesh_tests::power_cut::payer::PayerSession;
use bitmesh_tests::power_cut::session::{Session as _, run_aloud};
use clap::Parser;

#[derive(Parser)]
struct Args {
    /// Which session.
    name: String,
    /// Where.
    folder: PathBuf,
}

fn main() -> Result<()> {
    let Args { name, folder } = Args::parse();
    match name.as_str() {
        GatewaySession::NAME => run_aloud::<GatewaySession>(&folder),
        PayerSession::NAME => run_aloud::<PayerSession>(&folder),
        _ => bail!("no session is called {name}"),
    }
}
