//! `bitmesh status`

use clap::Args;

use super::args::{Agent, beside_the_point};
use super::failure::Failure;
use super::table::{Align, Table, Tone};
use super::{human, output};
use crate::control::{
    BackupStatus, Bypass, ChainState, ChainStatus, Hooked, PeersStatus, Request, Response, Status,
    Unbilled,
};

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
         not billed {}\n\
         chain      {}\n\
         channels   {} not over\n\
         backup     {}\n\n",
        status.bpffs,
        status.epoch,
        status.database,
        status.unwritten_batches,
        unbilled(&status.unbilled),
        chain(status.chain.as_ref()),
        status.channels,
        backup(status.backup.as_ref()),
    );
    let columns = ["INTERFACE", "INDEX", "UPLINK", "DOWNLINK"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for attachment in &status.attachments {
        let index = attachment.ifindex.map_or_else(|| "not there".to_owned(), |i| i.to_string());
        let tone = if attachment.ifindex.is_some() { Tone::Plain } else { Tone::Careful };
        let ends = [&attachment.uplink, &attachment.downlink].map(|end| hooked(end.as_ref()));
        let [uplink, downlink] = ends;
        table.push(tone, vec![attachment.interface.clone(), index, uplink, downlink]);
    }
    text += &table.render(output::wants_colour());
    for Bypass { what, cure } in &status.bypasses {
        text += &format!("\nGOES PAST THE GATE: {what}\n→ {cure}\n");
    }
    text
}

fn unbilled(unbilled: &Unbilled) -> String {
    let throttled =
        unbilled.uplink_throttled_bytes.saturating_add(unbilled.downlink_throttled_bytes);
    format!(
        "{} frames dropped ({} above a speed limit, {} spoofed), {} throttled",
        human::grouped(unbilled.dropped()),
        human::grouped(unbilled.dropped_limited),
        human::grouped(unbilled.dropped_spoofed),
        human::bytes(throttled),
    )
}

fn hooked(end: Option<&Hooked>) -> String {
    match end {
        Some(Hooked { hook, mode }) => format!("{} {mode}", hook.to_uppercase()),
        None => "closed".to_owned(),
    }
}

fn chain(chain: Option<&ChainStatus>) -> String {
    let Some(ChainStatus { state, height, why, peers, silent_minutes }) = chain else {
        return "none: no channels are sold, add [chain] and [channels]".to_owned();
    };
    let at = height
        .map_or_else(String::new, |height| format!(", block {}", human::grouped(height.into())));
    match (state, why) {
        (ChainState::Starting, _) => "not asked yet".to_owned(),
        (ChainState::CatchingUp, _) => format!("catching up{at}"),
        (ChainState::Following, _) => {
            let peers = peers.map_or_else(String::new, |PeersStatus { connected, required }| {
                format!(", by {connected} peers of which {required} must agree; no mempool is seen")
            });
            let silent = silent_minutes.map_or_else(String::new, |minutes| {
                format!("; NO BLOCK for {minutes} minutes, no new credit: see your connection")
            });
            format!("followed{at}{peers}{silent}")
        }
        (ChainState::Unavailable, why) => {
            let why = why.as_deref().unwrap_or("see the log");
            format!("NOT SEEN{at}, no new channels: {why}")
        }
    }
}

fn backup(backup: Option<&BackupStatus>) -> String {
    match backup {
        None => "none: a copy of the channels away from this disk is kept with [backup]".to_owned(),
        Some(BackupStatus { behind: 0, .. }) => "up to date".to_owned(),
        Some(BackupStatus { behind, why: None }) => format!("{behind} lines on their way"),
        Some(BackupStatus { behind, why: Some(why) }) => format!("{behind} lines NOT SAVED: {why}"),
    }
}
