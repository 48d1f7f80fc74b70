//! The XDP program in front: what it charges itself, what it drops, what it leaves to the one behind.

use bitmesh_common::abi::{ACCOUNT_OPEN, Account, Meter};
use bitmesh_tests::frames::{
    ALL_NODES, BOB, GATEWAY_V4, INTERNET_V4, INTERNET_V6, V4, ethernet, extension, tcp, udp,
    v6_frame,
};
use bitmesh_tests::kernel::{KernelGate, Said};
use bitmesh_tests::objects::{BITMESH, MISCOUNT};

/// The smallest frame that the kernel runs an XDP program on is larger than some that are billed.
const PAYLOAD: usize = 100;

fn to_internet(protocol: u8) -> V4 {
    V4::new(INTERNET_V4, protocol)
}

fn udp_frame() -> Vec<u8> {
    to_internet(17).frame(&udp(9, PAYLOAD))
}

fn tcp_frame() -> Vec<u8> {
    to_internet(6).frame(&tcp(80, 5, PAYLOAD))
}

fn account(prepaid: u64) -> Account {
    Account {
        state: ACCOUNT_OPEN,
        prepaid,
        uplink_msat_per_mib: 3,
        downlink_msat_per_mib: 5,
        low_mark: u64::MAX,
        ..Account::default()
    }
}

fn gate(object: &[u8], prepaid: u64) -> KernelGate {
    let mut gate = KernelGate::load(object);
    gate.subscribe(BOB, 7, account(prepaid));
    gate
}

fn charged(meter: &Meter) -> (u64, u64, u64) {
    (meter.uplink_bytes, meter.uplink_packets, meter.spent)
}

#[test]
fn what_is_common_and_paid_for_is_charged_in_the_driver() {
    let big = to_internet(17).frame(&udp(9, 7_000));
    let v6 = v6_frame(INTERNET_V6, 17, 64, &udp(9, PAYLOAD));
    for (frame, bytes) in [(udp_frame(), 128), (tcp_frame(), 140), (v6, 148), (big, 7_028)] {
        let gate = gate(BITMESH, u64::MAX / 2);
        assert_eq!(gate.run_first(&frame), Said::Pass);
        assert_eq!(charged(&gate.meter(BOB)), (bytes, 1, bytes * 3));
    }
}

#[test]
fn a_program_that_miscounts_by_one_header_is_caught() {
    let gate = gate(MISCOUNT, u64::MAX / 2);
    assert_eq!(gate.run_first(&udp_frame()), Said::Pass);
    assert_ne!(charged(&gate.meter(BOB)), (128, 1, 128 * 3));
}

#[test]
fn what_is_out_of_the_ordinary_is_left_to_the_program_behind() {
    let options = V4 { option_words: 3, ..to_internet(17) };
    let fragment = V4 { fragment: 0x2000, ..to_internet(17) };
    let local = V4::new(GATEWAY_V4, 17);
    let frames = [
        ethernet(&[], 0x0806, &[0; 46]),
        ethernet(&[7], 0x0800, &to_internet(17).packet(&udp(9, PAYLOAD))),
        options.frame(&udp(9, PAYLOAD)),
        fragment.frame(&udp(9, PAYLOAD)),
        local.frame(&udp(53, PAYLOAD)),
        v6_frame(ALL_NODES, 58, 255, &[0; PAYLOAD]),
        v6_frame(INTERNET_V6, 0, 64, &extension(17, 0, &udp(9, PAYLOAD))),
    ];
    for frame in frames {
        let gate = gate(BITMESH, u64::MAX / 2);
        assert_eq!(gate.run_first(&frame), Said::Pass);
        assert_eq!(charged(&gate.meter(BOB)), (0, 0, 0));
    }
}

#[test]
fn what_is_not_paid_for_is_dropped_in_the_driver_but_for_tcp() {
    let gate = gate(BITMESH, 128 * 3 - 1);
    assert_eq!(gate.run_first(&udp_frame()), Said::Drop);
    assert_eq!(gate.meter(BOB).dropped_unpaid, 1);
    // The program behind may lead it to the portal, and counts it.
    assert_eq!(gate.run_first(&tcp_frame()), Said::Pass);
    assert_eq!(gate.meter(BOB).dropped_unpaid, 1);
    assert_eq!(charged(&gate.meter(BOB)), (0, 0, 0));
}

#[test]
fn strangers_are_dropped_in_the_driver_but_for_tcp() {
    let gate = KernelGate::load(BITMESH);
    assert_eq!(gate.run_first(&udp_frame()), Said::Drop);
    assert_eq!(gate.run_first(&tcp_frame()), Said::Pass);
}
