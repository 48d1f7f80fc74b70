//! What can go wrong with the database, and how to mend it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the database did not do what the agent asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or its directory can't be used.
    #[error("{path}: {error}: choose another `database` in the configuration, or mend its rights")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another agent holds it.
    #[error("another agent{holder} uses {path}: stop it first, or choose another `database`")]
    Held {
        /// Which.
        path: PathBuf,
        /// Who, as far as it is known: ` (pid 42)` or nothing.
        holder: String,
    },
    /// It was written by a newer program.
    #[error(
        "{path} was written by a newer bitmesh (version {found}, this one knows up to {known}): \
         run that one"
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// It belongs to another program.
    #[error("{0} is not a database of bitmesh: choose another `database` in the configuration")]
    Foreign(PathBuf),
    /// The disk is full.
    #[error("{0}: the disk is full: make room")]
    DiskFull(PathBuf),
    /// SQLite refused.
    #[error("{path}: {error}: check the disk; if the file is damaged, restore it from a backup")]
    Sqlite {
        /// Which.
        path: PathBuf,
        /// What it says.
        error: rusqlite::Error,
    },
}

impl StoreError {
    /// A failure of SQLite on this file.
    pub(super) fn sqlite(path: &Path, error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull(path.to_owned()),
            Some(rusqlite::ErrorCode::NotADatabase) => Self::Foreign(path.to_owned()),
            _ => Self::Sqlite { path: path.to_owned(), error },
        }
    }
}
