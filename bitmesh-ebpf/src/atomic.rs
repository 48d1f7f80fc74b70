//! The atomic operations that BPF has (kernels from 5.12) and that `core::sync::atomic` does not
//! offer for this target.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

use bitmesh_common::gate::Shared;

/// Adds to a counter that several CPUs share.
#[inline(always)]
pub fn add(counter: *mut u64, value: u64) {
    // SAFETY: callers pass a field of a map element, which is aligned and outlives the program.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, value) };
}

/// A word of a meter that several CPUs change.
pub struct Cell(pub *mut u64);

impl Shared for Cell {
    #[inline(always)]
    fn load(&self) -> u64 {
        // SAFETY: as in `add`; an aligned 64-bit load is one load.
        unsafe { self.0.read_volatile() }
    }

    #[inline(always)]
    fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64> {
        // SAFETY: as in `add`.
        let (found, swapped) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                self.0, current, new,
            )
        };
        if swapped { Ok(()) } else { Err(found) }
    }
}
