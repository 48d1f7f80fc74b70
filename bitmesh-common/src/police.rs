//! Speed limits: the generic cell rate algorithm (ITU-T I.371), by virtual scheduling.
//!
//! A limited direction has one word, the instant at which all that has passed would have been sent
//! at the limit: its *theoretical arrival time*. A packet passes while that is at most
//! [`TOLERANCE_NS`] ahead of now, and moves it on by the packet's own time. So in any span passes at
//! most what the limit allows in it, and in the tolerance, and one packet; a flow that keeps the
//! limit is never dropped, however large its super-packets are; and the word needs no timer.
//!
//! The word is kept in ticks of 2⁻⁶ ns, which last for nine years of uptime; the time of a byte in
//! 2⁻¹⁶ ns. Both round up: the limit is never exceeded, and missed by less than one in a thousand.

use crate::gate::{MAX_CAS_TRIES, Shared};

/// How far the packets that passed may be ahead of the limit, in ns: what TCP needs to come near
/// to the limit, whose sender waits 200 ms before it tries again.
pub const TOLERANCE_NS: u64 = 250_000_000;

/// The largest limit, in kbit/s (10 Gbit/s).
pub const MAX_KBIT_PER_S: u64 = 10_000_000;

/// The time of a packet of so many bytes is not computed: it is above any limit. Super-packets of
/// BIG TCP are at most 512 KiB.
const MAX_PACKET_BYTES_LOG2: u32 = 24;

const BYTE_TIME_BITS: u32 = 16;
const TICK_BITS: u32 = 6;
/// A kbit/s has a byte each so many ns.
const NS_PER_BYTE_AT_1_KBIT_PER_S: u64 = 8_000_000;

/// Why a packet is above the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// More than the tolerance passed before it.
    Limit,
    /// Other CPUs kept changing the word, [`MAX_CAS_TRIES`] times.
    Contended,
}

/// The time of a byte at this limit, in 2⁻¹⁶ ns; 0 without a limit. Limits above
/// [`MAX_KBIT_PER_S`] count as that.
#[must_use]
pub const fn byte_time(kbit_per_s: u64) -> u64 {
    match kbit_per_s {
        0 => 0,
        limit if limit > MAX_KBIT_PER_S => byte_time(MAX_KBIT_PER_S),
        limit => (NS_PER_BYTE_AT_1_KBIT_PER_S << BYTE_TIME_BITS).div_ceil(limit),
    }
}

/// Takes the time of this packet from what the limit leaves, if it leaves any. Else nothing
/// changes. `byte_time` is what [`byte_time`] gives, and 0 is no limit.
#[inline(always)]
pub fn police<S: Shared>(
    arrival: &S,
    now_ns: u64,
    byte_time: u64,
    bytes: u64,
) -> Result<(), Exceeded> {
    if byte_time == 0 {
        return Ok(());
    }
    if bytes >> MAX_PACKET_BYTES_LOG2 != 0 {
        return Err(Exceeded::Limit);
    }
    // Below 2^39 and below 2^24: the product fits.
    let time = (bytes * byte_time).div_ceil(1 << (BYTE_TIME_BITS - TICK_BITS));
    let now = now_ns << TICK_BITS;
    let latest = now + (TOLERANCE_NS << TICK_BITS);
    let mut current = arrival.load();
    let mut tries = 0;
    while tries < MAX_CAS_TRIES {
        if current > latest {
            return Err(Exceeded::Limit);
        }
        let from = if current > now { current } else { now };
        match arrival.compare_exchange(current, from + time) {
            Ok(()) => return Ok(()),
            Err(found) => current = found,
        }
        tries += 1;
    }
    Err(Exceeded::Contended)
}

#[cfg(test)]
mod tests;
