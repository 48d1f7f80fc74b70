//! What runs in a machine: Debian's own programs, the modules of its kernel, and the tests.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::image::Image;
use super::kernel::{Arch, Unpacked};
use crate::debian::Suite;
use crate::machine;
use crate::process::run_aside;
use crate::workspace::Workspace;

/// What the harness of the tests starts, a shell, and what reads modules.
const PACKAGES: &[&str] = &[
    "bpftool",
    "busybox-static",
    "ethtool",
    "hostapd",
    "iproute2",
    "iw",
    "kmod",
    "nftables",
    "util-linux",
    "wpasupplicant",
];

/// Where it is noted what was unpacked.
const UNPACKED: &str = "etc/unpacked";

/// What no program needs to run: a machine unpacks all else into its memory before it starts.
const NOT_NEEDED: &[&str] = &["usr/share", "usr/lib/systemd", "usr/lib/udev", "lib/udev", "var"];

/// The same in the folders of libraries, which are named after the machine.
const NOT_NEEDED_OF_LIBRARIES: &[&str] = &["gconv", "perl", "perl-base", "security"];

/// Modules by name; one that the kernel has built in, or has not at all, is left out.
const MODULES: &[&str] = &[
    // What `libcrc32c`, and with it nftables, asks for when it is loaded.
    "crc32c_generic",
    // What mac80211 asks for when keys are set.
    "aes_generic",
    "ccm",
    "cmac",
    "ctr",
    "8021q",
    "act_bpf",
    "bridge",
    "cls_bpf",
    "dummy",
    "mac80211_hwsim",
    "nf_conntrack",
    "nf_flow_table_inet",
    "nf_tables",
    "nft_chain_nat",
    "nft_compat",
    "nft_counter",
    "nft_ct",
    "nft_flow_offload",
    "nft_limit",
    "nft_masq",
    "nft_nat",
    "nft_objref",
    "nft_redir",
    "nft_reject",
    "nft_reject_inet",
    "sch_fq_codel",
    "sch_ingress",
    "sit",
    "ip_gre",
    "ip6_gre",
    "ipip",
    "ip6_tunnel",
    "veth",
];

/// The first program of a machine: mounts, modules, then each test in turn.
const INIT: &str = include_str!("init.sh");

/// Unpacks Debian's programs for this machine, once.
pub(crate) fn unpack(workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    let folder = workspace.target.join("tools/vm/userland").join(arch.debian());
    let list = [PACKAGES, NOT_NEEDED, NOT_NEEDED_OF_LIBRARIES].concat().join("\n");
    if fs::read_to_string(folder.join(UNPACKED)).is_ok_and(|unpacked| unpacked == list) {
        return Ok(folder);
    }
    if folder.is_dir() {
        fs::remove_dir_all(&folder)?;
    }
    let release = machine::codename().context("/etc/os-release names no release of Debian")?;
    let debian = arch.debian();
    eprintln!("unpacking programs of Debian {release} {debian} under {}", workspace.shown(&folder));
    let unfinished = folder.with_extension("new");
    let apt = folder.with_extension("apt");
    let suite = Suite::read(&release, debian, apt.clone())?;
    suite.unpack(&suite.with_dependencies(PACKAGES)?, &unfinished)?;
    fs::remove_dir_all(apt)?;
    let mut needless: Vec<PathBuf> = NOT_NEEDED.iter().map(|part| unfinished.join(part)).collect();
    for folder in ["lib", "usr/lib"] {
        for libraries in fs::read_dir(unfinished.join(folder))? {
            let libraries = libraries?.path();
            needless.extend(NOT_NEEDED_OF_LIBRARIES.iter().map(|part| libraries.join(part)));
        }
    }
    for part in needless.iter().filter(|part| part.is_dir()) {
        fs::remove_dir_all(part)?;
    }
    fs::create_dir_all(unfinished.join("etc"))?;
    fs::write(unfinished.join(UNPACKED), list)?;
    fs::rename(&unfinished, &folder)?;
    Ok(folder)
}

/// A file system with Debian's programs, the kernel's modules and these tests, beside the agents.
pub(crate) fn image(
    folder: PathBuf,
    programs: &Path,
    kernel: &Unpacked,
    binaries: &Binaries,
) -> Result<Image> {
    let image = Image::empty(folder)?;
    image.put_all(programs)?;
    let modules = format!("lib/modules/{}", kernel.release);
    for file in needed_modules(&kernel.modules)? {
        image.put(&kernel.modules.join(&file), &format!("{modules}/{file}"))?;
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        image.put(&kernel.modules.join(list), &format!("{modules}/{list}"))?;
    }
    run_aside(Command::new("depmod").arg("-b").arg(image.root()).arg(&kernel.release))?;
    image.write("etc/modules", &MODULES.join("\n"))?;
    for agent in &binaries.agents {
        image.put_stripped(binaries.strip, agent, "t")?;
    }
    for test in &binaries.tests {
        image.put_stripped(binaries.strip, test, "t/deps")?;
    }
    image.write("init", INIT)?;
    fs::set_permissions(image.root().join("init"), PermissionsExt::from_mode(0o755))?;
    Ok(image)
}

/// What was built for a machine.
pub(crate) struct Binaries {
    /// The program that takes symbols away, of this machine's kind.
    pub(crate) strip: &'static str,
    /// The agent and its twins.
    pub(crate) agents: Vec<PathBuf>,
    /// The tests.
    pub(crate) tests: Vec<PathBuf>,
}

/// The files of the modules and of all that they depend on.
fn needed_modules(folder: &Path) -> Result<BTreeSet<String>> {
    let listed = fs::read_to_string(folder.join("modules.dep"))?;
    let needs: HashMap<&str, Vec<&str>> = listed
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (file, needs.split_whitespace().collect()))
        .collect();
    let mut found = BTreeSet::new();
    for name in MODULES {
        // `modules.dep` lists what is needed to any depth.
        if let Some((file, needs)) = needs.iter().find(|(file, _)| module_name(file) == *name) {
            found.insert((*file).to_owned());
            found.extend(needs.iter().map(|file| (*file).to_owned()));
        }
    }
    if found.is_empty() {
        bail!("{} lists none of the modules", folder.join("modules.dep").display());
    }
    Ok(found)
}

/// `veth` of `kernel/drivers/net/veth.ko.xz`; a hyphen is an underscore.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_known_by_its_file() {
        assert_eq!(module_name("kernel/drivers/net/veth.ko.xz"), "veth");
        assert_eq!(module_name("kernel/net/sched/cls-bpf.ko"), "cls_bpf");
    }
}
