//! How many connections there are, in all and of one station.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bitmesh_core::Mac;

/// Counts connections, or what stands on them.
#[derive(Clone, Debug)]
pub(super) struct Places {
    taken: Arc<Mutex<HashMap<Option<Mac>, usize>>>,
    in_all: usize,
    of_one: usize,
}

/// A place, given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    mac: Option<Mac>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// There are as many as can be.
    Full,
    /// The station has as many as one can have.
    Station,
}

impl Places {
    /// This many in all, and this many of one station.
    pub(super) fn new(in_all: usize, of_one: usize) -> Self {
        Self { taken: Arc::default(), in_all, of_one }
    }

    /// Takes a place. Stations that can't be told apart share one count.
    pub(super) fn take(&self, mac: Option<Mac>) -> Result<Place, NoPlace> {
        let mut counts = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.values().sum::<usize>() >= self.in_all {
            return Err(NoPlace::Full);
        }
        let count = counts.entry(mac).or_default();
        if *count >= self.of_one {
            return Err(NoPlace::Station);
        }
        *count += 1;
        Ok(Place { places: self.clone(), mac })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.mac) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.mac);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_STATION};
    use super::*;

    #[test]
    fn a_station_has_few_places_all_together_have_many_and_each_comes_back() {
        let places = Places::new(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_STATION);
        let mac = |n: usize| Some(Mac::new([2, 0, 0, 0, (n >> 8) as u8, n as u8]));
        let mut held: Vec<_> = Vec::new();
        for n in 0..MAX_CONNECTIONS {
            held.push(places.take(mac(n / MAX_CONNECTIONS_PER_STATION)).expect("a place"));
            if n + 1 == MAX_CONNECTIONS_PER_STATION {
                assert_eq!(places.take(mac(0)).expect_err("full"), NoPlace::Station);
            }
        }
        assert_eq!(places.take(mac(9_999)).expect_err("full"), NoPlace::Full);
        drop(held.pop());
        assert!(places.take(mac(9_999)).is_ok());
        held.clear();
        assert!(places.taken.lock().expect("not poisoned").is_empty());
    }
}
