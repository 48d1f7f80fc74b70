//! The common case, in few instructions: an untagged frame with a plain IP header, to be billed.
//!
//! What is quick is decided nowhere else again: for whatever is found here, [`crate::gate`] finds
//! the same, and a property test holds the two against each other. Anything out of the ordinary is
//! `None`, and goes the long way.

use crate::abi::{Lan, MAX_LAN_ADDRESSES, Mac};
use crate::packet::{Frame, OnWire, ethertype, ip_protocol};
use crate::segments::repeated;
use crate::source::Source;

/// Bytes of an Ethernet and a plain IPv4 header.
const V4_HEAD: usize = 34;
/// Bytes of an Ethernet and an IPv6 header.
const V6_HEAD: usize = 54;
const ETHERNET_BYTES: u32 = 14;
const V4_BYTES: u32 = 20;
const V6_BYTES: u32 = 40;
const UDP_BYTES: u32 = 8;
const TCP_MIN_BYTES: u32 = 20;

/// IPv4 with a header of five words (RFC 791 §3.1).
const V4_PLAIN: u8 = 0x45;
/// The first octet of IPv4 addresses that are no single station's, and of those above.
const V4_FIRST_GROUP: u8 = 224;
/// The first octet of IPv6 groups.
const V6_GROUP: u8 = 0xff;

/// The first bytes of a frame, one after the other in memory. Words are as they are there: of the
/// network's byte order, in the machine's.
pub trait Head: Copy {
    /// The byte at this offset.
    fn byte<const AT: usize>(&self) -> u8;
    /// The two bytes from this offset on.
    fn half<const AT: usize>(&self) -> u16;
    /// The four bytes from this offset on.
    fn word<const AT: usize>(&self) -> u32;
    /// The eight bytes from this offset on.
    fn double<const AT: usize>(&self) -> u64;
}

/// A frame to be billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Billable {
    /// Whose it is.
    pub mac: Mac,
    /// What it is on the wire.
    pub wire: OnWire,
    /// IANA number of the protocol that it carries.
    pub protocol: u8,
    /// From whom; not read of a frame that goes out to the LAN.
    pub source: Source,
}

/// A frame that came in from the LAN.
#[inline(always)]
pub fn uplink<F: Frame>(frame: &F, lan: &Lan) -> Option<Billable> {
    let head = frame.head::<V4_HEAD>()?;
    let mac = mac::<6, 10, _>(&head);
    let kind = head.half::<12>();
    if kind == ethertype::IPV4.to_be() {
        if head.byte::<30>() >= V4_FIRST_GROUP || holds_v4(lan, head.word::<30>()) {
            return None;
        }
        let (wire, protocol) = (v4(frame, &head)?, head.byte::<23>());
        return Some(Billable { mac, wire, protocol, source: Source::v4(head.word::<26>()) });
    }
    if kind == ethertype::IPV6.to_be() {
        let head = frame.head::<V6_HEAD>()?;
        let destination = [head.double::<38>(), head.double::<46>()];
        if head.byte::<38>() == V6_GROUP || holds_v6(lan, destination) {
            return None;
        }
        let (wire, protocol) = (v6(frame, &head)?, head.byte::<20>());
        let source = Source::v6([head.double::<22>(), head.double::<30>()]);
        return Some(Billable { mac, wire, protocol, source });
    }
    None
}

/// A frame that goes out to the LAN, and that the gateway did not make itself.
#[inline(always)]
pub fn downlink<F: Frame>(frame: &F) -> Option<Billable> {
    let head = frame.head::<V4_HEAD>()?;
    let mac = mac::<0, 4, _>(&head);
    let kind = head.half::<12>();
    if kind == ethertype::IPV4.to_be() {
        let (wire, protocol) = (v4(frame, &head)?, head.byte::<23>());
        return Some(Billable { mac, wire, protocol, source: Source::default() });
    }
    if kind == ethertype::IPV6.to_be() {
        let head = frame.head::<V6_HEAD>()?;
        let (wire, protocol) = (v6(frame, &head)?, head.byte::<20>());
        return Some(Billable { mac, wire, protocol, source: Source::default() });
    }
    None
}

#[inline(always)]
fn mac<const FIRST: usize, const LAST: usize, H: Head>(head: &H) -> Mac {
    Mac::from_word(u64::from(head.word::<FIRST>()) | u64::from(head.half::<LAST>()) << 32)
}

#[inline(always)]
fn v4<F: Frame>(frame: &F, head: &F::Head) -> Option<OnWire> {
    // Neither a fragment nor more to come (RFC 791 §3.1): ports may be asked for.
    let whole = head.half::<20>() & 0x3fff_u16.to_be() == 0;
    if head.byte::<14>() != V4_PLAIN || !whole {
        return None;
    }
    let carried = frame.len().wrapping_sub(ETHERNET_BYTES);
    if frame.gso_size() != 0 {
        return segments::<V4_SEGMENT, 46, F>(frame, carried, head.byte::<23>(), V4_BYTES);
    }
    packet(u32::from(u16::from_be(head.half::<16>())), V4_BYTES, carried)
}

#[inline(always)]
fn v6<F: Frame>(frame: &F, head: &F::Head) -> Option<OnWire> {
    let next = head.byte::<20>();
    // Neither extension headers, nor what could be anything.
    let plain = next == ip_protocol::TCP || next == ip_protocol::UDP || next == ip_protocol::ICMPV6;
    if head.byte::<14>() >> 4 != 6 || !plain {
        return None;
    }
    let carried = frame.len().wrapping_sub(ETHERNET_BYTES);
    if frame.gso_size() != 0 {
        return segments::<V6_SEGMENT, 66, F>(frame, carried, next, V6_BYTES);
    }
    packet(V6_BYTES + u32::from(u16::from_be(head.half::<18>())), V6_BYTES, carried)
}

/// Bytes up to the end of a plain TCP header behind IPv4.
const V4_SEGMENT: usize = 54;
/// Bytes up to the end of a plain TCP header behind IPv6.
const V6_SEGMENT: usize = 74;

/// One packet that says how long it is.
#[inline(always)]
fn packet(stated: u32, least: u32, carried: u32) -> Option<OnWire> {
    if stated < least || stated > carried {
        return None;
    }
    Some(OnWire { bytes: u64::from(stated), packets: 1 })
}

/// A super-packet, if the kernel says how many segments it stands for.
#[inline(always)]
fn segments<const NEEDED: usize, const DATA_OFFSET_AT: usize, F: Frame>(
    frame: &F,
    carried: u32,
    protocol: u8,
    ip_bytes: u32,
) -> Option<OnWire> {
    let segments = frame.gso_segs();
    let transport = if protocol == ip_protocol::TCP {
        let head = frame.head::<NEEDED>()?;
        u32::from(head.byte::<DATA_OFFSET_AT>() >> 4) * 4
    } else if protocol == ip_protocol::UDP {
        UDP_BYTES
    } else {
        return None;
    };
    let headers = ip_bytes + transport;
    let short = protocol == ip_protocol::TCP && transport < TCP_MIN_BYTES;
    if segments == 0 || short || carried < headers {
        return None;
    }
    Some(repeated(carried, headers, segments))
}

/// Places not in use hold 0.0.0.0, which is out of the ordinary too.
#[inline(always)]
fn holds_v4(lan: &Lan, address: u32) -> bool {
    let mut i = 0;
    while i < MAX_LAN_ADDRESSES {
        if lan.ipv4[i].word() == address {
            return true;
        }
        i += 1;
    }
    false
}

/// Places not in use hold the unspecified address, which is out of the ordinary too.
#[inline(always)]
fn holds_v6(lan: &Lan, address: [u64; 2]) -> bool {
    let mut i = 0;
    while i < MAX_LAN_ADDRESSES {
        if lan.ipv6[i].words() == address {
            return true;
        }
        i += 1;
    }
    false
}

#[cfg(test)]
mod tests;
