use proptest::prelude::*;

use super::*;
use crate::gate::{Class, classify_downlink, classify_uplink};
use crate::packet::{FrameBytes, Link};

const LAN_V4: [u8; 4] = [10, 0, 0, 1];
const LAN_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn lan() -> Lan {
    let mut lan = Lan::default();
    lan.ipv4[0].octets = LAN_V4;
    lan.ipv6[2].octets = LAN_V6;
    lan
}

fn plain(bytes: &[u8]) -> FrameBytes<'_> {
    FrameBytes { bytes, gso_size: 0, gso_segs: 0 }
}

/// A UDP packet of 30 bytes over IPv4, to this address.
fn v4_frame(to: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2]);
    frame.extend(to);
    frame.extend([0; 10]);
    frame
}

/// A frame that is nearly quick: headers that are right but for what `spoil` changes.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let v4 = prop::sample::select(vec![LAN_V4, [198, 51, 100, 7], [224, 0, 0, 1], [0; 4]]);
    let v6_first = prop::sample::select(vec![0xff_u8, 0xfd, 0xfe, 0x20]);
    let protocol = prop::sample::select(vec![6_u8, 17, 1, 58, 0, 44, 4, 41, 47]);
    let spoil = prop::collection::vec((12_usize..80, any::<u8>()), 0..3);
    let shape = (any::<bool>(), protocol, any::<[u8; 12]>(), 0_usize..300, any::<bool>());
    (shape, v4, v6_first, spoil).prop_map(|(shape, v4, v6_first, spoil)| {
        let (is_v4, protocol, macs, payload, to_lan) = shape;
        let mut frame = macs.to_vec();
        let length = u16::try_from(payload).unwrap_or(0);
        if is_v4 {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((length + 20).to_be_bytes());
            frame.extend([0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 2]);
            frame.extend(v4);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend([0xfd; 16]);
            frame.extend(if to_lan { LAN_V6 } else { [v6_first; 16] });
        }
        frame.resize(frame.len() + payload, 0x50);
        for (at, value) in spoil {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame
    })
}

fn billable(class: Result<Class, crate::packet::Unparsed>) -> Option<OnWire> {
    match class {
        Ok(Class::Billed { bytes, packets }) => Some(OnWire { bytes, packets }),
        _ => None,
    }
}

#[test]
fn the_common_packet_is_quick() {
    let bytes = v4_frame([198, 51, 100, 7]);
    let wire = OnWire { bytes: 30, packets: 1 };
    let up = Billable {
        mac: Mac::new([2, 0, 0, 0, 0, 2]),
        wire,
        protocol: 17,
        source: Source::v4(u64::from(u32::from_ne_bytes([10, 0, 0, 2]))),
    };
    assert_eq!(uplink(&plain(&bytes), &lan()), Some(up));
    let down = Billable {
        mac: Mac::new([2, 0, 0, 0, 0, 1]),
        wire,
        protocol: 17,
        source: Source::default(),
    };
    assert_eq!(downlink(&plain(&bytes)), Some(down));
}

#[test]
fn what_is_for_the_gateway_or_a_group_goes_the_long_way() {
    for to in [LAN_V4, [224, 0, 0, 251], [255; 4], [0; 4]] {
        assert_eq!(uplink(&plain(&v4_frame(to)), &lan()), None, "{to:?}");
    }
}

#[test]
fn a_super_packet_of_unknown_segments_goes_the_long_way() {
    let mut bytes = v4_frame([198, 51, 100, 7]);
    bytes.resize(3_000, 0);
    let known = FrameBytes { bytes: &bytes, gso_size: 1_000, gso_segs: 3 };
    let wire = OnWire { bytes: 3_000 - 14 + 2 * 28, packets: 3 };
    assert_eq!(downlink(&known).map(|found| found.wire), Some(wire));
    assert_eq!(downlink(&FrameBytes { gso_segs: 0, ..known }), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn the_quick_way_and_the_long_way_find_the_same(
        bytes in prop_oneof![nearly(), prop::collection::vec(any::<u8>(), 0..120)],
        gso in prop_oneof![Just((0, 0)), (any::<u16>(), 0_u16..50)],
    ) {
        let frame = FrameBytes { bytes: &bytes, gso_size: gso.0.into(), gso_segs: gso.1.into() };
        let link = Link::parse(&frame);
        if let Some(quick) = uplink(&frame, &lan()) {
            let link = link.expect("a frame that is quick has a link header");
            prop_assert_eq!(Some(quick.wire), billable(classify_uplink(&frame, &link, &lan())));
            prop_assert_eq!(quick.mac, Mac::new(link.source));
            prop_assert_eq!(Some(quick.source), Source::of(&frame, &link));
        }
        if let Some(quick) = downlink(&frame) {
            let link = link.expect("a frame that is quick has a link header");
            prop_assert_eq!(Some(quick.wire), billable(classify_downlink(&frame, &link, false)));
            prop_assert_eq!(quick.mac, Mac::new(link.destination));
        }
    }
}
