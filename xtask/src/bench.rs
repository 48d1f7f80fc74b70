//! `cargo xtask bench`: what the gate and the payments cost, measured on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::bitcoind::BITCOIND_EXE;
use crate::process::run as run_process;
use crate::vm::instructions::{self, Row};
use crate::workspace::Workspace;
use crate::{bitcoind, build_ebpf, machine};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Packets: no metering, nftables and BitMesh in turns.
    DataPlane {
        /// Fewer turns, for a first impression.
        #[arg(long)]
        quick: bool,
    },
    /// Payments: durable updates over channels, and keysend beside them.
    Payments {
        /// Fewer turns and channels, for a first impression.
        #[arg(long)]
        quick: bool,
    },
}

impl Bench {
    const fn name(&self) -> &'static str {
        match self {
            Self::DataPlane { .. } => "data-plane",
            Self::Payments { .. } => "payments",
        }
    }

    const fn quick(&self) -> bool {
        match self {
            Self::DataPlane { quick } | Self::Payments { quick } => *quick,
        }
    }
}

/// Sets up, builds for release and measures. The JSON goes to `target/bench/NAME.json`.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let name = args.bench.name();
    machine::need_root("a bench")?;
    machine::need_programs(machine::NETWORK)?;
    machine::need_programs(machine::COMPILER)?;
    machine::need_bpffs()?;
    build_ebpf::build_all(workspace)?;
    eprintln!("building agent and bench for release");
    let mut build = workspace.cargo();
    build.args(["build", "--quiet", "--release", "--package", "bitmesh", "--bins"]);
    run_process(&mut build)?;
    let json = workspace.target.join("bench").join(format!("{name}.json"));
    let keysend = match args.bench {
        Bench::DataPlane { .. } => None,
        Bench::Payments { .. } => Some((build_keysend(workspace)?, bitcoind::prepare(workspace)?)),
    };
    let mut bench = workspace.cargo();
    bench.args(["run", "--quiet", "--release", "--package", "bitmesh-tests", "--bin", "bench"]);
    bench.args(["--", name, "--json"]).arg(&json);
    if let Some((program, node)) = &keysend {
        bench.arg("--keysend").arg(program).env(BITCOIND_EXE, node);
    }
    run_process(bench.args(args.bench.quick().then_some("--quick")))?;
    if let Bench::DataPlane { .. } = args.bench {
        count_instructions(workspace, &json)?;
    }
    eprintln!("{} is ready", workspace.shown(&json));
    Ok(())
}

/// Builds the Lightning nodes to compare with, in a workspace of their own. Gives the program.
fn build_keysend(workspace: &Workspace) -> Result<PathBuf> {
    let target = workspace.target.join("keysend");
    eprintln!("building two Lightning nodes to compare with (some minutes, once)");
    let mut build = workspace.cargo();
    build.current_dir(workspace.root.join("tests/keysend"));
    build.args(["build", "--quiet", "--release", "--locked", "--target-dir"]).arg(&target);
    run_process(&mut build)?;
    Ok(target.join("release/bitmesh-keysend"))
}

fn count_instructions(workspace: &Workspace, json: &Path) -> Result<()> {
    eprintln!("counting arm64 instructions in a virtual machine");
    let counted = instructions::measure(workspace)
        .with_context(|| format!("{} has no rows of arm64 instructions", workspace.shown(json)))?;
    for Row { name, value, unit } in &counted {
        println!("{name:<46} {value:>12} {unit}");
    }
    append(json, &counted)
}

/// Adds rows to the array in the file.
fn append(path: &Path, rows: &[Row]) -> Result<()> {
    let mut all: Vec<Value> = serde_json::from_str(&fs::read_to_string(path)?)
        .with_context(|| format!("{} is no array", path.display()))?;
    all.extend(
        rows.iter()
            .map(|Row { name, value, unit }| json!({ "name": name, "value": value, "unit": unit })),
    );
    Ok(fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?)
}
