//! A file for each channel.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bitmesh_core::backup::BackupLine;

/// Who bought what is nobody's business.
const FILE_MODE: u32 = 0o600;

/// The file with the highest key index.
const KEYS: &str = "keys.json";

/// Saves lines: each file is whole, before and after a power cut. When this returns, a power cut
/// leaves them.
///
/// # Errors
///
/// Says what the system refuses and how to mend it.
pub(super) fn save<'a>(
    directory: &Path,
    lines: impl Iterator<Item = &'a BackupLine>,
) -> Result<(), String> {
    let saved = save_files(directory, lines);
    saved.map_err(|error| {
        format!("the backup in {}: {error}: mend it, or make room", directory.display())
    })
}

fn save_files<'a>(directory: &Path, lines: impl Iterator<Item = &'a BackupLine>) -> io::Result<()> {
    for line in lines {
        match line {
            BackupLine::Keys { .. } => replace(directory, KEYS, line)?,
            BackupLine::Channel(channel) => {
                replace(directory, &format!("{}.json", channel.channel), line)?;
            }
            BackupLine::Over { channel } => {
                match fs::remove_file(directory.join(format!("{channel}.json"))) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
    }
    File::open(directory)?.sync_all()
}

fn replace(directory: &Path, name: &str, line: &BackupLine) -> io::Result<()> {
    let unfinished = directory.join(format!("{name}.new"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    let mut file = options.open(&unfinished)?;
    serde_json::to_writer(&mut file, line)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(name))
}
