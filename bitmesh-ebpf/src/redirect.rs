//! Plain HTTP of who can't pay is led to the portal.
//!
//! The packet itself is readdressed, not marked for somebody behind: so with the agent dead and all
//! rules of a firewall gone, it reaches the gateway or nobody. Only a first packet begins such a
//! connection: a download that runs out of money is not led astray in the middle.

use aya_ebpf::helpers::{bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_store_bytes};
use bitmesh_common::abi::{Lan, MAX_LAN_ADDRESSES, Mac, Redirect, V6Address};
use bitmesh_common::packet::{Frame as _, ethertype, ip_protocol};

use crate::Verdict;
use crate::maps::{self, REDIRECTS};
use crate::skb::Skb;

/// The port of plain HTTP (RFC 9110 §4.2.1).
const HTTP: u16 = 80;

/// `BPF_F_PSEUDO_HDR`: the field is a part of the pseudo-header too.
const PSEUDO_HEADER: u64 = 1 << 4;

/// TCP flags (RFC 9293 §3.1): FIN, SYN, RST and ACK, and the one that a first packet has alone.
const FLAGS: u8 = 0x17;
const SYN: u8 = 0x02;

/// The first octet of link-local IPv6 addresses (RFC 4291 §2.5.6).
const LINK_LOCAL: u8 = 0xfe;

/// Where the fields of a plain TCP packet are, from the Ethernet header on.
#[derive(Clone, Copy)]
struct Layout {
    version: u16,
    source: u32,
    destination: u32,
    /// The checksum of an IPv4 header.
    header_checksum: Option<u32>,
    tcp: u32,
}

const V4: Layout =
    Layout { version: 4, source: 26, destination: 30, header_checksum: Some(24), tcp: 34 };
const V6: Layout =
    Layout { version: 6, source: 22, destination: 38, header_checksum: None, tcp: 54 };

const TCP_FLAGS: u32 = 13;
const TCP_CHECKSUM: u32 = 16;

impl Layout {
    /// That of a frame without tags, options or extension headers that carries TCP.
    #[inline(always)]
    fn of(skb: &Skb) -> Option<Self> {
        let [high, low, first] = skb.read::<3>(12)?;
        match u16::from_be_bytes([high, low]) {
            ethertype::IPV4 if first == 0x45 => {
                let [flags, offset, _, protocol] = skb.read::<4>(20)?;
                let whole = flags & 0x3f == 0 && offset == 0;
                (whole && protocol == ip_protocol::TCP).then_some(V4)
            }
            ethertype::IPV6 => (skb.read::<1>(20)? == [ip_protocol::TCP]).then_some(V6),
            _ => None,
        }
    }

    /// The address at this offset; one of IPv4 takes the first four bytes.
    #[inline(always)]
    fn address(&self, skb: &Skb, at: u32) -> Option<V6Address> {
        if self.version == 6 {
            return Some(V6Address { octets: skb.read::<16>(at)? });
        }
        let four = skb.read::<4>(at)?;
        let mut octets = [0; 16];
        octets[0] = four[0];
        octets[1] = four[1];
        octets[2] = four[2];
        octets[3] = four[3];
        Some(V6Address { octets })
    }
}

/// Leads a packet that nobody pays for to the portal, if it is plain HTTP; else drops it.
#[inline(never)]
pub fn lead(skb: Skb, mac: u64) -> Verdict {
    match try_lead(&skb, Mac::from_word(mac)) {
        Some(()) => Verdict::Pass,
        None => Verdict::Drop,
    }
}

#[inline(always)]
fn try_lead(skb: &Skb, mac: Mac) -> Option<()> {
    let lan = maps::lan()?;
    let layout = Layout::of(skb)?;
    let [source_high, source_low, high, low] = skb.read::<4>(layout.tcp)?;
    if u16::from_be_bytes([high, low]) != HTTP || lan.portal_port == 0 || mac.is_group() {
        return None;
    }
    let key = Redirect {
        mac,
        address: layout.address(skb, layout.source)?,
        port: u16::from_ne_bytes([source_high, source_low]),
        version: layout.version,
        zero: 0,
    };
    let meant = layout.address(skb, layout.destination)?;
    let [flags] = skb.read::<1>(layout.tcp + TCP_FLAGS)?;
    if flags & FLAGS == SYN {
        REDIRECTS.insert(key, meant, 0).ok()?;
    } else {
        // SAFETY: an element of the LRU may be recycled under us; then the packet goes to the
        // portal, which does not know it.
        let known = unsafe { REDIRECTS.get(key) }?;
        if known.words() != meant.words() {
            return None;
        }
    }
    let to = portal_address(lan, layout.version)?;
    let port = (lan.portal_port as u16).to_be();
    rewrite(skb, layout, layout.destination, layout.tcp + 2, (meant, HTTP.to_be()), (to, port))
}

/// Gives a packet of the portal the sender that its receiver expects, if it was led there.
#[inline(never)]
pub fn answer(skb: Skb, mac: u64) -> Verdict {
    // One that was not led there, or can't be changed, goes as it is.
    let _ = try_answer(&skb, Mac::from_word(mac));
    Verdict::Pass
}

#[inline(always)]
fn try_answer(skb: &Skb, mac: Mac) -> Option<()> {
    let lan = maps::lan()?;
    let layout = Layout::of(skb)?;
    let [high, low, to_high, to_low] = skb.read::<4>(layout.tcp)?;
    if u32::from(u16::from_be_bytes([high, low])) != lan.portal_port {
        return None;
    }
    let key = Redirect {
        mac,
        address: layout.address(skb, layout.destination)?,
        port: u16::from_ne_bytes([to_high, to_low]),
        version: layout.version,
        zero: 0,
    };
    // SAFETY: as in `try_lead`.
    let meant = *unsafe { REDIRECTS.get(key) }?;
    let from = layout.address(skb, layout.source)?;
    let port = u16::from_ne_bytes([high, low]);
    rewrite(skb, layout, layout.source, layout.tcp, (from, port), (meant, HTTP.to_be()))
}

/// An address of the LAN interface at which the portal listens, not a link-local one if there is
/// another.
#[inline(always)]
fn portal_address(lan: &Lan, version: u16) -> Option<V6Address> {
    let mut found = None;
    let mut i = 0;
    while i < MAX_LAN_ADDRESSES {
        if version == 4 {
            let word = lan.ipv4[i].octets;
            if word != [0; 4] && found.is_none() {
                let mut octets = [0; 16];
                octets[0] = word[0];
                octets[1] = word[1];
                octets[2] = word[2];
                octets[3] = word[3];
                found = Some(V6Address { octets });
            }
        } else {
            let address = lan.ipv6[i];
            let is_better = found.is_none_or(|other: V6Address| other.octets[0] == LINK_LOCAL);
            if address.octets != [0; 16] && is_better {
                found = Some(address);
            }
        }
        i += 1;
    }
    found
}

/// Replaces an address and a port, as they are on the wire, and mends the checksums.
#[inline(always)]
fn rewrite(
    skb: &Skb,
    layout: Layout,
    address_at: u32,
    port_at: u32,
    old: (V6Address, u16),
    new: (V6Address, u16),
) -> Option<()> {
    let raw = skb.raw();
    let checksum = layout.tcp + TCP_CHECKSUM;
    let words = if layout.version == 4 { 1 } else { 4 };
    let mut i = 0;
    while i < words {
        let (from, to) = (word(&old.0, i), word(&new.0, i));
        if let Some(header) = layout.header_checksum {
            // SAFETY: the helper checks the offset.
            done(unsafe { bpf_l3_csum_replace(raw, header, from, to, 4) })?;
        }
        // SAFETY: as above.
        done(unsafe { bpf_l4_csum_replace(raw, checksum, from, to, 4 | PSEUDO_HEADER) })?;
        i += 1;
    }
    let (from, to) = (u64::from(old.1), u64::from(new.1));
    // SAFETY: as above.
    done(unsafe { bpf_l4_csum_replace(raw, checksum, from, to, 2) })?;
    let bytes = words as u32 * 4;
    // SAFETY: the helper reads at most the 16 bytes of the address, and checks the offset.
    done(unsafe { bpf_skb_store_bytes(raw, address_at, new.0.octets.as_ptr().cast(), bytes, 0) })?;
    // SAFETY: as above, of two bytes.
    done(unsafe { bpf_skb_store_bytes(raw, port_at, (&raw const new.1).cast(), 2, 0) })
}

#[inline(always)]
fn word(address: &V6Address, i: usize) -> u64 {
    let o = &address.octets;
    u64::from(u32::from_ne_bytes([o[i * 4], o[i * 4 + 1], o[i * 4 + 2], o[i * 4 + 3]]))
}

#[inline(always)]
fn done(result: i64) -> Option<()> {
    if result == 0 { Some(()) } else { None }
}
