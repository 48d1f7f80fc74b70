//! `cargo xtask fuzz [TARGET]`: bytes from outside, as many kinds as time allows.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::process::{find_program, run, run_aside};
use crate::workspace::Workspace;
use crate::{build_ebpf, machine};

/// The version that Rust 1.95 was seen to build, and to fuzz with.
const CARGO_FUZZ: &str = "0.13.2";

/// Seconds for each target, unless others are asked for.
const SECONDS: u32 = 60;

/// Seconds for each target in the soak.
const SOAK_SECONDS: u32 = 600;

/// The longest input, in bytes: a record of everything has fewer.
const MAX_INPUT_BYTES: u32 = 16_384;

/// Seconds that one input may take.
const MAX_SECONDS_AN_INPUT: u32 = 25;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The target, a file of `fuzz/fuzz_targets`; all of them if none is named.
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// Seconds for each.
    #[arg(long, default_value_t = SECONDS)]
    seconds: u32,
}

/// Runs the fuzzers one after the other. The first input that breaks one ends it all, and stays in
/// `fuzz/artifacts`.
pub(crate) fn run_args(workspace: &Workspace, args: &Args) -> Result<()> {
    let all = targets(workspace)?;
    let wanted = match &args.target {
        Some(name) if all.contains(name) => vec![name.clone()],
        Some(name) => bail!("no target is called {name}; there are: {}", all.join(", ")),
        None => all,
    };
    fuzz(workspace, &wanted, args.seconds)
}

/// Runs every fuzzer as long as the soak asks for.
pub(crate) fn soak(workspace: &Workspace) -> Result<()> {
    fuzz(workspace, &targets(workspace)?, SOAK_SECONDS)
}

fn fuzz(workspace: &Workspace, targets: &[String], seconds: u32) -> Result<()> {
    // The agent's build wants the eBPF objects.
    build_ebpf::build_all(workspace)?;
    let program = cargo_fuzz(workspace)?;
    for target in targets {
        // What it learns is built up under `target`; the corpus that is kept in git stays small.
        let learnt = workspace.target.join("fuzz-corpus").join(target);
        std::fs::create_dir_all(&learnt)?;
        let seeds = workspace.root.join("fuzz/corpus").join(target);
        let mut cargo = workspace.cargo();
        // Instrumentation on a stable compiler.
        cargo.env("RUSTC_BOOTSTRAP", "1").arg("fuzz").env("PATH", with_tools(&program)?);
        cargo.args(["run", target]).args([&learnt, &seeds]).arg("--");
        cargo.arg(format!("-max_total_time={seconds}"));
        cargo.arg(format!("-max_len={MAX_INPUT_BYTES}"));
        cargo.arg(format!("-timeout={MAX_SECONDS_AN_INPUT}"));
        cargo.args(["-print_final_stats=1", "-verbosity=0"]);
        println!("── fuzz {target}: {seconds} s ──");
        run(&mut cargo).with_context(|| {
            format!("{target} was broken: the input is in fuzz/artifacts/{target}")
        })?;
    }
    Ok(())
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(workspace.root.join("fuzz/fuzz_targets"))? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// `cargo fuzz` finds its program by the path.
fn with_tools(program: &std::path::Path) -> Result<std::ffi::OsString> {
    let folder = program.parent().map(PathBuf::from);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(folder.into_iter().chain(std::env::split_paths(&paths)))?)
}

fn cargo_fuzz(workspace: &Workspace) -> Result<PathBuf> {
    let tools = workspace.target.join("tools");
    let own = tools.join("bin/cargo-fuzz");
    if own.is_file() {
        return Ok(own);
    }
    if let Some(found) = find_program("cargo-fuzz") {
        return Ok(found);
    }
    eprintln!("installing cargo-fuzz {CARGO_FUZZ} under {}", workspace.shown(&tools));
    machine::need_programs(machine::COMPILER)?;
    let mut install = workspace.cargo();
    install.args(["install", "--quiet", "--locked", "cargo-fuzz", "--version", CARGO_FUZZ]);
    run_aside(install.arg("--root").arg(&tools).env_remove("CARGO_TARGET_DIR"))?;
    Ok(own)
}
