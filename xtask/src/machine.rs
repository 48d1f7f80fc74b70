//! What the machine must have: root, Debian packages, bpffs. Installs what is missing.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{find_program, output, run_aside};

/// A program and the Debian package that has it.
pub(crate) struct Need {
    program: &'static str,
    package: &'static str,
}

impl Need {
    /// A program, and its package or packages.
    pub(crate) const fn new(program: &'static str, package: &'static str) -> Self {
        Self { program, package }
    }

    /// The program.
    pub(crate) const fn program(&self) -> &'static str {
        self.program
    }

    /// The package.
    pub(crate) const fn package(&self) -> &'static str {
        self.package
    }
}

/// What network namespaces, counters and offload switches take.
pub(crate) const NETWORK: &[Need] = &[
    Need { program: "ip", package: "iproute2" },
    Need { program: "nft", package: "nftables" },
    Need { program: "ethtool", package: "ethtool" },
    Need { program: "bpftool", package: "bpftool" },
    Need { program: "dnsmasq", package: "dnsmasq-base" },
];

/// What records the system calls of a program.
pub(crate) const TRACING: &[Need] = &[Need { program: "strace", package: "strace" }];

/// What a build of C code inside a crate takes.
pub(crate) const COMPILER: &[Need] = &[Need { program: "cc", package: "gcc libc6-dev" }];

/// What the second implementation of the test vectors takes.
pub(crate) const PYTHON: &[Need] = &[Need { program: "python3", package: "python3" }];

/// What builds and tests the script of the portal's page.
pub(crate) const NODE: &[Need] =
    &[Need { program: "node", package: "nodejs" }, Need { program: "npm", package: "npm" }];

/// What reads the portal's page as a visitor does.
pub(crate) const BROWSER: &[Need] = &[Need { program: "chromium", package: "chromium" }];

/// What unpacking Debian packages takes.
pub(crate) const PACKAGES: &[Need] =
    &[Need { program: "apt-get", package: "apt" }, Need { program: "dpkg-deb", package: "dpkg" }];

const BPFFS: &str = "/sys/fs/bpf";

/// Says what is missing unless this runs as root.
pub(crate) fn need_root(what: &str) -> Result<()> {
    if !is_root()? {
        bail!("{what} needs root, for network namespaces and BPF: run it again with sudo -E");
    }
    Ok(())
}

/// Installs the packages whose programs are missing.
pub(crate) fn need_programs(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|need| find_program(need.program).is_none())
        .flat_map(|need| need.package.split(' '))
        .collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Installs Debian packages.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if find_program("apt-get").is_none() {
        bail!("missing: {list}; this machine has no apt-get, so install their like yourself");
    }
    if !is_root()? {
        bail!("missing: {list}; install them: sudo apt-get install {list}");
    }
    eprintln!("installing Debian packages: {list}");
    run_aside(apt().arg("update"))?;
    run_aside(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

/// Installs Debian packages of a suite that the machine does not take packages from: `list` names
/// it, as a file of the form of `sources.list`.
pub(crate) fn install_from(suite: &str, list: &Path, packages: &[&str]) -> Result<()> {
    let words = packages.join(" ");
    if !is_root()? {
        bail!("missing: {words} of {suite}; run this once as root");
    }
    eprintln!("installing Debian packages of {suite}: {words}");
    let source = format!("Dir::Etc::sourcelist={}", list.display());
    run_aside(apt().args(["--option", &source, "update"]))?;
    let install = ["install", "--yes", "--no-install-recommends", "--target-release", suite];
    run_aside(apt().args(["--option", &source]).args(install).args(packages))
}

/// The name of this machine's release of Debian, `bookworm` say.
pub(crate) fn codename() -> Option<String> {
    let release = std::fs::read_to_string("/etc/os-release").ok()?;
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"').to_owned())
}

/// Mounts the BPF file system if nothing has.
pub(crate) fn need_bpffs() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    if is_mounted(&mounts, BPFFS, "bpf") {
        return Ok(());
    }
    eprintln!("mounting bpffs at {BPFFS}");
    if !Path::new(BPFFS).is_dir() {
        bail!("there is no {BPFFS}: mount sysfs, and use a kernel with CONFIG_BPF_SYSCALL");
    }
    run_aside(Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]))
}

fn is_mounted(mounts: &str, at: &str, kind: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(at) && fields.next() == Some(kind)
    })
}

fn is_root() -> Result<bool> {
    Ok(output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    // Another installation may be under way.
    apt.args(["--quiet=2", "--option", "DPkg::Lock::Timeout=300"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bpffs_counts_as_mounted_only_at_its_own_place() {
        let mounts = "sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n";
        assert!(is_mounted(mounts, "/sys/fs/bpf", "bpf"));
        assert!(!is_mounted("tmpfs /sys/fs/bpf tmpfs rw 0 0\n", "/sys/fs/bpf", "bpf"));
        assert!(!is_mounted("bpf /mnt/bpf bpf rw 0 0\n", "/sys/fs/bpf", "bpf"));
    }
}
