//! The gate outlives the agent, until it is torn down; then nothing of it is left.

use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::lab::{LAN, Lab};
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use nix::sys::signal::Signal;

const TARIFF: Tariff = Tariff::bytes(1_000_000);
const PACE: Pace = Pace { payload: 500, every: Duration::from_micros(200), packets: Some(500) };

/// UDP to a subscriber; gives how many packets arrive.
fn arrives(lab: &Lab, number: usize) -> Result<usize> {
    let one = &lab.subscribers[number];
    let receiver = Receiver::start(&one.namespace, one.v4())?;
    Sender::start(&lab.internet, receiver.address, PACE)?.finish()?;
    std::thread::sleep(Duration::from_millis(100));
    Ok(receiver.stop()?.len())
}

/// Everything that a gate could leave on the machine.
fn traces(lab: &Lab, agent: Option<&Agent>) -> Result<Vec<String>> {
    let mut traces = vec![
        lab.gateway.ip("link show")?,
        lab.gateway.run("tc", &["qdisc", "show"])?,
        lab.gateway.run("tc", &["filter", "show", "dev", LAN, "ingress"]).unwrap_or_default(),
        lab.gateway.run("tc", &["filter", "show", "dev", LAN, "egress"]).unwrap_or_default(),
        lab.gateway.run("nft", &["list", "ruleset"])?,
    ];
    let attached = lab.gateway.run("bpftool", &["net", "show"])?;
    traces.push(attached.lines().filter(|line| line.starts_with(LAN)).collect());
    let pins = agent.is_some_and(|agent| agent.house.bpffs.exists());
    traces.push(format!("pins: {pins}"));
    Ok(traces)
}

/// Ends the agent with this signal and looks whether the gate still does its work.
fn the_gate_stays(hook: &'static str, signal: Signal) -> Result<()> {
    let lab = Lab::with_subscribers(2)?;
    let before = traces(&lab, None)?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF).on_hook(hook))?;
    agent.grant(&lab.subscribers[0], 100_000_000)?;
    let status = agent.end(signal)?;
    ensure!(status.success(), "{signal}: {status}: {}", agent.said());
    let last = agent.said().lines().last().unwrap_or_default().to_owned();
    ensure!(last.contains("teardown"), "it does not say that the gate stays: {last}");
    ensure!(arrives(&lab, 0)? == 500, "a subscriber who paid is shut out");
    ensure!(arrives(&lab, 1)? == 0, "one who did not pay got in");
    agent.launch(&lab.gateway)?;
    ensure!(arrives(&lab, 0)? == 500 && arrives(&lab, 1)? == 0, "not the same after a restart");
    agent.end(signal)?;
    let config = agent.house.config();
    agent.ask(&["teardown", "--config", &config.to_string_lossy()])?;
    let after = traces(&lab, Some(&agent))?;
    ensure!(before == after, "left behind: {before:#?} {after:#?}");
    ensure!(arrives(&lab, 1)? == 500, "the machine does not forward any more");
    Ok(())
}

#[test]
fn sigterm_leaves_the_gate_in_place_and_teardown_leaves_nothing() -> Result<()> {
    the_gate_stays("tcx", Signal::SIGTERM)
}

#[test]
fn ctrl_c_leaves_the_gate_in_place_also_with_clsact() -> Result<()> {
    the_gate_stays("clsact", Signal::SIGINT)?;
    the_gate_stays("clsact", Signal::SIGTERM)
}

#[test]
fn a_clsact_qdisc_that_was_there_before_stays_after_a_teardown() -> Result<()> {
    let lab = Lab::new()?;
    lab.gateway.run("tc", &["qdisc", "add", "dev", LAN, "clsact"])?;
    let before = traces(&lab, None)?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF).on_hook("clsact"))?;
    agent.end(Signal::SIGTERM)?;
    let config = agent.house.config();
    agent.ask(&["teardown", "--config", &config.to_string_lossy()])?;
    let after = traces(&lab, Some(&agent))?;
    ensure!(before == after, "left behind: {before:#?} {after:#?}");
    Ok(())
}

#[test]
fn balances_survive_a_teardown() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let bob = lab.subscriber();
    agent.grant(bob, 5_000_000)?;
    ensure!(arrives(&lab, 0)? == 500);
    // The charge is durable within a second.
    std::thread::sleep(Duration::from_millis(1_500));
    let before = agent.account(bob)?;
    agent.end(Signal::SIGTERM)?;
    let config = agent.house.config();
    agent.ask(&["teardown", "--config", &config.to_string_lossy()])?;
    agent.launch(&lab.gateway)?;
    let after = agent.account(bob)?;
    for key in ["credited_msat", "charged_msat", "balance_msat", "downlink_bytes"] {
        ensure!(before[key] == after[key], "{key}: {before} became {after}");
    }
    Ok(())
}
