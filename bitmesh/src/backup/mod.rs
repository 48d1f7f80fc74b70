//! A copy of the channels away from the gateway's disk, kept while it sells: in a directory, or by
//! a command of the operator's.
//!
//! Payments never wait for it. What is durable is given to a thread of its own, where the newest
//! line of a channel replaces the one that still waits: so a slow disk or a dead network makes the
//! copy late, by at most one line a channel, and nothing else. How late is in `bitmesh status`.

mod command;
mod directory;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bitmesh_core::backup::BackupLine;
use bitmesh_core::wire::ChannelId;

pub use self::command::MAX_COMMAND_TIME;
pub use self::read::{MAX_LINE_BYTES, MAX_LINES, Read, ReadError, read};

/// Lines that are saved in one go, at most.
pub const MAX_LINES_PER_SAVE: usize = 256;

/// The pause after a save that failed.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Where the copy goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file for each channel in this directory, replaced with each update.
    Directory(PathBuf),
    /// A program and its arguments. It reads lines of JSON, and ends with 0 when it has saved them.
    Command(Vec<String>),
}

/// How late the copy is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Lines that are not saved.
    pub behind: usize,
    /// Why the last try to save failed, if it did.
    pub why: Option<String>,
}

/// The thread that saves. Dropping it ends the thread after what it is at.
#[derive(Debug)]
pub struct Backup {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<Key, BackupLine>,
    /// Lines that are being saved.
    in_hand: usize,
    why: Option<String>,
    ended: bool,
}

/// What a line is about: a newer one replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Keys,
    Channel(ChannelId),
}

impl Backup {
    /// Starts the thread. `give_up_rights` is what it does first; it saves nothing if that fails.
    ///
    /// # Errors
    ///
    /// Fails if the system has no thread left.
    pub fn start(
        target: Target,
        give_up_rights: impl FnOnce() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("backup".to_owned()).spawn(move || {
            if give_up_rights() {
                theirs.save_all(&target);
            }
        })?;
        Ok(Self { shared })
    }

    /// Has a line saved. Never waits.
    pub fn keep(&self, line: BackupLine) {
        self.shared.lock().waiting.insert(key_of(&line), line);
        self.shared.woken.notify_all();
    }

    /// How late it is.
    #[must_use]
    pub fn health(&self) -> Health {
        let state = self.shared.lock();
        Health { behind: state.waiting.len() + state.in_hand, why: state.why.clone() }
    }

    /// Waits until all is saved, no longer than this, and says whether it is.
    #[must_use]
    pub fn finish(self, patience: Duration) -> bool {
        let state = self.shared.lock();
        let late = |state: &mut State| !state.waiting.is_empty() || state.in_hand > 0;
        let waited = self.shared.woken.wait_timeout_while(state, patience, late);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !late(&mut state)
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.woken.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save_all(&self, target: &Target) {
        while let Some(lines) = self.take() {
            let outcome = match target {
                Target::Directory(path) => directory::save(path, lines.values()),
                Target::Command(words) => command::save(words, lines.values()),
            };
            let failed = outcome.is_err();
            self.saved(lines, outcome.err());
            if failed {
                self.rest();
            }
        }
    }

    /// The next lines to save; `None` at the end.
    fn take(&self) -> Option<BTreeMap<Key, BackupLine>> {
        let idle = |state: &mut State| !state.ended && state.waiting.is_empty();
        let waited = self.woken.wait_while(self.lock(), idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return None;
        }
        let mut lines = BTreeMap::new();
        while lines.len() < MAX_LINES_PER_SAVE
            && let Some((key, line)) = state.waiting.pop_first()
        {
            lines.insert(key, line);
        }
        state.in_hand = lines.len();
        Some(lines)
    }

    /// What was not saved waits again, unless a newer line does.
    fn saved(&self, lines: BTreeMap<Key, BackupLine>, why: Option<String>) {
        let mut state = self.lock();
        state.in_hand = 0;
        if let Some(why) = &why {
            if state.why.as_ref() != Some(why) {
                tracing::error!(%why, "the channels are not backed up: it is tried again");
            }
            for (key, line) in lines {
                state.waiting.entry(key).or_insert(line);
            }
        }
        state.why = why;
        self.woken.notify_all();
    }

    fn rest(&self) {
        let until = Instant::now() + RETRY_AFTER;
        let mut state = self.lock();
        while !state.ended
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            let waited = self.woken.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

const fn key_of(line: &BackupLine) -> Key {
    match line {
        BackupLine::Keys { .. } => Key::Keys,
        BackupLine::Channel(line) => Key::Channel(line.channel),
        BackupLine::Over { channel } => Key::Channel(*channel),
    }
}
