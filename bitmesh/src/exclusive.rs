//! One process at a time: locks that the system releases however their holder ends.

use std::io;
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long to wait for a holder that is about to end: a program that it starts shares its lock
/// until that program runs, even if the holder is dead by then.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How often to look.
const LOOK: Duration = Duration::from_millis(20);

/// Locks a file or folder for as long as it is open (flock(2)). `false` if another holder still has
/// it after a second.
///
/// # Errors
///
/// Fails if the system does.
pub(crate) fn lock(file: impl AsFd) -> io::Result<bool> {
    let deadline = Instant::now() + MAX_WAIT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(LOOK),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn there_is_one_holder_and_one_that_is_about_to_end_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::open(folder.path()).unwrap();
        let holder = open();
        assert!(lock(&holder).unwrap());
        let second = open();
        assert!(!lock(&second).unwrap());
        let ends = std::thread::spawn(move || {
            sleep(Duration::from_millis(100));
            drop(holder);
        });
        assert!(lock(&second).unwrap());
        ends.join().unwrap();
    }
}
