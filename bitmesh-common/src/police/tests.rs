use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

/// A super-packet of BIG TCP.
const BIG_TCP_BYTES: u64 = 512 << 10;
/// An hour of uptime.
const START_NS: u64 = 3_600_000_000_000;

struct Cell(AtomicU64);

impl Cell {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Shared for Cell {
    fn load(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64> {
        self.0.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst).map(|_| ())
    }
}

/// Bytes that the limit allows in this time, rounded up.
fn allowed(kbit_per_s: u64, ns: u64) -> u64 {
    let bytes = (u128::from(ns) * u128::from(kbit_per_s)).div_ceil(8_000_000);
    u64::try_from(bytes).unwrap()
}

/// Any limit, the small ones as often as the large ones.
fn limit() -> impl Strategy<Value = u64> {
    (0..24_u32, any::<u64>()).prop_map(|(bits, any)| (1 + any % (1 << bits)).min(MAX_KBIT_PER_S))
}

fn packet_bytes() -> impl Strategy<Value = u64> {
    prop_oneof![20..1_500_u64, 1_500..65_536_u64, Just(BIG_TCP_BYTES)]
}

#[test]
fn no_limit_lets_everything_pass() {
    let cell = Cell::new();
    assert_eq!(police(&cell, START_NS, byte_time(0), 1 << 40), Ok(()));
    assert_eq!(cell.load(), 0);
}

#[test]
fn what_is_above_the_limit_takes_nothing_from_it() {
    let cell = Cell::new();
    // A second's worth: ahead of now by more than the tolerance.
    assert_eq!(police(&cell, START_NS, byte_time(8), 1_000), Ok(()));
    let after = cell.load();
    assert_eq!(police(&cell, START_NS, byte_time(8), 1), Err(Exceeded::Limit));
    assert_eq!(police(&cell, START_NS, byte_time(8), 1 << 24), Err(Exceeded::Limit));
    assert_eq!(cell.load(), after);
    // When the tolerance is all that it is ahead, the next one passes.
    let again = START_NS + 1_000_000_000 - TOLERANCE_NS;
    assert_eq!(police(&cell, again - 1, byte_time(8), 1), Err(Exceeded::Limit));
    assert_eq!(police(&cell, again, byte_time(8), 1), Ok(()));
}

#[test]
fn nine_years_of_uptime_do_not_overflow() {
    let cell = Cell::new();
    let years = 9 * 365 * 86_400 * 1_000_000_000;
    assert_eq!(police(&cell, years, byte_time(1), (1 << 24) - 1), Ok(()));
    assert_eq!(police(&cell, years, byte_time(1), 1), Err(Exceeded::Limit));
}

/// Another CPU always passes a packet first, until so many have.
struct Raced {
    word: Cell,
    races: AtomicU64,
}

impl Shared for Raced {
    fn load(&self) -> u64 {
        self.word.load()
    }

    fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64> {
        if self.races.load(Ordering::SeqCst) > 0 {
            self.races.fetch_sub(1, Ordering::SeqCst);
            self.word.0.fetch_add(new - current.max(START_NS << TICK_BITS), Ordering::SeqCst);
        }
        self.word.compare_exchange(current, new)
    }
}

#[test]
fn a_packet_that_loses_every_race_is_dropped_and_takes_nothing() {
    let word = Cell(AtomicU64::new(START_NS << TICK_BITS));
    let raced = Raced { word, races: AtomicU64::new(u64::MAX) };
    let time = byte_time(MAX_KBIT_PER_S);
    assert_eq!(police(&raced, START_NS, time, 100), Err(Exceeded::Contended));
    // What the others passed, and no more.
    let each = (100 * time).div_ceil(1 << (BYTE_TIME_BITS - TICK_BITS));
    assert_eq!(raced.load(), (START_NS << TICK_BITS) + u64::from(MAX_CAS_TRIES) * each);
}

#[test]
fn a_packet_that_loses_some_races_is_taken_once() {
    let word = Cell(AtomicU64::new(START_NS << TICK_BITS));
    let raced = Raced { word, races: AtomicU64::new(3) };
    let time = byte_time(MAX_KBIT_PER_S);
    assert_eq!(police(&raced, START_NS, time, 100), Ok(()));
    let each = (100 * time).div_ceil(1 << (BYTE_TIME_BITS - TICK_BITS));
    assert_eq!(raced.load(), (START_NS << TICK_BITS) + 4 * each);
}

proptest! {
    /// Whenever packets come, and however large they are.
    #[test]
    fn no_span_passes_more_than_the_limit_the_tolerance_and_one_packet(
        limit in limit(),
        packets in prop::collection::vec((0..100_000_000_u64, packet_bytes()), 1..300),
    ) {
        let cell = Cell::new();
        let mut now = START_NS;
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for (gap, bytes) in packets {
            now += gap;
            if police(&cell, now, byte_time(limit), bytes).is_ok() {
                passed.push((now, bytes));
            }
        }
        for (first, (from, _)) in passed.iter().enumerate() {
            let mut sum = 0;
            for (at, bytes) in &passed[first..] {
                // The last one is the packet that may be beyond.
                prop_assert!(sum <= allowed(limit, at - from + TOLERANCE_NS));
                sum += bytes;
            }
        }
    }

    /// Packets of any sizes, each sent when the one before it is through at a thousandth less.
    #[test]
    fn a_flow_that_keeps_the_limit_is_never_dropped(
        limit in limit(),
        packets in prop::collection::vec(packet_bytes(), 1..300),
    ) {
        let cell = Cell::new();
        let mut now = START_NS;
        for bytes in packets {
            prop_assert_eq!(police(&cell, now, byte_time(limit), bytes), Ok(()));
            let ns = (u128::from(bytes) * 8_000_000 * 1_001).div_ceil(u128::from(limit) * 1_000);
            now += u64::try_from(ns).unwrap();
        }
    }

    /// Who sends without end gets the limit, not less.
    #[test]
    fn a_flood_passes_the_limit(limit in 64..MAX_KBIT_PER_S, bytes in 40..1_500_u64) {
        let cell = Cell::new();
        // Twenty thousand packets of time, ten times as many sent.
        let every = (bytes * 800_000).div_ceil(limit);
        let (mut now, mut passed) = (START_NS, 0);
        for _ in 0..20_000 {
            now += every;
            if police(&cell, now, byte_time(limit), bytes).is_ok() {
                passed += bytes;
            }
        }
        let span = now - START_NS;
        // All of it passes while the tolerance lasts.
        let least = (allowed(limit, span) / 1_000 * 999).min(20_000 * bytes);
        prop_assert!(passed + 2 * bytes >= least, "{} of {}", passed, least);
    }
}
