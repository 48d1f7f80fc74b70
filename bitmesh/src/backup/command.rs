//! A command of the operator's, which gets lines of JSON.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bitmesh_core::backup::BackupLine;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long it may take to save what it is given. Then it is ended, and run again.
pub const MAX_COMMAND_TIME: Duration = Duration::from_secs(30);

/// How often it is asked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the command with the lines at its standard input.
///
/// # Errors
///
/// Says why they are not saved and how to mend it.
pub(super) fn save<'a>(
    words: &[String],
    lines: impl Iterator<Item = &'a BackupLine>,
) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let failed = |error: io::Error| {
        format!("the backup command {program}: {error}: mend its path in [backup]")
    };
    // In memory and whole: so a command that does not read can't stop us.
    let input = input(lines).map_err(failed)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(input).stdout(Stdio::null()).process_group(0);
    let child = command.spawn().map_err(failed)?;
    match end_of(child).map_err(failed)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            Err(format!("the backup command {program} ended with {status}: see what it said"))
        }
        None => Err(format!(
            "the backup command {program} took more than {} s: make it quicker",
            MAX_COMMAND_TIME.as_secs()
        )),
    }
}

fn input<'a>(lines: impl Iterator<Item = &'a BackupLine>) -> io::Result<File> {
    let mut file = File::from(memfd_create("lines", MemfdFlags::CLOEXEC)?);
    for line in lines {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")?;
    }
    file.rewind()?;
    Ok(file)
}

/// How it ended; `None` if it took too long and was ended, with what it had started.
fn end_of(mut child: Child) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + MAX_COMMAND_TIME;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(LOOK_EVERY);
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by itself just now.
        let _ = kill_process_group(group, Signal::KILL);
    }
    child.wait().map(|_| None)
}
