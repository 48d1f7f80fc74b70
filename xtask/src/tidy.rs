//! `cargo xtask tidy`: the rules that a compiler does not hold.

mod crates;
mod directions;
mod documents;
mod lines;
mod tree;
mod uses;

use std::fmt;

use anyhow::{Result, bail};

use crate::build_ebpf;
use crate::process::run as run_process;
use crate::workspace::Workspace;
use tree::Tree;

/// What is built apart from the workspace.
const APART: [&str; 2] = ["fuzz/Cargo.toml", "tests/keysend/Cargo.toml"];

/// One breach of a rule.
#[derive(Debug, PartialEq, Eq)]
struct Complaint {
    place: String,
    what: String,
}

impl Complaint {
    fn new(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { place: place.to_string(), what: what.to_string() }
    }
}

/// Checks everything, and says all that is wrong.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let tree = Tree::read(workspace)?;
    let mut complaints = lines::check(&tree);
    complaints.extend(directions::check(&tree));
    complaints.extend(documents::check(&tree));
    complaints.extend(crates::check(&workspace.packages));
    for (place, outcome) in
        [("format", format(workspace)), ("lints", lint(workspace)), ("lints", lint_ebpf(workspace))]
    {
        complaints.extend(outcome.err().map(|error| Complaint::new(place, error)));
    }
    for Complaint { place, what } in &complaints {
        eprintln!("{place}: {what}");
    }
    if !complaints.is_empty() {
        bail!("{} complaints, see above", complaints.len());
    }
    println!("tidy: {} files", tree.files().count());
    Ok(())
}

fn format(workspace: &Workspace) -> Result<()> {
    run_process(workspace.cargo().args(["fmt", "--all", "--check"]))?;
    for manifest in APART {
        run_process(workspace.cargo().args(["fmt", "--check", "--manifest-path", manifest]))?;
    }
    Ok(())
}

fn lint(workspace: &Workspace) -> Result<()> {
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--quiet", "--workspace", "--exclude", "bitmesh-ebpf", "--all-targets"]);
    run_process(clippy.args(["--", "-D", "warnings"]))
}

/// The eBPF crate builds for its own target only.
fn lint_ebpf(workspace: &Workspace) -> Result<()> {
    build_ebpf::lint(workspace)
}
