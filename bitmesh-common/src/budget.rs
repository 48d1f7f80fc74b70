//! How much of the gateway's resolver is free, so that DNS is no tunnel.
//!
//! Questions and answers of one station count together, at the IP layer, and small packets as
//! [`LEAST_PACKET_BYTES`]. Each station has a bucket, and all that can't pay share one more. Of
//! the shared one, half is for the first [`NEWCOMER_BYTES`] of each in a day: many stations that
//! tunnel stop each other, and a newcomer still joins.
//!
//! A bucket is one word, the *arrival*: the instant at which all that was taken would have been
//! earned again (the virtual scheduling of ITU-T I.371, Annex A).

/// A packet counts as so many bytes at least: bytes then bound packets too.
pub const LEAST_PACKET_BYTES: u64 = 64;

/// What a station can take at once.
pub const STATION_BURST_BYTES: u64 = 16 << 10;
/// What it earns again in an hour. With the burst, less than 64 kB in its first hour.
pub const STATION_BYTES_PER_HOUR: u64 = 44 << 10;

/// What all stations that can't pay can take at once.
pub const TOTAL_BURST_BYTES: u64 = 1 << 20;
/// What they earn again in an hour. With the burst, 5 MiB in the first hour.
pub const TOTAL_BYTES_PER_HOUR: u64 = 4 << 20;

/// Who can pay has so many times the budget of a station, and takes nothing of the others'.
pub const PAYER_FACTOR: u64 = 256;

/// What a station can take of the half that is kept for newcomers, in a day: enough to find the
/// portal, or a wallet's peers.
pub const NEWCOMER_BYTES: u64 = 2 << 10;

const NS_PER_HOUR: u64 = 3_600_000_000_000;
const STATION_NS_PER_BYTE: u64 = NS_PER_HOUR.div_ceil(STATION_BYTES_PER_HOUR);
const TOTAL_NS_PER_BYTE: u64 = NS_PER_HOUR.div_ceil(TOTAL_BYTES_PER_HOUR);
const NEWCOMER_NS_PER_BYTE: u64 = 24 * NS_PER_HOUR / NEWCOMER_BYTES;
const NEWCOMER_NS: u64 = NEWCOMER_BYTES * NEWCOMER_NS_PER_BYTE;
const STATION_BURST_NS: u64 = STATION_BURST_BYTES * STATION_NS_PER_BYTE;
const TOTAL_BURST_NS: u64 = TOTAL_BURST_BYTES * TOTAL_NS_PER_BYTE;

/// The most that one packet counts as; a super-packet is no more.
const MAX_PACKET_BYTES: u64 = 1 << 16;

/// What a packet counts as.
#[inline(always)]
#[must_use]
pub const fn counted(bytes: u64) -> u64 {
    if bytes < LEAST_PACKET_BYTES {
        LEAST_PACKET_BYTES
    } else if bytes > MAX_PACKET_BYTES {
        MAX_PACKET_BYTES
    } else {
        bytes
    }
}

/// The arrival of a payer's bucket after a packet of so many bytes, or `None` if it does not fit.
#[inline(always)]
#[must_use]
pub const fn take_as_payer(arrival: u64, now: u64, bytes: u64) -> Option<u64> {
    take(arrival, now, counted(bytes) * (STATION_NS_PER_BYTE / PAYER_FACTOR), STATION_BURST_NS)
}

/// The arrival of a station's bucket after a packet of so many bytes, or `None` if it does not fit.
#[inline(always)]
#[must_use]
pub const fn take_as_station(arrival: u64, now: u64, bytes: u64) -> Option<u64> {
    take(arrival, now, counted(bytes) * STATION_NS_PER_BYTE, STATION_BURST_NS)
}

/// How much a station is known after a packet of so many bytes: the arrival of a bucket that holds
/// back nothing, and takes a day to fill again.
#[inline(always)]
#[must_use]
pub const fn know(known: u64, now: u64, bytes: u64) -> u64 {
    let from = if known > now { known } else { now };
    let next = from.saturating_add(counted(bytes) * NEWCOMER_NS_PER_BYTE);
    if next - now > NEWCOMER_NS { now.saturating_add(NEWCOMER_NS) } else { next }
}

/// The arrival of the shared bucket after a packet of so many bytes, or `None` if it does not fit.
/// `known` is the sender's, by [`know`].
#[inline(always)]
#[must_use]
pub const fn take_of_total(arrival: u64, now: u64, bytes: u64, known: u64) -> Option<u64> {
    let is_newcomer = know(known, now, bytes).saturating_sub(now) < NEWCOMER_NS;
    let burst = if is_newcomer { TOTAL_BURST_NS } else { TOTAL_BURST_NS / 2 };
    take(arrival, now, counted(bytes) * TOTAL_NS_PER_BYTE, burst)
}

#[inline(always)]
const fn take(arrival: u64, now: u64, cost_ns: u64, burst_ns: u64) -> Option<u64> {
    let from = if arrival > now { arrival } else { now };
    let next = from.saturating_add(cost_ns);
    if next - now > burst_ns { None } else { Some(next) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_S: u64 = 3_600;
    const SECOND: u64 = 1_000_000_000;

    /// Stations that send whenever they can, and what passed of each.
    struct Crowd {
        arrivals: Vec<u64>,
        known: Vec<u64>,
        passed: Vec<u64>,
        total: u64,
    }

    impl Crowd {
        fn of(stations: usize) -> Self {
            Self {
                arrivals: vec![0; stations],
                known: vec![0; stations],
                passed: vec![0; stations],
                total: 0,
            }
        }

        fn send(&mut self, station: usize, now: u64, bytes: u64) -> bool {
            let Some(own) = take_as_station(self.arrivals[station], now, bytes) else {
                return false;
            };
            let known = self.known[station];
            let Some(total) = take_of_total(self.total, now, bytes, known) else {
                return false;
            };
            self.known[station] = know(known, now, bytes);
            self.arrivals[station] = own;
            self.total = total;
            self.passed[station] += bytes;
            true
        }
    }

    #[test]
    fn a_tunnel_of_one_station_carries_less_than_64_kilobytes_in_an_hour() {
        let mut crowd = Crowd::of(1);
        for second in 0..HOUR_S {
            for _ in 0..20 {
                crowd.send(0, second * SECOND, 512);
            }
        }
        assert!(crowd.passed[0] <= 64_000, "{}", crowd.passed[0]);
        assert!(crowd.passed[0] > 50_000, "{}", crowd.passed[0]);
    }

    #[test]
    fn two_hundred_tunnels_share_the_total_and_a_newcomer_still_joins() {
        let mut crowd = Crowd::of(201);
        for second in 0..HOUR_S {
            for station in 0..200 {
                while crowd.send(station, second * SECOND, 400) {}
            }
            if second.is_multiple_of(600) {
                // The newcomer is another one each time.
                (crowd.arrivals[200], crowd.known[200]) = (0, 0);
                let joined = (0..8).filter(|_| crowd.send(200, second * SECOND, 150)).count();
                assert_eq!(joined, 8, "in second {second}");
            }
        }
        let all: u64 = crowd.passed.iter().sum();
        assert!(all <= TOTAL_BURST_BYTES + TOTAL_BYTES_PER_HOUR, "{all}");
        assert!(crowd.passed.iter().all(|passed| *passed <= 64_000));
    }

    #[test]
    fn a_flood_of_small_packets_is_bounded_as_packets() {
        let mut crowd = Crowd::of(1);
        let sent = (0..100_000_u64).filter(|n| crowd.send(0, n * SECOND / 1_000, 28)).count();
        assert!(sent as u64 <= STATION_BURST_BYTES / LEAST_PACKET_BYTES + 30, "{sent}");
    }

    proptest! {
        #[test]
        fn what_passes_never_exceeds_burst_and_rate(
            steps in prop::collection::vec((0_u64..600 * SECOND, 1_u64..2_000), 1..200),
        ) {
            let (mut now, mut arrival, mut passed) = (1, 0, 0);
            for (wait, bytes) in steps {
                now += wait;
                if let Some(next) = take_as_station(arrival, now, bytes) {
                    arrival = next;
                    passed += counted(bytes);
                }
                let earned = now / STATION_NS_PER_BYTE + 1;
                prop_assert!(passed <= STATION_BURST_BYTES + earned);
            }
        }

        #[test]
        fn no_instant_and_no_arrival_overflows(arrival: u64, now: u64, bytes: u64, own: u64) {
            let _ = take_as_station(arrival, now, bytes);
            let _ = take_as_payer(arrival, now, bytes);
            let _ = take_of_total(arrival, now, bytes, own);
            let _ = know(own, now, bytes);
        }
    }
}
