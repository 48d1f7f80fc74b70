//! A disk as POSIX promises it and no better: what was synced is there, of the rest anything.
//!
//! - A write, or a new length, is on the disk once its file was synced. Until then any subset of
//!   them may be, in any order, each torn at any sector.
//! - A name is on the disk once its directory was synced. Until then any beginning of the changes
//!   of names may be: file systems keep these in a journal, in order.
//! - A sector that was not written to keeps what it held.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::trace::Op;

/// What a disk writes whole.
const SECTOR_BYTES: usize = 512;

/// SQLite's index of its log is mapped memory: its pages may hold anything, so they get this.
const MAPPED: &str = "-shm";
const MAPPED_BYTES: usize = 32_768;

/// What a power cut takes of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    All,
    /// Nothing.
    Nothing,
    /// The bytes, but not the names.
    Bytes,
    /// The second half of the last write.
    LastHalf,
    /// Every write to a file but the last: it went ahead of the others.
    AllButLast,
    /// What this seed draws, sector by sector.
    Drawn(u64),
}

impl Loss {
    /// Those that are tried at each moment, with so many drawn ones.
    #[must_use]
    pub fn each(seed: u64, drawn: u64) -> Vec<Self> {
        let named = [Self::All, Self::Nothing, Self::Bytes, Self::LastHalf, Self::AllButLast];
        let drawn = (0..drawn).map(|n| Self::Drawn(seed.wrapping_mul(drawn).wrapping_add(n)));
        named.into_iter().chain(drawn).collect()
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

type Names = BTreeMap<PathBuf, Node>;

/// A change of names that happens as a whole.
#[derive(Clone, Debug)]
struct Naming {
    folder: PathBuf,
    to: Vec<(PathBuf, Option<Node>)>,
}

/// The disk at one moment.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: Vec<File>,
    names: Names,
    durable_names: Names,
    pending_names: Vec<Naming>,
    lies: bool,
}

impl Disk {
    /// One that forgets to sync: a broken disk, to see that it is found out.
    #[must_use]
    pub fn that_lies() -> Self {
        Self { lies: true, ..Self::default() }
    }

    /// Takes the next operation.
    ///
    /// # Errors
    ///
    /// Fails if it is about a file that is not there.
    pub fn apply(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Said(_) => {}
            Op::Create(path) => {
                self.files.push(File::default());
                self.name(vec![(path.clone(), Some(Node::File(self.files.len() - 1)))]);
            }
            Op::MakeFolder(path) => self.name(vec![(path.clone(), Some(Node::Folder))]),
            Op::Write { path, at, bytes } => {
                let change = Change::Write { at: usize::try_from(*at)?, bytes: bytes.clone() };
                self.file(path)?.pending.push(change);
            }
            Op::Resize { path, length } => {
                let change = Change::Resize(usize::try_from(*length)?);
                self.file(path)?.pending.push(change);
            }
            Op::Sync(_) if self.lies => {}
            Op::Sync(path) => self.sync(path)?,
            Op::Rename(from, to) => {
                let node = self.node(from)?;
                self.name(vec![(from.clone(), None), (to.clone(), Some(node))]);
            }
            Op::Link(from, to) => {
                let node = self.node(from)?;
                self.name(vec![(to.clone(), Some(node))]);
            }
            Op::Unlink(path) => self.name(vec![(path.clone(), None)]),
        }
        Ok(())
    }

    fn node(&self, path: &Path) -> Result<Node> {
        self.names.get(path).copied().with_context(|| format!("no {}", path.display()))
    }

    fn file(&mut self, path: &Path) -> Result<&mut File> {
        let Node::File(file) = self.node(path)? else { anyhow::bail!("a folder") };
        self.files.get_mut(file).context("no such file")
    }

    fn name(&mut self, to: Vec<(PathBuf, Option<Node>)>) {
        let folder = to.first().and_then(|(path, _)| path.parent()).map(Path::to_owned);
        let naming = Naming { folder: folder.unwrap_or_default(), to };
        naming.apply(&mut self.names);
        self.pending_names.push(naming);
    }

    fn sync(&mut self, path: &Path) -> Result<()> {
        if let Some(Node::File(file)) = self.names.get(path) {
            let file = self.files.get_mut(*file).context("no such file")?;
            let pending = std::mem::take(&mut file.pending);
            pending.iter().for_each(|change| change.apply(&mut file.durable, |_| true));
            return Ok(());
        }
        let (now, later) = std::mem::take(&mut self.pending_names)
            .into_iter()
            .partition(|naming: &Naming| naming.folder == path);
        self.pending_names = later;
        now.iter().for_each(|naming| naming.apply(&mut self.durable_names));
        Ok(())
    }

    /// Whether a power cut loses nothing now.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.pending_names.is_empty() && self.files.iter().all(|file| file.pending.is_empty())
    }

    /// Writes what a power cut leaves of `from` into the folder `to`.
    ///
    /// # Errors
    ///
    /// Fails if the system does.
    pub fn cut(&self, loss: Loss, from: &Path, to: &Path) -> Result<()> {
        let mut dice = Dice(match loss {
            Loss::Drawn(seed) => seed,
            _ => 0,
        });
        let kept_names = match loss {
            Loss::All => 0,
            Loss::Drawn(_) => dice.below(self.pending_names.len() + 1),
            _ => self.pending_names.len(),
        };
        let mut names = self.durable_names.clone();
        self.pending_names.iter().take(kept_names).for_each(|naming| naming.apply(&mut names));
        for (path, node) in &names {
            let target = to.join(path.strip_prefix(from)?);
            match node {
                // What is in a folder without a name is lost with it.
                _ if !target.parent().is_some_and(Path::is_dir) => {}
                Node::Folder => DirBuilder::new().mode(0o700).create(&target)?,
                Node::File(_) if path.to_string_lossy().ends_with(MAPPED) => {
                    let anything = (0..MAPPED_BYTES).map(|_| dice.next().to_be_bytes()[0]);
                    write(&target, &anything.collect::<Vec<_>>())?;
                }
                Node::File(file) => {
                    let file = self.files.get(*file).context("no such file")?;
                    write(&target, &file.after(loss, &mut dice))?;
                }
            }
        }
        Ok(())
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(bytes)?)
}

impl Naming {
    fn apply(&self, names: &mut Names) {
        for (path, node) in &self.to {
            match node {
                Some(node) => drop(names.insert(path.clone(), *node)),
                None => drop(names.remove(path)),
            }
        }
    }
}

impl File {
    fn after(&self, loss: Loss, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let last = self.pending.len().saturating_sub(1);
        // One draw decides how much of this file is lost, so that most draws are not alike.
        let odds = dice.below(5);
        for (index, change) in self.pending.iter().enumerate() {
            match loss {
                Loss::All | Loss::Bytes => {}
                Loss::AllButLast if index < last => {}
                Loss::Nothing | Loss::AllButLast => change.apply(&mut bytes, |_| true),
                Loss::LastHalf if index < last => change.apply(&mut bytes, |_| true),
                Loss::LastHalf => {
                    let half = change.sectors().div_ceil(2);
                    change.apply(&mut bytes, |sector| sector < half);
                }
                // Whole, lost or torn: most are not torn.
                Loss::Drawn(_) => match dice.below(8) {
                    0 => change.apply(&mut bytes, |_| dice.below(2) == 0),
                    of => change.apply(&mut bytes, |_| of > odds),
                },
            }
        }
        bytes
    }
}

impl Change {
    fn sectors(&self) -> usize {
        match self {
            Self::Resize(_) => 1,
            Self::Write { bytes, .. } => bytes.len().div_ceil(SECTOR_BYTES),
        }
    }

    /// Applies the sectors that `keeps` names. A hole reads as zeros.
    fn apply(&self, to: &mut Vec<u8>, mut keeps: impl FnMut(usize) -> bool) {
        match self {
            Self::Resize(length) if keeps(0) => to.resize(*length, 0),
            Self::Resize(_) => {}
            Self::Write { at, bytes } => {
                // Sectors of the disk, not of the write.
                let mut at = *at;
                let mut rest = bytes.as_slice();
                let mut sector = 0;
                while !rest.is_empty() {
                    let room = SECTOR_BYTES - at % SECTOR_BYTES;
                    let (now, later) = rest.split_at(room.min(rest.len()));
                    if keeps(sector) {
                        let end = at + now.len();
                        to.resize(to.len().max(end), 0);
                        if let Some(place) = to.get_mut(at..end) {
                            place.copy_from_slice(now);
                        }
                    }
                    (at, rest, sector) = (at + now.len(), later, sector + 1);
                }
            }
        }
    }
}

/// SplitMix64: the same draws for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or(0)
    }
}

/// Every file below a folder, but for mapped ones.
///
/// # Errors
///
/// Fails if the system does.
pub fn files(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.to_string_lossy().ends_with(MAPPED) {
                found.insert(path.strip_prefix(folder)?.to_owned(), fs::read(&path)?);
            }
        }
    }
    Ok(found)
}
