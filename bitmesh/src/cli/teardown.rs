//! `bitmesh teardown`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::output;
use crate::agent;
use crate::config::Config;

/// Take the gate off all interfaces and out of the kernel; balances stay in the database
///
/// Stop the agent first. What was metered since its last second is not charged.
#[derive(Args)]
pub(super) struct Teardown {
    /// The configuration that the gateway ran with
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Removed {
    removed: Vec<String>,
}

impl Teardown {
    pub(super) fn run(self, object: &'static [u8]) -> Result<(), Failure> {
        let config = Config::load(&self.config)?;
        let removed = agent::teardown(&config, object)?;
        if self.json {
            return output::write_json(&Removed { removed });
        }
        if removed.is_empty() {
            return output::write("there was no gate to remove\n");
        }
        let lines: String = removed.iter().map(|what| format!("removed: {what}\n")).collect();
        output::write(&lines)
    }
}
