//! The real payer, `bitmesh connect`, in a subscriber's namespace.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::agent::Program;
use crate::lab::Subscriber;
use crate::process;
use crate::regtest::Regtest;

/// How long anything may take that the payer does.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often to look.
const LOOK: Duration = Duration::from_millis(10);

/// A payer and its state, which outlives its process; killed on drop.
#[derive(Debug)]
pub struct Payer {
    folder: TempDir,
    namespace: String,
    node: Vec<String>,
    child: Option<Child>,
    /// Bytes of the log that were written by earlier processes.
    seen: usize,
}

impl Payer {
    /// A payer with an empty state, whose wallet is the node's.
    ///
    /// # Errors
    ///
    /// Fails if no folder can be made.
    pub fn new(of: &Subscriber, node: &Regtest) -> Result<Self> {
        let cookie = node.cookie().display().to_string();
        Ok(Self {
            folder: TempDir::with_prefix("bitmesh-payer-")?,
            namespace: of.namespace.name().to_owned(),
            node: vec!["--rpc-cookie-file".to_owned(), cookie],
            child: None,
            seen: 0,
        })
    }

    /// Where keys and channels are.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg(Program::True.path()?);
        command.args(words).args(&self.node).arg("--state").arg(self.state());
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Starts `bitmesh connect`, which pays from the wallet of `node`, with more arguments.
    ///
    /// # Errors
    ///
    /// Fails if it runs already, or can't be started.
    pub fn connect(&mut self, node: &Regtest, words: &[&str]) -> Result<()> {
        ensure!(self.child.is_none(), "the payer runs already");
        self.seen = self.said().len();
        let log = File::options().create(true).append(true).open(self.log())?;
        let wallet = node.wallet_url();
        let mut command = self.command(&["connect", "--json", "--network", "regtest"])?;
        command.args(["--fund-from", &wallet]).args(words);
        command.stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("cannot start the payer")?);
        Ok(())
    }

    /// Runs another command of `bitmesh` with the same state and node, and gives all that it says.
    ///
    /// # Errors
    ///
    /// Fails if it can't be started.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        self.command(words)?.output().context("cannot start nsenter")
    }

    /// All that was said by every process so far.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// What the newest process said so far, in order.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let said = self.said();
        let lines = said.get(self.seen..).unwrap_or_default().lines();
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The newest event of this name, of the newest process.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<Value> {
        self.events().into_iter().rfind(|event| event["event"] == name)
    }

    /// Waits until the newest event of this name fits.
    ///
    /// # Errors
    ///
    /// Fails if the payer ends before, or takes too long, with what it said.
    pub fn until(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.event(name).filter(&fits) {
                return Ok(event);
            }
            if let Some(status) = self.child.as_mut().context("no payer")?.try_wait()? {
                self.child = None;
                bail!("the payer ended with {status} before {name}: {}", self.said());
            }
            ensure!(Instant::now() < deadline, "waited in vain for {name}: {}", self.said());
            std::thread::sleep(LOOK);
        }
    }

    /// Sends a signal that ends it, and waits for the end.
    ///
    /// # Errors
    ///
    /// Fails if it does not end.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the payer does not run")?;
        process::signal(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(LOOK);
        }
        self.child = Some(child);
        bail!("the payer did not end at {signal}: {}", self.said())
    }

    /// Lets it close by Ctrl-C, and gives the end that it tells of.
    ///
    /// # Errors
    ///
    /// Fails if it does not close.
    pub fn close(&mut self) -> Result<Value> {
        let status = self.end(Signal::SIGINT)?;
        ensure!(status.success(), "the payer ended with {status}: {}", self.said());
        self.event("closed").with_context(|| format!("no close: {}", self.said()))
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Payer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended on its own.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the payer said: {}", self.said());
        }
    }
}
