//! The tiers, and how each is run.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Outcome, watch};
use crate::workspace::Workspace;
use crate::{bitcoind, machine, portal, process, sim, tidy, vm};

/// A kind of test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tier {
    /// The rules of the house, formatting and lints.
    Tidy,
    /// Unit and property tests beside the code.
    Unit,
    /// The channel's test vectors against a second implementation, which shares no code, and the
    /// page's script against its sources and the vectors.
    Vectors,
    /// The core with a seeded clock, disk and kernel, and a crash at any command.
    Sim,
    /// The power cut at the writes and syncs of the durable files of gateway and payer.
    PowerCut,
    /// The real agent in network namespaces, under real traffic.
    DataPlane,
    /// The portal's page in a headless browser, against the real agent and a real Bitcoin node.
    Browser,
    /// A few data-plane tests in stock kernels under QEMU, of amd64 and arm64.
    Vm,
    /// Channels, the chain and the real agent against a real Bitcoin node, on regtest.
    Payments,
}

/// Cross-crate tests whose names end so are of the payments tier, those that end in
/// none of these of the data plane.
const ON_REGTEST: &str = "_on_regtest";

/// Those whose names end so are of the browser tier.
const IN_BROWSER: &str = "_in_browser";

/// These need to be told what is known of the kernel: of `cargo xtask vm`.
const IN_VM: &str = "_in_vm";

/// The cross-crate test of the power-cut tier.
const POWER_CUT: &str = "power_cut";

/// How much of the large counts to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// A fraction that suits every change.
    Ci,
    /// All of it: hours.
    Soak,
}

impl Scale {
    /// How long tests may run without one that ends, before they count as hung: some times what the
    /// longest takes.
    const fn max_silence(self) -> Duration {
        Duration::from_mins(match self {
            Self::Ci => 10,
            Self::Soak => 180,
        })
    }
}

/// Runs whole seconds of traffic: two at once would disturb each other's clocks.
const ONE_AT_A_TIME: &[&str] = &["--test-threads=1"];

impl Tier {
    /// What a change has to pass, quickest first; at the end what is emulated.
    pub(crate) const ALL: &[Self] = &[
        Self::Tidy,
        Self::Unit,
        Self::Vectors,
        Self::Sim,
        Self::PowerCut,
        Self::Payments,
        Self::Browser,
        Self::DataPlane,
        Self::Vm,
    ];

    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tidy => "tidy",
            Self::Unit => "unit",
            Self::Vectors => "vectors",
            Self::Sim => "sim",
            Self::PowerCut => "power-cut",
            Self::DataPlane => "data-plane",
            Self::Browser => "browser",
            Self::Payments => "payments",
            Self::Vm => "vm",
        }
    }

    /// Sets up what it needs, and runs it.
    pub(crate) fn run(self, workspace: &Workspace, scale: Scale) -> Result<Outcome> {
        match self {
            Self::Tidy => tidy::run(workspace).map(|()| Outcome { passed: 1, failed: 0 }),
            Self::Unit => {
                let packages = ["bitmesh-common", "bitmesh-core", "bitmesh", "xtask"];
                let mut cargo = cargo_test(workspace, scale);
                for package in packages {
                    cargo.args(["--package", package]);
                }
                count(cargo.args(["--lib", "--bins"]), scale)
            }
            Self::Vectors => vectors(workspace),
            Self::Sim => {
                let mut cargo = cargo_test(workspace, scale);
                cargo.args(["--package", "bitmesh-core", "--test", "*"]);
                if std::env::var_os(sim::HOW_MANY).is_none() {
                    cargo.env(sim::HOW_MANY, sim::SEEDS.to_string());
                }
                // The build takes longer than a fraction of the steps.
                count(cargo.args((scale == Scale::Soak).then_some("--release")), scale)
            }
            Self::PowerCut => {
                machine::need_programs(machine::TRACING)?;
                let mut cargo = cargo_test(workspace, scale);
                // Thousands of restarts; what they spend their time in is optimised in every build.
                count(cargo.args(["--package", "bitmesh-tests", "--test", POWER_CUT]), scale)
            }
            Self::DataPlane => data_plane(workspace, scale),
            Self::Payments => payments(workspace, scale),
            Self::Browser => browser(workspace, scale),
            Self::Vm => vm::run_tier(workspace, scale),
        }
    }
}

/// Checks the vectors, and that the check notices each value that is changed.
fn vectors(workspace: &Workspace) -> Result<Outcome> {
    machine::need_programs(machine::PYTHON)?;
    let ways: &[&[&str]] = &[&[], &["--mutate"]];
    for way in ways {
        let mut check = Command::new("python3");
        process::run(check.arg(workspace.root.join("tests/vectors/check.py")).args(*way))?;
    }
    // The page's script is a third.
    portal::check(workspace)?;
    Ok(Outcome { passed: ways.len() as u64 + 1, failed: 0 })
}

/// What it takes to run the real agent between network namespaces.
fn need_a_lab(tier: &str) -> Result<()> {
    machine::need_root(tier)?;
    machine::need_programs(machine::NETWORK)?;
    machine::need_bpffs()
}

fn build_agent(workspace: &Workspace) -> Result<()> {
    let mut agent = workspace.cargo();
    process::run(agent.args(["build", "--quiet", "--package", "bitmesh", "--bins"]))
}

fn data_plane(workspace: &Workspace, scale: Scale) -> Result<Outcome> {
    need_a_lab("the data-plane tier")?;
    build_agent(workspace)?;
    let mut cargo = cargo_test(workspace, scale);
    cargo.args(["--package", "bitmesh-tests", "--lib", "--bins"]);
    let others = |name: &str| {
        ![ON_REGTEST, IN_BROWSER, IN_VM].iter().any(|end| name.ends_with(end)) && name != POWER_CUT
    };
    for test in cross_crate(workspace, others)? {
        cargo.args(["--test", &test]);
    }
    count(cargo.arg("--").args(ONE_AT_A_TIME), scale)
}

fn payments(workspace: &Workspace, scale: Scale) -> Result<Outcome> {
    need_a_lab("the payments tier")?;
    let node = bitcoind::prepare(workspace)?;
    build_agent(workspace)?;
    let mut cargo = cargo_test(workspace, scale);
    cargo.env(bitcoind::BITCOIND_EXE, node).args(["--package", "bitmesh-tests"]);
    for test in cross_crate(workspace, |name| name.ends_with(ON_REGTEST))? {
        cargo.args(["--test", &test]);
    }
    count(&mut cargo, scale)
}

fn browser(workspace: &Workspace, scale: Scale) -> Result<Outcome> {
    need_a_lab("the browser tier")?;
    machine::need_programs(machine::BROWSER)?;
    let driver = workspace.root.join("target/browser");
    portal::install_packages(workspace, "tests/browser", &driver)?;
    let node = bitcoind::prepare(workspace)?;
    build_agent(workspace)?;
    let mut cargo = cargo_test(workspace, scale);
    cargo.env(bitcoind::BITCOIND_EXE, node).args(["--package", "bitmesh-tests"]);
    cargo.env("BITMESH_BROWSER_MODULES", driver.join("node_modules"));
    for test in cross_crate(workspace, |name| name.ends_with(IN_BROWSER))? {
        cargo.args(["--test", &test]);
    }
    count(cargo.arg("--").args(ONE_AT_A_TIME), scale)
}

/// Names of the tests in `tests/tests`.
fn cross_crate(workspace: &Workspace, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(workspace.root.join("tests/tests"))? {
        let path = file?.path();
        let is_test = path.extension().is_some_and(|extension| extension == "rs")
            || path.join("main.rs").is_file();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if is_test && wanted(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        bail!("there are no such tests in tests/tests");
    }
    names.sort();
    Ok(names)
}

fn cargo_test(workspace: &Workspace, scale: Scale) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--quiet", "--no-fail-fast"]).env("RUST_LIB_BACKTRACE", "0");
    if scale == Scale::Soak {
        cargo.env("BITMESH_SOAK", "1");
    }
    cargo
}

/// Builds tests, runs them, shows what they say, and counts.
fn count(tests: &mut Command, scale: Scale) -> Result<Outcome> {
    build_tests(tests)?;
    let outcome = watch::run(tests, scale.max_silence())?;
    if outcome == Outcome::default() {
        bail!("there were no tests to run");
    }
    Ok(outcome)
}

/// A build may be silent for as long as the machine is slow: only the tests are watched.
fn build_tests(tests: &Command) -> Result<()> {
    let mut build = Command::new(tests.get_program());
    build.args(tests.get_args().take_while(|&word| word != "--")).arg("--no-run");
    for (name, value) in tests.get_envs() {
        match value {
            Some(value) => build.env(name, value),
            None => build.env_remove(name),
        };
    }
    if let Some(folder) = tests.get_current_dir() {
        build.current_dir(folder);
    }
    process::run(&mut build)
}
