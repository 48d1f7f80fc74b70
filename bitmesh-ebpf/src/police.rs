//! Speed limits of an account. Not inlined: who has none should not pay for them in registers.

use bitmesh_common::abi::{Account, Meter};
use bitmesh_common::gate::{Denied, Direction};
use bitmesh_common::police::police;

use crate::atomic::{Cell, add};

/// Whether a packet that is paid for is within the limit of its direction.
#[inline(never)]
pub fn limit(
    meter: *mut Meter,
    account: *const Account,
    direction: Direction,
    bytes: u64,
    now: u64,
) -> Result<(), Denied> {
    // SAFETY: both are live elements of their maps; the agent stores whole words.
    let (byte_time, arrival) = unsafe {
        match direction {
            Direction::Uplink => (
                (&raw const (*account).uplink_byte_time).read_volatile(),
                &raw mut (*meter).uplink_arrival,
            ),
            Direction::Downlink => (
                (&raw const (*account).downlink_byte_time).read_volatile(),
                &raw mut (*meter).downlink_arrival,
            ),
        }
    };
    Ok(police(&Cell(arrival), now, byte_time, bytes)?)
}

/// Whether a packet that the balance does not cover passes free of charge; then it is counted.
#[inline(never)]
pub fn throttle(
    meter: *mut Meter,
    account: *const Account,
    direction: Direction,
    bytes: u64,
    now: u64,
) -> Result<(), Denied> {
    // SAFETY: as in `limit`.
    let byte_time = unsafe { (&raw const (*account).throttled_byte_time).read_volatile() };
    if byte_time == 0 {
        return Err(Denied::Unpaid);
    }
    // SAFETY: as in `limit`.
    let (arrival, counter) = unsafe {
        match direction {
            Direction::Uplink => (
                &raw mut (*meter).uplink_throttled_arrival,
                &raw mut (*meter).uplink_throttled_bytes,
            ),
            Direction::Downlink => (
                &raw mut (*meter).downlink_throttled_arrival,
                &raw mut (*meter).downlink_throttled_bytes,
            ),
        }
    };
    // What is above the throttled rate is not paid for: that is why it is dropped.
    if police(&Cell(arrival), now, byte_time, bytes).is_err() {
        return Err(Denied::Unpaid);
    }
    add(counter, bytes);
    Ok(())
}
