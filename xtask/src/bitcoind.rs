//! A Bitcoin node for the payments tests, from the machine's own package sources.
//!
//! Debian's node is in its development suite alone. Its packages are unpacked beside the build,
//! with the libraries that they want: nothing of the system changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::machine::{self, need_programs};
use crate::process::{find_program, output, run_aside};
use crate::workspace::Workspace;

/// Names the program of a node; what the tests read, too.
pub(crate) const BITCOIND_EXE: &str = "BITCOIND_EXE";

/// The suite of Debian that has the package.
const SUITE: &str = "sid";
const PACKAGE: &str = "bitcoin-knots";

/// Where Debian says from where it takes packages.
const SOURCES: &[&str] = &["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

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
        wrap(&folder, &program)?;
    }
    Ok(program)
}

fn unpack(folder: &Path) -> Result<()> {
    need_programs(machine::PACKAGES)?;
    let apt = folder.join("apt");
    let archives = apt.join("cache/archives");
    for part in ["lists/partial", "cache/archives/partial", "preferences"] {
        fs::create_dir_all(apt.join(part))?;
    }
    fs::write(apt.join("status"), "")?;
    fs::write(apt.join("sources.list"), source()?)?;
    fs::write(apt.join("apt.conf"), configuration(&apt)?)?;
    let command = |program: &str| {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", apt.join("apt.conf")).current_dir(&archives);
        command
    };
    run_aside(command("apt-get").args(["--quiet=2", "update"]))?;
    let simulated = ["--print-uris", "--no-install-recommends", "--yes", "install", PACKAGE];
    let packages = packages(&output(command("apt-get").args(simulated))?);
    run_aside(command("apt-get").args(["--quiet=2", "download"]).args(packages))?;
    for archive in fs::read_dir(&archives)? {
        let archive = archive?.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            run_aside(Command::new("dpkg-deb").arg("-x").arg(archive).arg(folder.join("root")))?;
        }
    }
    Ok(())
}

/// A line of sources.list for the suite, on the machine's own mirror.
fn source() -> Result<String> {
    let mirror = SOURCES.iter().find_map(|path| mirror(&fs::read_to_string(path).ok()?));
    let mirror = mirror.with_context(|| {
        format!("no Debian mirror in {}: set {BITCOIND_EXE} to a bitcoind", SOURCES.join(" or "))
    })?;
    Ok(format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main\n"))
}

/// The first address in either form of Debian's list.
fn mirror(list: &str) -> Option<String> {
    list.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.first() {
            Some(&"URIs:") => words.get(1).map(|uri| (*uri).to_owned()),
            Some(&"deb") => words.iter().find(|word| word.contains("://")).map(|uri| (*uri).into()),
            _ => None,
        }
    })
}

fn configuration(apt: &Path) -> Result<String> {
    let apt = apt.to_str().context("the target folder's name is no text")?;
    Ok(format!(
        "Dir::State \"{apt}\";\nDir::State::status \"{apt}/status\";\n\
         Dir::State::Lists \"{apt}/lists\";\nDir::Cache \"{apt}/cache\";\n\
         Dir::Etc::sourcelist \"{apt}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
         Dir::Etc::preferencesparts \"{apt}/preferences\";\nAPT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n"
    ))
}

/// The names in what `apt-get --print-uris` says: `'address' name_version_architecture.deb size …`.
fn packages(uris: &str) -> Vec<String> {
    uris.lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| line.split(' ').nth(1)?.split('_').next())
        .filter(|name| !NOT_NEEDED.iter().any(|prefix| name.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

/// A script that starts the program with its own libraries.
fn wrap(folder: &Path, program: &Path) -> Result<()> {
    let root = folder.join("root");
    let Some(loader) = loader(&root)? else { bail!("the node's packages have no loader") };
    let libraries = loader.parent().context("a loader in a folder")?;
    let script = format!(
        "#!/bin/sh\nexec '{}' --library-path '{}' '{}/usr/bin/bitcoind' \"$@\"\n",
        loader.display(),
        libraries.display(),
        root.display()
    );
    let unfinished = folder.join("bitcoind.new");
    fs::write(&unfinished, script)?;
    fs::set_permissions(&unfinished, PermissionsExt::from_mode(0o755))?;
    output(Command::new(&unfinished).arg("--version")).context("the node does not start")?;
    Ok(fs::rename(unfinished, program)?)
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
    fn the_mirror_is_read_from_either_form_of_the_list() {
        let new = "Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\n";
        let old = "# cdrom\ndeb [arch=amd64] http://mirror.test/debian bookworm main\n";
        assert_eq!(mirror(new).unwrap(), "http://mirror.test/debian");
        assert_eq!(mirror(old).unwrap(), "http://mirror.test/debian");
        assert_eq!(mirror("# nothing\n"), None);
    }

    #[test]
    fn only_what_the_program_needs_is_fetched() {
        let said = "Reading…\n'http://m.test/a.deb' bitcoin-knots_29.4_amd64.deb 1 SHA256:x\n\
                    'http://m.test/b.deb' systemd_257_amd64.deb 2 SHA256:y\n";
        assert_eq!(packages(said), ["bitcoin-knots"]);
    }
}
