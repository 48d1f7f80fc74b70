//! Flow tables of nftables, which go past the gate: found and named, and nothing is sold through them.
//!
//! In a virtual machine, whose kernel has them. A card that forwards by itself is in no machine here:
//! what is read of one is tested beside the code.

use anyhow::{Context as _, Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::lab::{LAN, Lab, WAN};
use bitmesh_tests::wait::until;
use serde_json::Value;

const TARIFF: Tariff = Tariff::bytes(1_000_000);
const ALLOWED: &str = "allow_bypass = true\n";

/// Makes a flow table, and fills it with what is forwarded: as OpenWrt and others do.
fn accelerate(lab: &Lab) -> Result<()> {
    let devices = format!("devices = {{ {LAN}, {WAN} }};");
    for words in [
        vec!["add", "table", "inet", "fast"],
        vec!["add", "flowtable", "inet", "fast", "ft", "{ hook ingress priority 0;", &devices, "}"],
        vec!["add", "chain", "inet", "fast", "f", "{ type filter hook forward priority 0; }"],
        vec![
            "add",
            "rule",
            "inet",
            "fast",
            "f",
            "ct",
            "state",
            "established",
            "flow",
            "add",
            "@ft",
        ],
    ] {
        lab.gateway.run("nft", &words)?;
    }
    Ok(())
}

/// What is said of the flow table, in a listing of bypasses.
fn named(listed: &Value, field: &str) -> bool {
    let listed = listed.as_array().map(Vec::as_slice).unwrap_or_default();
    listed.iter().any(|one| {
        let said = one[field].as_str().unwrap_or_default();
        said.contains("flow table `ft`") && said.contains(LAN)
    })
}

#[test]
fn a_flow_table_over_the_lan_interface_stops_the_sale_unless_it_is_allowed() -> Result<()> {
    let lab = Lab::new()?;
    accelerate(&lab)?;
    let settings = Settings::new(TARIFF);
    let said = Agent::start(&lab, &settings).err().context("it sells")?.to_string();
    ensure!(said.contains("flow table `ft`") && said.contains("devices"), "{said}");
    ensure!(said.contains("allow_bypass = true"), "{said}");
    lab.gateway.run("nft", &["delete", "table", "inet", "fast"])?;
    let agent = Agent::start(&lab, &settings.before(ALLOWED))?;
    ensure!(agent.ask(&["status"])?["bypasses"] == Value::Array(Vec::new()));
    accelerate(&lab)?;
    until("status names it", || Ok(named(&agent.ask(&["status"])?["bypasses"], "what")))?;
    let config = agent.house.config();
    let done = agent.command(&["doctor", "--json", "--config", &config.to_string_lossy()])?;
    let checks: Value = serde_json::from_slice(&done.stdout)?;
    ensure!(named(&checks, "detail"), "the doctor does not name it: {checks}");
    lab.gateway.run("nft", &["delete", "table", "inet", "fast"])?;
    until("status no longer names it", || Ok(!named(&agent.ask(&["status"])?["bypasses"], "what")))
}
