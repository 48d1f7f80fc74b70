//! `cargo xtask vm`: stock kernels of Debian in virtual machines, emulated in software.

mod image;
pub(crate) mod instructions;
mod kernel;
mod qemu;

use anyhow::Result;

use crate::workspace::Workspace;
use kernel::Kernel;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// List the kernels.
    #[arg(long)]
    list: bool,
    /// Count the instructions that the gate takes for a paid packet on arm64, beside an empty
    /// program.
    #[arg(long, conflicts_with = "list")]
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
    instructions::run_and_print(workspace)
}
