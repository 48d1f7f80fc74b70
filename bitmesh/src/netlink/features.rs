//! What a network card does by itself (`ioctl(SIOCETHTOOL)`).

use std::io;
use std::os::fd::AsRawFd as _;

use rustix::net::{AddressFamily, SocketType, socket};

/// Commands and the set of names of `linux/ethtool.h`.
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of a name (`ETH_GSTRING_LEN`).
const NAME_BYTES: usize = 32;
/// Features that a kernel has, at most: it has 64 or a few more.
const MAX_FEATURES: usize = 256;
const MAX_BLOCKS: usize = MAX_FEATURES / 32;

/// `struct ethtool_sset_info` with room for the length of one set.
#[repr(C)]
struct SetInfo {
    command: u32,
    reserved: u32,
    sets: u64,
    lengths: [u32; 1],
}

/// `struct ethtool_gstrings` with room for all names.
#[repr(C)]
struct Names {
    command: u32,
    set: u32,
    count: u32,
    names: [[u8; NAME_BYTES]; MAX_FEATURES],
}

/// `struct ethtool_get_features_block`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Block {
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}

/// `struct ethtool_gfeatures` with room for all blocks.
#[repr(C)]
struct Features {
    command: u32,
    count: u32,
    blocks: [Block; MAX_BLOCKS],
}

/// Whether the card may carry out filters by itself (`hw-tc-offload`): packets that it handles so
/// are never seen by a program.
///
/// # Errors
///
/// Fails if the device is gone or tells nothing.
pub(crate) fn offloads_filters(name: &str) -> io::Result<bool> {
    is_on(name, b"hw-tc-offload")
}

/// Whether a feature is on; one that the kernel does not know is not.
fn is_on(name: &str, feature: &[u8]) -> io::Result<bool> {
    let sets = 1 << ETH_SS_FEATURES;
    let mut info = SetInfo { command: ETHTOOL_GSSET_INFO, reserved: 0, sets, lengths: [0] };
    ask(name, &mut info)?;
    let [count] = info.lengths;
    if count as usize > MAX_FEATURES {
        return Err(io::Error::other(format!("the kernel has {count} features")));
    }
    let mut names = Box::new(Names {
        command: ETHTOOL_GSTRINGS,
        set: ETH_SS_FEATURES,
        // A kernel of 6.18 gives no names to who asks for more than there are.
        count,
        names: [[0; NAME_BYTES]; MAX_FEATURES],
    });
    ask(name, &mut *names)?;
    let index = names.names[..count as usize].iter().position(|name| is_named(name, feature));
    let Some(index) = index else { return Ok(false) };
    let blocks = [Block::default(); MAX_BLOCKS];
    let mut features = Features { command: ETHTOOL_GFEATURES, count: MAX_BLOCKS as u32, blocks };
    ask(name, &mut features)?;
    Ok(features.blocks[index / 32].active & 1 << (index % 32) != 0)
}

fn is_named(name: &[u8; NAME_BYTES], wanted: &[u8]) -> bool {
    name.strip_prefix(wanted).is_some_and(|rest| rest.first() == Some(&0))
}

/// Hands a record to the device, which fills it.
fn ask<T>(name: &str, record: &mut T) -> io::Result<()> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: all of it may be zero.
    #[allow(unsafe_code)]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (place, byte) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(record).cast();
    // SAFETY: the record says itself how much room it has, and outlives the call.
    #[allow(unsafe_code)]
    let done = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_carries_out_no_filters() {
        assert!(!offloads_filters("lo").expect("lo tells"));
        assert!(offloads_filters("no-such-if").is_err());
    }

    /// A card with `hw-tc-offload` is in no machine of the tests; other features are read the same way.
    #[test]
    fn what_is_on_is_told_from_what_is_off() {
        for (feature, on) in [("loopback", true), ("tx-checksum-sctp", true), ("rx-all", false)] {
            assert_eq!(is_on("lo", feature.as_bytes()).expect("lo tells"), on, "{feature}");
        }
        assert!(!is_on("lo", b"no-such-feature").expect("lo tells"));
    }

    #[test]
    fn a_name_is_compared_to_its_end() {
        let mut name = [0; NAME_BYTES];
        name[..13].copy_from_slice(b"hw-tc-offload");
        assert!(is_named(&name, b"hw-tc-offload"));
        assert!(!is_named(&name, b"hw-tc"));
    }
}
