//! `cargo xtask demo`: a gateway sells a connection, before your eyes.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use bitmesh_tests::demo::{Outcome, Show, Stage};
use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

#[derive(Parser)]
#[command(about = "A gateway sells a connection, from the first packet to the last paid one.")]
struct Args {
    /// Write JSON lines, the last one the result.
    #[arg(long)]
    json: bool,
    /// Leave the gateway running, and say what to try next.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let show = Show { json: args.json };
    match demonstrate(show, args.keep) {
        Ok(outcome) if outcome.faults().is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            show.failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn demonstrate(show: Show, keep: bool) -> Result<Outcome> {
    let interrupted = watch_for_interruption()?;
    let stage = Stage::set(show, &interrupted)?;
    let outcome = stage.play()?;
    let outcome = Outcome { trade: stage.trade()?, ..outcome };
    // The result is the last line for a program, and the hints are for people.
    if !show.json {
        show.outcome(&outcome);
    }
    if keep {
        stage.keep();
    }
    if show.json {
        show.outcome(&outcome);
    }
    Ok(outcome)
}

/// Lets an interruption end the demonstration in good order, namespaces and pins removed.
fn watch_for_interruption() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}
