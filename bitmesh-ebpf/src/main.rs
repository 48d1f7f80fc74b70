//! The gate: glue from a frame to a verdict.
//!
//! What a frame is and what it costs is decided in `bitmesh-common`, which also runs on the host.
//! The programs pass with `TC_ACT_UNSPEC` (`TCX_NEXT`), so that what stands behind them still
//! sees the packet, and stop with `TC_ACT_SHOT`.

#![no_std]
#![no_main]
#![allow(internal_features)]
#![feature(asm_experimental_arch, core_intrinsics)]

mod atomic;
mod bill;
mod head;
mod held;
mod maps;
mod pay;
mod place;
mod police;
mod redirect;
mod resolver;
mod skb;
mod spoof;
mod tally;
mod xdp;

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use bitmesh_common::abi::Mac;
use bitmesh_common::gate::{Class, Direction, classify_downlink, classify_uplink};
use bitmesh_common::packet::{Link, ip_protocol};
use bitmesh_common::quick::{self, Billable};
use bitmesh_common::source::Source;

use crate::bill::Subscriber;
use crate::skb::Skb;
use crate::xdp::Xdp;

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Drop,
}

impl From<Verdict> for i32 {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => TC_ACT_UNSPEC,
            Verdict::Drop => TC_ACT_SHOT as Self,
        }
    }
}

/// Frames from the LAN.
#[classifier]
pub fn uplink(ctx: TcContext) -> i32 {
    judge_uplink(Skb::new(&ctx)).into()
}

/// Frames from the LAN, in the driver: charges what is common and paid for, and drops what can't
/// be. The rest is left to `uplink`, which stands behind it.
#[xdp(frags)]
pub fn uplink_first(ctx: XdpContext) -> u32 {
    match judge_first(Xdp::new(&ctx)) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
    }
}

/// Frames to the LAN.
#[classifier]
pub fn downlink(ctx: TcContext) -> i32 {
    judge_downlink(Skb::new(&ctx)).into()
}

/// What a subscriber sends: counted, never stopped.
#[classifier]
pub fn count_sent(ctx: TcContext) -> i32 {
    tally::count_sent(&Skb::new(&ctx));
    Verdict::Pass.into()
}

/// What a subscriber receives: counted, never stopped.
#[classifier]
pub fn count_received(ctx: TcContext) -> i32 {
    tally::count_received(&Skb::new(&ctx));
    Verdict::Pass.into()
}

#[inline(always)]
fn judge_first(xdp: Xdp) -> Verdict {
    let Some(lan) = maps::lan() else { return Verdict::Drop };
    let Some(Billable { mac, wire, protocol, source }) = quick::uplink(&xdp, lan) else {
        return Verdict::Pass;
    };
    let Some(note) = xdp.note() else { return Verdict::Pass };
    let subscriber = Subscriber::new(mac, &xdp).claiming(source, lan);
    let verdict = if protocol == u64::from(ip_protocol::TCP) {
        // The unpaid may be led to the portal, which takes a socket buffer.
        if !subscriber.charge(Direction::Uplink, wire.bytes, wire.packets) {
            return Verdict::Pass;
        }
        Verdict::Pass
    } else {
        subscriber.bill(Direction::Uplink, wire.bytes, wire.packets)
    };
    if verdict == Verdict::Pass {
        note.write(maps::judged());
    }
    verdict
}

#[inline(always)]
fn judge_uplink(skb: Skb) -> Verdict {
    if maps::judged() != 0 && skb.note() == maps::judged() {
        return Verdict::Pass;
    }
    let Some(lan) = maps::lan() else { return Verdict::Drop };
    match quick::uplink(&skb, lan) {
        Some(Billable { mac, wire, source, .. }) => {
            let subscriber = Subscriber::new(mac, &skb).claiming(source, lan);
            match subscriber.bill(Direction::Uplink, wire.bytes, wire.packets) {
                Verdict::Pass => Verdict::Pass,
                Verdict::Drop => redirect::lead(skb, mac.word()),
            }
        }
        None => long_way_up(skb),
    }
}

#[inline(always)]
fn judge_downlink(skb: Skb) -> Verdict {
    if !skb.is_from_gateway()
        && let Some(Billable { mac, wire, .. }) = quick::downlink(&skb)
    {
        return Subscriber::new(mac, &skb).bill(Direction::Downlink, wire.bytes, wire.packets);
    }
    long_way_down(skb)
}

/// Not inlined, as is the way down: what is rare would cost the common case registers.
#[inline(never)]
fn long_way_up(skb: Skb) -> Verdict {
    let Some(lan) = maps::lan() else { return Verdict::Drop };
    let Ok(link) = Link::parse(&skb) else { return Verdict::Drop };
    let subscriber = Subscriber::new(Mac::new(link.source), &skb);
    match classify_uplink(&skb, &link, lan) {
        Ok(Class::Free) => Verdict::Pass,
        Ok(Class::Local) => subscriber.admit(),
        Ok(Class::Resolver { bytes }) => {
            resolver::admit(Mac::new(link.source), bytes, subscriber.is_paying())
        }
        Ok(Class::Billed { bytes, packets }) => {
            let Some(source) = Source::of(&skb, &link) else { return subscriber.refuse() };
            subscriber.claiming(source, lan).bill(Direction::Uplink, bytes, packets)
        }
        Err(_) => subscriber.refuse(),
    }
}

#[inline(never)]
fn long_way_down(skb: Skb) -> Verdict {
    let Ok(link) = Link::parse(&skb) else { return Verdict::Drop };
    let mac = Mac::new(link.destination);
    let subscriber = Subscriber::new(mac, &skb);
    match classify_downlink(&skb, &link, skb.is_from_gateway()) {
        Ok(Class::Free) => redirect::answer(skb, mac.word()),
        Ok(Class::Resolver { bytes }) => resolver::admit(mac, bytes, subscriber.is_paying()),
        Ok(Class::Local) => subscriber.admit(),
        Ok(Class::Billed { bytes, packets }) => {
            subscriber.bill(Direction::Downlink, bytes, packets)
        }
        Err(_) => subscriber.refuse(),
    }
}

/// `bpf_loop`-free code never panics; the compiler still wants somewhere to go.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Helpers such as `bpf_ktime_get_boot_ns` are for programs under a licence compatible with GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
