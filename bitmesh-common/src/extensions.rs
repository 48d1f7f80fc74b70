//! IPv6 extension headers: what is looked through on the way to the upper-layer header.

use crate::packet::{Frame, MAX_EXTENSION_HEADERS, NextHeader, ip_protocol};

/// A [`NextHeader`] or an error, in one register: the verifier looks at a function of its own
/// once more for each call, and can follow only what fits into a register.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skipped(u64);

impl Skipped {
    pub(crate) const TRUNCATED: Self = Self(0);
    pub(crate) const TOO_DEEP: Self = Self(1);

    /// An upper-layer header is never at offset 0 or 1, so this is neither of the errors.
    #[inline(always)]
    const fn found(protocol: u8, offset: u32, fragment: bool) -> Self {
        Self((offset as u64) << 32 | (fragment as u64) << 8 | protocol as u64)
    }

    #[inline(always)]
    pub(crate) const fn header(self) -> NextHeader {
        NextHeader {
            protocol: self.0 as u8,
            offset: (self.0 >> 32) as u32,
            fragment: self.0 & 0x100 != 0,
        }
    }
}

/// Not inlined: few packets need it, and the loop would stand in the program many times.
#[inline(never)]
pub(crate) fn skip_extensions<F: Frame>(frame: &F, first: u8, start: u32) -> Skipped {
    let (mut protocol, mut offset, mut fragment) = (first, start, 0);
    let mut seen = 0;
    while seen < MAX_EXTENSION_HEADERS {
        if !is_extension(protocol) {
            return Skipped::found(protocol, offset, fragment != 0);
        }
        let Some([next, length]) = frame.read::<2>(offset) else { return Skipped::TRUNCATED };
        let extension = Extension::of(protocol);
        offset += extension.bytes(length);
        fragment |= extension.fragment();
        protocol = next;
        seen += 1;
    }
    Skipped::TOO_DEEP
}

/// The extension headers' numbers, a bit each: all are below 64.
const EXTENSIONS: u64 = 1 << ip_protocol::HOP_BY_HOP
    | 1 << ip_protocol::ROUTING
    | 1 << ip_protocol::FRAGMENT
    | 1 << ip_protocol::AUTHENTICATION
    | 1 << ip_protocol::DESTINATION;

#[inline(always)]
pub(crate) const fn is_extension(protocol: u8) -> bool {
    protocol < 64 && EXTENSIONS >> protocol & 1 != 0
}

/// What must be known of a kind of extension header: the unit in which its length counts what is
/// beyond its first eight bytes (bits 0 to 3), and whether it says that this is a fragment (bit 4).
/// Found without a branch: the verifier would follow each kind to the next header, and each of
/// those to the next.
#[derive(Clone, Copy)]
struct Extension(u64);

impl Extension {
    /// RFC 8200 §4: 64-bit units.
    const EIGHTS: u64 = 8;
    /// RFC 4302 §2.2: 32-bit units.
    const FOURS: u64 = 4;
    /// RFC 8200 §4.5: always eight bytes.
    const A_FRAGMENT: u64 = 1 << 4;

    const KINDS: u64 = Self::at(ip_protocol::HOP_BY_HOP, Self::EIGHTS)
        | Self::at(ip_protocol::ROUTING, Self::EIGHTS)
        | Self::at(ip_protocol::DESTINATION, Self::EIGHTS)
        | Self::at(ip_protocol::AUTHENTICATION, Self::FOURS)
        | Self::at(ip_protocol::FRAGMENT, Self::A_FRAGMENT);

    /// The byte of [`Self::KINDS`], as a shift. Each of the five numbers has one of its own.
    #[inline(always)]
    const fn place(protocol: u8) -> u32 {
        ((protocol ^ protocol >> 3) & 7) as u32 * 8
    }

    const fn at(protocol: u8, kind: u64) -> u64 {
        kind << Self::place(protocol)
    }

    /// Of a number in [`EXTENSIONS`].
    #[inline(always)]
    const fn of(protocol: u8) -> Self {
        Self(Self::KINDS >> Self::place(protocol))
    }

    #[inline(always)]
    const fn bytes(self, length: u8) -> u32 {
        8 + length as u32 * (self.0 & 0xf) as u32
    }

    /// Not 0 if this is a fragment.
    #[inline(always)]
    const fn fragment(self) -> u64 {
        self.0 & Self::A_FRAGMENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_extension_header_is_as_long_as_its_standard_says() {
        use ip_protocol::{AUTHENTICATION, DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING};

        for length in 0..=u8::MAX {
            let n = u32::from(length);
            for eights in [HOP_BY_HOP, ROUTING, DESTINATION] {
                assert_eq!(Extension::of(eights).bytes(length), (n + 1) * 8);
                assert_eq!(Extension::of(eights).fragment(), 0);
            }
            assert_eq!(Extension::of(AUTHENTICATION).bytes(length), (n + 2) * 4);
            assert_eq!(Extension::of(AUTHENTICATION).fragment(), 0);
            assert_eq!(Extension::of(FRAGMENT).bytes(length), 8);
            assert_ne!(Extension::of(FRAGMENT).fragment(), 0);
        }
    }

    #[test]
    fn no_other_number_is_an_extension_header() {
        let known = (0..=u8::MAX).filter(|protocol| is_extension(*protocol)).collect::<Vec<_>>();
        assert_eq!(known, [0, 43, 44, 51, 60]);
    }
}
