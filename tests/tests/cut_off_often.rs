//! A thousand times the balance runs out under load while the agent is stopped: never a byte too
//! much, never a packet too little.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bitmesh_tests::agent::{Agent, Program, Settings, Tariff};
use bitmesh_tests::counter::Counter;
use bitmesh_tests::lab::{Lab, SERVER_V4};
use bitmesh_tests::pins::Pins;
use bitmesh_tests::scale::of_soak;
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::udp::{Pace, Receiver, Sender, V4_HEADER_BYTES};
use bitmesh_tests::verdict::{hold, must_be_caught};
use bitmesh_tests::wait::until;

/// A msat a byte, so that a grant is a number of bytes.
const TARIFF: Tariff = Tariff::bytes(1 << 20);

/// Each grant is this, and up to as much again.
const GRANT_BYTES: u64 = 1_000_000;

const PAYLOAD: usize = 1_000;
const PACE: Pace = Pace { payload: PAYLOAD, every: Duration::from_micros(80), packets: None };
const PACKET_BYTES: u64 = PAYLOAD as u64 + V4_HEADER_BYTES;

/// Time for dozens of packets each way.
const LOOK: Duration = Duration::from_millis(5);

/// Pays for all that Carol does.
const PLENTY_MSAT: u64 = 1 << 40;

/// Rounds in which the balance ran out before the agent stood still prove nothing; so many of them
/// in a row are a failure.
const MAX_INVALID: u32 = 3;

struct Stage {
    lab: Lab,
    agent: Agent,
    pins: Pins,
    counters: [Counter; 2],
    paid_bytes: u64,
}

impl Stage {
    /// Bob's bytes both ways, as others count them.
    fn counted(&self) -> Result<u64> {
        let [down, up] = &self.counters;
        Ok(down.read()?.bytes + up.read()?.bytes)
    }

    fn spent_bytes(&self) -> Result<u64> {
        let meter = self.pins.meter(self.lab.subscriber())?;
        Ok(meter.uplink_bytes + meter.downlink_bytes)
    }

    /// The flood goes on, and nothing of it passes.
    fn is_dry(&self) -> Result<bool> {
        let before = self.pins.meter(self.lab.subscriber())?;
        std::thread::sleep(LOOK);
        let now = self.pins.meter(self.lab.subscriber())?;
        Ok(now.spent == before.spent && now.dropped_unpaid > before.dropped_unpaid)
    }

    /// Pays, stops the agent, and lets the balance run out. `false` if it ran out too early.
    fn run_dry(&mut self, round: u64) -> Result<bool> {
        let bytes = GRANT_BYTES + round * 7_919 % GRANT_BYTES;
        self.agent.thaw()?;
        self.agent.grant(self.lab.subscriber(), bytes)?;
        self.paid_bytes += bytes;
        self.agent.freeze()?;
        let valid = self.spent_bytes()? + PACKET_BYTES < self.paid_bytes;
        until("the balance is used up", || self.is_dry())?;
        let (counted, paid) = (self.counted()?, self.paid_bytes);
        hold(counted <= paid, || format!("round {round}: {counted} bytes for {paid}"))?;
        hold(counted + PACKET_BYTES > paid, || format!("round {round}: {counted} for {paid}"))?;
        hold(counted == self.spent_bytes()?, || format!("round {round}: {counted} counted"))?;
        Ok(valid)
    }
}

fn cut_off_often(program: Program, hook: &'static str, rounds: u64) -> Result<()> {
    let lab = Lab::with_subscribers(2)?;
    lab.real_segments()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF).run_by(program).on_hook(hook))?;
    let (bob, carol) = (&lab.subscribers[0], &lab.subscribers[1]);
    agent.grant(carol, PLENTY_MSAT)?;
    agent.grant(bob, PACKET_BYTES)?;
    let counters = [bob.count_downlink()?, lab.count_arrived(bob)?];
    let ends = Ends { client: &carol.namespace, server: &lab.internet, address: SERVER_V4 };
    let load = Stream::download(ends, Load { bytes: None, pause: Duration::from_millis(2) })?;
    let here = Receiver::start(&bob.namespace, bob.v4())?;
    let there = Receiver::start(&lab.internet, SERVER_V4)?;
    let senders = [
        Sender::start(&lab.internet, here.address, PACE)?,
        Sender::start(&bob.namespace, there.address, PACE)?,
    ];
    let pins = agent.pins()?;
    let mut stage = Stage { lab, agent, pins, counters, paid_bytes: PACKET_BYTES };
    let mut invalid = 0;
    let outcome = (0..rounds).try_for_each(|round| {
        if stage.run_dry(round).with_context(|| hook)? {
            invalid = 0;
            return Ok(());
        }
        invalid += 1;
        println!("round {round} was invalid: the balance ran out before the agent stood still");
        if invalid >= MAX_INVALID { bail!("{MAX_INVALID} invalid rounds in a row") } else { Ok(()) }
    });
    stage.agent.thaw()?;
    for sender in senders {
        sender.stop()?;
    }
    let carried = load.abort();
    outcome?;
    ensure!(carried > rounds * 10_000, "there was no load beside it: {carried} bytes");
    println!("{rounds} cut-offs with {hook}, beside {carried} bytes of somebody else's");
    Ok(())
}

#[test]
fn every_cut_off_under_load_is_at_the_packet() -> Result<()> {
    cut_off_often(Program::True, "tcx", of_soak(1_000, 15))?;
    cut_off_often(Program::True, "clsact", of_soak(1_000, 15))
}

#[test]
fn a_gate_that_miscounts_by_one_header_is_caught() -> Result<()> {
    must_be_caught(cut_off_often(Program::Miscounting, "tcx", 2))
}
