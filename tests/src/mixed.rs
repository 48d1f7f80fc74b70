//! Traffic of every kind that a meter must count to the byte.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use crate::frames::{V4, extension, tcp, udp};
use crate::lab::{ETH, GATEWAY_MAC, Lab, SERVER_V4, SERVER_V6, Subscriber, WAN};
use crate::tcp::{Ends, Load, Stream};
use crate::wire::Wire;

/// Bytes that one send hands to the kernel for it to cut into datagrams.
const SUPER_DATAGRAM: usize = 60_000;

/// A datagram that no Ethernet frame holds.
const FRAGMENTED: usize = 6_000;

/// Where datagrams go to that nobody reads (RFC 863).
const DISCARD: u16 = 9;

/// Datagrams of a flood, before a moment of rest: a veth ring holds 256 frames.
const BURST: u64 = 64;
const REST: Duration = Duration::from_micros(500);

/// Which way, seen from the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From it.
    Up,
    /// To it.
    Down,
}

impl Way {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];
}

/// Carries so many bytes over TCP.
///
/// # Errors
///
/// Fails if the connection breaks.
pub fn stream(lab: &Lab, bob: &Subscriber, way: Way, v6: bool, bytes: u64) -> Result<()> {
    let address = if v6 { SERVER_V6 } else { SERVER_V4 };
    let ends = Ends { client: &bob.namespace, server: &lab.internet, address };
    let stream = match way {
        Way::Up => Stream::upload(ends, Load::of(bytes))?,
        Way::Down => Stream::download(ends, Load::of(bytes))?,
    };
    ensure!(stream.finish()? == bytes, "the stream lost bytes");
    Ok(())
}

/// Who sends datagrams to whom.
fn ends<'a>(
    lab: &'a Lab,
    bob: &'a Subscriber,
    way: Way,
    v6: bool,
) -> (&'a crate::namespace::Namespace, IpAddr) {
    match (way, v6) {
        (Way::Up, false) => (&bob.namespace, SERVER_V4),
        (Way::Up, true) => (&bob.namespace, SERVER_V6),
        (Way::Down, false) => (&lab.internet, bob.v4()),
        (Way::Down, true) => (&lab.internet, bob.v6()),
    }
}

/// Sends datagrams of this payload.
///
/// # Errors
///
/// Fails if the kernel refuses one.
pub fn datagrams(
    lab: &Lab,
    bob: &Subscriber,
    way: Way,
    v6: bool,
    payload: usize,
    count: u64,
) -> Result<()> {
    let (from, to) = ends(lab, bob, way, v6);
    let socket = from.enter(|| Ok(UdpSocket::bind(any(v6))?))?;
    let payload = vec![0xaa; payload];
    for number in 0..count {
        socket.send_to(&payload, (to, DISCARD)).context("cannot send")?;
        if number % BURST == BURST - 1 {
            std::thread::sleep(REST);
        }
    }
    Ok(())
}

/// Sends datagrams that the kernel cuts from larger ones (`UDP_SEGMENT`).
///
/// # Errors
///
/// As [`datagrams`].
pub fn super_datagrams(lab: &Lab, bob: &Subscriber, way: Way, v6: bool, count: u64) -> Result<()> {
    const SEGMENT: u16 = 1_200;
    let (from, to) = ends(lab, bob, way, v6);
    let socket = from.enter(|| Ok(UdpSocket::bind(any(v6))?))?;
    let to = SockaddrStorage::from(SocketAddr::from((to, DISCARD)));
    let payload = vec![0xaa; SUPER_DATAGRAM];
    for _ in 0..count {
        let cut = [ControlMessage::UdpGsoSegments(&SEGMENT)];
        let parts = [IoSlice::new(&payload)];
        sendmsg(socket.as_raw_fd(), &parts, &cut, MsgFlags::empty(), Some(&to))
            .context("cannot send a super-packet")?;
        std::thread::sleep(REST);
    }
    Ok(())
}

/// Sends datagrams that must be cut into fragments.
///
/// # Errors
///
/// As [`datagrams`].
pub fn fragments(lab: &Lab, bob: &Subscriber, way: Way, v6: bool, count: u64) -> Result<()> {
    datagrams(lab, bob, way, v6, FRAGMENTED, count)
}

const fn any(v6: bool) -> &'static str {
    if v6 { "[::]:0" } else { "0.0.0.0:0" }
}

/// Puts frames on the wire that no socket makes: options, extension headers, fragments that nobody
/// can put together, padding, protocols without ports. All of them are forwarded.
///
/// # Errors
///
/// Fails if they can't be sent.
pub fn rare_frames(lab: &Lab, bob: &Subscriber, way: Way, rounds: u64) -> Result<()> {
    let (namespace, to_mac) = match way {
        Way::Up => (&bob.namespace, GATEWAY_MAC),
        Way::Down => (&lab.internet, Wire::open(&lab.gateway, WAN)?.mac()?),
    };
    let wire = Wire::open(namespace, ETH)?;
    let from_mac = wire.mac()?;
    let frames: Vec<Vec<u8>> = packets(bob, way)
        .into_iter()
        .map(|(ethertype, packet)| {
            let mut frame =
                [&to_mac[..], &from_mac, &u16::to_be_bytes(ethertype), &packet].concat();
            // IEEE 802.3 §3.2.7: short frames are padded.
            frame.resize(frame.len().max(60), 0xee);
            frame
        })
        .collect();
    for _ in 0..rounds {
        for frame in &frames {
            wire.send(frame)?;
        }
        std::thread::sleep(REST);
    }
    Ok(())
}

fn packets(bob: &Subscriber, way: Way) -> Vec<(u16, Vec<u8>)> {
    let (from4, to4, from6, to6) = match way {
        Way::Up => (bob.v4(), SERVER_V4, bob.v6(), SERVER_V6),
        Way::Down => (SERVER_V4, bob.v4(), SERVER_V6, bob.v6()),
    };
    let v4 = |header: V4, payload: &[u8]| (0x0800, addressed(header.packet(payload), from4, to4));
    let v6 = |next: u8, payload: &[u8]| {
        let packet = crate::frames::v6([0; 16], next, 64, payload);
        (0x86dd, addressed(packet, from6, to6))
    };
    let plain = |protocol: u8| V4::new([0; 4], protocol);
    let options = V4 { option_words: 3, ..plain(17) };
    let first = V4 { fragment: 0x2000, ..plain(17) };
    let later = V4 { fragment: 0x00b9, ..plain(17) };
    vec![
        v4(plain(17), &udp(DISCARD, 1)),
        v4(plain(17), &udp(DISCARD, 900)),
        v4(plain(6), &tcp(DISCARD, 8, 700)),
        v4(plain(50), &[0x55; 333]),
        v4(plain(59), &[]),
        v4(options, &udp(DISCARD, 100)),
        v4(first, &udp(DISCARD, 1_000)),
        v4(later, &[0xaa; 512]),
        v6(17, &udp(DISCARD, 77)),
        v6(6, &tcp(DISCARD, 5, 600)),
        v6(59, &[]),
        v6(60, &extension(17, 1, &udp(DISCARD, 40))),
        v6(44, &extension(17, 0, &[1; 64])),
        v6(0, &extension(60, 0, &extension(17, 2, &udp(DISCARD, 9)))),
    ]
}

/// The packet from and to these addresses, with the checksum of an IPv4 header (RFC 791 §3.1).
#[must_use]
pub fn addressed(mut packet: Vec<u8>, from: IpAddr, to: IpAddr) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet[12..16].copy_from_slice(&from.octets());
            packet[16..20].copy_from_slice(&to.octets());
            let header = usize::from(packet[0] & 0xf) * 4;
            packet[10..12].copy_from_slice(&[0, 0]);
            let sum = checksum(&packet[..header]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            packet[8..24].copy_from_slice(&from.octets());
            packet[24..40].copy_from_slice(&to.octets());
        }
        _ => {}
    }
    packet
}

/// RFC 1071, for an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}
