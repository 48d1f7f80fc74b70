//! Eight subscribers at once: each is billed its own bytes, and one running dry is alone in it.

use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh_common::money::UNITS_PER_MSAT;
use bitmesh_tests::agent::{Agent, Program, Settings, Tariff};
use bitmesh_tests::lab::{Lab, SERVER_V4, SERVER_V6, Subscriber};
use bitmesh_tests::pins::cost;
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use bitmesh_tests::verdict::{hold, must_be_caught, same};
use bitmesh_tests::wait::until;

const MIB: u64 = 1 << 20;
const DAY: Tariff = Tariff::bytes(1_000_000);
const NIGHT: Tariff =
    Tariff { uplink_msat_per_mib: 250_000, downlink_msat_per_mib: 500_000, msat_per_minute: 0 };

/// Pays for everything that is sent here.
const PLENTY_MSAT: u64 = 100_000_000;
/// Does not.
const LITTLE_MSAT: u64 = 300_000;
/// Who has little.
const POOR: usize = 7;

const PACKETS: u64 = 2_000;

fn settings(program: Program) -> Settings {
    let tariffs = vec![("default", DAY), ("night", NIGHT)];
    Settings { tariffs, ..Settings::new(DAY) }.run_by(program)
}

/// What one of them does: UDP both ways, and unless it is poor a TCP download.
struct Traffic {
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    download: Option<Stream>,
}

impl Traffic {
    fn start(lab: &Lab, number: usize, one: &Subscriber) -> Result<Self> {
        let pace = Pace {
            payload: 200 + 100 * number,
            every: Duration::from_micros(500),
            packets: Some(PACKETS),
        };
        let (own, server) =
            if number.is_multiple_of(2) { (one.v4(), SERVER_V4) } else { (one.v6(), SERVER_V6) };
        let here = Receiver::start(&one.namespace, own)?;
        let there = Receiver::start(&lab.internet, server)?;
        let senders = vec![
            Sender::start(&lab.internet, here.address, pace)?,
            Sender::start(&one.namespace, there.address, pace)?,
        ];
        let ends = Ends { client: &one.namespace, server: &lab.internet, address: server };
        let download = if number == POOR {
            None
        } else {
            Some(Stream::download(ends, Load::of(MIB * (1 + number as u64)))?)
        };
        Ok(Self { senders, receivers: vec![here, there], download })
    }

    /// Gives how many UDP packets arrived, both ways together.
    fn finish(self) -> Result<u64> {
        for sender in self.senders {
            sender.finish()?;
        }
        if let Some(download) = self.download {
            download.finish()?;
        }
        std::thread::sleep(Duration::from_millis(200));
        let arrived = self.receivers.into_iter().map(|receiver| Ok(receiver.stop()?.len() as u64));
        arrived.sum()
    }
}

fn each_is_billed_its_own_bytes(program: Program) -> Result<()> {
    let lab = Lab::with_subscribers(8)?;
    lab.real_segments()?;
    let agent = Agent::start(&lab, &settings(program))?;
    let mut counters = Vec::new();
    for (number, one) in lab.subscribers.iter().enumerate() {
        let tariff = if number < 4 { "default" } else { "night" };
        let msat = if number == POOR { LITTLE_MSAT } else { PLENTY_MSAT };
        agent.grant_under(one, msat, tariff)?;
        counters.push((one.count_downlink()?, lab.count_arrived(one)?));
    }
    let everyone = lab.subscribers.iter().enumerate();
    let traffic: Vec<Traffic> =
        everyone.map(|(number, one)| Traffic::start(&lab, number, one)).collect::<Result<_>>()?;
    let arrived: Vec<u64> = traffic.into_iter().map(Traffic::finish).collect::<Result<_>>()?;
    let pins = agent.pins()?;
    for (number, one) in lab.subscribers.iter().enumerate() {
        let (down, up) = (counters[number].0.settled()?, counters[number].1.settled()?);
        let (meter, account) = (pins.meter(one)?, pins.account(one)?);
        same("downlink", down, meter.downlink_bytes, meter.downlink_packets)?;
        same("uplink", up, meter.uplink_bytes, meter.uplink_packets)?;
        let due = cost(up.bytes, down.bytes, &account);
        hold(meter.spent == due, || format!("subscriber {number}: {due} is due: {meter:?}"))?;
        if number == POOR {
            ensure!(meter.dropped_unpaid > 0 && arrived[number] < 2 * PACKETS, "{meter:?}");
        } else {
            ensure!(arrived[number] == 2 * PACKETS, "subscriber {number} lost packets: {meter:?}");
            ensure!(meter.dropped_unpaid == 0, "subscriber {number}: {meter:?}");
        }
        // The agent says the same as soon as it has looked.
        until("the books agree", || {
            Ok(agent.account(one)?["charged_msat"] == due.div_ceil(UNITS_PER_MSAT))
        })?;
    }
    Ok(())
}

#[test]
fn each_of_eight_is_billed_its_own_bytes_and_one_running_dry_is_alone_in_it() -> Result<()> {
    each_is_billed_its_own_bytes(Program::True)
}

#[test]
fn a_gate_that_miscounts_any_of_them_by_one_header_is_caught() -> Result<()> {
    must_be_caught(each_is_billed_its_own_bytes(Program::Miscounting))
}
