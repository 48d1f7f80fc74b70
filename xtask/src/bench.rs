//! `cargo xtask bench`: what the gate costs, measured on this machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::process::run as run_process;
use crate::vm::instructions::{self, Row};
use crate::workspace::Workspace;
use crate::{build_ebpf, machine};

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
}

impl Bench {
    const fn name(&self) -> &'static str {
        match self {
            Self::DataPlane { .. } => "data-plane",
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
    let mut bench = workspace.cargo();
    bench.args(["run", "--quiet", "--release", "--package", "bitmesh-tests", "--bin", "bench"]);
    bench.args(["--", name, "--json"]).arg(&json);
    let Bench::DataPlane { quick } = args.bench;
    run_process(bench.args(quick.then_some("--quick")))?;
    eprintln!("counting arm64 instructions in a virtual machine");
    let counted = instructions::measure(workspace)
        .with_context(|| format!("{} has no rows of arm64 instructions", workspace.shown(&json)))?;
    for Row { name, value, unit } in &counted {
        println!("{name:<46} {value:>12} {unit}");
    }
    append(&json, &counted)?;
    eprintln!("{} is ready", workspace.shown(&json));
    Ok(())
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
