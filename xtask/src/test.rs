//! `cargo xtask test [NAME]`: the tests in tiers, set-up included.

mod report;
mod tier;
mod watch;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::build_ebpf;
use crate::workspace::Workspace;
pub(crate) use report::{Outcome, Report};
pub(crate) use tier::{Scale, Tier};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tier; all of them if none is named.
    #[arg(value_enum, value_name = "NAME")]
    tier: Option<Tier>,
}

/// Runs the tiers and says what became of each.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    run_tiers(workspace, args.tier.as_ref().map_or(Tier::ALL, std::slice::from_ref), Scale::Ci)
}

/// Runs these tiers. One that can't run has failed.
pub(crate) fn run_tiers(workspace: &Workspace, tiers: &[Tier], scale: Scale) -> Result<()> {
    let mut report = Report::default();
    report.time("set-up", || build_ebpf::build_all(workspace).map(|_| Outcome::default()));
    for tier in tiers {
        let started = Instant::now();
        println!("\n── {} ──", tier.name());
        report.time(tier.name(), || tier.run(workspace, scale));
        println!("── {}: {:.0} s ──", tier.name(), started.elapsed().as_secs_f64());
    }
    report.print();
    if report.failed() {
        bail!("not all tests passed");
    }
    Ok(())
}
