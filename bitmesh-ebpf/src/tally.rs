//! A subscriber's own count: the same bytes that a gateway bills, counted on the other side.

use bitmesh_common::abi::Lan;
use bitmesh_common::gate::{Class, classify_received, classify_uplink};
use bitmesh_common::packet::Link;

use crate::atomic::add;
use crate::maps::{self, TALLY};
use crate::skb::Skb;

/// Counts a frame that the subscriber sends.
#[inline(always)]
pub fn count_sent(skb: &Skb) {
    let (Some(lan), Some(tally)) = (maps::lan(), TALLY.get_ptr_mut(0)) else { return };
    if let Some((bytes, packets)) = billable(skb, lan, classify_uplink) {
        // SAFETY: `tally` is an element of an array, which lives as long as the map.
        unsafe {
            add(&raw mut (*tally).uplink_bytes, bytes);
            add(&raw mut (*tally).uplink_packets, packets);
        }
    }
}

/// Counts a frame that the subscriber receives.
#[inline(always)]
pub fn count_received(skb: &Skb) {
    let (Some(lan), Some(tally)) = (maps::lan(), TALLY.get_ptr_mut(0)) else { return };
    if let Some((bytes, packets)) = billable(skb, lan, classify_received) {
        // SAFETY: as above.
        unsafe {
            add(&raw mut (*tally).downlink_bytes, bytes);
            add(&raw mut (*tally).downlink_packets, packets);
        }
    }
}

/// What can't be parsed is dropped by the gateway, and not billed.
#[inline(always)]
fn billable<E>(
    skb: &Skb,
    lan: &Lan,
    classify: impl Fn(&Skb, &Link, &Lan) -> Result<Class, E>,
) -> Option<(u64, u64)> {
    let link = Link::parse(skb).ok()?;
    match classify(skb, &link, lan).ok()? {
        Class::Billed { bytes, packets } => Some((bytes, packets)),
        Class::Free | Class::Local | Class::Resolver { .. } => None,
    }
}
