//! The nftables chain behind the gate: kept by the agent, and never what the gate depends on.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::hooks;
use bitmesh_tests::lab::{Lab, SERVER_V4, SERVER_V6, WAN};
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;

const TARIFF: Tariff = Tariff::bytes(1_000_000);
const PACKETS: u64 = 100;
const PACE: Pace = Pace { payload: 100, every: Duration::from_millis(1), packets: Some(PACKETS) };
/// How long a connection may take in the lab; a closed gate answers nothing at all.
const CONNECT: Duration = Duration::from_millis(500);

/// Tries UDP both ways and TCP to the web, IPv4 and IPv6. Gives what got through.
fn reaches(lab: &Lab) -> Result<Vec<String>> {
    let bob = lab.subscriber();
    let mut through = Vec::new();
    for (own, server) in [(bob.v4(), SERVER_V4), (bob.v6(), SERVER_V6)] {
        for (from, to, address) in
            [(&bob.namespace, &lab.internet, server), (&lab.internet, &bob.namespace, own)]
        {
            let receiver = Receiver::start(to, address)?;
            Sender::start(from, receiver.address, PACE)?.finish()?;
            std::thread::sleep(Duration::from_millis(100));
            if !receiver.stop()?.is_empty() {
                through.push(format!("UDP to {address}"));
            }
        }
        for port in [80, 443] {
            let web = SocketAddr::new(server, port);
            let _listener = lab.internet.enter(|| Ok(TcpListener::bind(web)?))?;
            let connected =
                bob.namespace.enter(|| Ok(TcpStream::connect_timeout(&web, CONNECT)))?;
            if connected.is_ok() {
                through.push(format!("TCP to {web}"));
            }
        }
    }
    Ok(through)
}

fn stands(lab: &Lab) -> bool {
    let listed = lab.gateway.run("nft", &["list", "table", "inet", "bitmesh"]);
    listed.is_ok_and(|list| list.contains("iif != @metered") && list.contains("\"lan0\""))
}

#[test]
fn with_nftables_flushed_and_the_agent_stopped_nothing_of_the_unpaid_is_forwarded() -> Result<()> {
    for hook in hooks::had_of(&["tcx", "clsact"]) {
        let lab = Lab::new()?;
        ensure!(reaches(&lab)?.len() == 8, "the lab carries all of it without a gate");
        let mut agent = Agent::start(&lab, &Settings::new(TARIFF).on_hook(hook))?;
        agent.end(Signal::SIGTERM)?;
        lab.gateway.run("nft", &["flush", "ruleset"])?;
        let through = reaches(&lab)?;
        ensure!(through.is_empty(), "{hook}: {through:?}");
    }
    Ok(())
}

#[test]
fn the_agent_puts_the_chain_back_when_it_is_lost_or_changed() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    ensure!(stands(&lab), "no chain");
    let harms = [
        &["flush", "ruleset"][..],
        &["delete", "table", "inet", "bitmesh"],
        &["flush", "chain", "inet", "bitmesh", "forward"],
        &["delete", "element", "inet", "bitmesh", "metered", "{ lan0 }"],
    ];
    for (times, harm) in harms.iter().enumerate() {
        lab.gateway.run("nft", harm)?;
        // It may be back before anybody could see that it was gone: the agent says that it was.
        until("the agent says that the chain was lost or changed, and is back", || {
            Ok(agent.said().matches("`inet bitmesh` was removed or changed").count() > times)
        })?;
        let listed = lab.gateway.run("nft", &["list", "set", "inet", "bitmesh", "metered"])?;
        ensure!(stands(&lab) && listed.contains("lan0"), "after {harm:?}: {listed}");
    }
    Ok(())
}

#[test]
fn what_goes_between_a_metered_interface_and_the_internet_passes_at_the_first_rule() -> Result<()> {
    let lab = Lab::new()?;
    lab.add_default_route()?;
    let idle = "other0";
    lab.gateway.ip(&format!("link add {idle} type veth peer name other1"))?;
    let _agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let listed = || lab.gateway.run("nft", &["list", "chain", "inet", "bitmesh", "forward"]);
    let pairs = [("lan0", WAN), (WAN, "lan0")];
    let pairs = pairs.map(|(from, to)| format!("iif \"{from}\" oif \"{to}\" accept"));
    until("both are known", || Ok(listed()?.contains(&pairs[1])))?;
    let listed = listed()?;
    let rules: Vec<&str> = listed.lines().map(str::trim).filter(|l| l.contains("if")).collect();
    ensure!(rules[..2] == pairs, "{listed}");
    ensure!(!listed.contains(idle), "an idle one could get a LAN's name: {listed}");
    Ok(())
}

#[test]
fn the_chain_stays_when_the_agent_ends_and_goes_with_a_teardown() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    agent.end(Signal::SIGTERM)?;
    ensure!(stands(&lab), "the chain went with the agent");
    agent.launch(&lab.gateway)?;
    ensure!(stands(&lab), "the chain went with a restart");
    agent.end(Signal::SIGKILL)?;
    ensure!(stands(&lab), "the chain went with the killed agent");
    let config = agent.house.config();
    agent.ask(&["teardown", "--config", &config.to_string_lossy()])?;
    ensure!(lab.gateway.run("nft", &["list", "tables"])?.is_empty(), "the chain is left behind");
    Ok(())
}
