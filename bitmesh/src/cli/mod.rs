//! The commands, one file each.

mod accounts;
mod args;
mod channels;
mod close;
mod connect;
mod doctor;
mod failure;
mod gateway;
mod grant;
mod human;
mod init;
mod interrupt;
mod node;
mod output;
mod receipt;
mod recover;
mod refund;
mod setup;
mod status;
mod stop;
mod table;
mod teardown;
mod told;
mod top;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use self::failure::{Failure, one_line};

/// Sells an internet connection for bitcoin, byte by byte.
///
/// Start the gateway with a configuration, grant credit to a subscriber's MAC address, and watch.
/// The gate is in the kernel: it goes on metering, and stops at the packet that is not paid for,
/// also when the agent is not running.
#[derive(Parser)]
#[command(name = "bitmesh", version, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Init),
    Recover(recover::Recover),
    Gateway(gateway::Gateway),
    Grant(grant::Grant),
    Stop(stop::Stop),
    Status(status::StatusCommand),
    Accounts(accounts::Accounts),
    Top(top::Top),
    Channels(channels::Channels),
    Close(close::Close),
    Connect(Box<connect::Connect>),
    Refund(refund::Refund),
    Receipt(receipt::Receipt),
    Doctor(doctor::Doctor),
    Setup(setup::Setup),
    Teardown(teardown::Teardown),
}

/// Runs the program with the arguments of this process. `object` is the eBPF object that the
/// gateway loads.
///
/// Errors are one line on standard error. The exit code is 2 for a wrong use of the command, 1 for
/// everything else that failed.
#[must_use]
pub fn main_with(object: &'static [u8]) -> ExitCode {
    match parse(std::env::args_os()) {
        Ok(cli) => failure::exit_code(run(cli.command, object)),
        Err(code) => code,
    }
}

fn run(command: Command, object: &'static [u8]) -> Result<(), Failure> {
    match command {
        Command::Init(init) => init.run(),
        Command::Recover(recover) => recover.run(),
        Command::Gateway(gateway) => gateway.run(object),
        Command::Grant(grant) => grant.run(),
        Command::Stop(stop) => stop.run(),
        Command::Status(status) => status.run(),
        Command::Accounts(accounts) => accounts.run(),
        Command::Top(top) => top.run(),
        Command::Channels(channels) => channels.run(),
        Command::Close(close) => close.run(),
        Command::Connect(connect) => connect.run(object),
        Command::Refund(refund) => refund.run(),
        Command::Receipt(receipt) => receipt.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Setup(setup) => setup.run(),
        Command::Teardown(teardown) => teardown.run(object),
    }
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Cli, ExitCode> {
    Cli::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            failure::USAGE.into()
        }
        _ => {
            eprintln!("bitmesh: {}", usage(&error.to_string()));
            failure::USAGE.into()
        }
    })
}

/// What clap says in paragraphs, in one line that ends with where to look.
fn usage(message: &str) -> String {
    let first = message.split("\n\n").next().unwrap_or_default();
    let what = first.strip_prefix("error: ").unwrap_or(first);
    format!("{}: see `bitmesh --help`", one_line(what).trim_end_matches([':', '.']))
}

#[cfg(test)]
mod tests;
