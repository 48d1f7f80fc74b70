//! What is durable of the channels, for the copy of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bitmesh_core::wire::ChannelId;
use bitmesh_core::{BatchId, Gateway, Record};

use super::{AgentError, rights};
use crate::backup::{Backup, Health, Target};
use crate::control::BackupStatus;
use crate::folder::make_durable;

/// Nobody but root looks into it, if it has to be made.
const DIRECTORY_MODE: u32 = 0o700;

/// How long an agent that ends waits for the copy.
const MAX_LAST_SAVE: Duration = Duration::from_secs(5);

/// The copy, if one is kept.
#[derive(Debug, Default)]
pub(super) struct Copies {
    backup: Option<Backup>,
    /// What the batches change that are on their way to the disk: as many as the writer takes.
    on_their_way: BTreeMap<BatchId, Touched>,
}

#[derive(Debug, Default)]
struct Touched {
    channels: BTreeSet<ChannelId>,
    has_key: bool,
}

/// Makes sure that the copy has a place, while the agent has the right to make one.
///
/// # Errors
///
/// Fails if there is none.
pub(super) fn prepare(target: &Target) -> Result<(), AgentError> {
    let failed = |path: &Path, error| AgentError::Backup { path: path.to_owned(), error };
    match target {
        Target::Directory(path) => {
            make_durable(path, DIRECTORY_MODE).map_err(|error| failed(path, error))
        }
        Target::Command(words) => {
            let program = Path::new(words.first().map_or("", String::as_str));
            program.metadata().map(drop).map_err(|error| failed(program, error))
        }
    }
}

impl Copies {
    /// Starts the thread that saves, with what is durable already.
    ///
    /// # Errors
    ///
    /// Fails if the system has no thread left.
    pub(super) fn start(target: Option<&Target>, gateway: &Gateway) -> Result<Self, AgentError> {
        let Some(target) = target else { return Ok(Self::default()) };
        let give_up = || match rights::drop_all() {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the channels are not backed up");
                false
            }
        };
        let backup = Backup::start(target.clone(), give_up).map_err(AgentError::Runtime)?;
        gateway.backup_lines().into_iter().for_each(|line| backup.keep(line));
        Ok(Self { backup: Some(backup), on_their_way: BTreeMap::new() })
    }

    /// Notes what a batch changes that goes to the disk.
    pub(super) fn note(&mut self, batch: BatchId, records: &[Record]) {
        if self.backup.is_none() {
            return;
        }
        let mut touched = Touched::default();
        for record in records {
            match record {
                Record::Channel(state) => drop(touched.channels.insert(state.id)),
                Record::Update(update) => drop(touched.channels.insert(update.channel)),
                Record::KeyIndex(_) => touched.has_key = true,
                Record::Credit(_)
                | Record::Account(_)
                | Record::Usage(_)
                | Record::Transfer(_)
                | Record::Forget(_)
                | Record::ForgetAccount(_) => {}
            }
        }
        if touched.has_key || !touched.channels.is_empty() {
            self.on_their_way.insert(batch, touched);
        }
    }

    /// The batch is durable, and the books have taken it over.
    pub(super) fn durable(&mut self, batch: BatchId, gateway: &Gateway) {
        let (Some(backup), Some(touched)) = (&self.backup, self.on_their_way.remove(&batch)) else {
            return;
        };
        let key = touched.has_key.then(|| gateway.highest_key()).flatten();
        let lines = touched.channels.iter().filter_map(|id| gateway.backup_line(*id));
        key.into_iter().chain(lines).for_each(|line| backup.keep(line));
    }

    /// The batch was not written.
    pub(super) fn failed(&mut self, batch: BatchId) {
        self.on_their_way.remove(&batch);
    }

    /// How it does.
    pub(super) fn status(&self) -> Option<BackupStatus> {
        let Health { behind, why } = self.backup.as_ref()?.health();
        Some(BackupStatus { behind: behind as u64, why })
    }

    /// Lets what waits be saved.
    pub(super) fn finish(self) {
        if let Some(backup) = self.backup
            && !backup.finish(MAX_LAST_SAVE)
        {
            tracing::warn!("the backup lacks the last moments: the next start completes it");
        }
    }
}
