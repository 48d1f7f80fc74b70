//! What a program did to its files, in order, from the system calls that it made.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// What is recorded: all that changes a file, and what moves the place of the next write.
/// A question mark lets an architecture lack the call.
const CALLS: &str = "trace=?open,?openat,?creat,?read,?write,?pread64,?pwrite64,?readv,?writev,\
    ?pwritev,?pwritev2,?lseek,?ftruncate,?truncate,?fallocate,?fsync,?fdatasync,?sync_file_range,\
    ?rename,?renameat,?renameat2,?link,?linkat,?symlink,?symlinkat,?unlink,?unlinkat,?mkdir,\
    ?mkdirat,?rmdir,?copy_file_range,?sendfile,?msync";

/// The longest write that is recorded whole.
const MAX_WRITE_BYTES: u32 = 1 << 24;

/// What begins an acknowledgement on the session's standard output.
pub const SAID: &str = "durable ";

/// One thing that was done. Paths are whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A file that was not there.
    Create(PathBuf),
    /// A directory that was not there.
    MakeFolder(PathBuf),
    /// Bytes at a place.
    Write {
        /// Where.
        path: PathBuf,
        /// From which byte on.
        at: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Another length.
    Resize {
        /// Of which file.
        path: PathBuf,
        /// Bytes from now on.
        length: u64,
    },
    /// A file, or a directory's names, are on the disk.
    Sync(PathBuf),
    /// Another name instead of the first.
    Rename(PathBuf, PathBuf),
    /// One more name.
    Link(PathBuf, PathBuf),
    /// One name less.
    Unlink(PathBuf),
    /// The session told its user that so many steps are durable.
    Said(usize),
}

/// Runs a program to its end, and tells what it did below `folder`.
///
/// # Errors
///
/// Fails if there is no `strace`, if the program fails, and if it does what is not known here.
pub fn record(program: &Path, arguments: &[&str], folder: &Path) -> Result<Vec<Op>> {
    let log = tempfile::NamedTempFile::new()?;
    let output = Command::new("strace")
        .args(["--seccomp-bpf", "-f", "-xx", "-y", "-e", CALLS, "-e", "signal=none"])
        .arg(format!("--string-limit={MAX_WRITE_BYTES}"))
        .arg("-o")
        .arg(log.path())
        .arg(program)
        .args(arguments)
        .arg(folder)
        .output()
        .context("cannot run strace: `cargo xtask test power-cut` installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the session failed: {said}");
    Recorder::new(folder).read(&std::fs::read_to_string(log.path())?)
}

struct Recorder {
    folder: PathBuf,
    there: BTreeSet<PathBuf>,
    /// Where the next write of a descriptor goes.
    places: HashMap<u64, u64>,
    ops: Vec<Op>,
}

impl Recorder {
    fn new(folder: &Path) -> Self {
        let folder = folder.to_owned();
        Self { folder, there: BTreeSet::new(), places: HashMap::new(), ops: Vec::new() }
    }

    fn read(mut self, log: &str) -> Result<Vec<Op>> {
        for line in log.lines() {
            let short = || line.chars().take(200).collect::<String>();
            if let Some(call) = Call::parse(line).with_context(short)? {
                self.call(&call).with_context(short)?;
            }
        }
        Ok(self.ops)
    }

    fn call(&mut self, call: &Call<'_>) -> Result<()> {
        match call.name {
            "open" | "creat" => self.open(call, 0),
            "openat" => self.open(call, 1),
            "write" => self.write(call, None),
            "pwrite64" => self.write(call, Some(call.number(3)?)),
            "read" => self.moved(call, |place| place + call.result),
            "lseek" => self.moved(call, |_| call.result),
            "pread64" => Ok(()),
            "ftruncate" => {
                let (path, length) = (call.descriptor(0)?.1, call.number(1)?);
                self.push(&path.clone(), Op::Resize { path, length })
            }
            "fsync" | "fdatasync" => {
                let path = call.descriptor(0)?.1;
                self.push(&path.clone(), Op::Sync(path))
            }
            "rename" => self.rename(call.path(0)?, call.path(1)?),
            "renameat" | "renameat2" => self.rename(call.path(1)?, call.path(3)?),
            "link" => self.link(call.path(0)?, call.path(1)?),
            "linkat" => self.link(call.path(1)?, call.path(3)?),
            "unlink" => self.unlink(call.path(0)?),
            "unlinkat" => self.unlink(call.path(1)?),
            "mkdir" => self.make_folder(call.path(0)?),
            "mkdirat" => self.make_folder(call.path(1)?),
            // Not done below the folder by what is tried here; if it ever is, it must be learnt.
            _ if call.arguments.iter().any(|one| self.is_inside(one)) => {
                bail!("{} is not known to this recorder", call.name)
            }
            _ => Ok(()),
        }
    }

    fn is_inside(&self, argument: &str) -> bool {
        let texts = argument.split(['"', '<', '>']).filter_map(unhex);
        texts
            .into_iter()
            .any(|text| PathBuf::from(std::ffi::OsString::from_vec(text)).starts_with(&self.folder))
    }

    fn push(&mut self, path: &Path, op: Op) -> Result<()> {
        // Of the folder itself only its names are of interest.
        let is_named = path != self.folder || matches!(op, Op::Sync(_));
        if is_named && path.starts_with(&self.folder) {
            self.ops.push(op);
        }
        Ok(())
    }

    fn open(&mut self, call: &Call<'_>, first: usize) -> Result<()> {
        let (descriptor, path) = call.opened()?;
        self.places.insert(descriptor, 0);
        if !path.starts_with(&self.folder) {
            return Ok(());
        }
        let flags = call.arguments.get(first + 1).copied().unwrap_or_default();
        ensure!(!flags.contains("O_APPEND"), "appending is not known to this recorder");
        if flags.contains("O_CREAT") && self.there.insert(path.clone()) {
            self.push(&path.clone(), Op::Create(path))
        } else if flags.contains("O_TRUNC") {
            self.push(&path.clone(), Op::Resize { path, length: 0 })
        } else {
            Ok(())
        }
    }

    fn write(&mut self, call: &Call<'_>, at: Option<u64>) -> Result<()> {
        let (descriptor, path) = call.descriptor(0)?;
        let mut bytes = call.bytes(1)?;
        bytes.truncate(usize::try_from(call.result)?);
        let place = self.places.entry(descriptor).or_default();
        let start = at.unwrap_or(*place);
        if at.is_none() {
            *place += call.result;
        }
        if descriptor == 1 {
            let text = String::from_utf8_lossy(&bytes);
            let steps =
                text.trim().strip_prefix(SAID).context("the session says strange things")?;
            self.ops.push(Op::Said(steps.parse()?));
            return Ok(());
        }
        self.push(&path.clone(), Op::Write { path, at: start, bytes })
    }

    fn moved(&mut self, call: &Call<'_>, to: impl Fn(u64) -> u64) -> Result<()> {
        let place = self.places.entry(call.descriptor(0)?.0).or_default();
        *place = to(*place);
        Ok(())
    }

    fn rename(&mut self, from: PathBuf, to: PathBuf) -> Result<()> {
        self.there.remove(&from);
        self.there.insert(to.clone());
        self.push(&from.clone(), Op::Rename(from, to))
    }

    fn link(&mut self, from: PathBuf, to: PathBuf) -> Result<()> {
        self.there.insert(to.clone());
        self.push(&from.clone(), Op::Link(from, to))
    }

    fn unlink(&mut self, path: PathBuf) -> Result<()> {
        self.there.remove(&path);
        self.push(&path.clone(), Op::Unlink(path))
    }

    fn make_folder(&mut self, path: PathBuf) -> Result<()> {
        self.push(&path.clone(), Op::MakeFolder(path))
    }
}

/// A system call that succeeded.
struct Call<'a> {
    name: &'a str,
    arguments: Vec<&'a str>,
    result: u64,
    /// Of an open: the path of the new descriptor.
    opened: &'a str,
}

impl<'a> Call<'a> {
    /// None for what failed, and for what is no call.
    fn parse(line: &'a str) -> Result<Option<Self>> {
        let (_, line) = line.split_once(' ').context("no process")?;
        let line = line.trim_start();
        if line.starts_with("+++") || line.starts_with("---") {
            return Ok(None);
        }
        ensure!(!line.contains("<unfinished"), "a session has one thread only");
        let (name, rest) = line.split_once('(').context("no call")?;
        let (arguments, result) = rest.rsplit_once(" = ").context("no result")?;
        let arguments = arguments.trim_end().strip_suffix(')').context("no end")?;
        if result.starts_with('-') || result.starts_with('?') {
            return Ok(None);
        }
        let end = result.find(|c: char| !c.is_ascii_digit()).unwrap_or(result.len());
        let (number, opened) = result.split_at(end);
        let arguments = arguments.split(", ").collect();
        Ok(Some(Self { name, arguments, result: number.parse()?, opened }))
    }

    fn argument(&self, index: usize) -> Result<&'a str> {
        self.arguments.get(index).copied().context("too few arguments")
    }

    fn number(&self, index: usize) -> Result<u64> {
        Ok(self.argument(index)?.parse()?)
    }

    fn bytes(&self, index: usize) -> Result<Vec<u8>> {
        let quoted = self.argument(index)?;
        let text = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        text.and_then(unhex).context("bytes that were cut short")
    }

    fn path(&self, index: usize) -> Result<PathBuf> {
        let path = PathBuf::from(std::ffi::OsString::from_vec(self.bytes(index)?));
        ensure!(path.is_absolute(), "{} is not a whole path", path.display());
        Ok(path)
    }

    fn descriptor(&self, index: usize) -> Result<(u64, PathBuf)> {
        named(self.argument(index)?)
    }

    fn opened(&self) -> Result<(u64, PathBuf)> {
        Ok((self.result, named(&format!("0{}", self.opened))?.1))
    }
}

/// `5<\x2f\x78>`: a descriptor with its path.
fn named(text: &str) -> Result<(u64, PathBuf)> {
    let (number, path) = text.split_once('<').context("a descriptor without a path")?;
    let path = path.split('>').next().and_then(unhex).context("a path that is no text")?;
    Ok((number.parse()?, PathBuf::from(std::ffi::OsString::from_vec(path))))
}

/// `\x2f\x78`; none if it is anything else.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.split("\\x").collect::<Vec<_>>();
    let (first, pairs) = pairs.split_first()?;
    let byte = |pair: &&str| (pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok()).flatten();
    first.is_empty().then(|| pairs.iter().map(byte).collect()).flatten()
}
