//! Signals to the processes under test.

use std::fs;
use std::io::{self, ErrorKind};

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// Sends a signal.
///
/// `kill(2)` comes back before a thread on another CPU has noticed `SIGSTOP`, and that thread may
/// still answer. So this comes back when every thread has stopped.
///
/// # Errors
///
/// Fails if the process is not there, or does not stop.
pub fn signal(pid: Pid, signal: Signal) -> Result<()> {
    kill(pid, signal)?;
    if signal == Signal::SIGSTOP {
        wait::until("every thread has stopped", || Ok(has_stopped(pid)?))?;
    }
    Ok(())
}

/// Whether each of its threads is in the state `T` (proc(5), `/proc/pid/stat`).
fn has_stopped(pid: Pid) -> io::Result<bool> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(task?.path().join("stat")) {
            Ok(stat) if state(&stat) != Some('T') => return Ok(false),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            // A thread that has ended since does not run.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(true)
}

/// The name before it stands in parentheses and may hold any character.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_was_told_to_stop_has_stopped() {
        let mut child = Command::new("yes").stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        signal(pid, Signal::SIGCONT).unwrap();
        assert!(!has_stopped(pid).unwrap());
        signal(pid, Signal::SIGSTOP).unwrap();
        assert!(has_stopped(pid).unwrap());
        signal(pid, Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        assert!(signal(pid, Signal::SIGCONT).is_err());
    }

    #[test]
    fn the_state_comes_after_a_name_with_parentheses() {
        assert_eq!(state("7 (a) R (b)) T 1 7"), Some('T'));
        assert_eq!(state("7 (bitcoind) S 1 7"), Some('S'));
        assert_eq!(state("7"), None);
    }
}
