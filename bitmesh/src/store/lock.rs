//! One agent at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{FILE_MODE, StoreError};
use crate::exclusive;

/// Bytes of the holder's process id that are read, at most.
const MAX_HOLDER_BYTES: u64 = 16;

/// A lock beside the database; the system releases it however the agent ends.
///
/// It is a file of its own: SQLite's locks on the database would be lost if this process closed
/// another descriptor of it.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the database at `path`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Held`] if another process or another store of this one has it for a second.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let lock_path = lock_path(path);
        let failed = |error| StoreError::File { path: lock_path.clone(), error };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&lock_path)
            .map_err(failed)?;
        if !exclusive::lock(&file).map_err(failed)? {
            return Err(StoreError::Held { path: path.to_owned(), holder: holder(&file) });
        }
        file.set_len(0).map_err(failed)?;
        write!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    name.into()
}

/// Who has the lock, in words; nothing if that can't be read.
fn holder(file: &File) -> String {
    let mut text = String::new();
    let read = file.take(MAX_HOLDER_BYTES).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!(" (pid {pid})"),
        _ => String::new(),
    }
}
