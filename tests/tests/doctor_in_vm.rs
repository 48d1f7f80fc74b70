//! What `bitmesh doctor` says of a stock kernel, beside what is known of that kernel.
//!
//! `cargo xtask vm` knows what it boots, and says so in the environment.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use bitmesh_tests::agent::{House, Program, Settings, Tariff};
use bitmesh_tests::hooks::KNOWN_TCX;
use bitmesh_tests::lab::{LAN, Lab};
use serde_json::Value;

/// What is known of a kernel.
struct Known {
    /// `uname -rm`, joined by ` on `.
    kernel: String,
    /// Whether it has tcx.
    tcx: bool,
}

impl Known {
    fn read() -> Result<Self> {
        let read = |name: &str| {
            let missing = || format!("{name} is not set: run this with `cargo xtask vm`");
            std::env::var(name).with_context(missing)
        };
        let kernel = format!("{} on {}", read("BITMESH_KNOWN_RELEASE")?, std::env::consts::ARCH);
        Ok(Self { kernel, tcx: read(KNOWN_TCX)? == "yes" })
    }
}

/// Runs a command of the agent's program in the gateway's namespace.
fn bitmesh(lab: &Lab, words: &[&str], house: &House) -> Result<Output> {
    let settings = Settings::new(Tariff::bytes(1_000_000));
    std::fs::write(house.config(), settings.text(house))?;
    let mut command = Command::new(Program::True.path()?);
    command.args(words).arg("--config").arg(house.config()).stdin(Stdio::null());
    lab.gateway.enter(|| command.output().context("cannot start the agent"))
}

/// What the doctor found, by the name of the check; shown for who runs this.
fn examined(lab: &Lab) -> Result<Vec<Value>> {
    let said = bitmesh(lab, &["doctor", "--json"], &House::new()?)?;
    let checks: Vec<Value> =
        serde_json::from_slice(&said.stdout).context("the doctor gave no JSON")?;
    for check in &checks {
        println!("doctor: {} {}: {}", check["verdict"], check["check"], check["detail"]);
    }
    Ok(checks)
}

fn found<'a>(checks: &'a [Value], name: &str) -> Result<(&'a str, &'a str)> {
    let check = checks.iter().find(|check| check["check"] == name);
    let check = check.with_context(|| format!("{name} was not looked at: {checks:?}"))?;
    let text = |field: &str| check[field].as_str().context("no text");
    Ok((text("verdict")?, text("detail")?))
}

#[test]
fn doctor_says_the_truth_of_this_kernel_and_its_hooks() -> Result<()> {
    let Known { kernel, tcx } = Known::read()?;
    let checks = examined(&Lab::new()?)?;
    let about_tcx = if tcx { "has tcx" } else { "clsact, as tcx came with 6.6" };
    let expected = format!("{kernel}; {about_tcx}");
    ensure!(found(&checks, "kernel")? == ("ok", expected.as_str()), "{checks:?}");
    let (verdict, hooks) = found(&checks, &format!("{LAN} hooks"))?;
    let listed = if tcx { "tcx and clsact; " } else { "clsact; " };
    ensure!(verdict == "ok" && hooks.starts_with(listed), "{hooks}");
    // The JIT's setting is not seen from a network namespace.
    for check in ["BTF", "BPF file system", "rights", "nftables"] {
        ensure!(found(&checks, check)?.0 == "ok", "{check}: {checks:?}");
    }
    Ok(())
}

#[test]
fn a_kernel_that_is_too_old_is_refused_by_name_and_by_the_doctor() -> Result<()> {
    let Known { kernel, .. } = Known::read()?;
    let lab = Lab::new()?;
    let checks = examined(&lab)?;
    let expected = format!("{kernel}; too old");
    ensure!(found(&checks, "kernel")? == ("problem", expected.as_str()), "{checks:?}");
    let said = bitmesh(&lab, &["gateway"], &House::new()?)?;
    let error = String::from_utf8_lossy(&said.stderr);
    let refusal = format!("this kernel, {kernel}, is too old: install one of 5.12 or later");
    ensure!(!said.status.success() && error.contains(&refusal), "{error}");
    Ok(())
}
