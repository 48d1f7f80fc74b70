//! One balance, two CPUs.

use std::thread;
use std::time::Duration;

use bitmesh_common::abi::{ACCOUNT_OPEN, Account};
use bitmesh_common::gate::Direction;
use bitmesh_tests::frames::{BOB, INTERNET_V4, Sent, V4, reversed, udp};
use bitmesh_tests::kernel::{KernelGate, Said};
use bitmesh_tests::objects::BITMESH;

/// Packets of each kind: together 20 million.
const PACKETS: u32 = 10_000_000;

/// Between two looks at the meter, so that the watcher leaves both CPUs to the packets.
const WATCH_EVERY: Duration = Duration::from_micros(200);

/// A packet of 28 bytes costs this many units.
const SMALL_COST: u64 = 28 * 1_000;

fn account(prepaid: u64) -> Account {
    Account {
        state: ACCOUNT_OPEN,
        prepaid,
        uplink_msat_per_mib: 1_000,
        downlink_msat_per_mib: 1_000,
        low_mark: u64::MAX,
        ..Account::default()
    }
}

fn sent(direction: Direction, payload: usize) -> Sent {
    let frame = V4::new(INTERNET_V4, 17).frame(&udp(9, payload));
    Sent::plain(match direction {
        Direction::Uplink => frame,
        Direction::Downlink => reversed(&frame),
    })
}

fn run(gate: &KernelGate, direction: Direction, payload: usize) -> Said {
    gate.run(direction, &sent(direction, payload), 1, PACKETS).0
}

#[test]
fn a_packet_that_is_too_dear_never_makes_another_cpu_drop_one_that_fits() {
    let mut gate = KernelGate::load(BITMESH);
    // Enough for every small packet and not a byte more: a large one would never fit at the end,
    // and must not fit before it either, so it is dearer than the whole balance.
    let prepaid = SMALL_COST * u64::from(PACKETS);
    let dear = Account { uplink_msat_per_mib: prepaid / 1_000, ..account(prepaid) };
    gate.subscribe(BOB, 0, dear);
    let (small, large, seen_above) = thread::scope(|threads| {
        let small = threads.spawn(|| run(&gate, Direction::Downlink, 0));
        let large = threads.spawn(|| run(&gate, Direction::Uplink, 1_400));
        let mut above = 0;
        while !(small.is_finished() && large.is_finished()) {
            above += u64::from(gate.meter(BOB).spent > prepaid);
            thread::sleep(WATCH_EVERY);
        }
        (small.join(), large.join(), above)
    });
    assert_eq!(small.expect("the small packets run"), Said::Pass);
    assert_eq!(large.expect("the large packets run"), Said::Drop);
    let meter = gate.meter(BOB);
    assert_eq!(seen_above, 0, "`spent` was seen above `prepaid`");
    assert_eq!(meter.downlink_packets, u64::from(PACKETS), "small packets dropped: {meter:?}");
    assert_eq!(meter.uplink_packets, 0);
    assert_eq!(meter.dropped_unpaid, u64::from(PACKETS));
    assert_eq!(meter.dropped_contended, 0);
    assert_eq!(meter.spent, prepaid);
}

#[test]
fn two_cpus_that_spend_one_balance_stop_exactly_at_its_end() {
    let mut gate = KernelGate::load(BITMESH);
    let affordable = u64::from(PACKETS);
    gate.subscribe(BOB, 0, account(SMALL_COST * affordable + SMALL_COST - 1));
    thread::scope(|threads| {
        let up = threads.spawn(|| run(&gate, Direction::Uplink, 0));
        let down = threads.spawn(|| run(&gate, Direction::Downlink, 0));
        let _ = (up.join().expect("uplink runs"), down.join().expect("downlink runs"));
    });
    let meter = gate.meter(BOB);
    assert_eq!(meter.uplink_packets + meter.downlink_packets, affordable);
    assert_eq!(meter.spent, SMALL_COST * affordable);
    assert_eq!(meter.dropped_unpaid + meter.dropped_contended, u64::from(PACKETS));
    assert_eq!(meter.dropped_contended, 0);
}
