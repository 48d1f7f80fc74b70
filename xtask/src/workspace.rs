//! Where things are, and what the crates depend on: cargo's own answer.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::output;

/// The workspace, as `cargo metadata` describes it.
pub(crate) struct Workspace {
    /// Folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Folder of everything that is built.
    pub(crate) target: PathBuf,
    /// The packages, as cargo describes them.
    pub(crate) packages: Vec<Value>,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn find() -> Result<Self> {
        let mut ask = Command::new(cargo());
        ask.args(["metadata", "--no-deps", "--format-version", "1"]);
        let answer: Value =
            serde_json::from_str(&output(&mut ask)?).context("cargo metadata gave no JSON")?;
        let path = |key: &str| -> Result<PathBuf> {
            let value = answer.get(key).and_then(Value::as_str);
            Ok(value.with_context(|| format!("cargo metadata has no {key}"))?.into())
        };
        let packages = answer.get("packages").and_then(Value::as_array).cloned();
        Ok(Self {
            root: path("workspace_root")?,
            target: path("target_directory")?,
            packages: packages.context("cargo metadata has no packages")?,
        })
    }

    /// A cargo command that runs in the root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root);
        command
    }

    /// The finished eBPF objects.
    pub(crate) fn bpf(&self) -> PathBuf {
        // Set in .cargo/config.toml: the agent's build looks there.
        std::env::var_os("BITMESH_BPF_DIR").map_or_else(|| self.target.join("bpf"), PathBuf::from)
    }

    /// The path as seen from the root, for messages.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// The cargo that runs this task, so that both use the same toolchain.
fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}
