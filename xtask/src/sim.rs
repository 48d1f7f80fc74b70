//! `cargo xtask sim`: evenings of subscribers from seeds, as many as one likes.

use anyhow::Result;

use crate::process::run;
use crate::workspace::Workspace;

/// Seeds of an ordinary run, here and in the tests.
pub(crate) const SEEDS: u64 = 2_000;

/// Tells the simulations how many seeds to run.
pub(crate) const HOW_MANY: &str = "BITMESH_SEEDS";

/// Seeds of the soak: each opens more than six channels.
const SOAK_SEEDS: u64 = 20_000;

/// The simulations: of accounts, and of the whole gateway with payers and a chain.
const SIMULATIONS: [(&str, &str); 2] = [
    ("simulation", "the_invariants_hold_through_any_evening"),
    ("channels", "no_payment_is_lost_and_every_satoshi_is_accounted_for_through_any_evening"),
];

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many evenings of each simulation.
    #[arg(long, default_value_t = SEEDS, value_name = "N")]
    seeds: u64,
    /// The seed of the first.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    first: u64,
}

/// Runs the simulations with these seeds, and prints what was seen. A seed that violates an
/// invariant ends them, with the way to replay it.
pub(crate) fn run_args(workspace: &Workspace, args: &Args) -> Result<()> {
    for (test, name) in SIMULATIONS {
        let mut cargo = workspace.cargo();
        cargo.args(["test", "--quiet", "--release", "--package", "bitmesh-core", "--test", test]);
        cargo.args(["--", "--exact", name, "--nocapture"]);
        cargo.env(HOW_MANY, args.seeds.to_string());
        run(cargo.env("BITMESH_FIRST_SEED", args.first.to_string()))?;
    }
    Ok(())
}

/// As many as the soak asks for.
pub(crate) fn soak(workspace: &Workspace) -> Result<()> {
    run_args(workspace, &Args { seeds: SOAK_SEEDS, first: 0 })
}
