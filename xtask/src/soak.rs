//! `cargo xtask soak`: the same tests with their large counts.

use anyhow::Result;

use crate::test::{Scale, Tier, run_tiers};
use crate::workspace::Workspace;
use crate::{fuzz, sim};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tier; those that have large counts if none is named.
    #[arg(value_enum, value_name = "NAME")]
    tier: Option<Tier>,
}

/// Runs the tiers at full size.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let all = [Tier::Sim, Tier::PowerCut, Tier::Payments, Tier::DataPlane, Tier::Vm];
    if args.tier.is_none() {
        fuzz::soak(workspace)?;
        sim::soak(workspace)?;
    }
    run_tiers(workspace, args.tier.as_ref().map_or(&all, std::slice::from_ref), Scale::Soak)
}
