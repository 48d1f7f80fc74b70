//! How often a station may ask.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bitmesh_core::Mac;
use tokio::time::Instant;

use super::{
    MAX_BURST, MAX_BURST_IN_ALL, MAX_REQUESTS_PER_SECOND, MAX_REQUESTS_PER_SECOND_IN_ALL,
    MAX_STATIONS,
};

/// A token bucket for each station, and one for all of them.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    of: HashMap<Mac, Bucket>,
    all: Option<Bucket>,
}

/// How fast a bucket fills, and what it holds.
#[derive(Clone, Copy)]
struct Size {
    per_second: u32,
    full: u32,
}

const STATION: Size = Size { per_second: MAX_REQUESTS_PER_SECOND, full: MAX_BURST };
const ALL: Size = Size { per_second: MAX_REQUESTS_PER_SECOND_IN_ALL, full: MAX_BURST_IN_ALL };

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(size: Size, now: Instant) -> Self {
        Self { tokens: f64::from(size.full), at: now }
    }

    fn filled(self, size: Size, now: Instant) -> Self {
        let gained = now.duration_since(self.at).as_secs_f64() * f64::from(size.per_second);
        Self { tokens: (self.tokens + gained).min(f64::from(size.full)), at: now }
    }

    fn is_full(self, size: Size, now: Instant) -> bool {
        self.filled(size, now).tokens >= f64::from(size.full)
    }

    /// Takes a token, or says how long until there is one.
    fn take(&mut self, size: Size, now: Instant) -> Result<(), Duration> {
        *self = self.filled(size, now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / f64::from(size.per_second)))
    }
}

impl Rates {
    /// Counts a request; if it is one too many, says how long to wait. What a station asks too
    /// fast is not counted against the others.
    pub(super) fn take(&self, mac: Mac) -> Result<(), Duration> {
        let now = Instant::now();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { of, all } = &mut *buckets;
        if of.len() >= MAX_STATIONS && !of.contains_key(&mac) {
            of.retain(|_, bucket| !bucket.is_full(STATION, now));
            if of.len() >= MAX_STATIONS {
                return Err(Duration::from_secs(1));
            }
        }
        of.entry(mac).or_insert_with(|| Bucket::full(STATION, now)).take(STATION, now)?;
        all.get_or_insert_with(|| Bucket::full(ALL, now)).take(ALL, now)
    }

    /// A request that brought money takes nothing from the others: what it took of the rate of all
    /// comes back. Its station's own rate holds all the same.
    pub(super) fn has_paid(&self) {
        let now = Instant::now();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(all) = &mut buckets.all {
            *all = Bucket { tokens: all.tokens + 1.0, ..*all }.filled(ALL, now);
        }
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
            // All together are not faster than all may be, and none is quiet for long enough.
            let _ = rates.take(mac(n));
        }
        assert!(rates.take(mac(MAX_STATIONS)).is_err());
        advance(Duration::from_secs(3)).await;
        assert!(rates.take(mac(MAX_STATIONS)).is_ok());
        assert_eq!(rates.0.lock().expect("not poisoned").of.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn all_stations_together_have_a_rate_and_one_that_is_refused_takes_none_of_it() {
        let rates = Rates::default();
        for _ in 0..MAX_BURST_IN_ALL {
            let _ = rates.take(mac(0));
        }
        let many = 1..=2 * MAX_BURST_IN_ALL as usize;
        let let_in = many.filter(|n| rates.take(mac(*n)).is_ok()).count();
        assert_eq!(let_in, (MAX_BURST_IN_ALL - MAX_BURST) as usize);
        advance(Duration::from_secs(1)).await;
        assert!(rates.take(mac(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_pays_is_held_back_by_its_own_rate_alone() {
        let rates = Rates::default();
        let pays = |n| rates.take(mac(n)).map(|()| rates.has_paid()).is_ok();
        let stations = 0..2 * MAX_BURST_IN_ALL as usize / MAX_BURST as usize;
        let paid = stations.flat_map(|n| [n; 2 * MAX_BURST as usize]).filter(|n| pays(*n)).count();
        assert_eq!(paid, 2 * MAX_BURST_IN_ALL as usize);
        // And it is as if nobody had asked for anything.
        let others = 1_000..1_001 + MAX_BURST_IN_ALL as usize;
        let let_in = others.filter(|n| rates.take(mac(*n)).is_ok()).count();
        assert_eq!(let_in, MAX_BURST_IN_ALL as usize);
    }
}
