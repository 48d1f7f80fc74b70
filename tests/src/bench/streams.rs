//! TCP through a lab.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use bitmesh_common::gate::Direction;

use super::turns::Run;
use crate::lab::{Lab, SERVER_V4};
use crate::tcp::{Ends, Load, Stream};

/// Until the window is open.
const WARM_UP: Duration = Duration::from_millis(200);

/// Gbit a second that the receiving program reads of one stream.
///
/// # Errors
///
/// Fails if no connection comes about.
pub(super) fn run(lab: &Lab, direction: Direction, time: Duration) -> Result<Run> {
    let client = &lab.subscriber().namespace;
    let ends = Ends { client, server: &lab.internet, address: SERVER_V4 };
    let stream = match direction {
        Direction::Uplink => Stream::upload(ends, Load::ENDLESS)?,
        Direction::Downlink => Stream::download(ends, Load::ENDLESS)?,
    };
    thread::sleep(WARM_UP);
    let (before, start) = (stream.received(), Instant::now());
    thread::sleep(time);
    let (received, seconds) = (stream.received() - before, start.elapsed().as_secs_f64());
    stream.abort();
    if received == 0 {
        return Ok(Run::Invalid("the stream stood still".to_owned()));
    }
    Ok(Run::Valid(received as f64 * 8.0 / seconds / 1e9))
}
