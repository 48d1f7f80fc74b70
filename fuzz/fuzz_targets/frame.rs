//! Any bytes as a frame: the long way gives a verdict and sane bytes, and whatever the quick way
//! finds, the long way finds too.
//!
//! The input's first six bytes say what segmentation offload says; the frame follows.

#![no_main]

use bitmesh_common::abi::{Lan, Mac};
use bitmesh_common::gate::{Class, classify_downlink, classify_received, classify_uplink};
use bitmesh_common::packet::{FrameBytes, Link};
use bitmesh_common::quick::{downlink, uplink};
use libfuzzer_sys::fuzz_target;

/// What one frame can stand for: 2^16 segments of 2^16 bytes with all their headers.
const MAX_BYTES: u64 = 1 << 33;

fuzz_target!(|input: &[u8]| {
    let Some((offload, bytes)) = input.split_first_chunk::<6>() else { return };
    let [a, b, c, d, kind, _] = *offload;
    // Most frames are no super-packets.
    let (gso_size, gso_segs) = match kind % 3 {
        0 => (0, 0),
        1 => (u16::from_le_bytes([a, b]).into(), 0),
        _ => (u16::from_le_bytes([a, b]).into(), u16::from_le_bytes([c, d]).into()),
    };
    let frame = FrameBytes { bytes, gso_size, gso_segs };
    let mut lan = Lan::default();
    lan.ipv4[0].octets = [10, 0, 0, 1];
    lan.ipv6[0].octets = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let quick = (uplink(&frame, &lan), downlink(&frame));
    let Ok(link) = Link::parse(&frame) else {
        assert!(quick == (None, None), "quick although there is no link header");
        return;
    };
    let up = classify_uplink(&frame, &link, &lan);
    let down = classify_downlink(&frame, &link, false);
    let made_here = classify_downlink(&frame, &link, true);
    let received = classify_received(&frame, &link, &lan);
    for class in [up, down, made_here, received].into_iter().flatten() {
        match class {
            Class::Billed { bytes, packets } => {
                assert!(bytes <= MAX_BYTES, "{bytes} bytes");
                assert!(packets >= 1 && bytes >= packets, "{packets} packets of {bytes} bytes");
            }
            Class::Resolver { bytes } => assert!(bytes <= MAX_BYTES, "{bytes} bytes"),
            Class::Free | Class::Local => {}
        }
    }
    for (quick, long, mac) in [(quick.0, up, link.source), (quick.1, down, link.destination)] {
        let Some(quick) = quick else { continue };
        let Ok(Class::Billed { bytes, packets }) = long else {
            panic!("quick finds {quick:?}, the long way {long:?}")
        };
        assert_eq!((quick.wire.bytes, quick.wire.packets), (bytes, packets));
        assert_eq!(quick.mac, Mac::new(mac));
    }
});
