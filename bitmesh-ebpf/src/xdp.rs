//! A frame as a network driver hands it over, before there is a socket buffer.

use core::arch::asm;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_meta, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use bitmesh_common::packet::Frame;

use crate::head::{Head, NOTE_BYTES};
use crate::place::Place;

/// The frame of an XDP program. It may consist of several buffers.
#[derive(Clone, Copy)]
pub struct Xdp {
    raw: *mut xdp_md,
}

/// Eight bytes in front of the frame, which the TC program can read.
#[derive(Clone, Copy)]
pub struct Note {
    start: usize,
}

impl Xdp {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self { raw: ctx.as_ptr().cast() }
    }

    /// Makes room for a note that says nothing yet. `None` if the driver has no such room.
    #[inline(always)]
    pub fn note(&self) -> Option<Note> {
        // SAFETY: the kernel passes a valid context.
        if unsafe { bpf_xdp_adjust_meta(self.raw, -(NOTE_BYTES as i32)) } != 0 {
            return None;
        }
        // SAFETY: as above. The verifier knows both as pointers to the packet.
        let (note, frame) = unsafe { ((*self.raw).data_meta as usize, (*self.raw).data as usize) };
        if note + NOTE_BYTES > frame {
            return None;
        }
        let note = Note { start: note };
        // What stood there may be an earlier frame's.
        note.write(0);
        Some(note)
    }
}

impl Note {
    #[inline(always)]
    pub fn write(self, said: u64) {
        // SAFETY: `Xdp::note` has compared the eight bytes with the start of the frame. They need
        // not be aligned, for which Rust has no store.
        unsafe {
            asm!(
                "*(u64 *)({start} + 0) = {said}",
                start = in(reg) self.start,
                said = in(reg) said,
                options(nostack),
            );
        }
    }
}

impl Place for Xdp {
    #[cfg(feature = "log")]
    type Context = XdpContext;

    #[cfg(feature = "log")]
    #[inline(always)]
    fn context(&self) -> XdpContext {
        XdpContext::new(self.raw)
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the kernel passes a valid context, and translates every load from it.
        unsafe { (*self.raw).ingress_ifindex }
    }
}

impl Frame for Xdp {
    type Head = Head;

    #[inline(always)]
    fn head<const N: usize>(&self) -> Option<Head> {
        // SAFETY: as in `ifindex`. The verifier knows both as pointers to the packet.
        let (start, end) = unsafe { ((*self.raw).data as usize, (*self.raw).data_end as usize) };
        Head::checked::<N>(start, end)
    }

    /// All buffers together.
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the helper has no conditions.
        unsafe { bpf_xdp_get_buff_len(self.raw) as u32 }
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper writes `N` bytes to an array of `N`, or fails.
        let failed =
            unsafe { bpf_xdp_load_bytes(self.raw, offset, bytes.as_mut_ptr().cast(), N as u32) };
        // SAFETY: the helper did not fail.
        if failed == 0 { Some(unsafe { bytes.assume_init() }) } else { None }
    }

    /// A driver hands over what was on the wire.
    #[inline(always)]
    fn gso_size(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn gso_segs(&self) -> u32 {
        0
    }
}
