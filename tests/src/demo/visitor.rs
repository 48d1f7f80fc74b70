//! Bob's side of a channel: the real `bitmesh connect` in his namespace.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use crate::agent::Program;
use crate::namespace::Namespace;
use crate::process;
use crate::wait::until;

/// What he is ready to pay, and what goes into the channel.
pub(super) struct Purse<'a> {
    /// For a MiB, at most.
    pub(super) max_msat_per_mib: u64,
    /// The channel holds this.
    pub(super) budget_sat: u64,
    /// Where the rest comes back to.
    pub(super) change_to: &'a str,
    /// The chain's height.
    pub(super) tip_height: u32,
}

/// A running `bitmesh connect`; killed on drop.
pub(super) struct Visitor {
    child: Child,
    told: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

impl Visitor {
    /// Starts it; keys and channels are kept in `state`.
    ///
    /// # Errors
    ///
    /// Fails if it can't be started.
    pub(super) fn start(bob: &Namespace, state: &Path, purse: &Purse) -> Result<Self> {
        let mut command = Command::new(Program::True.path()?);
        command.args(["connect", "--json", "--network", "regtest"]);
        command.args(["--max-msat-per-mib", &purse.max_msat_per_mib.to_string()]);
        command.args(["--budget-sat", &purse.budget_sat.to_string()]);
        command.args(["--change-to", purse.change_to]);
        command.args(["--tip-height", &purse.tip_height.to_string()]);
        command.arg("--state").arg(state);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = bob.enter(|| command.spawn().context("cannot start bitmesh connect"))?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let told = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&told);
        let reader = std::thread::spawn(move || {
            for event in lines.map_while(Result::ok).filter_map(|l| serde_json::from_str(&l).ok()) {
                keep.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        Ok(Self { child, told, reader: Some(reader) })
    }

    /// The newest event of this name, if there was one.
    #[must_use]
    pub(super) fn newest(&self, name: &str) -> Option<Value> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().rev().find(|event| event["event"] == name).cloned()
    }

    /// Waits for an event of this name for which `holds`, and gives it.
    ///
    /// # Errors
    ///
    /// Fails if it ends before, or does not tell it in time.
    pub(super) fn wait_for(&mut self, name: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        until(name, || {
            if self.newest(name).is_some_and(|event| holds(&event)) {
                return Ok(true);
            }
            match self.child.try_wait()? {
                Some(status) => bail!("bitmesh connect ended with {status} before `{name}`"),
                None => Ok(false),
            }
        })?;
        self.newest(name).context("it was there")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// Fails if it does not run.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(Pid::from_raw(i32::try_from(self.child.id())?), signal)
    }

    /// Interrupts it, as Ctrl-C does, and gives how the channel was closed.
    ///
    /// # Errors
    ///
    /// Fails if it does not close the channel.
    pub(super) fn close(mut self) -> Result<Value> {
        self.signal(Signal::SIGINT)?;
        let status = self.child.wait()?;
        if let Some(reader) = self.reader.take() {
            // What it read is in the list.
            let _ = reader.join();
        }
        self.newest("closed").with_context(|| format!("bitmesh connect ended with {status}"))
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        // It may have ended on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
