//! What a super-packet of segmentation offload stands for: segments that each repeat its headers.

use crate::packet::{Frame, Ip, NextHeader, OnWire, Unparsed, ethertype, ip_protocol};

const UDP_BYTES: u32 = 8;
const TCP_MIN_BYTES: u32 = 20;
/// Offset of the TCP data offset (RFC 9293 §3.1).
const TCP_DATA_OFFSET_AT: u32 = 12;
const GRE_MIN_BYTES: u32 = 4;
/// Bytes that each of checksum, key and sequence number adds (RFC 2784 §2.1, RFC 2890 §2).
const GRE_FIELD_BYTES: u32 = 4;

/// Bytes of the hop-by-hop header in which the kernel keeps the length of a super-packet beyond
/// 64 KiB (BIG TCP). It takes it away before the segments leave.
const JUMBO_BYTES: u32 = 8;
/// The jumbo payload option (RFC 2675 §2) and its length.
const JUMBO_OPTION: [u8; 2] = [0xc2, 4];

/// Bytes and packets on the wire of a super-packet whose IP header is `ip`, and which carries
/// `carried` bytes from that header on. Length fields are not read: BIG TCP leaves them 0.
#[inline(always)]
pub(crate) fn on_wire<F: Frame>(
    ip: &Ip,
    frame: &F,
    carried: u32,
    segment_bytes: u32,
) -> Result<OnWire, Unparsed> {
    let upper = ip.upper_layer(frame)?;
    let end = match tunnelled(frame, upper)? {
        Some(inner) => transport_end(frame, inner)?,
        None => transport_end(frame, upper)?,
    };
    let inside = if has_jumbo_option(ip, frame) { JUMBO_BYTES } else { 0 };
    // Neither wraps: headers follow each other, and the option is one of them.
    let headers = end.wrapping_sub(ip.offset).wrapping_sub(inside);
    let carried = carried.wrapping_sub(inside);
    if carried < headers {
        return Err(Unparsed::BadLength);
    }
    let segments = match frame.gso_segs() {
        0 => segments_of(carried - headers, segment_bytes),
        known => known,
    };
    Ok(repeated(carried.into(), headers.into(), segments.into()))
}

/// `carried` bytes as `segments` packets, which all begin with as many bytes of headers.
#[inline(always)]
pub(crate) const fn repeated(carried: u64, headers: u64, segments: u64) -> OnWire {
    OnWire { bytes: carried + segments.saturating_sub(1) * headers, packets: segments }
}

/// Where the transport header ends.
#[inline(always)]
fn transport_end<F: Frame>(frame: &F, upper: NextHeader) -> Result<u32, Unparsed> {
    match upper.protocol {
        ip_protocol::UDP => Ok(upper.offset + UDP_BYTES),
        ip_protocol::TCP => {
            let Some([word]) = frame.read::<1>(upper.offset + TCP_DATA_OFFSET_AT) else {
                return Err(Unparsed::Truncated);
            };
            let bytes = u32::from(word >> 4) * 4;
            if bytes < TCP_MIN_BYTES {
                return Err(Unparsed::BadHeader);
            }
            Ok(upper.offset + bytes)
        }
        _ => Err(Unparsed::UnknownSegments),
    }
}

/// The transport header inside a tunnel, if this is one: the kernel merges the segments of what it
/// forwards by IP in IP (RFC 2003, RFC 2473, RFC 4213) and GRE (RFC 2784) too. One tunnel deep.
#[inline(always)]
fn tunnelled<F: Frame>(frame: &F, upper: NextHeader) -> Result<Option<NextHeader>, Unparsed> {
    let (kind, offset) = match upper.protocol {
        ip_protocol::IPV4 => (ethertype::IPV4, upper.offset),
        ip_protocol::IPV6 => (ethertype::IPV6, upper.offset),
        ip_protocol::GRE => gre(frame, upper.offset)?,
        _ => return Ok(None),
    };
    let inner = if kind == ethertype::IPV4 {
        Ip::parse_v4(frame, offset)?
    } else if kind == ethertype::IPV6 {
        Ip::parse_v6(frame, offset)?
    } else {
        return Err(Unparsed::UnknownSegments);
    };
    inner.upper_layer(frame).map(Some)
}

/// What a GRE header says that it carries, and where.
#[inline(always)]
fn gre<F: Frame>(frame: &F, offset: u32) -> Result<(u16, u32), Unparsed> {
    let Some([flags, version, high, low]) = frame.read::<4>(offset) else {
        return Err(Unparsed::Truncated);
    };
    if version & 7 != 0 {
        return Err(Unparsed::UnknownSegments);
    }
    let fields = u32::from(flags >> 7 & 1) + u32::from(flags >> 5 & 1) + u32::from(flags >> 4 & 1);
    Ok((u16::from_be_bytes([high, low]), offset + GRE_MIN_BYTES + fields * GRE_FIELD_BYTES))
}

#[inline(always)]
fn has_jumbo_option<F: Frame>(ip: &Ip, frame: &F) -> bool {
    if ip.is_v4 || ip.next_header != ip_protocol::HOP_BY_HOP {
        return false;
    }
    let Some([_, eights, option, length]) = frame.read::<4>(ip.offset + ip.header_bytes) else {
        return false;
    };
    eights == 0 && [option, length] == JUMBO_OPTION
}

/// Segments of `segment_bytes` that `payload` bytes fill, at least one.
#[inline(always)]
fn segments_of(payload: u32, segment_bytes: u32) -> u32 {
    let rounded_up = payload.saturating_add(segment_bytes.saturating_sub(1));
    rounded_up.checked_div(segment_bytes).unwrap_or(1).max(1)
}
