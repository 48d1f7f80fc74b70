//! `bitmesh status`

use clap::Args;

use super::args::{Agent, beside_the_point};
use super::failure::Failure;
use super::table::{Align, Table, Tone};
use super::{human, output};
use crate::control::{ChainState, ChainStatus, Request, Response, Status};

/// Show how the agent does, and how each LAN interface is attached
#[derive(Args)]
pub(super) struct StatusCommand {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: Agent,
}

impl StatusCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Response::Status(status) = self.agent.ask(&Request::Status {})? else {
            return Err(beside_the_point());
        };
        if self.json { output::write_json(&status) } else { output::write(&show(&status)) }
    }
}

fn show(status: &Status) -> String {
    let gate =
        if status.adopted { "taken over from an earlier agent" } else { "made by this agent" };
    let Status { version, pid, accounts, open, waiting, .. } = status;
    let uptime = human::seconds(status.uptime_seconds);
    let mut text = format!(
        "agent      {version}, process {pid}, up {uptime}\n\
         gate       {gate}, {} (epoch {})\n\
         database   {}, {} batches unwritten\n\
         accounts   {accounts}, {open} open, {waiting} waiting for room\n\
         chain      {}\n\
         channels   {} not over\n\n",
        status.bpffs,
        status.epoch,
        status.database,
        status.unwritten_batches,
        chain(status.chain.as_ref()),
        status.channels,
    );
    let mut table = Table::new(&[("INTERFACE", Align::Left), ("HOOK", Align::Left)]);
    for attachment in &status.attachments {
        let cells = vec![attachment.interface.clone(), attachment.hook.clone()];
        table.push(Tone::Plain, cells);
    }
    text += &table.render(output::wants_colour());
    text
}

fn chain(chain: Option<&ChainStatus>) -> String {
    let Some(ChainStatus { state, height, why }) = chain else {
        return "none: no channels are sold, add [chain] and [channels]".to_owned();
    };
    let at = height
        .map_or_else(String::new, |height| format!(", block {}", human::grouped(height.into())));
    match (state, why) {
        (ChainState::Starting, _) => "not asked yet".to_owned(),
        (ChainState::CatchingUp, _) => format!("catching up{at}"),
        (ChainState::Following, _) => format!("followed{at}"),
        (ChainState::Unavailable, why) => {
            let why = why.as_deref().unwrap_or("see the log");
            format!("NOT SEEN{at}, no new channels: {why}")
        }
    }
}
