//! The kernel's speed limits against the arithmetic of the host.

use bitmesh_common::abi::{ACCOUNT_LIMITED, Account};
use bitmesh_common::gate::Direction;
use bitmesh_common::police::byte_time;
use bitmesh_tests::frames::{BOB, INTERNET_V4, Sent, V4, reversed, tcp, udp};
use bitmesh_tests::kernel::{KernelGate, Said};
use bitmesh_tests::objects::BITMESH;

const PLENTY: u64 = u64::MAX / 2;
/// At 1 kbit/s a byte takes 8 ms: no second packet while a test runs.
const SLOWEST: u64 = 1;

fn limited(prepaid: u64, up: u64, down: u64, throttle: u64) -> KernelGate {
    let mut gate = KernelGate::load(BITMESH);
    let account = Account {
        state: ACCOUNT_LIMITED,
        prepaid,
        uplink_msat_per_mib: 3,
        downlink_msat_per_mib: 5,
        low_mark: u64::MAX,
        uplink_byte_time: byte_time(up),
        downlink_byte_time: byte_time(down),
        throttled_byte_time: byte_time(throttle),
        ..Account::default()
    };
    gate.subscribe(BOB, 7, account);
    gate
}

fn uplink() -> Sent {
    Sent::plain(V4::new(INTERNET_V4, 17).frame(&udp(9, 1_000)))
}

fn downlink() -> Sent {
    Sent::plain(reversed(&uplink().bytes))
}

/// The wire length of one of these.
const BYTES: u64 = 1_028;

#[test]
fn each_direction_has_its_own_limit_and_what_is_above_it_is_not_charged() {
    let gate = limited(PLENTY, SLOWEST, 0, 0);
    assert_eq!(gate.run(Direction::Uplink, &uplink(), 1, 1).0, Said::Pass);
    for _ in 0..3 {
        assert_eq!(gate.run(Direction::Uplink, &uplink(), 1, 1).0, Said::Drop);
        assert_eq!(gate.run(Direction::Downlink, &downlink(), 1, 1).0, Said::Pass);
    }
    let meter = gate.meter(BOB);
    assert_eq!((meter.uplink_bytes, meter.downlink_bytes), (BYTES, 3 * BYTES));
    assert_eq!(meter.spent, BYTES * 3 + 3 * BYTES * 5);
    assert_eq!((meter.dropped_limited, meter.dropped_unpaid), (3, 0));
    assert_eq!((meter.uplink_throttled_bytes, meter.downlink_throttled_bytes), (0, 0));
}

#[test]
fn a_packet_takes_as_much_of_the_limit_as_the_arithmetic_says() {
    for (limit, sent) in [
        (SLOWEST, uplink()),
        (64, uplink()),
        // A super-packet of BIG TCP.
        (64, Sent::super_packet(V4::new(INTERNET_V4, 6).frame(&tcp(9, 5, 3_000)), 1_000, 3)),
    ] {
        let gate = limited(PLENTY, limit, 0, 0);
        assert_eq!(gate.run(Direction::Uplink, &sent, 1, 1).0, Said::Pass);
        let meter = gate.meter(BOB);
        let now = meter.last_seen_ns;
        let taken = (meter.uplink_bytes * byte_time(limit)).div_ceil(1 << 10);
        assert_eq!(meter.uplink_arrival, (now << 6) + taken);
    }
}

#[test]
fn what_the_balance_does_not_cover_takes_nothing_from_the_limit() {
    // One packet is covered, and another one is not.
    let gate = limited(BYTES * 5 - 1, SLOWEST, SLOWEST, 0);
    assert_eq!(gate.run(Direction::Downlink, &downlink(), 1, 1).0, Said::Drop);
    let meter = gate.meter(BOB);
    assert_eq!((meter.downlink_arrival, meter.dropped_unpaid, meter.spent), (0, 1, 0));
    assert_eq!(gate.run(Direction::Uplink, &uplink(), 1, 1).0, Said::Pass);
}

#[test]
fn what_the_balance_does_not_cover_passes_throttled_and_is_not_charged() {
    let gate = limited(0, 0, 0, SLOWEST);
    for (direction, sent) in [(Direction::Uplink, uplink()), (Direction::Downlink, downlink())] {
        assert_eq!(gate.run(direction, &sent, 1, 1).0, Said::Pass);
        assert_eq!(gate.run(direction, &sent, 1, 1).0, Said::Drop);
    }
    let meter = gate.meter(BOB);
    assert_eq!((meter.uplink_throttled_bytes, meter.downlink_throttled_bytes), (BYTES, BYTES));
    assert_eq!((meter.uplink_bytes, meter.downlink_bytes, meter.spent), (0, 0, 0));
    assert_eq!((meter.dropped_unpaid, meter.dropped_limited), (2, 0));
}

#[test]
fn the_program_in_the_driver_keeps_the_same_limits() {
    let gate = limited(PLENTY, SLOWEST, 0, 0);
    assert_eq!(gate.run_first(&uplink().bytes), Said::Pass);
    assert_eq!(gate.run_first(&uplink().bytes), Said::Drop);
    let meter = gate.meter(BOB);
    assert_eq!((meter.uplink_bytes, meter.dropped_limited), (BYTES, 1));
    let gate = limited(0, 0, 0, SLOWEST);
    assert_eq!(gate.run_first(&uplink().bytes), Said::Pass);
    assert_eq!(gate.meter(BOB).uplink_throttled_bytes, BYTES);
    // TCP goes to the program behind, which must not count it again.
    let tcp_frame = V4::new(INTERNET_V4, 6).frame(&tcp(80, 5, 1_000));
    let gate = limited(0, 0, 0, SLOWEST);
    assert_eq!(gate.run_first(&tcp_frame), Said::Pass);
    assert_eq!(gate.meter(BOB).uplink_throttled_bytes, 1_040);
}
