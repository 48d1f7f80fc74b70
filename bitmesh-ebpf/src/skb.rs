//! A socket buffer as the parser sees it.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::programs::TcContext;
use bitmesh_common::packet::Frame;

use crate::head::{self, Head};
use crate::place::Place;

/// The socket buffer of a TC program, from its Ethernet header on.
#[derive(Clone, Copy)]
pub struct Skb {
    raw: *mut __sk_buff,
}

impl Skb {
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self { raw: ctx.as_ptr().cast() }
    }

    /// The context, as helpers take it.
    #[inline(always)]
    pub fn raw(&self) -> *mut __sk_buff {
        self.raw
    }

    /// What an XDP program has noted on the frame; 0 if nothing.
    #[inline(always)]
    pub fn note(&self) -> u64 {
        // SAFETY: as in `ifindex`. The verifier knows both as pointers to the packet.
        let (note, frame) = unsafe { ((*self.raw).data_meta as usize, (*self.raw).data as usize) };
        head::note(note, frame)
    }

    /// Whether no interface received it: the gateway made it.
    #[inline(always)]
    pub fn is_from_gateway(&self) -> bool {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.raw).ingress_ifindex == 0 }
    }
}

impl Place for Skb {
    #[cfg(feature = "log")]
    type Context = TcContext;

    #[cfg(feature = "log")]
    #[inline(always)]
    fn context(&self) -> TcContext {
        TcContext::new(self.raw)
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the kernel passes a valid context, and translates every load from it.
        unsafe { (*self.raw).ifindex }
    }
}

impl Frame for Skb {
    type Head = Head;

    #[inline(always)]
    fn head<const N: usize>(&self) -> Option<Head> {
        // SAFETY: as in `ifindex`. The verifier knows both as pointers to the packet.
        let (start, end) = unsafe { ((*self.raw).data as usize, (*self.raw).data_end as usize) };
        Head::checked::<N>(start, end)
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.raw).len }
    }

    /// Works for parts outside the linear one too.
    #[inline(always)]
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper writes `N` bytes to an array of `N`, or fails.
        let failed = unsafe {
            bpf_skb_load_bytes(self.raw.cast(), offset, bytes.as_mut_ptr().cast(), N as u32)
        };
        // SAFETY: the helper did not fail.
        if failed == 0 { Some(unsafe { bytes.assume_init() }) } else { None }
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.raw).gso_size }
    }

    #[inline(always)]
    fn gso_segs(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.raw).gso_segs }
    }
}
