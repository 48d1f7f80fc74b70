//! A Bitcoin node for the payments tests, from the machine's own package sources.
//!
//! Debian's node is in its development suite alone. Its packages are unpacked beside the build,
//! with the libraries that they want: nothing of the system changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian::Suite;
use crate::process::{find_program, output};
use crate::workspace::Workspace;

/// Names the program of a node; what the tests read, too.
pub(crate) const BITCOIND_EXE: &str = "BITCOIND_EXE";

/// The suite of Debian that has the package.
const SUITE: &str = "sid";
const PACKAGE: &str = "bitcoin-knots";

/// What only the packages' installation needs, not the program.
const NOT_NEEDED: &[&str] =
    &["systemd", "libsystemd-shared", "debconf", "gcc-", "openssl-provider"];

/// Prints where the program is.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    println!("{}", prepare(workspace)?.display());
    Ok(())
}

/// The program of a node: the one that is named, one on the search path, or a new one.
pub(crate) fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(BITCOIND_EXE) {
        return Ok(named.into());
    }
    if let Some(found) = find_program("bitcoind") {
        return Ok(found);
    }
    let folder = workspace.target.join("tools/bitcoin");
    let program = folder.join("bitcoind");
    if !program.is_file() {
        eprintln!("unpacking a Bitcoin node under {} (20 MB)", workspace.shown(&folder));
        unpack(&folder)?;
    }
    wrap(&folder, &program)?;
    Ok(program)
}

fn unpack(folder: &Path) -> Result<()> {
    let suite = Suite::read(SUITE, "amd64", folder.join("apt"))
        .with_context(|| format!("no Bitcoin node: set {BITCOIND_EXE} to a bitcoind"))?;
    let packages = suite.with_dependencies(&[PACKAGE])?;
    suite.unpack(&needed(packages), &folder.join("root"))
}

fn needed(packages: Vec<String>) -> Vec<String> {
    let needed = |name: &String| !NOT_NEEDED.iter().any(|prefix| name.starts_with(prefix));
    packages.into_iter().filter(needed).collect()
}

/// A script that starts the program with its own libraries.
fn wrap(folder: &Path, program: &Path) -> Result<()> {
    let root = folder.join("root");
    let Some(loader) = loader(&root)? else { bail!("the node's packages have no loader") };
    let libraries = loader.parent().context("a loader in a folder")?;
    let node = root.join("usr/bin/bitcoind");
    let [loader, libraries, node] =
        [loader.as_path(), libraries, node.as_path()].map(|path| path.strip_prefix(folder));
    let script = script(loader?, libraries?, node?);
    if fs::read_to_string(program).is_ok_and(|written| written == script) {
        return Ok(());
    }
    let unfinished = folder.join("bitcoind.new");
    fs::write(&unfinished, script)?;
    fs::set_permissions(&unfinished, PermissionsExt::from_mode(0o755))?;
    output(Command::new(&unfinished).arg("--version")).context("the node does not start")?;
    Ok(fs::rename(unfinished, program)?)
}

/// It finds the rest beside itself, so that all of it can be moved.
fn script(loader: &Path, libraries: &Path, node: &Path) -> String {
    format!(
        "#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\n\
         exec \"$here/{}\" --library-path \"$here/{}\" \"$here/{}\" \"$@\"\n",
        loader.display(),
        libraries.display(),
        node.display(),
    )
}

/// The dynamic loader, `usr/lib/ARCHITECTURE/ld-linux-….so.N`.
fn loader(root: &Path) -> Result<Option<PathBuf>> {
    for folder in fs::read_dir(root.join("usr/lib"))? {
        let folder = folder?.path();
        if !folder.is_dir() {
            continue;
        }
        for file in fs::read_dir(&folder)? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with("ld-linux-") {
                return Ok(Some(file.path()));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_finds_its_program_wherever_it_is_moved_to() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("a new place"));
        fs::create_dir_all(&old).unwrap();
        // A loader that says what it is to load, from where, and with what.
        fs::write(old.join("loader"), "#!/bin/sh\necho \"$2\" \"$3\" \"$4\"\n").unwrap();
        fs::write(old.join("bitcoind"), script("loader".as_ref(), "lib".as_ref(), "node".as_ref()))
            .unwrap();
        for file in ["loader", "bitcoind"] {
            fs::set_permissions(old.join(file), PermissionsExt::from_mode(0o755)).unwrap();
        }
        fs::rename(&old, &new).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(new.join("bitcoind"), &link).unwrap();
        let new = new.canonicalize().unwrap();
        let new = new.display();
        for program in [format!("{new}/bitcoind"), link.display().to_string()] {
            let said = Command::new(program).arg("-regtest").output().unwrap().stdout;
            let expected = format!("{new}/lib {new}/node -regtest\n");
            assert_eq!(String::from_utf8_lossy(&said), expected);
        }
    }

    #[test]
    fn only_what_the_program_needs_is_fetched() {
        let packages = ["bitcoin-knots", "systemd", "libc6"].map(str::to_owned).to_vec();
        assert_eq!(needed(packages), ["bitcoin-knots", "libc6"]);
    }
}
