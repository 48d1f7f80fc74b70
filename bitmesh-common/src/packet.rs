//! From a frame to what it is and how many bytes of it are billed.
//!
//! The billed byte is the IP-layer length, header included, of each packet as it is on the wire
//! (RFC 8908 §5, `bytes-remaining`). Ethernet and VLAN headers and the padding of short frames
//! are not billed. A super-packet of segmentation offload counts as the segments it stands for.

use crate::extensions::{Skipped, is_extension, skip_extensions};
use crate::quick::Head;
use crate::segments;

/// EtherTypes (IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// Address resolution.
    pub const ARP: u16 = 0x0806;
    /// Port authentication (IEEE 802.1X), which WPA needs.
    pub const EAPOL: u16 = 0x888e;
    /// A VLAN tag (IEEE 802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// An outer VLAN tag (IEEE 802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// Protocol numbers (IANA) of what an IP packet carries.
pub mod ip_protocol {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Group management of IPv4.
    pub const IGMP: u8 = 2;
    /// IPv4 in IP.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// Routing header.
    pub const ROUTING: u8 = 43;
    /// Fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Generic routing encapsulation.
    pub const GRE: u8 = 47;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
}

/// ICMPv6 types (IANA).
pub mod icmpv6 {
    /// RFC 2710.
    pub const LISTENER_QUERY: u8 = 130;
    /// RFC 2710.
    pub const LISTENER_DONE: u8 = 132;
    /// RFC 4861.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// RFC 4861.
    pub const REDIRECT: u8 = 137;
    /// RFC 3810.
    pub const LISTENER_REPORT_V2: u8 = 143;
}

/// VLAN tags that are looked through, at most (IEEE 802.1ad has two).
pub const MAX_VLAN_TAGS: usize = 2;

/// IPv6 extension headers that are looked through, at most.
pub const MAX_EXTENSION_HEADERS: usize = 8;

const ETHERNET_BYTES: u32 = 14;
const VLAN_TAG_BYTES: u32 = 4;
const IPV4_MIN_BYTES: u32 = 20;
const IPV6_BYTES: u32 = 40;

/// A frame that can be read at any offset, and what segmentation offload says of it.
pub trait Frame {
    /// Its first bytes.
    type Head: Head;

    /// The first `N` bytes or more, if they are one after the other in memory.
    fn head<const N: usize>(&self) -> Option<Self::Head>;

    /// Bytes of the whole frame, from the Ethernet header on.
    fn len(&self) -> u32;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `N` bytes at `offset`, wherever the frame keeps them; `None` beyond its end.
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;

    /// Payload bytes of each segment that this frame stands for; 0 if it is no super-packet.
    fn gso_size(&self) -> u32;

    /// Segments that this frame stands for; 0 if unknown.
    fn gso_segs(&self) -> u32;
}

/// A frame in memory: what the host's parser, the simulation and the fuzzers read.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameBytes<'a> {
    /// The frame from its Ethernet header on.
    pub bytes: &'a [u8],
    /// As [`Frame::gso_size`].
    pub gso_size: u32,
    /// As [`Frame::gso_segs`].
    pub gso_segs: u32,
}

impl<'a> Frame for FrameBytes<'a> {
    type Head = &'a [u8];

    fn head<const N: usize>(&self) -> Option<&'a [u8]> {
        if self.bytes.len() < N { None } else { Some(self.bytes) }
    }

    fn len(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let start = usize::try_from(offset).ok()?;
        self.bytes.get(start..)?.first_chunk().copied()
    }

    fn gso_size(&self) -> u32 {
        self.gso_size
    }

    fn gso_segs(&self) -> u32 {
        self.gso_segs
    }
}

impl Head for &[u8] {
    fn byte<const AT: usize>(&self) -> u64 {
        u8::from_ne_bytes(at::<AT, 1>(self)).into()
    }

    fn half<const AT: usize>(&self) -> u64 {
        u16::from_ne_bytes(at::<AT, 2>(self)).into()
    }

    fn word<const AT: usize>(&self) -> u64 {
        u32::from_ne_bytes(at::<AT, 4>(self)).into()
    }

    fn double<const AT: usize>(&self) -> u64 {
        u64::from_ne_bytes(at::<AT, 8>(self))
    }
}

/// `N` bytes from `AT` on; zeros if whoever asks has not asked for so long a head.
fn at<const AT: usize, const N: usize>(bytes: &[u8]) -> [u8; N] {
    debug_assert!(bytes.len() >= AT + N, "beyond the head that was asked for");
    bytes.get(AT..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

/// Why the bytes of a frame can't be counted. Such a frame is dropped, never passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparsed {
    /// The frame ends inside a header.
    Truncated,
    /// Neither IP nor one of the few protocols that a LAN needs.
    UnknownEtherType,
    /// A version or header length that the protocol does not have.
    BadHeader,
    /// The length in the header is not one that this frame can have.
    BadLength,
    /// More VLAN tags or extension headers than are looked through.
    TooDeep,
    /// A super-packet of a protocol whose segments are not known.
    UnknownSegments,
}

/// The link-layer header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// To whom.
    pub destination: [u8; 6],
    /// From whom.
    pub source: [u8; 6],
    /// What follows, VLAN tags looked through.
    pub ethertype: u16,
    /// Where it follows.
    pub payload: u32,
}

impl Link {
    /// Reads the Ethernet header and up to [`MAX_VLAN_TAGS`] tags.
    #[inline(always)]
    pub fn parse<F: Frame>(frame: &F) -> Result<Self, Unparsed> {
        let Some(h) = frame.read::<14>(0) else { return Err(Unparsed::Truncated) };
        let mut link = Self {
            destination: [h[0], h[1], h[2], h[3], h[4], h[5]],
            source: [h[6], h[7], h[8], h[9], h[10], h[11]],
            ethertype: u16::from_be_bytes([h[12], h[13]]),
            payload: ETHERNET_BYTES,
        };
        let mut tags = 0;
        while tags < MAX_VLAN_TAGS && is_vlan(link.ethertype) {
            let Some([_, _, high, low]) = frame.read::<4>(link.payload) else {
                return Err(Unparsed::Truncated);
            };
            link.ethertype = u16::from_be_bytes([high, low]);
            link.payload += VLAN_TAG_BYTES;
            tags += 1;
        }
        if is_vlan(link.ethertype) { Err(Unparsed::TooDeep) } else { Ok(link) }
    }
}

#[inline(always)]
const fn is_vlan(ethertype: u16) -> bool {
    ethertype == ethertype::VLAN || ethertype == ethertype::SERVICE_VLAN
}

/// Bytes and packets as they are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnWire {
    /// Bytes at the IP layer, all headers of all segments included.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// The upper-layer header behind any extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHeader {
    /// IANA protocol number.
    pub protocol: u8,
    /// Where it starts in the frame.
    pub offset: u32,
    /// Whether the packet is a fragment.
    pub fragment: bool,
}

/// The network-layer header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// IPv4, else IPv6.
    pub is_v4: bool,
    /// Whether an IPv4 header says that this is a fragment.
    pub is_v4_fragment: bool,
    /// The protocol field or first next-header field.
    pub next_header: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Where the header starts in the frame.
    pub offset: u32,
    /// Bytes of the header, IPv4 options included, IPv6 extension headers not.
    pub header_bytes: u32,
    /// What the header says of the packet's length, itself included; 0 if it does not say.
    pub stated_bytes: u32,
    /// The destination; an IPv4 address takes the first four bytes.
    pub destination: [u8; 16],
}

impl Ip {
    /// Reads the IPv4 or IPv6 header behind `link`.
    #[inline(always)]
    pub fn parse<F: Frame>(frame: &F, link: &Link) -> Result<Self, Unparsed> {
        match link.ethertype {
            ethertype::IPV4 => Self::parse_v4(frame, link.payload),
            ethertype::IPV6 => Self::parse_v6(frame, link.payload),
            _ => Err(Unparsed::UnknownEtherType),
        }
    }

    #[inline(always)]
    pub(crate) fn parse_v4<F: Frame>(frame: &F, offset: u32) -> Result<Self, Unparsed> {
        let Some(h) = frame.read::<20>(offset) else { return Err(Unparsed::Truncated) };
        let header_bytes = u32::from(h[0] & 0x0f) * 4;
        if h[0] >> 4 != 4 || header_bytes < IPV4_MIN_BYTES {
            return Err(Unparsed::BadHeader);
        }
        let mut destination = [0; 16];
        destination[0] = h[16];
        destination[1] = h[17];
        destination[2] = h[18];
        destination[3] = h[19];
        // RFC 791 §3.1: more fragments, or an offset.
        let fragment = u16::from_be_bytes([h[6], h[7]]) & 0x3fff;
        Ok(Self {
            is_v4: true,
            is_v4_fragment: fragment != 0,
            next_header: h[9],
            hop_limit: h[8],
            offset,
            header_bytes,
            stated_bytes: u32::from(u16::from_be_bytes([h[2], h[3]])),
            destination,
        })
    }

    #[inline(always)]
    pub(crate) fn parse_v6<F: Frame>(frame: &F, offset: u32) -> Result<Self, Unparsed> {
        let Some(h) = frame.read::<8>(offset) else { return Err(Unparsed::Truncated) };
        let Some(destination) = frame.read::<16>(offset + 24) else {
            return Err(Unparsed::Truncated);
        };
        if h[0] >> 4 != 6 {
            return Err(Unparsed::BadHeader);
        }
        let payload = u32::from(u16::from_be_bytes([h[4], h[5]]));
        // RFC 2675 §3: a length of 0 before hop-by-hop options says nothing.
        let unstated = payload == 0 && h[6] == ip_protocol::HOP_BY_HOP;
        Ok(Self {
            is_v4: false,
            is_v4_fragment: false,
            next_header: h[6],
            hop_limit: h[7],
            offset,
            header_bytes: IPV6_BYTES,
            stated_bytes: if unstated { 0 } else { IPV6_BYTES + payload },
            destination,
        })
    }

    /// The source; an IPv4 address takes the first four bytes.
    #[inline(always)]
    pub fn source<F: Frame>(&self, frame: &F) -> Option<[u8; 16]> {
        if !self.is_v4 {
            return frame.read::<16>(self.offset + 8);
        }
        let four = frame.read::<4>(self.offset + 12)?;
        let mut source = [0; 16];
        source[0] = four[0];
        source[1] = four[1];
        source[2] = four[2];
        source[3] = four[3];
        Some(source)
    }

    /// The destination of an IPv4 packet.
    #[inline(always)]
    #[must_use]
    pub const fn destination_v4(&self) -> [u8; 4] {
        let d = &self.destination;
        [d[0], d[1], d[2], d[3]]
    }

    /// Whether it is for a multicast group, or for all (IPv4).
    #[inline(always)]
    #[must_use]
    pub const fn is_group(&self) -> bool {
        if self.is_v4 {
            self.destination[0] & 0xf0 == 0xe0
                || u32::from_ne_bytes(self.destination_v4()) == u32::MAX
        } else {
            self.destination[0] == 0xff
        }
    }

    /// Whether it is for an IPv6 group of this link (RFC 4291 §2.7: scope 2).
    #[inline(always)]
    #[must_use]
    pub const fn is_link_scope_group(&self) -> bool {
        !self.is_v4 && self.destination[0] == 0xff && self.destination[1] & 0x0f == 2
    }

    /// Bytes and packets as they are on the wire.
    #[inline(always)]
    pub fn on_wire<F: Frame>(&self, frame: &F) -> Result<OnWire, Unparsed> {
        // Cannot wrap: the header was read at `offset`.
        let carried = frame.len().wrapping_sub(self.offset);
        let segment_bytes = frame.gso_size();
        if segment_bytes != 0 {
            return segments::on_wire(self, frame, carried, segment_bytes);
        }
        // The kernel trusts the frame where the header says nothing, and so does the gate.
        let bytes = if self.stated_bytes == 0 && !self.is_v4 { carried } else { self.stated_bytes };
        if bytes < self.header_bytes || bytes > carried {
            return Err(Unparsed::BadLength);
        }
        Ok(OnWire { bytes: u64::from(bytes), packets: 1 })
    }

    /// Finds the upper-layer header behind up to [`MAX_EXTENSION_HEADERS`] extension headers.
    #[inline(always)]
    pub fn upper_layer<F: Frame>(&self, frame: &F) -> Result<NextHeader, Unparsed> {
        let offset = self.offset + self.header_bytes;
        if self.is_v4 || !is_extension(self.next_header) {
            let (protocol, fragment) = (self.next_header, self.is_v4_fragment);
            return Ok(NextHeader { protocol, offset, fragment });
        }
        match skip_extensions(frame, self.next_header, offset) {
            Skipped::TRUNCATED => Err(Unparsed::Truncated),
            Skipped::TOO_DEEP => Err(Unparsed::TooDeep),
            found => Ok(found.header()),
        }
    }
}
