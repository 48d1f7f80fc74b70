//! `bitmesh close`

use bitmesh_core::wire::ChannelId;
use clap::Args;
use serde::Serialize;

use super::args::{Agent, beside_the_point};
use super::failure::Failure;
use super::output;
use crate::control::{Request, Response};

/// Close a payment channel, or all of them
///
/// The gate closes at once. A payer that is there gets a short time to close together, which is
/// cheaper; then the gateway closes alone.
#[derive(Args)]
pub(super) struct Close {
    /// The channel: 64 hexadecimal digits, or the first of them, if no other begins so
    #[arg(value_name = "CHANNEL", required_unless_present = "all", conflicts_with = "all")]
    channel: Option<String>,
    /// All channels
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: Agent,
}

#[derive(Serialize)]
struct Closing<'a> {
    channels: &'a [ChannelId],
}

impl Close {
    pub(super) fn run(self) -> Result<(), Failure> {
        let channel = self.channel.as_deref().map(|name| self.find(name)).transpose()?;
        let Response::Closing { channels } = self.agent.ask(&Request::Close { channel })? else {
            return Err(beside_the_point());
        };
        if self.json {
            return output::write_json(&Closing { channels: &channels });
        }
        if channels.is_empty() {
            return output::write("there was no channel to close\n");
        }
        let lines = channels.iter().map(|channel| format!("{channel} is being closed\n"));
        output::write(&lines.collect::<String>())
    }

    /// The channel whose name begins so.
    fn find(&self, name: &str) -> Result<ChannelId, Failure> {
        if let Ok(whole) = name.parse() {
            return Ok(whole);
        }
        let Response::Channels { channels } = self.agent.ask(&Request::Channels {})? else {
            return Err(beside_the_point());
        };
        let name = name.to_ascii_lowercase();
        only(&name, channels.iter().map(|row| row.channel)).map_err(Failure::Told)
    }
}

/// The one name that begins so.
fn only(name: &str, channels: impl Iterator<Item = ChannelId>) -> Result<ChannelId, String> {
    let mut found = channels.filter(|channel| channel.to_string().starts_with(name));
    match (found.next(), found.next()) {
        (Some(channel), None) => Ok(channel),
        (None, _) => Err(format!("no channel begins with `{name}`: see `bitmesh channels`")),
        (Some(_), Some(_)) => Err(format!("several channels begin with `{name}`: give more of it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_name_is_enough_if_no_other_begins_so() {
        let ids = [[0xab; 32], [0xac; 32]].map(ChannelId);
        assert_eq!(only("ab", ids.into_iter()), Ok(ids[0]));
        assert!(only("a", ids.into_iter()).unwrap_err().starts_with("several"));
        assert!(only("ff", ids.into_iter()).unwrap_err().starts_with("no channel"));
    }
}
