//! A session that is scripted, what it acknowledges, and what must be found after a cut.

use std::io::Write as _;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use tempfile::TempDir;

use super::disk::{Disk, Loss, files};
use super::trace::{Op, SAID, record};

/// A folder in memory: the model decides what is on the disk, so nothing here has to be.
const IN_MEMORY: &str = "/dev/shm";

/// Processors that are used, at most.
const MAX_WORKERS: usize = 16;

/// Cuts of the first worker after which it tells how far it is.
const TELL_EVERY: usize = 200;

/// A script, the same each time it is run.
pub trait Session {
    /// All that is durable, as the program's own code reads it.
    type State: PartialEq + std::fmt::Debug + Sync;

    /// Its name on the command line of the program that is recorded.
    const NAME: &'static str;

    /// Runs it in a folder. It calls `said` after each step that is durable.
    ///
    /// # Errors
    ///
    /// Fails if anything does.
    fn run(folder: &Path, said: Said<'_, Self::State>) -> Result<()>;

    /// Opens what a cut left as the program does when it starts, and reads it.
    ///
    /// # Errors
    ///
    /// Fails if it can't be opened, or if what it holds contradicts itself.
    fn restart(folder: &Path) -> Result<Self::State>;
}

/// Hears that a step is durable, and may look at what is.
pub type Said<'a, T> = &'a mut dyn FnMut(&dyn Fn() -> Result<T>) -> Result<()>;

/// What the recorded program does: runs the session, and acknowledges each step on its standard
/// output.
///
/// # Errors
///
/// Fails if the session does.
pub fn run_aloud<S: Session>(folder: &Path) -> Result<()> {
    let mut steps = 0;
    S::run(folder, &mut |_| {
        steps += 1;
        let mut output = std::io::stdout().lock();
        output.write_all(format!("{SAID}{steps}\n").as_bytes())?;
        Ok(output.flush()?)
    })
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Writes, syncs, renames and the like in the recording.
    pub operations: usize,
    /// Of these, syncs.
    pub syncs: usize,
    /// Steps that were acknowledged.
    pub steps: usize,
    /// Moments at which the power was cut.
    pub cuts: usize,
    /// States of the disk that were started from.
    pub restarts: usize,
}

/// The moments of one worker: of every `stride`th operation, every `of`th, from the `first`th on.
#[derive(Clone, Copy)]
struct Share {
    first: usize,
    of: usize,
    stride: usize,
}

impl Share {
    const fn has(self, operation: usize) -> bool {
        operation.is_multiple_of(self.stride) && operation / self.stride % self.of == self.first
    }
}

/// A recording, with what must be found after each step.
pub struct Recording<S: Session> {
    folder: TempDir,
    ops: Vec<Op>,
    expected: Vec<S::State>,
}

impl<S: Session> Recording<S> {
    /// Records the session, run by `program`.
    ///
    /// # Errors
    ///
    /// Fails if the session does, or if the recording does not lead to the files that it left.
    pub fn make(program: &Path) -> Result<Self> {
        let again = in_memory()?;
        let mut expected = Vec::new();
        S::run(again.path(), &mut |look| {
            expected.push(look()?);
            Ok(())
        })?;
        let folder = in_memory()?;
        let ops = record(program, &[S::NAME], folder.path())?;
        let this = Self { folder, ops, expected };
        this.is_whole()?;
        Ok(this)
    }

    /// The model, fed with all that was recorded, holds the files that are there.
    fn is_whole(&self) -> Result<()> {
        let mut disk = Disk::default();
        self.ops.iter().try_for_each(|op| disk.apply(op))?;
        let replayed = in_memory()?;
        disk.cut(Loss::Nothing, self.folder.path(), replayed.path())?;
        let (replayed, real) = (files(replayed.path())?, files(self.folder.path())?);
        let different = real.iter().find(|(path, bytes)| replayed.get(*path) != Some(*bytes));
        ensure!(different.is_none(), "the recording lacks something of {different:?}");
        ensure!(replayed.len() == real.len(), "the recording has more files than there are");
        let said = self.ops.iter().filter(|op| matches!(op, Op::Said(_))).count();
        ensure!(said == self.expected.len(), "{said} of {} steps were said", self.expected.len());
        Ok(())
    }

    /// How often a file whose name ends so was synced.
    #[must_use]
    pub fn syncs_of(&self, end: &str) -> usize {
        let is_one =
            |op: &&Op| matches!(op, Op::Sync(path) if path.to_string_lossy().ends_with(end));
        self.ops.iter().filter(is_one).count()
    }

    /// Cuts the power at every `stride`th operation, and starts again from each state of the disk
    /// that may be there, `drawn` drawn ones among them.
    ///
    /// # Errors
    ///
    /// Says at which operation, and with which loss, what was not found.
    pub fn cut_everywhere(&self, stride: usize, drawn: u64) -> Result<Tally> {
        self.cut_with(Disk::default, stride, drawn)
    }

    /// The same on a disk that forgets to sync.
    ///
    /// # Errors
    ///
    /// As [`Self::cut_everywhere`]: it must.
    pub fn cut_on_a_disk_that_lies(&self, stride: usize) -> Result<Tally> {
        self.cut_with(Disk::that_lies, stride, 0)
    }

    /// Shares the moments among the processors: each has a disk of its own.
    fn cut_with(&self, disk: fn() -> Disk, stride: usize, drawn: u64) -> Result<Tally> {
        let workers = thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        let shares: Vec<Result<Tally>> = thread::scope(|threads| {
            let of = workers;
            let work = |first| move || self.cut_share(disk(), Share { first, of, stride }, drawn);
            let started: Vec<_> = (0..workers).map(|first| threads.spawn(work(first))).collect();
            let panicked = |_| Err(anyhow!("a thread panicked"));
            started.into_iter().map(|share| share.join().unwrap_or_else(panicked)).collect()
        });
        let syncs = self.ops.iter().filter(|op| matches!(op, Op::Sync(_))).count();
        let (steps, operations) = (self.expected.len(), self.ops.len() - self.expected.len());
        let whole = Tally { operations, syncs, steps, ..Tally::default() };
        shares.into_iter().try_fold(whole, |mut sum, share| {
            let Tally { cuts, restarts, .. } = share?;
            (sum.cuts, sum.restarts) = (sum.cuts + cuts, sum.restarts + restarts);
            Ok(sum)
        })
    }

    fn cut_share(&self, mut disk: Disk, share: Share, drawn: u64) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut acknowledged = 0;
        for (index, op) in self.ops.iter().enumerate() {
            disk.apply(op)?;
            if let Op::Said(steps) = op {
                acknowledged = *steps;
            }
            if !share.has(index) {
                continue;
            }
            tally.cuts += 1;
            let calm = [Loss::Nothing];
            let losses = Loss::each(index as u64, drawn);
            for loss in if disk.is_calm() { calm.as_slice() } else { &losses } {
                self.restart(&disk, *loss, acknowledged).with_context(|| {
                    format!("power cut after operation {index} ({}), loss: {loss:?}", brief(op))
                })?;
                tally.restarts += 1;
            }
            if share.first == 0 && tally.cuts.is_multiple_of(TELL_EVERY) {
                eprintln!("{}: operation {index} of {}", S::NAME, self.ops.len());
            }
        }
        Ok(tally)
    }

    /// The step that was acknowledged is there, or the one that was under way: nothing else.
    fn restart(&self, disk: &Disk, loss: Loss, acknowledged: usize) -> Result<()> {
        let folder = in_memory()?;
        disk.cut(loss, self.folder.path(), folder.path())?;
        let found = S::restart(folder.path())?;
        let Some(known) = acknowledged.checked_sub(1) else { return Ok(()) };
        let mut allowed = self.expected.iter().skip(known).take(2);
        ensure!(
            allowed.any(|expected| *expected == found),
            "{acknowledged} steps were acknowledged, and this is there: {found:?}"
        );
        // What was opened once opens again, and says the same.
        ensure!(S::restart(folder.path())? == found, "a second start finds another state");
        Ok(())
    }
}

fn in_memory() -> Result<TempDir> {
    let prefix = "bitmesh-power-cut-";
    if Path::new(IN_MEMORY).is_dir() {
        Ok(TempDir::with_prefix_in(prefix, IN_MEMORY)?)
    } else {
        Ok(TempDir::with_prefix(prefix)?)
    }
}

fn brief(op: &Op) -> String {
    match op {
        Op::Write { path, at, bytes } => {
            format!("{} bytes at {at} of {}", bytes.len(), path.display())
        }
        other => format!("{other:?}"),
    }
}
