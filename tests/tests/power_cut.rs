//! The power is cut at every write and every sync; what was acknowledged is there afterwards.

use std::path::Path;

use anyhow::{Result, ensure};
use bitmesh_tests::power_cut::gateway::GatewaySession;
use bitmesh_tests::power_cut::payer::PayerSession;
use bitmesh_tests::power_cut::session::{Recording, Session};
use bitmesh_tests::scale::of_soak;

/// Every operation in the soak; one of so many otherwise. They are primes, so that no kind of
/// operation is passed over for its place in a step.
const GATEWAY_STRIDE: u64 = 101;
const PAYER_STRIDE: u64 = 7;

/// States of the disk that are drawn at each cut, beside the named ones.
const DRAWN: (u64, u64) = (6, 2);

fn recording<S: Session>() -> Result<Recording<S>> {
    Recording::make(Path::new(env!("CARGO_BIN_EXE_bitmesh-durable-session")))
}

fn survives<S: Session>(recording: &Recording<S>, stride: u64) -> Result<()> {
    let stride = usize::try_from(of_soak(1, stride))?;
    let tally = recording.cut_everywhere(stride, of_soak(DRAWN.0, DRAWN.1))?;
    println!("{}: {tally:?}", S::NAME);
    ensure!(tally.steps > 100 && tally.syncs > 100, "the session is too short: {tally:?}");
    is_found_out(recording)
}

/// The same on a disk that does not sync must fail: else this test can't.
fn is_found_out<S: Session>(recording: &Recording<S>) -> Result<()> {
    let violation = recording.cut_on_a_disk_that_lies(29).err();
    let violation = violation.map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(violation.contains("power cut after"), "nobody noticed that nothing was synced");
    Ok(())
}

#[test]
fn a_gateway_keeps_every_step_it_acknowledged_whenever_the_power_is_cut() -> Result<()> {
    let recording = recording::<GatewaySession>()?;
    // When it was made, when each life ended, and at least once while each went on.
    let checkpoints = recording.syncs_of(".db");
    ensure!(checkpoints >= 5, "the log was taken over {checkpoints} times only");
    survives(&recording, GATEWAY_STRIDE)
}

#[test]
fn a_payer_keeps_every_step_it_acknowledged_whenever_the_power_is_cut() -> Result<()> {
    survives(&recording::<PayerSession>()?, PAYER_STRIDE)
}
