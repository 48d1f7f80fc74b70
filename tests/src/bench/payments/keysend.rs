//! The rival: keysend between two Lightning nodes on the same disk.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bitcoin::{Address, Amount};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::process;
use crate::regtest::Regtest;

/// How long all of it may take beside what is measured.
const MAX_SETUP: Duration = Duration::from_secs(180);

/// Measures each way of sending for so long. Gives names and payments a second.
///
/// # Errors
///
/// Fails if the program does, or takes too long.
pub(super) fn measure(program: &Path, time: Duration) -> Result<Vec<(String, f64)>> {
    let node = Regtest::start()?;
    // Where the agent's database is, too.
    let folder = TempDir::with_prefix("bitmesh-keysend-")?;
    let mut command = Command::new(program);
    command.arg(format!("127.0.0.1:{}", node.port())).arg(node.cookie()).arg(folder.path());
    command.arg(time.as_secs().to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {program:?}"))?;
    let (mut orders, said) = (child.stdin.take().context("piped")?, child.stdout.take());
    let said = BufReader::new(said.context("piped")?);
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let (done, waits) = channel::<()>();
    let results = std::thread::scope(|scope| {
        scope.spawn(move || {
            if waits.recv_timeout(MAX_SETUP + 3 * time) == Err(RecvTimeoutError::Timeout) {
                // Then it says no more.
                drop(process::signal(pid, Signal::SIGKILL));
            }
        });
        let results = (|| -> Result<Vec<(String, f64)>> {
            let mut results = Vec::new();
            for line in said.lines() {
                match line?.split(' ').collect::<Vec<_>>()[..] {
                    ["pay", address, sat] => pay(&node, address, sat.parse()?)?,
                    ["mine", blocks] => node.mine(blocks.parse()?)?,
                    ["result", name, value] => {
                        results.push((name.to_owned(), value.parse()?));
                        continue;
                    }
                    ref other => bail!("the nodes said {other:?}"),
                }
                writeln!(orders, "done")?;
            }
            Ok(results)
        })();
        drop(done);
        results
    });
    if results.is_err() {
        // It may have ended on its own.
        let _ = child.kill();
    }
    let status = child.wait()?;
    let results = results?;
    ensure!(status.success(), "the nodes ended with {status}");
    Ok(results)
}

fn pay(node: &Regtest, address: &str, sat: u64) -> Result<()> {
    let address: Address<_> = address.parse()?;
    let script = address.assume_checked().script_pubkey();
    node.pay(&script, Amount::from_sat(sat)).map(drop)
}
