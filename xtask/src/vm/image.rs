//! The first file system of a machine: a folder, packed with cpio as the kernel takes it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::machine::{Need, need_programs};
use crate::process::run_aside;

const PACKING: &[Need] = &[Need::new("cpio", "cpio")];

/// An empty folder that becomes a file system.
pub(crate) struct Image {
    root: PathBuf,
}

impl Image {
    /// Begins with nothing in it.
    pub(crate) fn empty(root: PathBuf) -> Result<Self> {
        need_programs(PACKING)?;
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// Puts a file in, with its mode.
    pub(crate) fn put(&self, file: &Path, at: &str) -> Result<()> {
        let to = self.root.join(at.trim_start_matches('/'));
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(file, &to).with_context(|| format!("cannot copy {}", file.display()))?;
        Ok(())
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Puts all of a folder in.
    pub(crate) fn put_all(&self, folder: &Path) -> Result<()> {
        run_aside(Command::new("cp").args(["-a", "-T"]).arg(folder).arg(&self.root))
    }

    /// Writes a file.
    pub(crate) fn write(&self, at: &str, text: &str) -> Result<()> {
        let to = self.root.join(at);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))
    }

    /// Puts a program in a folder, without its symbols.
    pub(crate) fn put_stripped(&self, strip: &str, program: &Path, folder: &str) -> Result<()> {
        let name = program.file_name().context("a program has a name")?;
        let to = self.root.join(folder);
        fs::create_dir_all(&to)?;
        run_aside(Command::new(strip).arg("-o").arg(to.join(name)).arg(program))
    }

    /// Packs it.
    pub(crate) fn pack(&self) -> Result<PathBuf> {
        // A release has a dot, too.
        let mut packed = self.root.clone().into_os_string();
        packed.push(".cpio");
        let packed = PathBuf::from(packed);
        let script = "find . -print0 | cpio --quiet --null --create --format=newc --owner=+0:+0";
        let mut pack = Command::new("sh");
        pack.args(["-c", script]).current_dir(&self.root).stdin(Stdio::null());
        let status = pack.stdout(File::create(&packed)?).status()?;
        if !status.success() {
            bail!("packing {} ended with {status}", self.root.display());
        }
        Ok(packed)
    }
}
