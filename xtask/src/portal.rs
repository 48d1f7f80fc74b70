//! The page's script from its sources in `bitmesh/portal`. What it is built to is part of the
//! repository, so that neither `cargo build` nor a router needs Node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::machine::{self, need_programs};
use crate::process::{run as run_program, run_aside};
use crate::workspace::Workspace;

const SOURCES: &str = "bitmesh/portal";
const BUILT: &str = "bitmesh/src/portal/page/pay.js";
const TESTS: [&str; 2] = ["test/vectors.test.ts", "test/heights.test.ts"];
const VECTORS: &str = "tests/vectors/channel.json";

/// Builds the script anew.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let tools = Tools::prepare(workspace)?;
    tools.check_types()?;
    let built = workspace.root.join(BUILT);
    tools.bundle(&built)?;
    println!("{} is built: {} bytes", workspace.shown(&built), fs::metadata(&built)?.len());
    Ok(())
}

/// Whether the script in the repository is what its sources make, and agrees with the vectors.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let tools = Tools::prepare(workspace)?;
    tools.check_types()?;
    let again = tools.folder.join("pay.js");
    tools.bundle(&again)?;
    if fs::read(&again)? != fs::read(workspace.root.join(BUILT))? {
        bail!("{BUILT} is not what {SOURCES} makes: run `cargo xtask build-portal`");
    }
    tools.test(&workspace.root.join(VECTORS))
}

/// The packages of a folder's lock file, installed under `target`.
pub(crate) fn install_packages(workspace: &Workspace, from: &str, to: &Path) -> Result<()> {
    need_programs(machine::NODE)?;
    let from = workspace.root.join(from);
    let lock = fs::read(from.join("package-lock.json"))?;
    let stamp = to.join("installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    eprintln!("installing npm packages under {}", workspace.shown(to));
    fs::create_dir_all(to)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(from.join(file), to.join(file))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    run_aside(npm.current_dir(to))?;
    Ok(fs::write(stamp, lock)?)
}

struct Tools {
    sources: PathBuf,
    folder: PathBuf,
}

impl Tools {
    fn prepare(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.root.join("target/portal");
        install_packages(workspace, SOURCES, &folder)?;
        Ok(Self { sources: workspace.root.join(SOURCES), folder })
    }

    /// A program of the packages, among the sources.
    fn tool(&self, script: &str) -> Command {
        let modules = self.folder.join("node_modules");
        let mut node = Command::new("node");
        node.arg(modules.join(script)).current_dir(&self.sources).env("NODE_PATH", modules);
        node
    }

    fn check_types(&self) -> Result<()> {
        run_aside(self.tool("typescript/bin/tsc").args(["--project", "."]))
    }

    /// One file; the licences of what is inside stay in it.
    fn bundle(&self, to: &Path) -> Result<()> {
        let out = format!("--outfile={}", to.display());
        let mut bundle = self.tool("esbuild/bin/esbuild");
        bundle.args(["src/main.ts", "--bundle", "--minify", "--format=esm", "--target=es2022"]);
        bundle.args(["--charset=utf8", "--legal-comments=eof", "--log-level=warning"]);
        run_aside(bundle.arg(out))
    }

    fn test(&self, vectors: &Path) -> Result<()> {
        let built = self.folder.join("test");
        let mut bundle = self.tool("esbuild/bin/esbuild");
        bundle.args(TESTS).args(["--bundle", "--platform=node", "--format=esm"]);
        bundle.args(["--log-level=warning", "--out-extension:.js=.mjs"]);
        run_aside(bundle.arg(format!("--outdir={}", built.display())))?;
        let mut node = Command::new("node");
        node.arg("--test").current_dir(&built).env("BITMESH_VECTORS", vectors);
        for test in TESTS {
            node.arg(Path::new(test).with_extension("mjs").file_name().unwrap_or_default());
        }
        run_program(&mut node)
    }
}
