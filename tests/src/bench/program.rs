//! The programs that the bench runs: an empty one, and one that makes small packets.

use super::bpf::Instruction;

/// Registers by their number.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const R6: u8 = 6;
const R7: u8 = 7;

/// `TCX_NEXT`, as the gate passes.
const NEXT: i32 = -1;
/// `XDP_DROP` and `XDP_TX`.
const DROP: i32 = 1;
const TRANSMIT: i32 = 3;
/// `bpf_get_prandom_u32`.
const RANDOM: i32 = 7;

/// Bytes of the headers that are written anew on each frame, whole words: Ethernet, IPv4, UDP, and
/// two of the payload.
pub(super) const HEAD_BYTES: usize = 44;

/// Offsets in the frame.
const CHECKSUM: i16 = 24;
const UDP_SOURCE: i16 = 34;

/// Where the number of the client goes, in the last two octets of an address each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Offset in the frame of the last half of the MAC address's last word, if it varies.
    pub(super) mac: Option<i16>,
    /// Offset of the last half of the IPv4 address.
    pub(super) ipv4: i16,
}

const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, immediate }
}

/// Passes whatever comes.
#[must_use]
pub(super) const fn empty() -> [Instruction; 2] {
    [instruction(0xb7, R0, 0, 0, NEXT), instruction(0x95, 0, 0, 0, 0)]
}

/// Writes the head on the frame, from or for one of `clients` clients at random, and transmits it.
/// The clients are numbered from `first`. Pages come back with what a router has written on them, so
/// the whole head is new each time.
#[must_use]
pub(super) fn flood(
    head: &[u8; HEAD_BYTES],
    places: Places,
    first: u16,
    clients: u16,
) -> Vec<Instruction> {
    let mut code = vec![
        instruction(0xbf, R6, R1, 0, 0),
        instruction(0x85, 0, 0, 0, RANDOM),
        // r7 = first + (random × clients >> 32)
        instruction(0xbf, R7, R0, 0, 0),
        instruction(0x27, R7, 0, 0, i32::from(clients)),
        instruction(0x77, R7, 0, 0, 32),
        instruction(0x07, R7, 0, 0, i32::from(first)),
        instruction(0x61, R2, R6, 0, 0),
        instruction(0x61, R3, R6, 4, 0),
        instruction(0xbf, R4, R2, 0, 0),
        instruction(0x07, R4, 0, 0, HEAD_BYTES as i32),
    ];
    let mut body = Vec::new();
    for (at, word) in (0_i16..).step_by(4).zip(head.as_chunks::<4>().0) {
        body.push(instruction(0x62, R2, 0, at, i32::from_ne_bytes(*word)));
    }
    body.push(instruction(0x6b, R2, R0, UDP_SOURCE, 0));
    // RFC 1071: the sum of the header, with the number in, folded twice and inverted.
    body.extend([
        instruction(0xbf, R1, R7, 0, 0),
        instruction(0x07, R1, 0, 0, header_sum(head, places)),
    ]);
    for _ in 0..2 {
        body.extend([
            instruction(0xbf, R4, R1, 0, 0),
            instruction(0x77, R4, 0, 0, 16),
            instruction(0x57, R1, 0, 0, 0xffff),
            instruction(0x0f, R1, R4, 0, 0),
        ]);
    }
    body.extend([
        instruction(0xa7, R1, 0, 0, 0xffff),
        instruction(0xdc, R1, 0, 0, 16),
        instruction(0x6b, R2, R1, CHECKSUM, 0),
        instruction(0xdc, R7, 0, 0, 16),
        instruction(0x6b, R2, R7, places.ipv4, 0),
    ]);
    body.extend(places.mac.map(|mac| instruction(0x6b, R2, R7, mac, 0)));
    body.extend([instruction(0xb7, R0, 0, 0, TRANSMIT), instruction(0x95, 0, 0, 0, 0)]);
    // A frame that is too short for the head is dropped.
    code.push(instruction(0x2d, R4, R3, body.len() as i16, 0));
    code.extend(body);
    code.extend([instruction(0xb7, R0, 0, 0, DROP), instruction(0x95, 0, 0, 0, 0)]);
    code
}

/// The sum of the IPv4 header's halves without its checksum and without the number of the client.
fn header_sum(head: &[u8; HEAD_BYTES], places: Places) -> i32 {
    let header = (14_i16..34).step_by(2).zip(head[14..34].as_chunks::<2>().0);
    let counted = header.filter(|(at, _)| *at != CHECKSUM && *at != places.ipv4);
    counted.map(|(_, half)| i32::from(u16::from_be_bytes(*half))).sum()
}
