//! A machine emulated in software, its console line by line.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::kernel::{Arch, Unpacked};
use crate::debian;
use crate::machine::{self, Need};
use crate::process::find_program;
use crate::workspace::Workspace;

/// Lines of the console that are shown when a machine fails.
const MAX_SHOWN_LINES: usize = 200;

/// How long a machine may take to its end once its programs have ended.
const MAX_WAIT_FOR_END: Duration = Duration::from_secs(20);

const EMULATORS: &[Need] = &[
    Need::new("qemu-system-x86_64", "qemu-system-x86"),
    Need::new("qemu-system-aarch64", "qemu-system-arm"),
];

/// The release of Debian whose own QEMU is older than what was tried (10.0).
const TOO_OLD: &str = "bookworm";

/// A machine that is switched off.
pub(crate) struct Machine<'a> {
    /// What it is.
    pub(crate) arch: Arch,
    /// What it boots.
    pub(crate) kernel: &'a Unpacked,
    /// Its first file system.
    pub(crate) image: &'a Path,
    /// MiB of memory.
    pub(crate) memory_mib: u32,
    /// Processors.
    pub(crate) processors: u32,
    /// One instruction a ns, and the same each time: for one processor.
    pub(crate) counts_instructions: bool,
    /// How long it may run.
    pub(crate) limit: Duration,
}

/// Installs the emulators if they are missing.
pub(crate) fn prepare(workspace: &Workspace) -> Result<()> {
    if EMULATORS.iter().all(|need| find_program(need.program()).is_some()) {
        return Ok(());
    }
    let packages: Vec<&str> = EMULATORS.iter().map(Need::package).collect();
    if machine::codename().as_deref() != Some(TOO_OLD) {
        return machine::install(&packages);
    }
    let suite = format!("{TOO_OLD}-backports");
    let folder = workspace.target.join("tools/vm");
    std::fs::create_dir_all(&folder)?;
    let list = folder.join("backports.list");
    std::fs::write(&list, debian::source(&suite)?)?;
    machine::install_from(&suite, &list, &packages)
}

impl Machine<'_> {
    /// Switches it on, and hands each line of its console to `line` until it is off.
    pub(crate) fn run(&self, mut line: impl FnMut(&str)) -> Result<()> {
        let mut child = self.command().spawn().context("cannot start QEMU")?;
        let console = child.stdout.take().context("QEMU has no output")?;
        let (sender, lines) = mpsc::channel();
        // It ends with the console, which ends with QEMU.
        thread::spawn(move || {
            let mut console = BufReader::new(console);
            let mut bytes = Vec::new();
            while console.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                if sender.send(readable(&bytes)).is_err() {
                    break;
                }
                bytes.clear();
            }
        });
        let deadline = Instant::now() + self.limit;
        let mut last = VecDeque::new();
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(said) => {
                    line(&said);
                    if last.len() == MAX_SHOWN_LINES {
                        last.pop_front();
                    }
                    last.push_back(said);
                }
                Err(RecvTimeoutError::Disconnected) => return end(child, &last),
                Err(RecvTimeoutError::Timeout) => {
                    child.kill()?;
                    child.wait()?;
                    bail!("not off after {} s, killed: {}", self.limit.as_secs(), shown(&last));
                }
            }
        }
    }

    fn command(&self) -> Command {
        let (program, machine, console) = match self.arch {
            Arch::Amd64 => ("qemu-system-x86_64", ["-M", "pc", "-cpu", "max"], "ttyS0"),
            Arch::Arm64 => ("qemu-system-aarch64", ["-M", "virt", "-cpu", "cortex-a72"], "ttyAMA0"),
        };
        let mut qemu = Command::new(program);
        qemu.args(machine).args(["-nographic", "-no-reboot", "-nodefaults"]);
        qemu.args(["-serial", "stdio", "-monitor", "none"]);
        if self.counts_instructions {
            qemu.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]);
        } else {
            qemu.args(["-accel", "tcg,thread=multi"]);
        }
        qemu.args(["-m", &self.memory_mib.to_string(), "-smp", &self.processors.to_string()]);
        qemu.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(self.image);
        // A panic ends the machine (`panic=-1` restarts, `-no-reboot` does not).
        qemu.args(["-append", &format!("console={console} rdinit=/init panic=-1 quiet")]);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        qemu
    }
}

fn end(mut child: Child, last: &VecDeque<String>) -> Result<()> {
    let deadline = Instant::now() + MAX_WAIT_FOR_END;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("QEMU ended with {status}: {}", shown(last));
            }
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    bail!("QEMU closed its console and did not end: {}", shown(last))
}

/// The last lines of a console, for an error.
fn shown(lines: &VecDeque<String>) -> String {
    if lines.is_empty() {
        return "the console is empty".to_owned();
    }
    lines.iter().fold("the console's end:".to_owned(), |text, line| text + "\n  " + line)
}

/// A line without what moves a terminal's cursor.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut line = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                // ECMA-48 §5.4: a sequence ends with a letter; `ESC c` is one alone.
                let mut rest = characters.by_ref().skip_while(|c| !c.is_ascii_alphabetic());
                rest.next();
            }
            '\r' | '\n' => {}
            other => line.push(other),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_console_is_plain_text() {
        assert_eq!(readable(b"\x1bc\x1b[?7l\x1b[2J\x1b[0mtest a ... ok\r\n"), "test a ... ok");
    }
}
