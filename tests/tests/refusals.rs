//! What can't work is refused in one line that says how to mend it, and leaves nothing behind.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use bitmesh_tests::agent::{Agent, House, Program, Settings, Tariff};
use bitmesh_tests::lab::{LAN, Lab};

const TARIFF: Tariff = Tariff::bytes(1_000_000);

/// A user who may do nothing.
const NOBODY: u32 = 65_534;

/// Runs the gateway with this configuration, in the gateway's namespace.
fn gateway(lab: &Lab, config: &Path) -> Result<Output> {
    let mut command = Command::new(Program::True.path()?);
    command.args(["gateway", "--config"]).arg(config);
    lab.gateway.enter(|| Ok(command.output()?))
}

/// One line on standard error with all of these words, a failure, and no trace on the interface.
fn refused(lab: &Lab, house: &House, done: &Output, words: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(!done.status.success(), "it was not refused: {said}");
    ensure!(said.trim_end().lines().count() == 1, "not one line: {said}");
    for word in words {
        ensure!(said.contains(word), "`{word}` is not in: {said}");
    }
    ensure!(!house.bpffs.join("meters").exists(), "pins are left");
    let attached = lab.gateway.run("bpftool", &["net", "show"])?;
    ensure!(!attached.contains(LAN), "programs are left: {attached}");
    let qdiscs = lab.gateway.run("tc", &["qdisc", "show", "dev", LAN])?;
    ensure!(!qdiscs.contains("clsact"), "a qdisc is left: {qdiscs}");
    Ok(())
}

/// A house whose configuration has one thing replaced.
fn house_with(from: &str, to: &str) -> Result<House> {
    let house = House::new()?;
    let text = Settings::new(TARIFF).text(&house);
    ensure!(text.contains(from), "no {from} in {text}");
    std::fs::write(house.config(), text.replace(from, to))?;
    Ok(house)
}

#[test]
fn an_unknown_key_is_refused_with_file_and_line() -> Result<()> {
    let lab = Lab::new()?;
    let house = house_with("interface =", "interfase =")?;
    let done = gateway(&lab, &house.config())?;
    let line = format!("{}:7", house.config().display());
    refused(&lab, &house, &done, &[&line, "interfase", "interface"])
}

#[test]
fn a_missing_file_is_refused_by_name() -> Result<()> {
    let lab = Lab::new()?;
    let house = House::new()?;
    let done = gateway(&lab, &house.config())?;
    refused(&lab, &house, &done, &[&house.config().to_string_lossy(), "--config"])
}

#[test]
fn an_interface_that_does_not_exist_is_refused_and_the_other_is_not_half_set_up() -> Result<()> {
    let lab = Lab::new()?;
    let house =
        house_with("[[lan]]", "[[lan]]\ninterface = \"lan0\"\n[[lan]]\nportal_port = 2121")?;
    let text = std::fs::read_to_string(house.config())?;
    let last = text.rfind(LAN).context("an interface")?;
    std::fs::write(house.config(), format!("{}lan9{}", &text[..last], &text[last + LAN.len()..]))?;
    let done = gateway(&lab, &house.config())?;
    refused(&lab, &house, &done, &["lan9", "ip link"])
}

#[test]
fn without_root_it_says_so() -> Result<()> {
    let lab = Lab::new()?;
    let house = House::new()?;
    std::fs::write(house.config(), Settings::new(TARIFF).text(&house))?;
    // Nobody must be able to reach the program and its configuration.
    let program = house.folder().join("bitmesh");
    std::fs::copy(Program::True.path()?, &program)?;
    std::fs::set_permissions(house.folder(), PermissionsExt::from_mode(0o777))?;
    let mut command = Command::new(program);
    command.args(["gateway", "--config"]).arg(house.config()).uid(NOBODY).gid(NOBODY);
    let done = lab.gateway.enter(|| Ok(command.output()?))?;
    refused(&lab, &house, &done, &["root"])
}

#[test]
fn without_bpffs_it_says_how_to_mount_it() -> Result<()> {
    let lab = Lab::new()?;
    let house = House::new()?;
    std::fs::write(house.config(), Settings::new(TARIFF).text(&house))?;
    let script = format!(
        "umount /sys/fs/bpf && exec {} gateway --config {}",
        Program::True.path()?.display(),
        house.config().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    let done = lab.gateway.enter(|| Ok(command.output()?))?;
    refused(&lab, &house, &done, &["mount -t bpf bpf /sys/fs/bpf"])
}

#[test]
fn a_second_agent_is_refused_and_the_first_goes_on() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let done = gateway(&lab, &agent.house.config())?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(!done.status.success() && said.contains("another agent"), "{said}");
    ensure!(said.trim_end().lines().count() == 1, "not one line: {said}");
    agent.grant(lab.subscriber(), 1_000)?;
    Ok(())
}

#[test]
fn a_teardown_is_refused_while_the_agent_runs() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let config = agent.house.config();
    let done = agent.command(&["teardown", "--config", &config.to_string_lossy()])?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(!done.status.success() && said.contains("another agent"), "{said}");
    agent.grant(lab.subscriber(), 1_000)?;
    Ok(())
}
