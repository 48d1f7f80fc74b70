//! What must survive a power cut, in SQLite.
//!
//! [`Store`] opens the database, alone; [`Writer`] is the one thread that writes it from then on.
//! It commits all batches that wait in one transaction, so that a slow disk is asked once for
//! many payments.

mod channel_rows;
mod error;
mod lock;
mod rows;
mod schema;
mod transfer_rows;
mod u64_value;
mod writer;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bitmesh_core::{BatchId, Epoch, Record, Snapshot};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use self::lock::Lock;
use self::u64_value::Stored;
use crate::folder::make_durable;

pub use self::error::StoreError;
pub use self::writer::{Full, MAX_GROUP_BATCHES, MAX_UNREAD_REPORTS, MAX_WAITING_BATCHES, Writer};

/// How long the database may be held by somebody who looks inside, before a batch fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Only root reads who bought what.
const FILE_MODE: u32 = 0o600;
/// The directory of the database, if it has to be made.
const DIRECTORY_MODE: u32 = 0o700;

/// What became of a batch.
#[derive(Debug)]
pub enum Report {
    /// It is on the disk.
    Persisted(BatchId),
    /// None of it was written.
    Failed(BatchId, Arc<StoreError>),
}

/// The database, held by this process alone.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
    /// Released after the connection is closed: fields drop in order.
    _lock: Lock,
}

impl Store {
    /// Opens the database, or makes a new one, its directory included.
    ///
    /// # Errors
    ///
    /// Fails if another agent holds it, if it is of a newer version or not of BitMesh, and if the
    /// disk refuses.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        make_directory(path)?;
        let lock = Lock::take(path)?;
        make_private(path)?;
        let refused = |error| StoreError::sqlite(path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut db = Connection::open_with_flags(path, flags).map_err(refused)?;
        db.busy_timeout(BUSY_TIMEOUT).map_err(refused)?;
        schema::check_identity(&db, path)?;
        db.pragma_update(None, "journal_mode", "wal").map_err(refused)?;
        db.pragma_update(None, "synchronous", "full").map_err(refused)?;
        db.pragma_update(None, "foreign_keys", true).map_err(refused)?;
        schema::migrate(&mut db).map_err(refused)?;
        Ok(Self { db, path: path.to_owned(), _lock: lock })
    }

    /// All that is durable.
    ///
    /// # Errors
    ///
    /// Fails if the disk does, or if a row is not one that this program wrote.
    pub fn load(&self) -> Result<Snapshot, StoreError> {
        rows::load(&self.db).map_err(|error| StoreError::sqlite(&self.path, error))
    }

    /// The life of the meters that usage is written for; `None` before the first.
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    pub fn current_epoch(&self) -> Result<Option<Epoch>, StoreError> {
        self.db
            .query_row("SELECT epoch FROM epochs ORDER BY number DESC LIMIT 1", [], |row| {
                row.get::<_, Stored>(0)
            })
            .optional()
            .map(|found| found.map(|Stored(epoch)| Epoch(epoch)))
            .map_err(|error| StoreError::sqlite(&self.path, error))
    }

    /// Makes a new life of the meters the current one. The current one again changes nothing.
    ///
    /// # Errors
    ///
    /// Fails if the disk does, or if this epoch was left behind earlier.
    pub fn begin_epoch(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        if self.current_epoch()? == Some(epoch) {
            return Ok(());
        }
        self.db
            .execute("INSERT INTO epochs (epoch) VALUES (?1)", [Stored(epoch.0)])
            .map(drop)
            .map_err(|error| StoreError::sqlite(&self.path, error))
    }

    /// Where the chain was read to, as [`Self::keep_cursor`] was told.
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    pub fn cursor(&self) -> Result<Option<String>, StoreError> {
        self.db
            .query_row("SELECT blocks FROM chain_cursor", [], |row| row.get(0))
            .optional()
            .map_err(|error| StoreError::sqlite(&self.path, error))
    }

    /// Keeps where the chain was read to, in place of what was kept before.
    ///
    /// # Errors
    ///
    /// Fails if the disk does.
    pub fn keep_cursor(&mut self, blocks: &str) -> Result<(), StoreError> {
        self.db
            .execute("INSERT OR REPLACE INTO chain_cursor VALUES (1, ?1)", [blocks])
            .map(drop)
            .map_err(|error| StoreError::sqlite(&self.path, error))
    }

    /// Commits these batches in one transaction, each as a whole or not at all, and reports on
    /// them in their order.
    pub fn commit(&mut self, group: &[(BatchId, Vec<Record>)]) -> Vec<Report> {
        writer::commit(&mut self.db, &self.path, group)
    }
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) else {
        return Ok(());
    };
    make_durable(directory, DIRECTORY_MODE)
        .map_err(|error| StoreError::File { path: directory.to_owned(), error })
}

/// SQLite gives its other files the mode of this one.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::File { path: path.to_owned(), error };
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)
        .map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(FILE_MODE)).map_err(failed)
}

#[cfg(test)]
mod tests;
