//! The payer's state on disk: the seed, and a file for each channel.
//!
//! It is written before anything follows from it: the key index before the key is shown, all that
//! a refund needs before the address is shown, the outpoint before the first update, each update
//! before it is sent.

mod disk;
mod record;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bitmesh_core::channel::{MAX_KEY_INDEX, Seed};
use bitmesh_core::wire::{ChannelId, SignedReceipt};
use rustix::rand::{GetRandomFlags, getrandom};

use self::disk::Disk;
#[cfg(test)]
pub(super) use self::disk::{Interrupt, Step};
pub use self::record::{ChannelRecord, End, Funding, Phase};
use crate::seed::{self, SeedError};

/// Channels that are kept, at most, those that ended among them.
const MAX_RECORDS: usize = 10_000;

/// How often a key index is drawn anew because it was used before.
const MAX_DRAWS: usize = 64;

const SEED: &str = "seed";

/// Why the state can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk does not serve.
    #[error("the state in {} can't be read or written ({error}): mend the disk, or name another directory with --state", .path.display())]
    Disk {
        /// Which directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another agent uses it.
    #[error("another bitmesh pays from {}: stop it, or name another directory with --state", .0.display())]
    Locked(PathBuf),
    /// A file is not what this program wrote.
    #[error(
        "{file} can't be used ({what}): restore it from a backup; do not delete it, money may depend on it"
    )]
    Damaged {
        /// Which file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// The seed.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// There is none.
    #[error("this system has no home directory: name one with --state")]
    NoHome,
    /// The system has no randomness.
    #[error("the system has no random numbers: {0}")]
    Random(io::Error),
}

/// The directory of the state unless another is named: `$XDG_DATA_HOME/bitmesh`, or
/// `~/.local/share/bitmesh` (XDG Base Directory Specification).
///
/// # Errors
///
/// [`StateError::NoHome`] if neither variable is set.
pub fn default_directory() -> Result<PathBuf, StateError> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("bitmesh"))
        .ok_or(StateError::NoHome)
}

/// The state of one payer, locked as long as this lives.
pub struct State {
    disk: Disk,
    seed: Seed,
    /// Held as long as this lives.
    _lock: File,
}

impl State {
    /// Opens the directory; makes it, and a seed, if there is none.
    ///
    /// # Errors
    ///
    /// [`StateError`] says why not.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |error| StateError::Disk { path: path.to_owned(), error };
        Self::with(Disk::open(path).map_err(failed)?)
    }

    /// As [`Self::open`], and every step of a write can be cut off.
    #[cfg(test)]
    pub(super) fn interrupted(path: &Path, interrupt: Interrupt) -> Result<Self, StateError> {
        let failed = |error| StateError::Disk { path: path.to_owned(), error };
        let mut disk = Disk::open(path).map_err(failed)?;
        disk.interrupt(interrupt);
        Self::with(disk)
    }

    fn with(disk: Disk) -> Result<Self, StateError> {
        let path = disk.path().to_owned();
        let failed = |error| StateError::Disk { path: path.clone(), error };
        let lock = disk.lock().map_err(failed)?.ok_or(StateError::Locked(path.clone()))?;
        let file = path.join(SEED);
        // A lost seed is not replaced in silence: its channels could not be refunded.
        let seed = if disk.names(MAX_RECORDS).map_err(failed)?.is_empty() {
            seed::load_or_create(&file)
        } else {
            seed::load(&file)
        }?;
        Ok(Self { disk, seed, _lock: lock })
    }

    /// Where all keys come from.
    #[must_use]
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.disk.path()
    }

    /// Every channel, in the order of their keys.
    ///
    /// # Errors
    ///
    /// If one can't be read: money may depend on it.
    pub fn channels(&self) -> Result<Vec<ChannelRecord>, StateError> {
        let names = self.disk.names(MAX_RECORDS).map_err(|error| self.failed(error))?;
        names.iter().map(|name| self.read(name)).collect()
    }

    fn read(&self, name: &str) -> Result<ChannelRecord, StateError> {
        let damaged = |what: String| StateError::Damaged { file: name.to_owned(), what };
        let bytes = self.disk.read(name).map_err(|error| self.failed(error))?;
        let bytes = bytes.ok_or_else(|| damaged("it went away".to_owned()))?;
        let record: ChannelRecord =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if record.version != record::VERSION {
            return Err(damaged(format!("version {} is not known here", record.version)));
        }
        if record.file() != name {
            return Err(damaged(format!("it is that of index {}", record.index)));
        }
        Ok(record)
    }

    /// An index that no channel here had. It is drawn, so that a state that was restored from a
    /// backup does not use one again that it has forgotten.
    ///
    /// # Errors
    ///
    /// As [`Self::channels`].
    pub fn new_index(&self) -> Result<u32, StateError> {
        let used: Vec<u32> = self.channels()?.iter().map(|record| record.index).collect();
        for _ in 0..MAX_DRAWS {
            let [a, b, c, d, ..] = random()?;
            let index = u32::from_le_bytes([a, b, c, d]) & MAX_KEY_INDEX;
            if !used.contains(&index) {
                return Ok(index);
            }
        }
        Err(StateError::Random(io::Error::other("they repeat")))
    }

    /// Makes a record durable. Once this returns, a power cut leaves it.
    ///
    /// # Errors
    ///
    /// [`StateError::Disk`]: then it may or may not be durable, and nothing may follow from it.
    pub fn save(&mut self, record: &ChannelRecord) -> Result<(), StateError> {
        let json = serde_json::to_vec_pretty(record);
        let mut json = json.map_err(|error| record.damaged(&error.to_string()))?;
        json.push(b'\n');
        let saved = self.disk.replace(&record.file(), &json);
        saved.map_err(|error| self.failed(error))
    }

    /// Makes the receipt of a channel durable, as `receipt-CHANNEL.json`.
    ///
    /// # Errors
    ///
    /// As [`Self::save`].
    pub fn save_receipt(
        &mut self,
        channel: ChannelId,
        receipt: &SignedReceipt,
    ) -> Result<(), StateError> {
        let mut json = serde_json::to_vec_pretty(receipt).map_err(|error| {
            let what = format!("its receipt: {error}");
            StateError::Damaged { file: channel.to_string(), what }
        })?;
        json.push(b'\n');
        let saved = self.disk.replace(&format!("receipt-{channel}.json"), &json);
        saved.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> StateError {
        StateError::Disk { path: self.disk.path().to_owned(), error }
    }
}

impl ChannelRecord {
    /// The layout that this program writes.
    pub(super) const VERSION: u32 = record::VERSION;
}

/// 32 bytes from the system's source of randomness.
pub(super) fn random() -> Result<[u8; 32], StateError> {
    let mut bytes = [0; 32];
    // Up to 256 bytes come whole or not at all (getrandom(2)).
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| StateError::Random(error.into()))?;
    Ok(bytes)
}
