//! From a frame to its class, and from its cost to a verdict.

use crate::abi::{Account, Lan, MAX_LAN_ADDRESSES, MAX_OPEN_PORTS};
use crate::packet::{Frame, Ip, Link, NextHeader, Unparsed, ethertype, icmpv6, ip_protocol};
use crate::police::Exceeded;

/// How often a shared word is tried before the packet is dropped as contended. A try fails only when
/// another CPU has changed it meanwhile.
pub const MAX_CAS_TRIES: u32 = 64;

/// A word of a meter: shared by all CPUs, changed only by compare-and-exchange.
pub trait Shared {
    /// The word now.
    fn load(&self) -> u64;
    /// Stores `new` if the word is still `current`; else gives the word that was found.
    fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64>;
}

/// Where a resolver listens, for TCP and UDP (RFC 1035 §4.2).
pub const DNS_PORT: u16 = 53;

/// Why a packet does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The balance does not cover it.
    Unpaid,
    /// It is above the speed limit, see [`crate::police`].
    Limited,
    /// Other CPUs kept changing the same word, [`MAX_CAS_TRIES`] times.
    Contended,
}

impl From<Exceeded> for Denied {
    #[inline(always)]
    fn from(exceeded: Exceeded) -> Self {
        match exceeded {
            Exceeded::Limit => Self::Limited,
            Exceeded::Contended => Self::Contended,
        }
    }
}

/// Whether [`charge`] would be paid now. Nothing changes.
#[inline(always)]
pub fn is_affordable<S: Shared>(spent: &S, prepaid: u64, time_due: u64, cost: u64) -> bool {
    let Some(left) = prepaid.checked_sub(time_due) else { return false };
    let Some(highest) = left.checked_sub(cost) else { return false };
    spent.load() <= highest
}

/// Charges `cost` if `spent + time_due + cost ≤ prepaid`, and gives `spent` after it.
///
/// `spent` only ever grows, and only to a value that is paid for. It is never added and undone,
/// so a packet that is too dear can't make another CPU drop one that fits.
#[inline(always)]
pub fn charge<S: Shared>(spent: &S, prepaid: u64, time_due: u64, cost: u64) -> Result<u64, Denied> {
    let Some(left) = prepaid.checked_sub(time_due) else { return Err(Denied::Unpaid) };
    let Some(highest) = left.checked_sub(cost) else { return Err(Denied::Unpaid) };
    let mut current = spent.load();
    let mut tries = 0;
    while tries < MAX_CAS_TRIES {
        if current > highest {
            return Err(Denied::Unpaid);
        }
        if cost == 0 {
            return Ok(current);
        }
        match spent.compare_exchange(current, current + cost) {
            Ok(()) => return Ok(current + cost),
            Err(found) => current = found,
        }
        tries += 1;
    }
    Err(Denied::Contended)
}

/// Which way a packet goes, seen from the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the subscriber.
    Uplink,
    /// To the subscriber.
    Downlink,
}

impl Account {
    /// The price of this direction, in msat per MiB.
    #[inline(always)]
    #[must_use]
    pub const fn msat_per_mib(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Uplink => self.uplink_msat_per_mib,
            Direction::Downlink => self.downlink_msat_per_mib,
        }
    }
}

/// What the gate does with a frame before it looks at any account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Keeps the LAN alive or leads to the portal: passes, paid or not, and costs nothing.
    Free,
    /// A question to the gateway's resolver, or an answer of it: passes within a budget.
    Resolver {
        /// Bytes at the IP layer.
        bytes: u64,
    },
    /// For the gateway itself: passes for whom an account is open, and costs nothing.
    Local,
    /// Passes if it is paid for.
    Billed {
        /// Bytes at the IP layer, as on the wire.
        bytes: u64,
        /// Packets as on the wire.
        packets: u64,
    },
}

/// The class of a frame that came in from the LAN.
#[inline(always)]
pub fn classify_uplink<F: Frame>(frame: &F, link: &Link, lan: &Lan) -> Result<Class, Unparsed> {
    if link.ethertype == ethertype::ARP || link.ethertype == ethertype::EAPOL {
        return Ok(Class::Free);
    }
    let ip = Ip::parse(frame, link)?;
    let local = lan.holds(&ip);
    if ip.is_group() || local {
        if keeps_lan_alive(frame, &ip, local) {
            return Ok(Class::Free);
        }
        match open_port_of(frame, &ip, lan) {
            Some(DNS_PORT) => return resolver(frame, &ip),
            Some(_) => return Ok(Class::Free),
            None => {}
        }
        if local {
            return Ok(Class::Local);
        }
    }
    billed(frame, &ip)
}

/// The class of a frame that goes out to the LAN. `from_gateway` is true if and only if the
/// gateway made it (no interface received it).
#[inline(always)]
pub fn classify_downlink<F: Frame>(
    frame: &F,
    link: &Link,
    from_gateway: bool,
) -> Result<Class, Unparsed> {
    if from_gateway {
        return made_here(frame, link);
    }
    let ip = Ip::parse(frame, link)?;
    billed(frame, &ip)
}

/// The class of what the gateway itself sends: free, but for the resolver's answers. A fragment of
/// which the ports are not known could be one.
#[inline(always)]
fn made_here<F: Frame>(frame: &F, link: &Link) -> Result<Class, Unparsed> {
    let Ok(ip) = Ip::parse(frame, link) else { return Ok(Class::Free) };
    let Ok(NextHeader { protocol, offset, fragment }) = ip.upper_layer(frame) else {
        return Ok(Class::Free);
    };
    if fragment {
        return resolver(frame, &ip);
    }
    if protocol != ip_protocol::TCP && protocol != ip_protocol::UDP {
        return Ok(Class::Free);
    }
    match frame.read::<2>(offset) {
        Some(port) if u16::from_be_bytes(port) == DNS_PORT => resolver(frame, &ip),
        _ => Ok(Class::Free),
    }
}

#[inline(always)]
fn resolver<F: Frame>(frame: &F, ip: &Ip) -> Result<Class, Unparsed> {
    Ok(Class::Resolver { bytes: ip.on_wire(frame)?.bytes })
}

/// The class of a frame that a subscriber received through the gateway at `lan`, as far as it can
/// tell: what comes from the gateway's own address, or from one that no router forwards, is free.
/// What it sends has the class that [`classify_uplink`] gives it.
#[inline(always)]
pub fn classify_received<F: Frame>(frame: &F, link: &Link, lan: &Lan) -> Result<Class, Unparsed> {
    if link.ethertype == ethertype::ARP || link.ethertype == ethertype::EAPOL {
        return Ok(Class::Free);
    }
    let ip = Ip::parse(frame, link)?;
    let Some(source) = ip.source(frame) else { return Err(Unparsed::Truncated) };
    if lan.holds_address(ip.is_v4, &source) || stays_on_link(ip.is_v4, &source) {
        return Ok(Class::Free);
    }
    billed(frame, &ip)
}

/// Whether routers must not forward what has this source: link-local (RFC 3927 §2.7, RFC 4291
/// §2.5.6) or unspecified (RFC 1812 §5.3.7, RFC 4291 §2.5.2). Listener reports and advertisements
/// of the gateway come from such.
#[inline(always)]
fn stays_on_link(is_v4: bool, source: &[u8; 16]) -> bool {
    if is_v4 {
        return source[0] == 169 && source[1] == 254 || source[0] == 0;
    }
    source[0] == 0xfe && source[1] & 0xc0 == 0x80 || *source == [0; 16]
}

#[inline(always)]
fn billed<F: Frame>(frame: &F, ip: &Ip) -> Result<Class, Unparsed> {
    let wire = ip.on_wire(frame)?;
    Ok(Class::Billed { bytes: wire.bytes, packets: wire.packets })
}

/// Neighbour discovery, multicast listeners and the like: none of it is ever forwarded.
#[inline(always)]
fn keeps_lan_alive<F: Frame>(frame: &F, ip: &Ip, local: bool) -> bool {
    if ip.is_v4 {
        // RFC 3376 §4: IGMP is sent with a TTL of 1, so a router never forwards it.
        return ip.next_header == ip_protocol::IGMP && ip.hop_limit == 1;
    }
    if !local && !ip.is_link_scope_group() {
        return false;
    }
    let Ok(NextHeader { protocol: ip_protocol::ICMPV6, offset, fragment: false }) =
        ip.upper_layer(frame)
    else {
        return false;
    };
    match frame.read::<1>(offset) {
        // RFC 4861 §6.1, §7.1: discovery is valid with a hop limit of 255 only.
        Some([icmpv6::ROUTER_SOLICITATION..=icmpv6::REDIRECT]) => ip.hop_limit == 255,
        // RFC 2710 §3, RFC 3810 §5: listener messages have a hop limit of 1.
        Some([icmpv6::LISTENER_QUERY..=icmpv6::LISTENER_DONE | icmpv6::LISTENER_REPORT_V2]) => {
            ip.hop_limit == 1
        }
        _ => false,
    }
}

/// The port, if it is DHCP's, the resolver's or the portal's. Fragments never count: only the first
/// has ports.
#[inline(always)]
fn open_port_of<F: Frame>(frame: &F, ip: &Ip, lan: &Lan) -> Option<u16> {
    let Ok(NextHeader { protocol, offset, fragment: false }) = ip.upper_layer(frame) else {
        return None;
    };
    if protocol != ip_protocol::TCP && protocol != ip_protocol::UDP {
        return None;
    }
    let [_, _, high, low] = frame.read::<4>(offset)?;
    let port = u16::from_be_bytes([high, low]);
    let wanted = open_port(protocol, port);
    let mut i = 0;
    while i < MAX_OPEN_PORTS {
        if lan.open_ports[i] == wanted {
            return Some(port);
        }
        i += 1;
    }
    None
}

/// A port of the gateway that the unpaid may reach, as [`Lan::open_ports`] holds it.
#[inline(always)]
#[must_use]
pub const fn open_port(protocol: u8, port: u16) -> u32 {
    (protocol as u32) << 16 | port as u32
}

impl Lan {
    /// Whether the destination is an address of this interface.
    #[inline(always)]
    #[must_use]
    pub fn holds(&self, ip: &Ip) -> bool {
        self.holds_address(ip.is_v4, &ip.destination)
    }

    /// Whether this is an address of this interface; an IPv4 address takes the first four bytes.
    #[inline(always)]
    #[must_use]
    pub fn holds_address(&self, is_v4: bool, address: &[u8; 16]) -> bool {
        let v4 = [address[0], address[1], address[2], address[3]];
        let mut i = 0;
        while i < MAX_LAN_ADDRESSES {
            let held = if is_v4 {
                v4 == self.ipv4[i].octets && v4 != [0; 4]
            } else {
                *address == self.ipv6[i].octets && *address != [0; 16]
            };
            if held {
                return true;
            }
            i += 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::packet::FrameBytes;
    use proptest::prelude::*;

    struct Cell(AtomicU64);

    impl Shared for Cell {
        fn load(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }

        fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64> {
            self.0.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst).map(|_| ())
        }
    }

    /// Somebody else always charges first.
    struct Contended;

    impl Shared for Contended {
        fn load(&self) -> u64 {
            0
        }

        fn compare_exchange(&self, current: u64, _new: u64) -> Result<(), u64> {
            Err(current)
        }
    }

    #[test]
    fn the_last_unit_can_be_spent_and_no_more() {
        let spent = Cell(AtomicU64::new(90));
        assert_eq!(charge(&spent, 100, 0, 11), Err(Denied::Unpaid));
        assert_eq!(charge(&spent, 100, 0, 10), Ok(100));
        assert_eq!(charge(&spent, 100, 0, 1), Err(Denied::Unpaid));
        assert_eq!(charge(&spent, 100, 0, 0), Ok(100));
    }

    #[test]
    fn time_that_is_due_cannot_be_spent_on_bytes() {
        let spent = Cell(AtomicU64::new(0));
        assert_eq!(charge(&spent, 100, 60, 41), Err(Denied::Unpaid));
        assert_eq!(charge(&spent, 100, 60, 40), Ok(40));
        assert_eq!(charge(&spent, 100, 61, 0), Err(Denied::Unpaid));
        assert_eq!(charge(&spent, 100, 101, 0), Err(Denied::Unpaid));
    }

    #[test]
    fn giving_up_is_said_and_charges_nothing() {
        assert_eq!(charge(&Contended, 100, 0, 1), Err(Denied::Contended));
    }

    fn frame(gso_size: u32, gso_segs: u32, bytes: &[u8]) -> FrameBytes<'_> {
        FrameBytes { bytes, gso_size, gso_segs }
    }

    /// Frames that get past the first checks, with the rest at random.
    fn likely_frame() -> impl Strategy<Value = Vec<u8>> {
        let ethertype = prop::sample::select(vec![0x0800_u16, 0x86dd, 0x8100, 0x0806, 0x1234]);
        let first = prop::sample::select(vec![0x45_u8, 0x60, 0x4f, 0x41]);
        (any::<[u8; 12]>(), ethertype, first, prop::collection::vec(any::<u8>(), 0..200)).prop_map(
            |(macs, ethertype, first, rest)| {
                [&macs[..], &ethertype.to_be_bytes(), &[first], &rest].concat()
            },
        )
    }

    /// An IPv6 packet without payload from this address, as a subscriber receives it.
    fn received_from(source: [u8; 16]) -> Result<Class, Unparsed> {
        let mut bytes = vec![0; 54];
        bytes[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
        bytes[20] = 59;
        bytes[22..38].copy_from_slice(&source);
        let frame = frame(0, 0, &bytes);
        let link = Link::parse(&frame)?;
        let mut lan = Lan::default();
        lan.ipv6[0].octets = [0xfd, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        classify_received(&frame, &link, &lan)
    }

    #[test]
    fn a_subscriber_counts_only_what_a_router_forwards() {
        let mut source = [0; 16];
        assert_eq!(received_from(source), Ok(Class::Free));
        source[..2].copy_from_slice(&[0xfe, 0x80]);
        assert_eq!(received_from(source), Ok(Class::Free));
        source = [0xfd, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(received_from(source), Ok(Class::Free));
        source[15] = 2;
        assert_eq!(received_from(source), Ok(Class::Billed { bytes: 40, packets: 1 }));
    }

    proptest! {
        #[test]
        fn nothing_is_spent_beyond_what_is_prepaid(
            spent: u64, prepaid: u64, due: u64, cost: u64,
        ) {
            let cell = Cell(AtomicU64::new(spent));
            let fits = u128::from(spent) + u128::from(due) + u128::from(cost) <= u128::from(prepaid);
            let affordable = is_affordable(&cell, prepaid, due, cost);
            let paid = charge(&cell, prepaid, due, cost);
            prop_assert_eq!(affordable, fits);
            prop_assert_eq!(paid.is_ok(), fits);
            let expected = if fits { spent + cost } else { spent };
            prop_assert_eq!(cell.load(), expected);
        }

        #[test]
        fn any_frame_gets_a_verdict(
            bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), likely_frame()],
            gso_size: u16, gso_segs: u16, from_gateway: bool,
        ) {
            let frame = frame(gso_size.into(), gso_segs.into(), &bytes);
            if let Ok(link) = Link::parse(&frame) {
                let _ = classify_uplink(&frame, &link, &Lan::default());
                let _ = classify_downlink(&frame, &link, from_gateway);
            }
        }

        #[test]
        fn a_plain_frame_is_never_billed_more_than_it_carries(bytes in likely_frame()) {
            let frame = frame(0, 0, &bytes);
            if let Ok(link) = Link::parse(&frame)
                && let Ok(Class::Billed { bytes: billed, packets }) =
                    classify_downlink(&frame, &link, false)
            {
                prop_assert!(billed <= bytes.len() as u64 - 14);
                prop_assert_eq!(packets, 1);
            }
        }
    }
}
