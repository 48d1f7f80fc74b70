//! `cargo xtask vm`: stock kernels of Debian in virtual machines, emulated in software.

mod image;
pub(crate) mod instructions;
mod kernel;
mod qemu;
mod results;
mod tests_in_kernel;
mod userland;

use anyhow::{Result, bail};

use crate::build_ebpf;
use crate::test::{Outcome, Report, Scale};
use crate::workspace::Workspace;
use kernel::Kernel;
use tests_in_kernel::Part;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run the data-plane tests in these; in all of them if none is named.
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,
    /// List the kernels.
    #[arg(long)]
    list: bool,
    /// Run only what every change has to stand.
    #[arg(long)]
    ci: bool,
    /// Run only what is done often, as often as the soak asks for: about an hour a kernel.
    #[arg(long, conflicts_with = "ci")]
    soak: bool,
    /// Run only the tests of this file in `tests/tests`, or whose names contain this; may be repeated.
    #[arg(long, value_name = "FILE|WORD")]
    only: Vec<String>,
    /// Count the instructions that the gate takes for a paid packet on arm64, beside an empty
    /// program.
    #[arg(long, conflicts_with_all = ["list", "ci", "soak", "only", "kernels"])]
    instructions: bool,
}

/// Does it.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.list {
        for kernel in Kernel::ALL {
            println!("{:<14} {}", kernel.name, kernel.about());
        }
        return Ok(());
    }
    if args.instructions {
        return instructions::run_and_print(workspace);
    }
    let part = match (args.ci, args.soak) {
        (true, _) => Part::Ci,
        (_, true) => Part::Soak,
        _ => Part::All,
    };
    let mut kernels = Kernel::ALL.to_vec();
    if !args.kernels.is_empty() {
        kernels = args.kernels.iter().map(|name| Kernel::named(name)).collect::<Result<_>>()?;
    }
    let mut report = Report::default();
    report.time("set-up", || build_ebpf::build_all(workspace).map(|_| Outcome::default()));
    for kernel in &kernels {
        println!("\n── {} ──", kernel.name);
        report.time(kernel.name, || tests_in_kernel::run(workspace, kernel, part, &args.only));
    }
    report.print();
    if report.failed() {
        bail!("not all tests passed");
    }
    Ok(())
}

/// One kernel of each machine: the oldest that Debian supports, with clsact, and the Pi's, with tcx.
const CI_KERNELS: &[&str] = &["amd64-6.1", "arm64-6.12"];

/// What the soak runs beside this machine's own kernel: clsact is all that it has.
const SOAK_KERNELS: &[&str] = &["amd64-6.1"];

/// Runs what every change has to stand in one kernel of each machine, or what the soak does often.
pub(crate) fn run_tier(workspace: &Workspace, scale: Scale) -> Result<Outcome> {
    let (kernels, part) = match scale {
        Scale::Ci => (CI_KERNELS, Part::Ci),
        Scale::Soak => (SOAK_KERNELS, Part::Soak),
    };
    let mut sum = Outcome::default();
    for name in kernels {
        println!("\n── {name} ──");
        let outcome = tests_in_kernel::run(workspace, &Kernel::named(name)?, part, &[])?;
        sum.passed += outcome.passed;
        sum.failed += outcome.failed;
    }
    Ok(sum)
}
