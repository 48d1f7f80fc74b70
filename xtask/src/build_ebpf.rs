//! `cargo xtask build-ebpf`: the objects that the agent embeds, and those of the tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::instructions;
use crate::process::run as run_process;
use crate::toolchain::Toolchain;
use crate::workspace::Workspace;

/// Programs that do nothing, to measure the gate beside them.
pub(crate) const EMPTY: &str = "empty.o";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Let the programs log rare events, for `cargo build -p bitmesh --features ebpf-log`.
    #[arg(long)]
    log: bool,
}

/// Builds the objects as they are shipped, and gives the path of the true one.
pub(crate) fn build_all(workspace: &Workspace) -> Result<PathBuf> {
    build_with(workspace, &[])
}

fn build_with(workspace: &Workspace, features: &[&str]) -> Result<PathBuf> {
    let toolchain = Toolchain::prepare(workspace)?;
    eprintln!("building the eBPF object");
    let object = build(workspace, &toolchain, "bitmesh.o", features)?;
    // The twin that every counting test must catch.
    build(workspace, &toolchain, "miscount.o", &["--features", "miscount"])?;
    // Other programs on the same maps, as a later release would bring them.
    build(workspace, &toolchain, "successor.o", &["--features", "log"])?;
    Ok(object)
}

/// Builds them all and shows the size of the programs.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let features: &[&str] = if args.log { &["--features", "log"] } else { &[] };
    let object = build_with(workspace, features)?;
    let bytes = fs::read(&object)?;
    let programs = instructions::of_programs(&bytes)
        .with_context(|| format!("{} is no eBPF object", workspace.shown(&object)))?;
    instructions::print(&programs);
    println!("{} is ready: cargo build embeds it", workspace.shown(&object));
    Ok(())
}

/// Checks the eBPF crate with clippy.
pub(crate) fn lint(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::prepare(workspace)?;
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--quiet", "--target-dir"]).arg(scratch(workspace));
    toolchain.equip(&mut clippy);
    run_process(clippy.args(["--", "-D", "warnings"]))
}

fn build(
    workspace: &Workspace,
    toolchain: &Toolchain,
    name: &str,
    features: &[&str],
) -> Result<PathBuf> {
    let scratch = scratch(workspace);
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--quiet", "--target-dir"]).arg(&scratch).args(features);
    toolchain.equip(&mut cargo);
    run_process(&mut cargo)?;
    let built = scratch.join("bpfel-unknown-none/release");
    let object = workspace.bpf().join(name);
    copy_if_changed(&built.join("bitmesh-ebpf"), &object)?;
    copy_if_changed(&built.join("empty"), &workspace.bpf().join(EMPTY))?;
    Ok(object)
}

/// A folder of its own, so that flags for BPF never rebuild what runs on the host.
fn scratch(workspace: &Workspace) -> PathBuf {
    workspace.target.join("bpf-build")
}

/// An object that stays the same keeps its time, and the agent is not built again.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(to, new).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_stays_the_same_keeps_its_time() {
        let folder = std::env::temp_dir().join(format!("bitmesh-xtask-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::write(&from, "same").unwrap();
        copy_if_changed(&from, &to).unwrap();
        let early = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&to).unwrap().set_modified(early).unwrap();
        copy_if_changed(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), early);
        fs::write(&from, "other").unwrap();
        copy_if_changed(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"other");
        fs::remove_dir_all(&folder).unwrap();
    }
}
