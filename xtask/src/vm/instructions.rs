//! Instructions that the gate takes for a paid packet, beside an empty program.
//!
//! A machine that counts one ns for each instruction says the same each time, whatever else its
//! host does: what `BPF_PROG_TEST_RUN` calls a duration is then a number of instructions.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::image::Image;
use super::kernel::Kernel;
use super::qemu::{self, Machine};
use crate::build_ebpf;
use crate::process::{find_program, output, run, run_aside};
use crate::workspace::Workspace;

/// The core of a Raspberry Pi 4, on the kernel that its system has.
const KERNEL: &str = "arm64-6.12";

/// Some seconds on an idle host.
const MAX_RUN: Duration = Duration::from_secs(180);

/// Links with what Rust brings: no C compiler is needed.
const TARGET: &str = "aarch64-unknown-linux-musl";
const LINKER: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER";
const PACKAGE: &str = "bitmesh-instructions";

/// One number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// What was measured: `arm64_instructions_uplink`, and with a feature after it.
    pub(crate) name: String,
    /// How many.
    pub(crate) value: u64,
    /// Of what.
    pub(crate) unit: &'static str,
}

/// Measures, and prints a table.
pub(crate) fn run_and_print(workspace: &Workspace) -> Result<()> {
    build_ebpf::build_all(workspace)?;
    println!("{:<44} {:>12}", "a paid packet beside an empty program", "instructions");
    for Row { name, value, .. } in measure(workspace)? {
        println!("{name:<44} {value:>12}");
    }
    Ok(())
}

/// Measures the object that was built last (`build_ebpf::build_all`): IPv4 TCP in each
/// direction first, then by feature.
pub(crate) fn measure(workspace: &Workspace) -> Result<Vec<Row>> {
    qemu::prepare(workspace)?;
    let kernel = Kernel::named(KERNEL)?;
    let unpacked = kernel.fetch(workspace)?;
    let image = Image::empty(workspace.target.join("tools/vm/instructions"))?;
    image.put(&program(workspace)?, "/init")?;
    let objects = [("bitmesh.o", "/bitmesh.o"), (build_ebpf::EMPTY, "/empty.o")];
    for (object, at) in objects {
        image.put(&workspace.bpf().join(object), at)?;
    }
    let machine = Machine {
        arch: kernel.arch,
        kernel: &unpacked,
        image: &image.pack()?,
        memory_mib: 512,
        processors: 1,
        counts_instructions: true,
        limit: MAX_RUN,
    };
    let (mut rows, mut lines, mut finished) = (Vec::new(), Vec::new(), false);
    machine.run(|line| {
        rows.extend(row(line));
        finished |= line == "measured";
        lines.push(line.to_owned());
    })?;
    if !finished || rows.is_empty() {
        bail!("nothing was measured:\n{}", lines.join("\n"));
    }
    Ok(rows)
}

/// `ns FEATURE NUMBER`.
fn row(line: &str) -> Option<Row> {
    let (feature, value) = line.strip_prefix("ns ")?.split_once(' ')?;
    let name = format!("arm64_instructions_{feature}");
    Some(Row { name, value: value.parse().ok()?, unit: "instructions" })
}

/// The static program that measures.
fn program(workspace: &Workspace) -> Result<PathBuf> {
    need_target(TARGET)?;
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--quiet", "--release", "--package", PACKAGE, "--target", TARGET]);
    run(cargo.env(LINKER, "rust-lld"))?;
    Ok(workspace.target.join(TARGET).join("release").join(PACKAGE))
}

/// Installs Rust's standard library for a target.
pub(super) fn need_target(target: &str) -> Result<()> {
    let mut rustc = std::process::Command::new("rustc");
    let sysroot = output(rustc.args(["--print", "sysroot"]))?;
    if PathBuf::from(sysroot.trim()).join("lib/rustlib").join(target).is_dir() {
        return Ok(());
    }
    find_program("rustup").with_context(|| {
        format!("no rustup: install Rust's standard library for {target} yourself")
    })?;
    eprintln!("installing Rust's standard library for {target} with rustup");
    run_aside(std::process::Command::new("rustup").args(["target", "add", target]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_from_a_line_of_the_console() {
        let read = row("ns uplink_ipv6 271").unwrap();
        assert_eq!((read.name.as_str(), read.value), ("arm64_instructions_uplink_ipv6", 271));
        assert_eq!(row("measured"), None);
        assert_eq!(row("ns uplink many"), None);
    }
}
