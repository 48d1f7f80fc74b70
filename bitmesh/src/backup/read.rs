//! A backup, read again.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use bitmesh_core::backup::BackupLine;

/// Bytes of a line, at most.
pub const MAX_LINE_BYTES: u64 = 16 * 1_024;

/// Lines, or files, of a backup, at most.
pub const MAX_LINES: usize = 1 << 20;

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// In the order of the file; of a directory, in no order.
    pub lines: Vec<BackupLine>,
    /// What could not be read, and why. A line that a power cut tore is one of them.
    pub damaged: Vec<String>,
}

/// Why a backup can't be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refuses.
    #[error("the backup {path}: {error}: mend the path")]
    File {
        /// Which file or directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is too long.
    #[error("the backup {0} has more than {MAX_LINES} lines: keep the last ones of each channel")]
    TooLong(PathBuf),
}

/// Reads a directory of files, or a file of lines.
///
/// # Errors
///
/// [`ReadError`]. What is damaged in it is no error: it is told beside the rest.
pub fn read(path: &Path) -> Result<Read, ReadError> {
    let failed = |error| ReadError::File { path: path.to_owned(), error };
    let mut all = Read::default();
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        read_file(path, &mut all)?;
        return Ok(all);
    }
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|extension| extension == "json") {
            read_file(&file, &mut all)?;
        }
    }
    Ok(all)
}

fn read_file(path: &Path, all: &mut Read) -> Result<(), ReadError> {
    let failed = |error| ReadError::File { path: path.to_owned(), error };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    for number in 1_usize.. {
        let mut line = Vec::new();
        let read = (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
        if read.map_err(failed)? == 0 {
            break;
        }
        if all.lines.len() + all.damaged.len() >= MAX_LINES {
            return Err(ReadError::TooLong(path.to_owned()));
        }
        match serde_json::from_slice(&line) {
            Ok(line) => all.lines.push(line),
            Err(_) if line.iter().all(u8::is_ascii_whitespace) => {}
            Err(error) => {
                all.damaged.push(format!("{}, line {number}: {error}", path.display()));
            }
        }
    }
    Ok(())
}
