//! Whether a packet is from an address that its sender may use.
//!
//! The agent says whose an address is. The address that was looked up last is noted in the meter,
//! so that a packet from the same one costs no look-up.

use bitmesh_common::abi::{Mac, Meter, V6Address};
use bitmesh_common::source::{Claim, Source};

use crate::maps::OWNERS;

/// Whether the address is not known to be another's.
#[inline(always)]
pub fn may_use(meter: *mut Meter, mac: Mac, claim: Claim) -> bool {
    let Claim { source, generation } = claim;
    if generation == 0 {
        return true;
    }
    // SAFETY: `meter` is a live element of the map.
    let (high, low, seal) = unsafe {
        (
            (&raw const (*meter).source_high).read_volatile(),
            (&raw const (*meter).source_low).read_volatile(),
            (&raw const (*meter).source_seal).read_volatile(),
        )
    };
    if low == source.low && high == source.high && seal == source.seal(generation) {
        return true;
    }
    look_up(meter, mac.word(), source.high, source.low, generation)
}

/// Not inlined: few packets are from another address than the one before.
#[inline(never)]
fn look_up(meter: *mut Meter, mac: u64, high: u64, low: u64, generation: u64) -> bool {
    let source = Source { high, low };
    let (h, l) = (high.to_ne_bytes(), low.to_ne_bytes());
    let address = V6Address {
        octets: [
            h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], l[0], l[1], l[2], l[3], l[4], l[5],
            l[6], l[7],
        ],
    };
    // SAFETY: an element that the agent removes may be recycled under us; the generation is then
    // another by the next packet.
    if let Some(owner) = unsafe { OWNERS.get(address) }
        && *owner != mac
    {
        return false;
    }
    // SAFETY: `meter` is a live element of the map. Several CPUs may write at once: see
    // `Source::seal`.
    unsafe {
        (&raw mut (*meter).source_high).write_volatile(high);
        (&raw mut (*meter).source_low).write_volatile(low);
        (&raw mut (*meter).source_seal).write_volatile(source.seal(generation));
    }
    true
}
