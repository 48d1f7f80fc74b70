//! Programs that do nothing: what measures the gate takes their cost away.

#![no_std]
#![no_main]

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

/// Passes every frame.
#[classifier]
pub fn empty(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// Passes every frame, in the driver.
#[xdp(frags)]
pub fn empty_first(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Never called; the compiler wants it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
