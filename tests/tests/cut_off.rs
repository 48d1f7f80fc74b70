//! The packet that would overdraw the balance is the first that is dropped, agent or no agent.

use std::time::Duration;

use anyhow::{Result, ensure};
use bitmesh_tests::agent::{Agent, Program, Settings, Tariff};
use bitmesh_tests::counter::{Counter, Counts};
use bitmesh_tests::lab::{INTERNET, Lab, SERVER_V4, SERVER_V6, WAN};
use bitmesh_tests::pins::cost;
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::udp::{Pace, Receiver, Sender, V4_HEADER_BYTES, V6_HEADER_BYTES};
use bitmesh_tests::verdict::{hold, must_be_caught, same};
use bitmesh_tests::wait::until_still;

const MSAT_PER_MIB: u64 = 1_000_000;
const PAID_MSAT: u64 = 10_000_000;
const PAID_BYTES: u64 = 10 << 20;

/// The largest super-packet here: 64 KiB, and headers for each of its segments.
const SUPER_PACKET_BYTES: u64 = 65_536 + 46 * 72;

/// 12 MB of UDP in half a second.
const PACE: Pace = Pace { payload: 1_000, every: Duration::from_micros(40), packets: Some(12_000) };

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

fn settings(program: Program, hook: &'static str) -> Settings {
    Settings::new(Tariff::bytes(MSAT_PER_MIB)).run_by(program).on_hook(hook)
}

/// Sends more UDP than is paid for while the agent is stopped.
fn udp_is_cut_off(settings: &Settings, way: Way, v6: bool) -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, settings)?;
    let bob = lab.subscriber();
    agent.grant(bob, PAID_MSAT)?;
    agent.freeze()?;
    let (counter, from, to, address) = match way {
        Way::Up => {
            let server = if v6 { SERVER_V6 } else { SERVER_V4 };
            (lab.count_arrived(bob)?, &bob.namespace, &lab.internet, server)
        }
        Way::Down => {
            let own = if v6 { bob.v6() } else { bob.v4() };
            (bob.count_downlink()?, &lab.internet, &bob.namespace, own)
        }
    };
    let receiver = Receiver::start(to, address)?;
    let sent = Sender::start(from, receiver.address, PACE)?.finish()?;
    let counted = counter.settled()?;
    receiver.stop()?;
    let pins = agent.pins()?;
    let (meter, account) = (pins.meter(bob)?, pins.account(bob)?);
    let (bytes, packets) = match way {
        Way::Up => (meter.uplink_bytes, meter.uplink_packets),
        Way::Down => (meter.downlink_bytes, meter.downlink_packets),
    };
    ensure!(packets + meter.dropped_unpaid == sent, "some were lost before the gate: {meter:?}");
    same("UDP", counted, bytes, packets)?;
    let packet_bytes = 1_000 + if v6 { V6_HEADER_BYTES } else { V4_HEADER_BYTES };
    hold(counted.bytes <= PAID_BYTES, || format!("{counted:?} is more than is paid for"))?;
    hold(counted.bytes > PAID_BYTES - packet_bytes, || format!("{counted:?} is too little"))?;
    hold(meter.spent == cost(meter.uplink_bytes, meter.downlink_bytes, &account), || {
        format!("the charge is wrong: {meter:?}")
    })
}

/// Downloads without end over TCP, in super-packets, while the agent is stopped.
fn tcp_is_cut_off(settings: &Settings) -> Result<()> {
    let lab = Lab::new()?;
    lab.real_segments()?;
    let agent = Agent::start(&lab, settings)?;
    let bob = lab.subscriber();
    let at_wan = Counter::arriving(&lab.gateway, WAN, &INTERNET)?;
    let (down, up) = (bob.count_downlink()?, lab.count_arrived(bob)?);
    agent.grant(bob, PAID_MSAT)?;
    agent.freeze()?;
    let pins = agent.pins()?;
    let ends = Ends { client: &bob.namespace, server: &lab.internet, address: SERVER_V4 };
    let download = Stream::download(ends, Load::ENDLESS)?;
    until_still(|| Ok(pins.meter(bob)?.spent))?;
    download.abort();
    let (down, up) = (down.settled()?, up.settled()?);
    let (meter, account) = (pins.meter(bob)?, pins.account(bob)?);
    let super_packets = at_wan.read()?.packets;
    ensure!(super_packets * 3 < down.packets, "no super-packets: {super_packets}, {down:?}");
    same("downlink", down, meter.downlink_bytes, meter.downlink_packets)?;
    same("uplink", up, meter.uplink_bytes, meter.uplink_packets)?;
    let total = Counts { bytes: down.bytes + up.bytes, packets: down.packets + up.packets };
    hold(total.bytes <= PAID_BYTES, || format!("{total:?} is more than is paid for"))?;
    hold(total.bytes > PAID_BYTES - SUPER_PACKET_BYTES, || format!("{total:?} is too little"))?;
    hold(meter.spent == cost(up.bytes, down.bytes, &account), || format!("{meter:?}"))
}

#[test]
fn a_udp_download_stops_at_the_packet_that_is_not_paid_for() -> Result<()> {
    udp_is_cut_off(&settings(Program::True, "auto"), Way::Down, false)?;
    udp_is_cut_off(&settings(Program::True, "auto"), Way::Down, true)
}

#[test]
fn a_udp_upload_stops_at_the_packet_that_is_not_paid_for() -> Result<()> {
    udp_is_cut_off(&settings(Program::True, "auto"), Way::Up, false)?;
    udp_is_cut_off(&settings(Program::True, "auto"), Way::Up, true)
}

#[test]
fn clsact_stops_at_the_same_packet_as_tcx() -> Result<()> {
    udp_is_cut_off(&settings(Program::True, "clsact"), Way::Down, false)?;
    udp_is_cut_off(&settings(Program::True, "clsact"), Way::Up, true)
}

#[test]
fn xdp_in_front_stops_at_the_same_packet_as_tcx() -> Result<()> {
    udp_is_cut_off(&settings(Program::True, "xdp"), Way::Up, false)?;
    udp_is_cut_off(&settings(Program::True, "xdp"), Way::Up, true)?;
    udp_is_cut_off(&settings(Program::True, "xdp"), Way::Down, false)?;
    tcp_is_cut_off(&settings(Program::True, "xdp"))
}

#[test]
fn xdp_in_front_that_miscounts_by_one_header_is_caught() -> Result<()> {
    must_be_caught(udp_is_cut_off(&settings(Program::Miscounting, "xdp"), Way::Up, false))
}

#[test]
fn a_tcp_download_in_super_packets_never_gets_more_than_is_paid_for() -> Result<()> {
    tcp_is_cut_off(&settings(Program::True, "auto"))?;
    tcp_is_cut_off(&settings(Program::True, "clsact"))
}

#[test]
fn a_gate_that_miscounts_udp_by_one_header_is_caught() -> Result<()> {
    for way in [Way::Up, Way::Down] {
        must_be_caught(udp_is_cut_off(&settings(Program::Miscounting, "auto"), way, false))?;
        must_be_caught(udp_is_cut_off(&settings(Program::Miscounting, "auto"), way, true))?;
    }
    Ok(())
}

#[test]
fn a_gate_that_miscounts_super_packets_by_one_header_is_caught() -> Result<()> {
    must_be_caught(tcp_is_cut_off(&settings(Program::Miscounting, "auto")))
}
