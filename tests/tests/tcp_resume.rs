//! A download that ran dry goes on when there is credit again.

use anyhow::{Result, ensure};
use bitmesh_tests::agent::{Agent, Program, Settings, Tariff};
use bitmesh_tests::lab::{Lab, SERVER_V4};
use bitmesh_tests::pins::cost;
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::verdict::{hold, must_be_caught, same};
use bitmesh_tests::wait::{until, until_still};

const MSAT_PER_MIB: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

fn a_download_stops_and_goes_on(program: Program) -> Result<()> {
    let lab = Lab::new()?;
    lab.real_segments()?;
    let agent = Agent::start(&lab, &Settings::new(Tariff::bytes(MSAT_PER_MIB)).run_by(program))?;
    let bob = lab.subscriber();
    let (down, up) = (bob.count_downlink()?, lab.count_arrived(bob)?);
    agent.grant(bob, 4 * MSAT_PER_MIB)?;
    let ends = Ends { client: &bob.namespace, server: &lab.internet, address: SERVER_V4 };
    let download = Stream::download(ends, Load::of(10 * MIB))?;
    let before = until_still(|| Ok(download.received()))?;
    ensure!(before > 3 * MIB && before < 4 * MIB, "{before} bytes for 4 MiB of credit");
    agent.grant(bob, 12 * MSAT_PER_MIB)?;
    until("the download goes on", || Ok(download.received() > before + MIB))?;
    ensure!(download.finish()? == 10 * MIB, "the same connection carries all of it");
    let (down, up) = (down.settled()?, up.settled()?);
    let pins = agent.pins()?;
    let (meter, account) = (pins.meter(bob)?, pins.account(bob)?);
    same("downlink", down, meter.downlink_bytes, meter.downlink_packets)?;
    same("uplink", up, meter.uplink_bytes, meter.uplink_packets)?;
    hold(meter.spent == cost(up.bytes, down.bytes, &account), || format!("{meter:?}"))
}

#[test]
fn a_tcp_download_goes_on_in_the_same_connection_when_credit_arrives() -> Result<()> {
    a_download_stops_and_goes_on(Program::True)
}

#[test]
fn a_gate_that_miscounts_it_by_one_header_is_caught() -> Result<()> {
    must_be_caught(a_download_stops_and_goes_on(Program::Miscounting))
}
