//! Files that are whole or not there, whatever moment the power goes.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::exclusive;
use crate::folder::make_durable;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Bytes of one file, at most: a channel with its funding transaction as hex.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

/// Ends the name of a file that is not whole yet.
const UNFINISHED: &str = ".new";

/// What a write does, one after the other. Tests cut it off before any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::payer) enum Step {
    Create,
    Write,
    Sync,
    Rename,
    SyncDirectory,
}

/// Hears of each step before it is done, and can prevent it.
pub(in crate::payer) type Interrupt = Box<dyn FnMut(Step) -> io::Result<()> + Send>;

/// A directory of ours alone.
pub(super) struct Disk {
    path: PathBuf,
    interrupt: Option<Interrupt>,
}

impl Disk {
    /// Opens the directory, and makes it if there is none.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        make_durable(path, DIRECTORY_MODE)?;
        fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))?;
        Ok(Self { path: path.to_owned(), interrupt: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(test)]
    pub(super) fn interrupt(&mut self, interrupt: Interrupt) {
        self.interrupt = Some(interrupt);
    }

    fn step(&mut self, step: Step) -> io::Result<()> {
        self.interrupt.as_mut().map_or(Ok(()), |interrupt| interrupt(step))
    }

    /// Replaces a file. Once it returns, the new one is what a power cut leaves; before, it is the
    /// old one or the new one, and nothing between.
    pub(super) fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.path.join(format!("{name}{UNFINISHED}"));
        self.step(Step::Create)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&unfinished)?;
        if let Err(error) = self.step(Step::Write) {
            // A write that was cut off leaves a part.
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            file.write_all(half)?;
            return Err(error);
        }
        file.write_all(bytes)?;
        self.step(Step::Sync)?;
        file.sync_all()?;
        self.step(Step::Rename)?;
        fs::rename(&unfinished, self.path.join(name))?;
        self.step(Step::SyncDirectory)?;
        File::open(&self.path)?.sync_all()
    }

    /// The whole of a file, or none if there is no such file.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too long"));
        }
        Ok(Some(bytes))
    }

    /// The names of the whole files, at most `limit`, in order.
    pub(super) fn names(&self, limit: usize) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name().into_string().unwrap_or_default();
            if name.starts_with("channel-") && name.ends_with(".json") {
                names.push(name);
            }
            if names.len() > limit {
                let error = "there are too many channels: move those that ended elsewhere";
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        names.sort();
        Ok(names)
    }

    /// A file that is locked as long as it is open; none if another process has it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(self.path.join("lock"))?;
        Ok(exclusive::lock(&file)?.then_some(file))
    }
}
