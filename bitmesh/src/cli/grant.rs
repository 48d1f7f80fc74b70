//! `bitmesh grant`

use bitmesh_core::CreditId;
use clap::Args;
use rustix::rand::{GetRandomFlags, getrandom};

use super::args::{Agent, beside_the_point};
use super::failure::Failure;
use super::{human, output};
use crate::control::{Request, Response};
use crate::mac::{CreditIdText, MacText};

/// Add credit to a subscriber's account, and open its gate
///
/// The credit is on disk before the gate opens. It adds to what is left on the account.
#[derive(Args)]
pub(super) struct Grant {
    /// The subscriber's MAC address, like 02:00:00:00:00:0a
    mac: MacText,
    /// How much, in millisatoshi
    #[arg(long, value_name = "N")]
    msat: u64,
    /// The price list [default: that of the open session, else `default`]
    #[arg(long, value_name = "NAME")]
    tariff: Option<String>,
    /// Identity of the credit, 32 hexadecimal digits: repeated, it counts once [default: random]
    #[arg(long, value_name = "ID")]
    id: Option<CreditIdText>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: Agent,
}

impl Grant {
    pub(super) fn run(self) -> Result<(), Failure> {
        let id = self.id.map_or_else(random_id, Ok)?;
        let (mac, msat, tariff) = (self.mac, self.msat, self.tariff.clone());
        let response = match self.agent.try_ask(&Request::Grant { mac, msat, tariff, id }) {
            Ok(Response::Refused { why }) => return Err(Failure::Told(why)),
            Ok(Response::Unanswered { why }) => return Err(uncertain(&why, id)),
            Err(error) if error.is_uncertain() => return Err(uncertain(&error, id)),
            answer => answer?,
        };
        let Response::Granted { mac, balance_msat, .. } = &response else {
            return Err(beside_the_point());
        };
        if self.json {
            return output::write_json(&response);
        }
        let (msat, balance) = (human::msat(msat), human::msat(*balance_msat));
        output::write(&format!("{mac}: {msat} granted, {balance} left, the gate is open\n"))
    }
}

/// The agent may have done it although it did not say so.
fn uncertain(why: &impl std::fmt::Display, id: CreditIdText) -> Failure {
    Failure::Told(format!("{why}; repeat the grant with `--id {id}`, so that it counts once"))
}

fn random_id() -> Result<CreditIdText, Failure> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| format!("the system has no random numbers: {error}: give --id"))?;
    Ok(CreditIdText(CreditId(u128::from_ne_bytes(bytes))))
}
