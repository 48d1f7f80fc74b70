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
const V4_BYTES: u64 = 20;
const V6_BYTES: u64 = 40;
const UDP_BYTES: u64 = 8;
const TCP_MIN_BYTES: u64 = 20;

const ETHERTYPE_V4: u64 = ethertype::IPV4.to_be() as u64;
const ETHERTYPE_V6: u64 = ethertype::IPV6.to_be() as u64;
const TCP: u64 = ip_protocol::TCP as u64;
const UDP: u64 = ip_protocol::UDP as u64;
const ICMPV6: u64 = ip_protocol::ICMPV6 as u64;

/// IPv4 with a header of five words (RFC 791 §3.1).
const V4_PLAIN: u64 = 0x45;
/// The first octet of IPv4 addresses that are no single station's, and of those above.
const V4_FIRST_GROUP: u64 = 224;
/// The first octet of IPv6 groups.
const V6_GROUP: u64 = 0xff;

/// The first bytes of a frame, one after the other in memory. Words are as they are there: of the
/// network's byte order, in the machine's. All fill a register, so that none must be cleared above
/// what was loaded.
pub trait Head: Copy {
    /// The byte at this offset.
    fn byte<const AT: usize>(&self) -> u64;
    /// The two bytes from this offset on.
    fn half<const AT: usize>(&self) -> u64;
    /// The four bytes from this offset on.
    fn word<const AT: usize>(&self) -> u64;
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
    pub protocol: u64,
    /// From whom; not read of a frame that goes out to the LAN.
    pub source: Source,
}

/// A frame that came in from the LAN.
#[inline(always)]
pub fn uplink<F: Frame>(frame: &F, lan: &Lan) -> Option<Billable> {
    let head = frame.head::<V4_HEAD>()?;
    let mac = Mac::from_word(head.double::<6>() & FIRST_SIX);
    let kind = head.half::<12>();
    if kind == ETHERTYPE_V4 {
        if head.byte::<30>() >= V4_FIRST_GROUP || holds_v4(lan, head.word::<30>()) {
            return None;
        }
        let (wire, protocol) = (v4(frame, &head)?, head.byte::<23>());
        return Some(Billable { mac, wire, protocol, source: Source::v4(head.word::<26>()) });
    }
    if kind == ETHERTYPE_V6 {
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
    let mac = Mac::from_word(head.word::<0>() | head.half::<4>() << 32);
    let kind = head.half::<12>();
    if kind == ETHERTYPE_V4 {
        let (wire, protocol) = (v4(frame, &head)?, head.byte::<23>());
        return Some(Billable { mac, wire, protocol, source: Source::default() });
    }
    if kind == ETHERTYPE_V6 {
        let head = frame.head::<V6_HEAD>()?;
        let (wire, protocol) = (v6(frame, &head)?, head.byte::<20>());
        return Some(Billable { mac, wire, protocol, source: Source::default() });
    }
    None
}

#[inline(always)]
fn v4<F: Frame>(frame: &F, head: &F::Head) -> Option<OnWire> {
    // Neither a fragment nor more to come (RFC 791 §3.1): ports may be asked for.
    let whole = head.half::<20>() & u64::from(0x3fff_u16.to_be()) == 0;
    if head.byte::<14>() != V4_PLAIN || !whole {
        return None;
    }
    let carried = u64::from(frame.len().wrapping_sub(ETHERNET_BYTES));
    if frame.gso_size() != 0 {
        return segments::<V4_SEGMENT, 46, F>(frame, carried, head.byte::<23>(), V4_BYTES);
    }
    packet(u64::from(u16::from_be(head.half::<16>() as u16)), V4_BYTES, carried)
}

#[inline(always)]
fn v6<F: Frame>(frame: &F, head: &F::Head) -> Option<OnWire> {
    let next = head.byte::<20>();
    // Neither extension headers, nor what could be anything.
    let plain = next == TCP || next == UDP || next == ICMPV6;
    if head.byte::<14>() >> 4 != 6 || !plain {
        return None;
    }
    let carried = u64::from(frame.len().wrapping_sub(ETHERNET_BYTES));
    if frame.gso_size() != 0 {
        return segments::<V6_SEGMENT, 66, F>(frame, carried, next, V6_BYTES);
    }
    packet(V6_BYTES + u64::from(u16::from_be(head.half::<18>() as u16)), V6_BYTES, carried)
}

/// The first six bytes of eight, as a mask of a native-endian word.
const FIRST_SIX: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);

/// Bytes up to the end of a plain TCP header behind IPv4.
const V4_SEGMENT: usize = 54;
/// Bytes up to the end of a plain TCP header behind IPv6.
const V6_SEGMENT: usize = 74;

/// One packet that says how long it is.
#[inline(always)]
fn packet(stated: u64, least: u64, carried: u64) -> Option<OnWire> {
    if stated < least || stated > carried {
        return None;
    }
    Some(OnWire { bytes: stated, packets: 1 })
}

/// A super-packet, if the kernel says how many segments it stands for.
#[inline(always)]
fn segments<const NEEDED: usize, const DATA_OFFSET_AT: usize, F: Frame>(
    frame: &F,
    carried: u64,
    protocol: u64,
    ip_bytes: u64,
) -> Option<OnWire> {
    let segments = u64::from(frame.gso_segs());
    let transport = if protocol == TCP {
        let head = frame.head::<NEEDED>()?;
        (head.byte::<DATA_OFFSET_AT>() >> 2) & 0x3c
    } else if protocol == UDP {
        UDP_BYTES
    } else {
        return None;
    };
    let headers = ip_bytes + transport;
    let short = protocol == TCP && transport < TCP_MIN_BYTES;
    if segments == 0 || short || carried < headers {
        return None;
    }
    Some(repeated(carried, headers, segments))
}

/// Places not in use hold 0.0.0.0, which is out of the ordinary too.
#[inline(always)]
fn holds_v4(lan: &Lan, address: u64) -> bool {
    let mut i = 0;
    while i < MAX_LAN_ADDRESSES {
        if u64::from(lan.ipv4[i].word()) == address {
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
