//! The first bytes of a packet, read where they are.

use core::arch::asm;

use bitmesh_common::quick::{self, Head as _};

/// Bytes of a note that one program leaves for the next, in front of the frame.
pub const NOTE_BYTES: usize = 8;

/// A packet whose first bytes were compared with its end, which is what the verifier asks for.
#[derive(Clone, Copy)]
pub struct Head {
    start: usize,
}

impl Head {
    /// The head from `start` on, if at least `N` bytes of it come before `end`.
    #[inline(always)]
    pub fn checked<const N: usize>(start: usize, end: usize) -> Option<Self> {
        if start + N > end { None } else { Some(Self { start }) }
    }
}

/// What an earlier program has left in front of the frame; 0 if it has left nothing.
#[inline(always)]
pub fn note(start: usize, frame: usize) -> u64 {
    Head::checked::<NOTE_BYTES>(start, frame).map_or(0, |head| head.double::<0>())
}

/// Headers are not aligned, and BPF has loads that need not be. Rust has no such load: it would
/// put a word together from its bytes.
macro_rules! load {
    ($head:expr, $at:expr, $size:literal) => {{
        let value: u64;
        // SAFETY: whoever asks for a head names as many bytes as it reads, and the verifier
        // refuses the program if not. The load has no other effect.
        unsafe {
            asm!(
                concat!("{value} = *(", $size, " *)({start} + {at})"),
                value = out(reg) value,
                start = in(reg) $head.start,
                at = const $at,
                options(pure, readonly, nostack),
            );
        }
        value
    }};
}

impl quick::Head for Head {
    #[inline(always)]
    fn byte<const AT: usize>(&self) -> u64 {
        load!(self, AT, "u8")
    }

    #[inline(always)]
    fn half<const AT: usize>(&self) -> u64 {
        load!(self, AT, "u16")
    }

    #[inline(always)]
    fn word<const AT: usize>(&self) -> u64 {
        load!(self, AT, "u32")
    }

    #[inline(always)]
    fn double<const AT: usize>(&self) -> u64 {
        load!(self, AT, "u64")
    }
}
