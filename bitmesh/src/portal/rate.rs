//! How often a station may ask.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bitmesh_core::Mac;
use tokio::time::Instant;

use super::{MAX_BURST, MAX_REQUESTS_PER_SECOND, MAX_STATIONS};

/// A token bucket for each station.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<HashMap<Mac, Bucket>>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    const FULL: f64 = MAX_BURST as f64;

    fn filled(self, now: Instant) -> Self {
        let gained = now.duration_since(self.at).as_secs_f64() * f64::from(MAX_REQUESTS_PER_SECOND);
        Self { tokens: (self.tokens + gained).min(Self::FULL), at: now }
    }

    fn is_full(self, now: Instant) -> bool {
        self.filled(now).tokens >= Self::FULL
    }
}

impl Rates {
    /// Counts a request; if it is one too many, says how long to wait.
    pub(super) fn take(&self, mac: Mac) -> Result<(), Duration> {
        let now = Instant::now();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_STATIONS && !buckets.contains_key(&mac) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() >= MAX_STATIONS {
                return Err(Duration::from_secs(1));
            }
        }
        let bucket = buckets.entry(mac).or_insert(Bucket { tokens: Bucket::FULL, at: now });
        *bucket = bucket.filled(now);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let missing = 1.0 - bucket.tokens;
        Err(Duration::from_secs_f64(missing / f64::from(MAX_REQUESTS_PER_SECOND)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn mac(n: usize) -> Mac {
        let [_, _, _, _, _, _, a, b] = n.to_be_bytes();
        Mac::new([2, 0, 0, 0, a, b])
    }

    #[tokio::test(start_paused = true)]
    async fn a_station_has_a_burst_then_its_rate_and_others_are_not_touched() {
        let rates = Rates::default();
        assert_eq!((0..1_000).filter(|_| rates.take(mac(1)).is_ok()).count(), MAX_BURST as usize);
        assert!(rates.take(mac(2)).is_ok());
        advance(Duration::from_secs(1)).await;
        let second = (0..1_000).filter(|_| rates.take(mac(1)).is_ok()).count();
        assert_eq!(second, MAX_REQUESTS_PER_SECOND as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn more_stations_than_are_remembered_wait_until_some_were_quiet() {
        let rates = Rates::default();
        for n in 0..MAX_STATIONS {
            rates.take(mac(n)).expect("room");
        }
        assert!(rates.take(mac(MAX_STATIONS)).is_err());
        advance(Duration::from_secs(3)).await;
        assert!(rates.take(mac(MAX_STATIONS)).is_ok());
        assert_eq!(rates.0.lock().expect("not poisoned").len(), 1);
    }
}
