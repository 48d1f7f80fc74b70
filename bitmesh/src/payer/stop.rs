//! Being told to stop, while waiting for something else.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often somebody asked to stop; shared between threads.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(Mutex<u32>, Condvar)>);

impl Stop {
    /// Asks to stop: once to close in order, twice to give that up.
    pub fn ask(&self) {
        let mut asked = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *asked = asked.saturating_add(1);
        self.0.1.notify_all();
    }

    /// How often it was asked for.
    #[must_use]
    pub fn asked(&self) -> u32 {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, but not longer than until it was asked for `times` times. Gives whether it was.
    pub(super) fn wait(&self, span: Duration, times: u32) -> bool {
        let deadline = Instant::now() + span;
        let mut asked = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *asked < times {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.1.wait_timeout(asked, left);
            asked = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_somebody_asks_and_not_before_its_time_otherwise() {
        let stop = Stop::default();
        let begun = Instant::now();
        assert!(!stop.wait(Duration::from_millis(20), 1));
        assert!(begun.elapsed() >= Duration::from_millis(20));
        let other = stop.clone();
        let asker = std::thread::spawn(move || other.ask());
        assert!(stop.wait(Duration::from_secs(60), 1));
        asker.join().unwrap();
        assert!(!stop.wait(Duration::from_millis(5), 2), "the second time is another");
    }
}
