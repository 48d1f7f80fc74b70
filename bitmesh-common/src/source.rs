//! The address that a packet says it is from, and whether its sender may use it.

use crate::packet::{Frame, Link, ethertype};

/// The second half of an IPv4-mapped address (RFC 4291 §2.5.5.2) before its IPv4 address.
const V4_MAPPED: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
/// Where the IPv4 address is in that half.
const V4_SHIFT: u32 = u64::from_ne_bytes([0, 0, 0, 0, 1, 0, 0, 0]).trailing_zeros();

const V4_SOURCE: u32 = 12;
const V6_SOURCE: u32 = 8;

/// An IPv6 address, or an IPv4 one as its mapped one, as on the wire in two words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The first eight bytes, as a native-endian word.
    pub high: u64,
    /// The last eight.
    pub low: u64,
}

impl Source {
    /// Of an IPv4 address, as it is on the wire in a native-endian word.
    #[inline(always)]
    #[must_use]
    pub const fn v4(word: u64) -> Self {
        Self { high: 0, low: V4_MAPPED | word << V4_SHIFT }
    }

    /// Of an IPv6 address in two native-endian words.
    #[inline(always)]
    #[must_use]
    pub const fn v6(words: [u64; 2]) -> Self {
        Self { high: words[0], low: words[1] }
    }

    /// Of a frame that carries IP behind this link-layer header.
    #[inline(always)]
    pub fn of<F: Frame>(frame: &F, link: &Link) -> Option<Self> {
        match link.ethertype {
            ethertype::IPV4 => {
                let octets = frame.read::<4>(link.payload + V4_SOURCE)?;
                Some(Self::v4(u64::from(u32::from_ne_bytes(octets))))
            }
            ethertype::IPV6 => {
                let o = frame.read::<16>(link.payload + V6_SOURCE)?;
                Some(Self::v6([
                    u64::from_ne_bytes([o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7]]),
                    u64::from_ne_bytes([o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15]]),
                ]))
            }
            _ => None,
        }
    }

    /// What binds the two words to each other and to a generation: two CPUs that note different
    /// addresses at once leave a seal that breaks.
    #[inline(always)]
    #[must_use]
    pub const fn seal(self, generation: u64) -> u64 {
        self.high ^ self.low.rotate_left(23) ^ generation
    }
}

/// What a sender says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its address.
    pub source: Source,
    /// Which generation of the owners of addresses holds ([`crate::abi::Lan::owners`]); 0 if
    /// nobody asks.
    pub generation: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::FrameBytes;

    fn octets(source: Source) -> [u8; 16] {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&source.high.to_ne_bytes());
        octets[8..].copy_from_slice(&source.low.to_ne_bytes());
        octets
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_its_mapped_one(address: [u8; 4]) {
            let mapped = [&[0; 10][..], &[0xff; 2], &address].concat();
            prop_assert_eq!(octets(Source::v4(u64::from(u32::from_ne_bytes(address)))).to_vec(), mapped);
        }

        #[test]
        fn the_address_of_a_frame_is_found_behind_its_tags(
            address: [u8; 16], is_v4: bool, tags in 0_usize..3,
        ) {
            let mut bytes = vec![2; 12];
            bytes.extend([0x81, 0, 0, 7].repeat(tags));
            bytes.extend(if is_v4 { [8, 0] } else { [0x86, 0xdd] });
            bytes.extend(vec![0x60; if is_v4 { 12 } else { 8 }]);
            bytes.extend(address);
            let frame = FrameBytes { bytes: &bytes, gso_size: 0, gso_segs: 0 };
            let link = Link::parse(&frame).expect("a header");
            let found = octets(Source::of(&frame, &link).expect("an address"));
            if is_v4 {
                prop_assert_eq!(&found[..12], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
                prop_assert_eq!(&found[12..], &address[..4]);
            } else {
                prop_assert_eq!(found, address);
            }
        }

        #[test]
        fn halves_of_two_addresses_break_the_seal(
            one: [u64; 2], other: [u64; 2], generation: u64,
        ) {
            let torn = Source { high: one[0], low: other[1] };
            for whole in [Source::v6(one), Source::v6(other)] {
                let same = torn == whole;
                prop_assert_eq!(torn.seal(generation) == whole.seal(generation), same);
            }
            prop_assert!(torn.seal(generation) != torn.seal(generation.wrapping_add(1)));
        }
    }
}
