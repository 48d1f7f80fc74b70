//! Tests that hang, ended: they would take the whole run with them, and nobody would know which.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Outcome;
use crate::process;

/// Lines that wait to be shown, at most.
const MAX_WAITING_LINES: usize = 1_000;

/// Runs tests, shows what they say, and counts. All that they started is killed when they say
/// nothing for so long.
pub(super) fn run(tests: &mut Command, max_silence: Duration) -> Result<Outcome> {
    let mut child = tests
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {tests:?}"))?;
    let said = child.stdout.take().context("the tests have no output")?;
    let mut outcome = Outcome::default();
    let ended = show(&lines_of(said), max_silence, &mut outcome);
    if !ended {
        kill_with_descendants(child.id())?;
    }
    let status = child.wait()?;
    if !ended {
        let minutes = max_silence.as_secs() / 60;
        bail!(
            "no test ended for {minutes} min: the ones that were named last hang, and were killed"
        );
    }
    if !status.success() && outcome.failed == 0 {
        bail!("the tests did not run: {status}");
    }
    Ok(outcome)
}

/// Its lines as they come. Whoever holds the other end open, the reader may leave.
fn lines_of(said: impl Read + Send + 'static) -> Receiver<std::io::Result<String>> {
    let (lines, shown) = mpsc::sync_channel(MAX_WAITING_LINES);
    thread::spawn(move || {
        for line in BufReader::new(said).lines() {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    shown
}

/// Shows and counts lines; `false` if there were none for too long.
fn show(
    lines: &Receiver<std::io::Result<String>>,
    max_silence: Duration,
    outcome: &mut Outcome,
) -> bool {
    loop {
        match lines.recv_timeout(max_silence) {
            Ok(Ok(line)) => {
                println!("{line}");
                outcome.read(&line);
            }
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}

/// Tests start agents, nodes and browsers, which outlive them.
fn kill_with_descendants(root: u32) -> Result<()> {
    let mut doomed = vec![root];
    let children = children_by_parent()?;
    let mut next = 0;
    while let Some(parent) = doomed.get(next) {
        doomed.extend(children.get(parent).into_iter().flatten());
        next += 1;
    }
    let doomed = doomed.iter().map(u32::to_string);
    // One that has ended since makes it complain, which is no failure.
    process::run(
        Command::new("sh").args(["-c", "kill -9 \"$@\" 2>/dev/null || true", "sh"]).args(doomed),
    )
}

fn children_by_parent() -> Result<HashMap<u32, Vec<u32>>> {
    let mut children = HashMap::<u32, Vec<u32>>::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended since has no parent.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(parent) = parent(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    Ok(children)
}

/// The fourth field of `/proc/pid/stat` (proc(5)); the second, the name, may hold any character.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_tests_say_is_counted() {
        let said = "test result: ok. 3 passed; 0 failed; 0 ignored";
        let outcome = run(&mut shell(&format!("echo '{said}'")), Duration::from_secs(10)).unwrap();
        assert_eq!(outcome, Outcome { passed: 3, failed: 0 });
    }

    #[test]
    fn tests_that_end_badly_without_a_failed_test_did_not_run() {
        let error = run(&mut shell("exit 3"), Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("did not run"), "{error}");
    }

    #[test]
    fn a_test_that_hangs_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; echo started; wait", note.display());
        let started = Instant::now();
        let error = run(&mut shell(&script), Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("hang"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(60), "it was waited for");
        let pid = fs::read_to_string(note).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        // Its new parent may not have taken note of its end yet.
        let lives = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        while lives() {
            assert!(started.elapsed() < Duration::from_secs(60), "it lives on");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn the_parent_comes_after_a_name_with_parentheses() {
        assert_eq!(parent("7 (a) S (b)) S 42 7"), Some(42));
        assert_eq!(parent("7"), None);
    }
}
