//! What goes past the gate is found and named: before the start, while the agent runs, and by the
//! doctor.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, Xdp, XdpMode};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::lab::{LAN, Lab, WAN};
use bitmesh_tests::objects::BITMESH;
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;
use serde_json::Value;

const TARIFF: Tariff = Tariff::bytes(1_000_000);
const ALLOWED: &str = "allow_bypass = true\n";

/// Why an agent does not start.
fn refusal(lab: &Lab, settings: &Settings) -> Result<String> {
    Ok(Agent::start(lab, settings).err().context("it sells")?.to_string())
}

/// What `status` says goes past the gate.
fn bypasses(agent: &Agent) -> Result<Vec<String>> {
    let status = agent.ask(&["status"])?;
    let listed = status["bypasses"].as_array().context("no list")?;
    Ok(listed.iter().map(|bypass| format!("{}: {}", bypass["what"], bypass["cure"])).collect())
}

/// What the doctor finds wrong.
fn problems(agent: &Agent) -> Result<Vec<Value>> {
    let config = agent.house.config();
    let done = agent.command(&["doctor", "--json", "--config", &config.to_string_lossy()])?;
    let checks: Vec<Value> = serde_json::from_slice(&done.stdout)?;
    Ok(checks.into_iter().filter(|check| check["verdict"] == "problem").collect())
}

/// A program of TC of somebody else, which passes everything.
fn attach_tc(lab: &Lab, at: TcAttachType, order: LinkOrder) -> Result<Ebpf> {
    lab.gateway.enter(|| {
        let mut object = Ebpf::load(BITMESH)?;
        let program: &mut SchedClassifier =
            object.program_mut("count_sent").context("no program")?.try_into()?;
        program.load()?;
        program.attach_with_options(LAN, at, TcAttachOptions::TcxOrder(order))?;
        Ok(object)
    })
}

/// An XDP program of somebody else.
fn attach_xdp(lab: &Lab, device: &str) -> Result<Ebpf> {
    lab.gateway.enter(|| {
        let mut object = Ebpf::load(BITMESH)?;
        let program: &mut Xdp =
            object.program_mut("uplink_first").context("no program")?.try_into()?;
        program.load()?;
        program.attach(device, XdpMode::Skb)?;
        Ok(object)
    })
}

#[test]
fn an_xdp_program_of_others_on_lan_or_uplink_stops_the_sale_unless_it_is_allowed() -> Result<()> {
    for device in [LAN, WAN] {
        let lab = Lab::new()?;
        lab.add_default_route()?;
        let foreign = attach_xdp(&lab, device)?;
        let settings = Settings::new(TARIFF);
        let said = refusal(&lab, &settings)?;
        ensure!(said.contains("XDP program") && said.contains(device), "{said}");
        ensure!(said.contains("xdp off") && said.contains("allow_bypass = true"), "{said}");
        ensure!(!lab.gateway.run("nft", &["list", "tables"])?.contains("bitmesh"), "left behind");
        let agent = Agent::start(&lab, &settings.before(ALLOWED))?;
        until("status names it", || Ok(bypasses(&agent)?.concat().contains("XDP program")))?;
        ensure!(agent.said().contains("goes past the gate"), "no warning: {}", agent.said());
        drop(foreign);
        until("status no longer names it", || Ok(bypasses(&agent)?.is_empty()))?;
    }
    Ok(())
}

#[test]
fn a_program_that_comes_in_front_later_is_named_and_one_behind_is_not() -> Result<()> {
    for at in [TcAttachType::Ingress, TcAttachType::Egress] {
        let lab = Lab::new()?;
        let agent = Agent::start(&lab, &Settings::new(TARIFF).on_hook("tcx"))?;
        let behind = attach_tc(&lab, at, LinkOrder::last())?;
        std::thread::sleep(Duration::from_secs(6));
        ensure!(bypasses(&agent)?.is_empty(), "{:?}", bypasses(&agent)?);
        ensure!(problems(&agent)?.is_empty(), "{:?}", problems(&agent)?);
        drop(behind);
        let in_front = attach_tc(&lab, at, LinkOrder::first())?;
        until("status names it", || Ok(bypasses(&agent)?.concat().contains("before the gate")))?;
        ensure!(agent.said().contains("goes past the gate"), "no warning: {}", agent.said());
        let found = problems(&agent)?;
        ensure!(found.iter().any(|check| check["check"] == "lan0 bypass"), "{found:?}");
        drop(in_front);
    }
    Ok(())
}

#[test]
fn a_filter_before_the_gates_own_stops_the_sale() -> Result<()> {
    let lab = Lab::new()?;
    lab.gateway.run("tc", &["qdisc", "add", "dev", LAN, "clsact"])?;
    let filter = "filter add dev lan0 ingress pref 1 protocol all u32 match u32 0 0";
    lab.gateway.run("tc", &filter.split(' ').collect::<Vec<_>>())?;
    let said = refusal(&lab, &Settings::new(TARIFF).on_hook("clsact"))?;
    ensure!(said.contains("u32 filter") && said.contains("tc filter del"), "{said}");
    Ok(())
}

#[test]
fn a_program_below_a_bridge_stops_the_sale() -> Result<()> {
    let lab = Lab::with_subscribers(2)?;
    let _foreign = attach_xdp(&lab, "port1")?;
    let said = refusal(&lab, &Settings::new(TARIFF))?;
    ensure!(said.contains("port1"), "{said}");
    Ok(())
}

#[test]
fn a_bridge_that_holds_the_uplink_is_refused_even_if_bypasses_are_allowed() -> Result<()> {
    for (route, named) in [
        ("route add default via 10.77.0.11", "through lan0 itself"),
        ("route add default dev port1", "lan0 holds port1"),
    ] {
        let lab = Lab::with_subscribers(2)?;
        lab.gateway.ip(route)?;
        let said = refusal(&lab, &Settings::new(TARIFF).before(ALLOWED))?;
        ensure!(said.contains(named) && said.contains("interface of their own"), "{said}");
    }
    Ok(())
}

#[test]
fn the_doctor_says_that_the_chain_is_lost() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    ensure!(problems(&agent)?.is_empty(), "{:?}", problems(&agent)?);
    agent.end(Signal::SIGTERM)?;
    ensure!(problems(&agent)?.is_empty(), "{:?}", problems(&agent)?);
    lab.gateway.run("nft", &["flush", "ruleset"])?;
    let found = problems(&agent)?;
    ensure!(found.len() == 1 && found[0]["check"] == "nftables chain", "{found:?}");
    ensure!(found[0]["cure"].as_str().is_some_and(|cure| cure.contains("bitmesh gateway")));
    Ok(())
}
