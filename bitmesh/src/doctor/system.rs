//! The kernel, its settings, and the rights of this process.

use std::fs;
use std::io;
use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};
use rustix::time::{ClockId, clock_gettime};

use super::Check;
use crate::fence;
use crate::meter::{Kernel, is_bpffs};

/// 2024-01-01: a clock before it was never set.
const MIN_SANE_UNIX_SECONDS: i64 = 1_704_067_200;

/// Looks at all of it.
pub(super) fn examine(bpffs: &Path) -> Vec<Check> {
    vec![
        kernel(&Kernel::running()),
        btf(Path::new("/sys/kernel/btf/vmlinux")),
        jit(read("/proc/sys/net/core/bpf_jit_enable")),
        bpf_file_system(bpffs),
        rights(),
        monotonic_clock(),
        wall_clock(clock_gettime(ClockId::Realtime).tv_sec),
        nftables(),
        forwarding("IPv4", "net.ipv4.ip_forward", read("/proc/sys/net/ipv4/ip_forward")),
        forwarding(
            "IPv6",
            "net.ipv6.conf.all.forwarding",
            read("/proc/sys/net/ipv6/conf/all/forwarding"),
        ),
    ]
}

fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned())
}

fn kernel(kernel: &Kernel) -> Check {
    const CHECK: &str = "kernel";
    let detail = format!("{} on {}", kernel.release, kernel.machine);
    if !kernel.is_known() {
        let detail = format!("{detail}, where bitmesh was never tried");
        return Check::warning(CHECK, detail, "use an amd64 or arm64 machine");
    }
    if let Err(refused) = kernel.check() {
        let (major, minor) = refused.minimum();
        let cure = format!("install a kernel of {major}.{minor} or later: BPF atomics need it");
        return Check::problem(CHECK, format!("{detail}; too old"), cure);
    }
    if kernel.version().is_none() {
        let detail = format!("{detail}: this version can't be read");
        return Check::warning(CHECK, detail, "make sure that it is 5.18 or later");
    }
    let tcx = if kernel.has_tcx() { "has tcx" } else { "clsact, as tcx came with 6.6" };
    Check::ok(CHECK, format!("{detail}; {tcx}"))
}

fn btf(path: &Path) -> Check {
    if path.exists() {
        return Check::ok("BTF", path.display().to_string());
    }
    let detail = format!("{} is missing, so bpftool can't name the fields of maps", path.display());
    Check::warning("BTF", detail, "use a kernel built with CONFIG_DEBUG_INFO_BTF=y")
}

fn jit(setting: io::Result<String>) -> Check {
    const CHECK: &str = "BPF JIT";
    match setting.as_deref() {
        Ok("1" | "2") => Check::ok(CHECK, "on"),
        Ok(_) => Check::warning(
            CHECK,
            "off, so every packet takes several times as long",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Err(error) => Check::warning(
            CHECK,
            format!("its setting can't be seen from here: {error}"),
            "run this as root in the machine's own network namespace",
        ),
    }
}

fn bpf_file_system(bpffs: &Path) -> Check {
    const CHECK: &str = "BPF file system";
    let existing = bpffs.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if is_bpffs(existing) {
        return Check::ok(CHECK, format!("at {}", existing.display()));
    }
    let detail = format!("{} is on none", bpffs.display());
    Check::problem(CHECK, detail, "mount -t bpf bpf /sys/fs/bpf")
}

fn rights() -> Check {
    if may_meter() {
        return Check::ok("rights", "BPF and network administration");
    }
    Check::problem("rights", "no right to load programs", "run as root")
}

/// Whether this process may load programs and see those of others.
pub(super) fn may_meter() -> bool {
    let needed = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON;
    capabilities(None).is_ok_and(|held| held.effective.contains(needed))
}

fn monotonic_clock() -> Check {
    let since_boot = clock_gettime(ClockId::Boottime).tv_sec;
    if since_boot > 0 {
        return Check::ok("boot clock", format!("{since_boot} s since the machine started"));
    }
    Check::problem("boot clock", "CLOCK_BOOTTIME stands still", "use a kernel that has it")
}

fn wall_clock(unix_seconds: i64) -> Check {
    if unix_seconds >= MIN_SANE_UNIX_SECONDS {
        return Check::ok("system clock", "set");
    }
    let detail = "before 2024: certificates and logs will be wrong (billing is not affected)";
    Check::warning("system clock", detail, "set the clock, or install an NTP client")
}

fn nftables() -> Check {
    match fence::find() {
        Some(nft) => Check::ok("nftables", nft.display().to_string()),
        None => {
            let detail = "`nft` is not installed, so nothing closes a LAN interface that comes \
                          back while no agent runs";
            Check::problem("nftables", detail, "apt-get install nftables")
        }
    }
}

fn forwarding(family: &str, key: &str, setting: io::Result<String>) -> Check {
    let check = format!("{family} forwarding");
    match setting.as_deref() {
        Ok("0") => Check::warning(&check, "off: nothing is routed", format!("sysctl -w {key}=1")),
        Ok(_) => Check::ok(&check, "on"),
        Err(error) => {
            let detail = format!("unknown: {error}");
            Check::warning(&check, detail, format!("make sure that the kernel has {family}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn examined(release: &str, machine: &str) -> Check {
        kernel(&Kernel { release: release.to_owned(), machine: machine.to_owned() })
    }

    #[test]
    fn a_kernel_without_atomics_is_a_problem() {
        for (release, machine, verdict) in [
            ("5.11.22", "x86_64", Verdict::Problem),
            ("5.12.0-1-amd64", "x86_64", Verdict::Ok),
            ("5.17.9", "aarch64", Verdict::Problem),
            ("5.18", "aarch64", Verdict::Ok),
            ("6.12.30+deb13-amd64", "x86_64", Verdict::Ok),
            ("10.0.1", "aarch64", Verdict::Ok),
            ("6.12.1", "riscv64", Verdict::Warning),
            ("unknown", "x86_64", Verdict::Warning),
        ] {
            assert_eq!(examined(release, machine).verdict, verdict, "{release} {machine}");
        }
    }

    #[test]
    fn only_kernels_of_6_6_and_later_are_said_to_have_tcx() {
        assert!(examined("6.6.1", "x86_64").detail.ends_with("has tcx"));
        assert!(examined("6.5.9", "x86_64").detail.ends_with("clsact, as tcx came with 6.6"));
    }

    #[test]
    fn settings_that_are_off_are_complaints_with_the_command_that_mends_them() {
        let off = || Ok("0".to_owned());
        assert_eq!(jit(off()).cure.as_deref(), Some("sysctl -w net.core.bpf_jit_enable=1"));
        assert_eq!(jit(Ok("1".to_owned())).verdict, Verdict::Ok);
        assert_eq!(jit(Err(io::ErrorKind::NotFound.into())).verdict, Verdict::Warning);
        let v4 = forwarding("IPv4", "net.ipv4.ip_forward", off());
        assert_eq!(v4.cure.as_deref(), Some("sysctl -w net.ipv4.ip_forward=1"));
        let on = forwarding("IPv4", "net.ipv4.ip_forward", Ok("1".to_owned()));
        assert_eq!(on.verdict, Verdict::Ok);
    }

    #[test]
    fn a_directory_that_is_on_no_bpf_file_system_is_a_problem() {
        let check = bpf_file_system(Path::new("/tmp/bitmesh/deeper"));
        assert_eq!(check.verdict, Verdict::Problem);
        assert_eq!(check.cure.as_deref(), Some("mount -t bpf bpf /sys/fs/bpf"));
    }

    #[test]
    fn a_clock_that_was_never_set_is_a_complaint() {
        assert_eq!(wall_clock(0).verdict, Verdict::Warning);
        assert_eq!(wall_clock(MIN_SANE_UNIX_SECONDS).verdict, Verdict::Ok);
    }
}
