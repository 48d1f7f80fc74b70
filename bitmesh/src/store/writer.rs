//! The one thread that writes.

use std::iter;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use bitmesh_core::{BatchId, Record};
use rusqlite::{Connection, TransactionBehavior};

use super::{Report, Store, StoreError, rows};

/// Batches that wait for the disk, at most.
pub const MAX_WAITING_BATCHES: usize = 256;

/// Batches that are committed together, at most.
pub const MAX_GROUP_BATCHES: usize = 256;

/// Reports that can be due at any time, at most: a queue of this length never blocks the writer.
pub const MAX_UNREAD_REPORTS: usize = MAX_WAITING_BATCHES + MAX_GROUP_BATCHES;

type Batch = (BatchId, Vec<Record>);

/// What waits for the disk.
#[derive(Debug)]
enum Job {
    Batch(Batch),
    Cursor(String),
}

/// Why a batch was not taken: it is handed back.
#[derive(Debug)]
pub enum Full {
    /// [`MAX_WAITING_BATCHES`] wait already: try again after the next report.
    Waiting(Vec<Record>),
    /// The writer has ended.
    Ended(Vec<Record>),
}

/// The thread that owns the store.
#[derive(Debug)]
pub struct Writer {
    queue: SyncSender<Job>,
    thread: JoinHandle<Store>,
}

impl Writer {
    /// Hands the store to a thread. It calls `report` for every batch, in the order in which they
    /// were given; batches that wait when the writer is dropped are still written.
    ///
    /// # Errors
    ///
    /// Fails if the system has no thread left.
    pub fn start(
        store: Store,
        report: impl FnMut(Report) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let path = store.path.clone();
        let (queue, batches) = sync_channel(MAX_WAITING_BATCHES);
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write_all(store, &batches, report))
            .map_err(|error| StoreError::File { path, error })?;
        Ok(Self { queue, thread })
    }

    /// Gives a batch to the writer, without waiting for the disk.
    ///
    /// # Errors
    ///
    /// Hands the records back if they can't be taken now.
    pub fn persist(&self, batch: BatchId, records: Vec<Record>) -> Result<(), Full> {
        match self.queue.try_send(Job::Batch((batch, records))) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(Job::Batch((_, records)))) => Err(Full::Waiting(records)),
            Err(TrySendError::Disconnected(Job::Batch((_, records)))) => Err(Full::Ended(records)),
            // It was no cursor that was sent.
            Err(_) => Err(Full::Ended(Vec::new())),
        }
    }

    /// Keeps where the chain was read to, after the batches that were given before. If the disk is
    /// too slow or refuses, the one that was kept before stands: then more is read again.
    pub fn keep_cursor(&self, blocks: String) {
        // If there is no room, a newer one comes soon.
        let _ = self.queue.try_send(Job::Cursor(blocks));
    }

    /// Writes what waits, and gives the store back; `None` if the thread has failed.
    ///
    /// Whoever takes the reports must still do so, or have [`MAX_UNREAD_REPORTS`] places.
    #[must_use]
    pub fn finish(self) -> Option<Store> {
        drop(self.queue);
        self.thread.join().ok()
    }
}

fn write_all(mut store: Store, jobs: &Receiver<Job>, mut report: impl FnMut(Report)) -> Store {
    while let Ok(first) = jobs.recv() {
        let (mut group, mut cursor) = (Vec::new(), None);
        for job in iter::once(first).chain(jobs.try_iter().take(MAX_GROUP_BATCHES - 1)) {
            match job {
                Job::Batch(batch) => group.push(batch),
                Job::Cursor(blocks) => cursor = Some(blocks),
            }
        }
        let reports = store.commit(&group);
        let all_written = reports.iter().all(|report| matches!(report, Report::Persisted(_)));
        reports.into_iter().for_each(&mut report);
        // What a failed batch said of those blocks must be read again.
        if let Some(blocks) = cursor.filter(|_| all_written)
            && let Err(error) = store.keep_cursor(&blocks)
        {
            tracing::warn!(%error, "where the chain was read to is not kept");
        }
    }
    store
}

/// Commits a group: see [`Store::commit`].
///
/// A failure of the commit itself fails the group. Some of it may then still be found after a
/// power cut, if the disk had it although it said otherwise. That does no harm: records are
/// absolute.
pub(super) fn commit(db: &mut Connection, path: &Path, group: &[Batch]) -> Vec<Report> {
    let mut reports = Vec::with_capacity(group.len());
    let failed = |error| Arc::new(StoreError::sqlite(path, error));
    let outcome = commit_group(db, group, |batch, result| {
        reports.push(match result {
            Ok(()) => Report::Persisted(batch),
            Err(error) => Report::Failed(batch, failed(error)),
        });
    });
    if let Err(error) = outcome {
        let error = failed(error);
        return group.iter().map(|(batch, _)| Report::Failed(*batch, error.clone())).collect();
    }
    reports
}

/// `Err` means that nothing of the whole group was written.
fn commit_group(
    db: &mut Connection,
    group: &[Batch],
    mut done: impl FnMut(BatchId, rusqlite::Result<()>),
) -> rusqlite::Result<()> {
    let mut transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (batch, records) in group {
        let written = write_batch(&mut transaction, records);
        if let Err(error) = &written
            && transaction.is_autocommit()
        {
            // SQLite has rolled back more than the savepoint: a full disk does that.
            tracing::error!(%error, "the database rolled back a whole group");
            return written;
        }
        done(*batch, written);
    }
    transaction.commit()
}

/// A savepoint that is dropped without a commit is rolled back.
fn write_batch(
    transaction: &mut rusqlite::Transaction<'_>,
    records: &[Record],
) -> rusqlite::Result<()> {
    let savepoint = transaction.savepoint()?;
    for record in records {
        rows::write(&savepoint, record)?;
    }
    savepoint.commit()
}
