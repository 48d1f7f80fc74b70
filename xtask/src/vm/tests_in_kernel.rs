//! The data-plane tests in a stock kernel.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::kernel::{Arch, Kernel};
use super::qemu::{self, Machine};
use super::results::Results;
use super::userland::{self, Binaries};
use crate::machine::{Need, need_programs};
use crate::process::output;
use crate::test::Outcome;
use crate::workspace::Workspace;

/// A test: the file in `tests/tests`, and its name.
pub(super) type Test = (&'static str, &'static str);

const TRUE_DOCTOR: Test = ("doctor_in_vm", "doctor_says_the_truth_of_this_kernel_and_its_hooks");
const CORPUS: Test = ("verdict_in_kernel", "kernel_and_table_agree_on_every_frame_of_who_has_paid");
const CONTINUITY: Test = (
    "continuity",
    "killed_stopped_and_upgraded_under_load_with_clsact_nothing_is_unmetered_lost_or_broken",
);
const UNPAID: Test = ("unpaid", "nothing_passes_to_or_from_the_internet_before_it_is_paid_for");

/// How much to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What every change has to stand: the verifier takes the programs, they count what the table
    /// says on every frame of the corpus, a real agent closes the gate, the doctor is right.
    Ci,
    /// One test for each promise that depends on the kernel.
    All,
    /// What is done often, as often as elsewhere: about an hour a kernel.
    Soak,
}

impl Part {
    /// Its tests. Where a processor is emulated, the verifier takes its time whenever an
    /// agent starts: so a promise has one test here, and those that start many agents have none.
    fn tests(self, kernel: &Kernel) -> &'static [Test] {
        if kernel.is_too_old {
            return &[(
                "doctor_in_vm",
                "a_kernel_that_is_too_old_is_refused_by_name_and_by_the_doctor",
            )];
        }
        match self {
            // An agent on arm64 would take the minutes that its build takes already.
            Self::Ci if kernel.arch == Arch::Arm64 => &[TRUE_DOCTOR, CORPUS],
            Self::Ci => &[TRUE_DOCTOR, CORPUS, UNPAID],
            Self::Soak => &[CONTINUITY],
            Self::All => &[
                TRUE_DOCTOR,
                CORPUS,
                ("xdp_in_kernel", "what_is_common_and_paid_for_is_charged_in_the_driver"),
                UNPAID,
                (
                    "vlan_in_vm",
                    "tags_below_the_lan_interface_and_on_the_way_to_the_internet_are_not_billed",
                ),
                ("vlan_in_vm", "one_and_two_tags_of_frames_on_the_lan_interface_are_not_billed"),
                ("vlan_in_vm", "a_gate_that_miscounts_tagged_frames_by_one_header_is_caught"),
                (
                    "vlan_in_vm",
                    "no_frame_of_a_stranger_gets_out_behind_any_tags_until_it_is_paid_for",
                ),
                (
                    "bypass_in_vm",
                    "a_flow_table_over_the_lan_interface_stops_the_sale_unless_it_is_allowed",
                ),
                (
                    "wifi_in_vm",
                    "a_station_joins_through_the_gate_and_is_metered_and_cut_off_at_the_packet",
                ),
                (
                    "wifi_in_vm",
                    "an_access_point_that_restarts_is_metered_again_and_stays_closed_while_the_agent_is_dead",
                ),
                ("leaks", "no_frame_of_a_stranger_gets_out"),
                ("cut_off", "clsact_stops_at_the_same_packet_as_tcx"),
                (
                    "kill_restart",
                    "kill_and_restart_under_traffic_charges_nothing_twice_and_loses_no_packet",
                ),
                CONTINUITY,
                ("hot_plug", "the_unpaid_stay_closed_while_an_interface_comes_and_goes"),
                (
                    "fence",
                    "with_nftables_flushed_and_the_agent_stopped_nothing_of_the_unpaid_is_forwarded",
                ),
            ],
        }
    }

    /// How often a test does what it does often elsewhere.
    fn times(self, file: &str) -> u32 {
        match self {
            Self::Soak => 200,
            // An agent that is killed, stopped and upgraded under load.
            Self::All if file == CONTINUITY.0 => 3,
            Self::All | Self::Ci => 1,
        }
    }

    /// How long one kernel may take.
    const fn limit(self) -> Duration {
        match self {
            Self::Ci => Duration::from_secs(600),
            Self::All => Duration::from_secs(5_400),
            Self::Soak => Duration::from_secs(10_800),
        }
    }
}

/// The true agent, and those beside it that tests run.
const AGENTS: &[&str] = &["bitmesh", "bitmesh-miscount", "bitmesh-successor"];

const BUILDING_ARM64: &[Need] =
    &[Need::new("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")];
const TARGET_ARM64: &str = "aarch64-unknown-linux-gnu";

/// Boots a kernel, runs the tests in it, those `only` of these files or names if there are any,
/// and prints a table of them.
pub(crate) fn run(
    workspace: &Workspace,
    kernel: &Kernel,
    part: Part,
    only: &[String],
) -> Result<Outcome> {
    let mut tests = part.tests(kernel).to_vec();
    let is_wanted =
        |(file, name): &Test| only.iter().any(|only| only == file || name.contains(only.as_str()));
    tests.retain(|test| only.is_empty() || is_wanted(test));
    if tests.is_empty() {
        bail!("{} runs no tests of `{}`", kernel.name, only.join("`, `"));
    }
    let tests = tests.as_slice();
    qemu::prepare(workspace)?;
    let unpacked = kernel.fetch(workspace)?;
    let programs = userland::unpack(workspace, kernel.arch)?;
    let binaries = build(workspace, kernel.arch, tests)?;
    let folder = workspace.target.join("tools/vm/run").join(kernel.name);
    let image = userland::image(folder, &programs, &unpacked, &binaries)?;
    let list: String =
        tests.iter().map(|(file, name)| format!("{file} {name} {}\n", part.times(file))).collect();
    image.write("etc/tests", &list)?;
    let tcx = if kernel.tcx { "yes" } else { "no" };
    let known =
        format!("export BITMESH_KNOWN_RELEASE={} BITMESH_KNOWN_TCX={tcx}\n", unpacked.release);
    image.write("etc/known", &known)?;
    let machine = Machine {
        arch: kernel.arch,
        kernel: &unpacked,
        image: &image.pack()?,
        memory_mib: 2_048,
        processors: 2,
        counts_instructions: false,
        limit: part.limit(),
    };
    let mut results = Results::of(tests);
    let ran = machine.run(|line| {
        println!("{line}");
        results.read(line);
    });
    results.print(kernel.name);
    ran?;
    Ok(results.outcome())
}

fn build(workspace: &Workspace, arch: Arch, wanted: &[Test]) -> Result<Binaries> {
    if arch == Arch::Arm64 {
        need_programs(BUILDING_ARM64)?;
        super::instructions::need_target(TARGET_ARM64)?;
    }
    let mut files: Vec<&str> = wanted.iter().map(|(file, _)| *file).collect();
    files.sort_unstable();
    files.dedup();
    // In one go: cargo would build what both depend on twice, with other features each time.
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--quiet", "--message-format=json-render-diagnostics"]);
    cargo.args(["--package", "bitmesh", "--package", "bitmesh-tests"]);
    cargo.args(AGENTS.iter().flat_map(|agent| ["--bin", agent]));
    cargo.args(files.iter().flat_map(|file| ["--test", file]));
    if arch == Arch::Arm64 {
        cargo.args(["--target", TARGET_ARM64]);
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        cargo.env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc");
    }
    let is_test = |path: &PathBuf| path.parent().is_some_and(|folder| folder.ends_with("deps"));
    let (tests, others): (Vec<_>, _) =
        executables(&output(&mut cargo)?)?.into_iter().partition(is_test);
    let is_agent = |path: &PathBuf| AGENTS.iter().any(|agent| path.ends_with(agent));
    let agents = others.into_iter().filter(is_agent).collect();
    if tests.len() != files.len() {
        bail!("{} tests were built instead of {}", tests.len(), files.len());
    }
    let strip = match arch {
        Arch::Amd64 => "strip",
        Arch::Arm64 => "aarch64-linux-gnu-strip",
    };
    Ok(Binaries { strip, agents, tests })
}

/// The programs in what cargo says, a JSON object a line.
fn executables(said: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in said.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("cargo gave no JSON")?;
        if let Some(path) = message["executable"].as_str() {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_what_cargo_says() {
        let said = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                    {\"reason\":\"compiler-artifact\",\"executable\":\"/t/deps/unpaid-1\"}\n\
                    {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executables(said).unwrap(), [PathBuf::from("/t/deps/unpaid-1")]);
    }
}
