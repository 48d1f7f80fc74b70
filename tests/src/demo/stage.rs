//! The stage and the play: a lab, the real agent, and what happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::show::{Moment, grouped};
use super::{Outcome, Show, Trade};
use crate::agent::{Agent, Settings, Tariff};
use crate::counter::Counter;
use crate::lab::{Lab, SERVER_V4, SERVER_V6};
use crate::pins::Pins;
use crate::regtest::Regtest;
use crate::tcp::{Ends, Load, Stream};
use crate::udp::{Pace, Receiver, Sender, V4_HEADER_BYTES};
use crate::wait::until;

const TARIFF: Tariff =
    Tariff { uplink_msat_per_mib: 500_000, downlink_msat_per_mib: 1_000_000, msat_per_minute: 0 };

const GRANT_MSAT: u64 = 24_000_000;

/// The download: 12 MiB in about three seconds.
const DOWNLOAD: Load = Load { bytes: Some(12 << 20), pause: Duration::from_millis(60) };

/// The uplink beside it: 1.5 MB in three seconds.
const UPLINK: Pace = Pace { payload: 1_000, every: Duration::from_millis(2), packets: Some(1_500) };

/// What runs the balance dry: 4 MB a second.
const DRAIN: Pace = Pace { payload: 1_372, every: Duration::from_micros(350), packets: None };
const DRAIN_BYTES: u64 = DRAIN.payload as u64 + V4_HEADER_BYTES;

/// A few packets that nobody has paid for.
const UNPAID: Pace = Pace { payload: 100, every: Duration::from_millis(2), packets: Some(50) };

/// Between two lines of the table.
const MOMENT: Duration = Duration::from_millis(500);

/// How long the traffic goes on after the gate has closed.
const AFTER_CLOSING: Duration = Duration::from_millis(1_000);

/// Everything that the demonstration has set up; gone when dropped.
pub struct Stage<'a> {
    pub(super) agent: Agent,
    node: Regtest,
    pub(super) wallets: Wallets,
    pub(super) lab: Lab,
    pub(super) show: Show,
    pub(super) interrupted: &'a AtomicBool,
}

/// Where the money of a channel goes.
pub(super) struct Wallets {
    /// The gateway's payout address.
    pub(super) gateway: String,
    /// Bob's change address.
    pub(super) bob: String,
}

impl<'a> Stage<'a> {
    /// Three namespaces, and the agent on the gateway's LAN interface.
    ///
    /// # Errors
    ///
    /// Fails without root, or if the agent does not start.
    pub fn set(show: Show, interrupted: &'a AtomicBool) -> Result<Self> {
        let lab = Lab::new()?;
        // The gate sees super-packets; the subscriber sees, and counts, real segments.
        lab.real_segments()?;
        show.say("node", "starting a Bitcoin node on regtest, beside the gateway");
        let (node, wallets) = lab.gateway.enter(|| {
            let node = Regtest::start()?;
            let wallets = Wallets { gateway: segwit(&node)?, bob: segwit(&node)? };
            Ok((node, wallets))
        })?;
        let payments = format!(
            "[chain]\nkind = \"bitcoind\"\nurl = {:?}\nnetwork = \"regtest\"\ncookie_file = {:?}\n\n\
             [channels]\npayout_address = {:?}\n",
            node.url(),
            node.cookie(),
            wallets.gateway,
        );
        let agent = Agent::start(&lab, &Settings::new(TARIFF).with(&payments))?;
        show.say("ready", "Bob ─ eth0 ═ lan0 ─ gateway ─ wan0 ═ eth0 ─ internet; the agent runs");
        Ok(Self { agent, node, wallets, lab, show, interrupted })
    }

    /// Asks the node, which listens in the gateway's namespace only.
    pub(super) fn at_node<T: Send>(
        &self,
        ask: impl FnOnce(&Regtest) -> Result<T> + Send,
    ) -> Result<T> {
        self.lab.gateway.enter(|| ask(&self.node))
    }

    /// Plays it, and gives what came out.
    ///
    /// # Errors
    ///
    /// Fails if something could not be done; a wrong count is an outcome.
    pub fn play(&self) -> Result<Outcome> {
        self.unpaid()?;
        let bob = self.lab.subscriber();
        let counters = (bob.count_uplink()?, bob.count_downlink()?);
        self.agent.grant(bob, GRANT_MSAT)?;
        self.show.say(
            "granted",
            &format!("The first act: the operator grants {} msat", grouped(GRANT_MSAT)),
        );
        let pins = self.agent.pins()?;
        let mut table = Table::new(self, &pins);
        self.surf(&mut table)?;
        self.show.say("frozen", "the agent is stopped (SIGSTOP): the kernel is alone now");
        self.agent.freeze()?;
        self.run_dry(&mut table)?;
        self.agent.thaw()?;
        self.show.say("closed", "the balance is used up and the gate is closed\n");
        self.compare(&pins, &counters)
    }

    /// Packets that are not paid for go nowhere.
    fn unpaid(&self) -> Result<()> {
        let receiver = Receiver::start(&self.lab.internet, SERVER_V4)?;
        let bob = &self.lab.subscriber().namespace;
        let sent = Sender::start(bob, receiver.address, UNPAID)?.finish()?;
        std::thread::sleep(MOMENT / 2);
        let arrived = receiver.stop()?.len();
        let text = format!("Bob has not paid: of {sent} packets to the internet {arrived} arrive");
        self.show.say("unpaid", &text);
        ensure!(arrived == 0, "the gate was open for Bob before he paid");
        Ok(())
    }

    /// A download over IPv4, with datagrams going up over IPv6 beside it, all of it paid for.
    fn surf(&self, table: &mut Table) -> Result<()> {
        let bob = &self.lab.subscriber().namespace;
        let there = Receiver::start(&self.lab.internet, SERVER_V6)?;
        let ends = Ends { client: bob, server: &self.lab.internet, address: SERVER_V4 };
        self.show.say("surfing", "a TCP download, and UDP going up beside it");
        self.show.heads();
        let uplink = Sender::start(bob, there.address, UPLINK)?;
        let download = Stream::download(ends, DOWNLOAD)?;
        while uplink.sent() < UPLINK.packets.unwrap_or(0)
            || download.received() < DOWNLOAD.bytes.unwrap_or(0)
        {
            table.wait()?;
        }
        uplink.finish()?;
        download.finish()?;
        there.stop()?;
        Ok(())
    }

    /// Datagrams to Bob until nothing more passes, and on for a while.
    fn run_dry(&self, table: &mut Table) -> Result<()> {
        let bob = self.lab.subscriber();
        let here = Receiver::start(&bob.namespace, bob.v4())?;
        self.show.say("draining", "UDP to Bob until his balance is used up");
        self.show.heads();
        let sender = Sender::start(&self.lab.internet, here.address, DRAIN)?;
        while table.pins.meter(bob)?.dropped_unpaid == 0 {
            table.wait()?;
        }
        let closed = Instant::now();
        while closed.elapsed() < AFTER_CLOSING {
            table.wait()?;
        }
        sender.stop()?;
        here.stop()?;
        Ok(())
    }

    /// What was counted in Bob's namespace since the grant, and what the gate says.
    fn compare(&self, pins: &Pins, (up, down): &(Counter, Counter)) -> Result<Outcome> {
        let bob = self.lab.subscriber();
        let mut outcome = Outcome {
            uplink: up.settled()?,
            downlink: down.settled()?,
            meter: pins.meter(bob)?,
            account: pins.account(bob)?,
            charged_msat: 0,
            last_packet_bytes: DRAIN_BYTES,
            trade: Trade::default(),
        };
        let charged = || -> Result<u64> {
            Ok(self.agent.account(bob)?["charged_msat"].as_u64().unwrap_or_default())
        };
        // The agent was stopped; it soon reads the meters again.
        let caught_up = until("the agent's books", || Ok(charged()? >= outcome.due_msat()));
        outcome.charged_msat = charged()?;
        if let Err(error) = caught_up {
            self.show.say("behind", &format!("{error:#}"));
        }
        Ok(outcome)
    }

    /// Leaves everything running, and says what to try.
    pub fn keep(self) {
        let Self { agent, node, lab, show, .. } = self;
        let house = &agent.house;
        let program = crate::agent::Program::True.path().unwrap_or_default();
        let bitmesh = format!("BITMESH_SOCKET={} {}", house.socket().display(), program.display());
        let bob = lab.subscriber();
        let names = [&lab.gateway, &lab.internet, &bob.namespace].map(|one| one.name().to_owned());
        let removal: String = names.iter().map(|name| format!(" ip netns del {name};")).collect();
        let tries = [
            (
                "the meter",
                format!("bpftool map dump pinned {}/meters | head -40", house.bpffs.display()),
            ),
            ("a live table", format!("{bitmesh} top")),
            ("more credit", format!("{bitmesh} grant {} --msat 1000000", bob.mac_text())),
            (
                "a shell on Bob's device (his internet is 10.99.0.2)",
                format!("nsenter --net=/run/netns/{} bash", names[2]),
            ),
            ("the channels", format!("{bitmesh} channels")),
            ("the node", format!("{} getblockchaininfo", node_command(&node, &names[0]))),
            ("what the agent says", format!("tail -f {}", house.log().display())),
            (
                "the end of it",
                format!(
                    "kill {}; {} stop;{removal} rm -r {} {}",
                    agent.pid().map_or(0, nix::unistd::Pid::as_raw),
                    node_command(&node, &names[0]),
                    house.bpffs.display(),
                    house.folder().display()
                ),
            ),
        ];
        show.kept(&tries);
        agent.keep();
        std::mem::forget(node);
        lab.keep();
    }
}

/// A new address of the node's wallet, of a kind that a channel pays to.
fn segwit(node: &Regtest) -> Result<String> {
    let address = node.wallet("getnewaddress", &json!(["", "bech32"]))?;
    Ok(address.as_str().context("no address")?.to_owned())
}

/// Asks the node from a shell.
fn node_command(node: &Regtest, namespace: &str) -> String {
    let (program, folder) = node.command_line();
    format!("nsenter --net=/run/netns/{namespace} {program} -regtest -datadir={folder}")
}

/// The live table.
pub(super) struct Table<'a> {
    stage: &'a Stage<'a>,
    pins: &'a Pins,
    started: Instant,
    last: (Instant, u64),
    dropped: u64,
}

impl<'a> Table<'a> {
    pub(super) fn new(stage: &'a Stage, pins: &'a Pins) -> Self {
        let now = Instant::now();
        let bytes = pins
            .meter(stage.lab.subscriber())
            .map_or(0, |meter| meter.uplink_bytes + meter.downlink_bytes);
        Self { stage, pins, started: now, last: (now, bytes), dropped: u64::MAX }
    }

    /// Waits a moment and shows it.
    pub(super) fn wait(&mut self) -> Result<()> {
        std::thread::sleep(MOMENT);
        if self.stage.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let bob = self.stage.lab.subscriber();
        let meter = self.pins.meter(bob)?;
        let (now, bytes) = (Instant::now(), meter.uplink_bytes + meter.downlink_bytes);
        let (before, bytes_before) = std::mem::replace(&mut self.last, (now, bytes));
        let per_second = (bytes - bytes_before) as f64 / (now - before).as_secs_f64();
        let dropped = std::mem::replace(&mut self.dropped, meter.dropped_unpaid);
        let closed = meter.dropped_unpaid > dropped || bytes == bytes_before;
        self.stage.show.moment(&Moment {
            closed,
            at_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            meter,
            account: self.pins.account(bob)?,
            bytes_per_second: per_second as u64,
        });
        Ok(())
    }
}
