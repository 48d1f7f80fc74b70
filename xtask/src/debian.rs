//! Debian packages that are unpacked beside the build, never installed: of any suite, for any
//! architecture, from the machine's own package sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::machine::{self, need_programs};
use crate::process::{output, run_aside};

/// Where Debian says from where it takes packages.
const SOURCES: &[&str] = &["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite for one architecture, with a state of its own.
pub(crate) struct Suite {
    folder: PathBuf,
    architecture: &'static str,
    name: String,
}

impl Suite {
    /// Reads the lists of a suite; all of its state is in `folder`.
    pub(crate) fn read(name: &str, architecture: &'static str, folder: PathBuf) -> Result<Self> {
        need_programs(machine::PACKAGES)?;
        let suite = Self { folder, architecture, name: name.to_owned() };
        for part in ["lists/partial", "cache/archives/partial", "preferences"] {
            fs::create_dir_all(suite.folder.join(part))?;
        }
        fs::write(suite.folder.join("status"), "")?;
        fs::write(suite.folder.join("sources.list"), source(name)?)?;
        fs::write(suite.folder.join("apt.conf"), suite.configuration()?)?;
        run_aside(suite.apt("apt-get").args(["--quiet=2", "update"]))?;
        Ok(suite)
    }

    /// The names of these packages and of all that they depend on.
    pub(crate) fn with_dependencies(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut ask = self.apt("apt-get");
        ask.args(["--print-uris", "--no-install-recommends", "--yes", "install"]).args(packages);
        Ok(names(&output(&mut ask)?))
    }

    /// The packages that this one names as its dependencies, of its newest version.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let mut ask = self.apt("apt-cache");
        let said = output(ask.args(["--no-all-versions", "show", package]))?;
        let line = said.lines().find_map(|line| line.strip_prefix("Depends: "));
        let line = line.with_context(|| format!("{package} is not in {}", self.name))?;
        Ok(line.split(", ").filter_map(|one| Some(one.split(' ').next()?.to_owned())).collect())
    }

    /// Fetches packages and unpacks them below `root`.
    pub(crate) fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let archives = self.folder.join("cache/archives");
        let mut fetch = self.apt("apt-get");
        run_aside(fetch.args(["--quiet=2", "download"]).args(packages).current_dir(&archives))?;
        for archive in fs::read_dir(&archives)? {
            let archive = archive?.path();
            let file = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let package = file.split('_').next().unwrap_or_default();
            if file.ends_with(".deb") && packages.iter().any(|wanted| wanted == package) {
                run_aside(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(root))?;
                fs::remove_file(&archive)?;
            }
        }
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt.conf"));
        command
    }

    fn configuration(&self) -> Result<String> {
        let (apt, architecture) = (self.folder.to_str(), self.architecture);
        let apt = apt.context("the target folder's name is no text")?;
        Ok(format!(
            "APT::Architecture \"{architecture}\";\nAPT::Architectures {{ \"{architecture}\"; }};\n\
             Dir::State \"{apt}\";\nDir::State::status \"{apt}/status\";\n\
             Dir::State::Lists \"{apt}/lists\";\nDir::Cache \"{apt}/cache\";\n\
             Dir::Etc::sourcelist \"{apt}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
             Dir::Etc::preferencesparts \"{apt}/preferences\";\nAPT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n"
        ))
    }
}

/// A line of sources.list for the suite, on the machine's own mirror.
pub(crate) fn source(suite: &str) -> Result<String> {
    let mirror = SOURCES.iter().find_map(|path| mirror(&fs::read_to_string(path).ok()?));
    let Some(mirror) = mirror else { bail!("no Debian mirror in {}", SOURCES.join(" or ")) };
    Ok(format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
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

/// The names in what `apt-get --print-uris` says: `'address' name_version_architecture.deb size …`.
fn names(uris: &str) -> Vec<String> {
    uris.lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| line.split(' ').nth(1)?.split('_').next())
        .map(str::to_owned)
        .collect()
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
    fn the_names_of_packages_are_read_from_their_addresses() {
        let said = "Reading…\n'http://m.test/a.deb' iproute2_6.1_amd64.deb 1 SHA256:x\n\
                    'http://m.test/b.deb' libc6_2.36_amd64.deb 2 SHA256:y\n";
        assert_eq!(names(said), ["iproute2", "libc6"]);
    }
}
