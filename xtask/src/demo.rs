//! `cargo xtask demo`: from nothing to a gate that closes at the packet.

use anyhow::Result;

use crate::process::run as run_process;
use crate::workspace::Workspace;
use crate::{bitcoind, build_ebpf, machine};

/// What to show, and how.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write JSON lines, the last one the result.
    #[arg(long)]
    json: bool,
    /// Leave the gateway running, and say what to try next.
    #[arg(long)]
    keep: bool,
}

/// Sets up, builds and runs the demonstration.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    machine::need_root("the demonstration")?;
    machine::need_programs(machine::NETWORK)?;
    machine::need_programs(machine::COMPILER)?;
    machine::need_bpffs()?;
    build_ebpf::build_all(workspace)?;
    eprintln!("building the agent");
    run_process(workspace.cargo().args(["build", "--quiet", "--package", "bitmesh", "--bins"]))?;
    let node = bitcoind::prepare(workspace)?;
    let mut demo = workspace.cargo();
    demo.env(bitcoind::BITCOIND_EXE, node);
    demo.args(["run", "--quiet", "--package", "bitmesh-tests", "--bin", "demo", "--"]);
    demo.args(args.json.then_some("--json")).args(args.keep.then_some("--keep"));
    run_process(&mut demo)
}
