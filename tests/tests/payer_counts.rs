//! The payer counts its own bytes, and finds what the gateway bills.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh::payer::counter::Counter;
use bitmesh_common::abi::Tally;
use bitmesh_tests::agent::{Agent, Program, Settings, Tariff};
use bitmesh_tests::lab::{ETH, GATEWAY_V4, Lab, SERVER_V4, SERVER_V6};
use bitmesh_tests::objects::BITMESH;
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use bitmesh_tests::verdict::{hold, must_be_caught};

const PLENTY_MSAT: u64 = 1_000_000_000;
const DOWNLOAD_BYTES: u64 = 20 << 20;
const PACE: Pace = Pace { payload: 700, every: Duration::from_micros(200), packets: Some(2_000) };

/// UDP both ways, and TCP over both families in whatever super-packets the devices make.
fn traffic(lab: &Lab) -> Result<()> {
    let bob = lab.subscriber();
    let here = Receiver::start(&bob.namespace, bob.v6())?;
    let there = Receiver::start(&lab.internet, SERVER_V4)?;
    let senders = [
        Sender::start(&lab.internet, here.address, PACE)?,
        Sender::start(&bob.namespace, there.address, PACE)?,
    ];
    for address in [SERVER_V4, SERVER_V6] {
        let ends = Ends { client: &bob.namespace, server: &lab.internet, address };
        let got = Stream::download(ends, Load::of(DOWNLOAD_BYTES))?.finish()?;
        ensure!(got == DOWNLOAD_BYTES, "the download ended early: {got}");
    }
    for sender in senders {
        sender.finish()?;
    }
    std::thread::sleep(Duration::from_millis(300));
    here.stop()?;
    there.stop()?;
    Ok(())
}

fn both_count_the_same(program: Program) -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(Tariff::bytes(1_000)).run_by(program))?;
    let bob = lab.subscriber();
    let gateway: [IpAddr; 2] = [GATEWAY_V4, "fd77::1".parse()?];
    let counter = bob.namespace.enter(|| Ok(Counter::start(ETH, &gateway, BITMESH)?))?;
    agent.grant(bob, PLENTY_MSAT)?;
    traffic(&lab)?;
    let meter = agent.pins()?.meter(bob)?;
    let metered = Tally {
        uplink_bytes: meter.uplink_bytes,
        uplink_packets: meter.uplink_packets,
        downlink_bytes: meter.downlink_bytes,
        downlink_packets: meter.downlink_packets,
    };
    ensure!(metered.downlink_bytes > 2 * DOWNLOAD_BYTES, "there was no traffic: {metered:?}");
    let counted = counter.read()?;
    hold(counted == metered, || format!("counted {counted:?}, metered {metered:?}"))
}

#[test]
fn the_payer_counts_what_the_gateway_bills_to_the_byte() -> Result<()> {
    both_count_the_same(Program::True)
}

#[test]
fn a_gateway_that_miscounts_by_one_header_is_caught_by_the_payer() -> Result<()> {
    must_be_caught(both_count_the_same(Program::Miscounting))
}
