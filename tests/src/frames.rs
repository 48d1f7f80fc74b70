//! Frames made by hand, for the parser on the host and the programs in the kernel.

/// A frame and what segmentation offload says of it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Payload bytes of a segment; 0 if it is no super-packet.
    pub gso_size: u32,
    /// Segments; 0 if unknown.
    pub gso_segs: u32,
}

impl Sent {
    /// A frame that is no super-packet.
    #[must_use]
    pub fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes, gso_size: 0, gso_segs: 0 }
    }

    /// A super-packet.
    #[must_use]
    pub fn super_packet(bytes: Vec<u8>, gso_size: u32, gso_segs: u32) -> Self {
        Self { bytes, gso_size, gso_segs }
    }
}

/// Bob's MAC address in these frames.
pub const BOB: [u8; 6] = [2, 0, 0, 0, 0, 0xb0];
/// The gateway's.
pub const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 0xa1];
/// The gateway's address on the LAN.
pub const GATEWAY_V4: [u8; 4] = [10, 1, 0, 1];
/// The gateway's address on the LAN.
pub const GATEWAY_V6: [u8; 16] = [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// Somebody on the internet.
pub const INTERNET_V4: [u8; 4] = [198, 51, 100, 7];
/// Somebody on the internet.
pub const INTERNET_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
/// All nodes of the link (RFC 4291 §2.7.1).
pub const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// An Ethernet frame from Bob to the gateway, the tags outermost first.
#[must_use]
pub fn ethernet(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [GATEWAY, BOB].concat();
    for (i, tag) in tags.iter().enumerate() {
        let outer = if i == 0 && tags.len() > 1 { 0x88a8_u16 } else { 0x8100 };
        frame.extend(outer.to_be_bytes());
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The same frame the other way.
#[must_use]
pub fn reversed(frame: &[u8]) -> Vec<u8> {
    [&frame[6..12], &frame[..6], &frame[12..]].concat()
}

/// The fields of an IPv4 header that these tests vary.
#[derive(Clone, Copy, Debug)]
pub struct V4 {
    /// Destination.
    pub to: [u8; 4],
    /// Protocol.
    pub protocol: u8,
    /// Words of options.
    pub option_words: u8,
    /// Flags and offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
}

impl V4 {
    /// A packet with this protocol to this address.
    #[must_use]
    pub const fn new(to: [u8; 4], protocol: u8) -> Self {
        Self { to, protocol, option_words: 0, fragment: 0, ttl: 64 }
    }

    /// The packet with this payload.
    #[must_use]
    pub fn packet(self, payload: &[u8]) -> Vec<u8> {
        let header = 20 + usize::from(self.option_words) * 4;
        let total = u16::try_from(header + payload.len()).unwrap_or(0);
        let mut packet = vec![0x45 + self.option_words, 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([self.ttl, self.protocol, 0, 0, 10, 1, 0, 2]);
        packet.extend(self.to);
        // RFC 791 §3.1: option 1 does nothing.
        packet.resize(header, 1);
        packet.extend(payload);
        packet
    }

    /// The frame with this payload.
    #[must_use]
    pub fn frame(self, payload: &[u8]) -> Vec<u8> {
        ethernet(&[], 0x0800, &self.packet(payload))
    }
}

/// An IPv6 packet whose payload begins with the header that `next` names.
#[must_use]
pub fn v6(to: [u8; 16], next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(0);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend([0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend(to);
    packet.extend(payload);
    packet
}

/// The frame of [`v6`].
#[must_use]
pub fn v6_frame(to: [u8; 16], next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(&[], 0x86dd, &v6(to, next, hop_limit, payload))
}

/// A UDP header to this port, and payload.
#[must_use]
pub fn udp(port: u16, payload: usize) -> Vec<u8> {
    let mut datagram = vec![0x30, 0x39];
    datagram.extend(port.to_be_bytes());
    datagram.extend(u16::try_from(8 + payload).unwrap_or(0).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.resize(8 + payload, 0xaa);
    datagram
}

/// A TCP header of this many words to this port, and payload.
#[must_use]
pub fn tcp(port: u16, words: u8, payload: usize) -> Vec<u8> {
    let mut segment = vec![0x30, 0x39];
    segment.extend(port.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, words << 4, 0x10, 1, 0, 0, 0, 0, 0]);
    segment.resize(usize::from(words) * 4, 1);
    segment.resize(usize::from(words) * 4 + payload, 0xaa);
    segment
}

/// An IPv6 extension header of eight bytes and more, before the header that `next` names.
#[must_use]
pub fn extension(next: u8, eights_after_first: u8, then: &[u8]) -> Vec<u8> {
    let mut header = vec![next, eights_after_first];
    header.resize(8 + usize::from(eights_after_first) * 8, 0);
    header.extend(then);
    header
}
