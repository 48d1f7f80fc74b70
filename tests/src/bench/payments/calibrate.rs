//! What the machine itself can do: one sync of the disk, and one check of a signature.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::buyer::{Buyer, both_sides};

/// Bytes of a page of the database.
const PAGE: usize = 4_096;

/// Updates that are checked again and again.
const UPDATES: u64 = 1_000;

/// A height before the channel's last call.
const TIP: u32 = 0;

/// Appends pages to a file in this folder, each synced on its own, for so long. Gives the milliseconds that each
/// took.
///
/// # Errors
///
/// Fails if the disk does.
pub(super) fn syncs_ms(folder: &Path, time: Duration) -> Result<Vec<f64>> {
    let path = folder.join("calibration");
    let file = File::create(&path)?;
    let (start, mut took) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let began = Instant::now();
        file.write_all_at(&[0xa5; PAGE], (took.len() * PAGE) as u64)?;
        file.sync_all()?;
        took.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    std::fs::remove_file(path)?;
    Ok(took)
}

/// Whole checks of updates a second, on one core, for so long.
///
/// # Errors
///
/// Fails if one does not hold.
pub(super) fn checks_per_second(like: &Buyer, time: Duration) -> Result<f64> {
    let (payee, updates) = both_sides(like, UPDATES)?;
    let (start, mut count) = (Instant::now(), 0_u64);
    for update in updates.iter().cycle() {
        ensure!(payee.verify(update.clone(), TIP).is_ok(), "an update does not hold");
        count += 1;
        if start.elapsed() >= time {
            break;
        }
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
