//! What is compared: each in a lab of its own, ready to run.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use bitmesh::control::{Request, Response};
use bitmesh::mac::{CreditIdText, MacText};
use bitmesh_common::abi::Mac;
use bitmesh_core::CreditId;
use nix::net::if_::if_nametoindex;

use super::bpf::{Hook, Kind as ProgramKind, Link, Program};
use super::flood::{FIRST_CLIENT, client_mac, client_v4, prepare, text};
use super::program::empty;
use crate::agent::{Agent, Settings, Tariff};
use crate::lab::{LAN, Lab};

/// Cheap enough that nobody runs dry: an hour of 10 Gbit/s is 4.3 million MiB.
const TARIFF: Tariff = Tariff::bytes(1_000);
const GRANT_MSAT: u64 = 100_000_000_000;

/// Operators who grant at the same time, on a connection each, which takes 1,000 requests.
const GRANTERS: u16 = 20;

/// Who counts, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody: a router.
    Open,
    /// Nobody, but a program that does nothing is where the gate's would be.
    Hook,
    /// Nobody, but the fence that an agent leaves behind.
    Fence,
    /// An nftables set a direction, its elements with counters.
    NftSet,
    /// nftables rules for each client, as captive portals make them: uplink is marked by MAC and IP
    /// address, downlink accepted by IP address, each with a counter.
    NftRules,
    /// Nobody counts, and nftables leads plain HTTP to a port of the router: the other way to a
    /// portal. It takes connection tracking, of every packet.
    NftRedirect,
    /// BitMesh, as its agent sets it up.
    BitMesh,
}

/// A lab with clients.
pub(super) struct Contender {
    /// Who counts.
    pub(super) kind: Kind,
    /// Its name in results.
    pub(super) name: String,
    /// How many clients the traffic is of.
    pub(super) clients: u16,
    /// The agent of BitMesh, stopped while others run.
    pub(super) agent: Option<Agent>,
    /// What keeps the empty programs where they are.
    _links: Vec<Link>,
    /// Where.
    pub(super) lab: Lab,
}

impl Contender {
    /// Sets it up.
    ///
    /// # Errors
    ///
    /// Fails without root, and if a program fails.
    pub(super) fn new(kind: Kind, clients: u16) -> Result<Self> {
        let name = match kind {
            Kind::Open => format!("no_metering_{clients}"),
            Kind::Hook => format!("hook_{clients}"),
            Kind::Fence => format!("fence_{clients}"),
            Kind::NftSet => format!("nft_set_{clients}"),
            Kind::NftRules => format!("nft_rules_{clients}"),
            Kind::NftRedirect => format!("nft_redirect_{clients}"),
            Kind::BitMesh => format!("bitmesh_{clients}"),
        };
        eprintln!("setting up {name}");
        let lab = Lab::new()?;
        prepare(&lab, clients)?;
        let (mut agent, mut links) = (None, Vec::new());
        match kind {
            Kind::Open => {}
            Kind::Hook => links = hook(&lab)?,
            Kind::Fence => fence(&lab)?,
            Kind::NftSet => load(&lab, &set(clients))?,
            Kind::NftRules => load(&lab, &rules(clients))?,
            Kind::NftRedirect => load(&lab, &redirect())?,
            Kind::BitMesh => agent = Some(sell(&lab, clients)?),
        }
        let contender = Self { kind, name, clients, agent, _links: links, lab };
        contender.rest()?;
        Ok(contender)
    }

    /// Runs with the agent awake.
    ///
    /// # Errors
    ///
    /// Fails as the run does, and if the agent has died.
    pub(super) fn awake<T>(&self, run: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        if let Some(agent) = &self.agent {
            agent.thaw()?;
        }
        let done = run(self);
        self.rest()?;
        done
    }

    fn rest(&self) -> Result<()> {
        self.agent.as_ref().map_or(Ok(()), Agent::freeze)
    }
}

fn load(lab: &Lab, rules: &str) -> Result<()> {
    let folder = tempfile::TempDir::with_prefix("bitmesh-bench-")?;
    let file = folder.path().join("rules");
    std::fs::write(&file, rules)?;
    lab.gateway.run("nft", &["-f", file.to_str().context("a path of text")?])?;
    Ok(())
}

fn numbers(clients: u16) -> std::ops::Range<u16> {
    FIRST_CLIENT..FIRST_CLIENT + clients
}

fn set(clients: u16) -> String {
    let list = |of: &dyn Fn(u16) -> String| numbers(clients).map(of).collect::<Vec<_>>().join(", ");
    let up = list(&|number| text(client_mac(number)));
    let down = list(&|number| client_v4(number).to_string());
    format!(
        "table ip portal {{
           set up {{ type ether_addr; counter; elements = {{ {up} }} }}
           set down {{ type ipv4_addr; counter; elements = {{ {down} }} }}
           chain forward {{
             type filter hook forward priority 0; policy drop;
             iifname {LAN} ether saddr @up accept
             oifname {LAN} ip daddr @down accept
           }}
         }}"
    )
}

fn rules(clients: u16) -> String {
    let (mut up, mut down) = (String::new(), String::new());
    for number in numbers(clients) {
        let (v4, mac) = (client_v4(number), text(client_mac(number)));
        // Writing to a string can't fail.
        let _ = writeln!(up, "ip saddr {v4} ether saddr {mac} counter meta mark set 2");
        let _ = writeln!(down, "ip daddr {v4} counter accept");
    }
    format!(
        "table ip portal {{
           chain outgoing {{ {up} }}
           chain incoming {{ {down} }}
           chain prerouting {{
             type filter hook prerouting priority mangle; policy accept;
             iifname {LAN} jump outgoing
           }}
           chain forward {{
             type filter hook forward priority filter; policy drop;
             meta mark 2 accept
             oifname {LAN} accept
           }}
           chain postrouting {{
             type filter hook postrouting priority mangle; policy accept;
             oifname {LAN} jump incoming
           }}
         }}"
    )
}

fn redirect() -> String {
    format!(
        "table ip portal {{
           chain prerouting {{
             type nat hook prerouting priority dstnat; policy accept;
             iifname {LAN} tcp dport 80 redirect to :8080
           }}
         }}"
    )
}

/// A program that does nothing, both ways.
fn hook(lab: &Lab) -> Result<Vec<Link>> {
    let nothing = Program::load(ProgramKind::Classifier, &empty())?;
    lab.gateway.enter(|| {
        let lan = if_nametoindex(LAN)?;
        [Hook::Ingress, Hook::Egress].map(|hook| nothing.attach(lan, hook)).into_iter().collect()
    })
}

/// The fence stays when an agent is killed; its programs go with their pins.
fn fence(lab: &Lab) -> Result<()> {
    drop(Agent::start(lab, &Settings::new(TARIFF))?);
    Ok(())
}

/// Starts the agent and grants credit to all.
fn sell(lab: &Lab, clients: u16) -> Result<Agent> {
    let agent = Agent::start(lab, &Settings::new(TARIFF))?;
    agent.grant(lab.subscriber(), GRANT_MSAT)?;
    let socket = agent.house.socket();
    thread::scope(|threads| {
        let granters: Vec<_> = (0..GRANTERS)
            .map(|first| {
                let mine = numbers(clients).skip(first.into()).step_by(GRANTERS.into());
                threads.spawn(|| grant(&socket, mine))
            })
            .collect();
        granters.into_iter().try_for_each(|granter| {
            granter.join().map_err(|_| anyhow!("a thread that grants panicked"))?
        })
    })?;
    Ok(agent)
}

/// Grants over one connection, one after another.
fn grant(socket: &Path, clients: impl Iterator<Item = u16>) -> Result<()> {
    let mut write = UnixStream::connect(socket)?;
    let mut read = BufReader::new(write.try_clone()?);
    for number in clients {
        let request = Request::Grant {
            mac: MacText(Mac::new(client_mac(number))),
            msat: GRANT_MSAT,
            tariff: None,
            id: CreditIdText(CreditId(number.into())),
        };
        write.write_all((serde_json::to_string(&request)? + "\n").as_bytes())?;
        let mut answer = String::new();
        read.read_line(&mut answer)?;
        match serde_json::from_str(&answer)? {
            Response::Granted { .. } => {}
            other => bail!("the agent does not grant: {other:?}"),
        }
    }
    Ok(())
}
