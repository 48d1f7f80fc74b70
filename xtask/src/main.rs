//! `cargo xtask …`: everything that is done with this house, one file a command.
//!
//! Each command sets up what it needs, and says so in a line.

mod bench;
mod bitcoind;
mod build_ebpf;
mod debian;
mod demo;
mod fuzz;
mod instructions;
mod machine;
mod portal;
mod process;
mod sim;
mod soak;
mod test;
mod tidy;
mod toolchain;
mod vm;
mod workspace;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests, demonstrates and tidies BitMesh.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the eBPF object, with BTF, and shows the size of its programs.
    BuildEbpf(build_ebpf::Args),
    /// Builds the script of the portal's page; it is part of the repository.
    BuildPortal,
    /// Shows a gateway sell a connection, from the first packet to the last that is paid for.
    Demo(demo::Args),
    /// Measures what the gate costs, beside what else one could do.
    Bench(bench::Args),
    /// Prints the path of a Bitcoin node's program; unpacks one if there is none.
    Bitcoind,
    /// Runs the tests: all tiers, or one.
    Test(test::Args),
    /// Runs the tests with large counts.
    Soak(soak::Args),
    /// Boots stock kernels in virtual machines.
    Vm(vm::Args),
    /// Runs the simulations with many seeds.
    Sim(sim::Args),
    /// Feeds bytes to everything that reads them from outside.
    Fuzz(fuzz::Args),
    /// Checks the rules of the house that a compiler does not hold; formatting and lints too.
    Tidy,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let workspace = Workspace::find()?;
    match args.command {
        Command::BuildEbpf(args) => build_ebpf::run(&workspace, &args),
        Command::BuildPortal => portal::run(&workspace),
        Command::Demo(args) => demo::run(&workspace, &args),
        Command::Bench(args) => bench::run(&workspace, &args),
        Command::Bitcoind => bitcoind::run(&workspace),
        Command::Test(args) => test::run(&workspace, &args),
        Command::Soak(args) => soak::run(&workspace, &args),
        Command::Vm(args) => vm::run(&workspace, &args),
        Command::Sim(args) => sim::run_args(&workspace, &args),
        Command::Fuzz(args) => fuzz::run_args(&workspace, &args),
        Command::Tidy => tidy::run(&workspace),
    }
}
