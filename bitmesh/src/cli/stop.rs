//! `bitmesh stop`

use clap::Args;

use super::args::{Agent, beside_the_point};
use super::failure::Failure;
use super::{human, output};
use crate::control::{Request, Response};
use crate::mac::MacText;

/// Close a subscriber's gate; what is left stays on the account
#[derive(Args)]
pub(super) struct Stop {
    /// The subscriber's MAC address, like 02:00:00:00:00:0a
    mac: MacText,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: Agent,
}

impl Stop {
    pub(super) fn run(self) -> Result<(), Failure> {
        let response = self.agent.ask(&Request::Stop { mac: self.mac })?;
        let Response::Stopped { mac, balance_msat } = &response else {
            return Err(beside_the_point());
        };
        if self.json {
            return output::write_json(&response);
        }
        let balance = human::msat(*balance_msat);
        output::write(&format!("{mac}: the gate is closed, {balance} left on the account\n"))
    }
}
