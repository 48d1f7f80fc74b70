//! `bitmesh gateway`

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::failure::Failure;
use crate::agent;
use crate::config::Config;

/// Meter the LAN interfaces of a configuration, and sell what passes
///
/// Runs until it is interrupted. The gate then stays in place: it meters and stops at the packet
/// that is not paid for, also without the agent. `bitmesh teardown` removes it.
#[derive(Args)]
pub(super) struct Gateway {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What to log: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", env = "BITMESH_LOG", default_value = "info")]
    log: String,
}

impl Gateway {
    pub(super) fn run(self, object: &'static [u8]) -> Result<(), Failure> {
        start_log(&self.log)?;
        let config = Config::load(&self.config)?;
        Ok(agent::run(config, object)?)
    }
}

fn start_log(level: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(level)
        .map_err(|_| format!("--log {level}: use error, warn, info, debug or trace"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}
