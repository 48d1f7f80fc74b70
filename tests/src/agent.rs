//! The real agent in the gateway's namespace, with a database, a socket and pins of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{LAN, Lab, Subscriber};
use crate::namespace::Namespace;
use crate::pins::Pins;
use crate::process;
use crate::wait::patiently;

/// Counts the agents of this process, so that no two share a pin directory.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// How long an agent may take to answer, or to end.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Which program to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// BitMesh.
    True,
    /// The same agent with a gate that bills one Ethernet header too much for each packet. Every
    /// counting test must catch it.
    Miscounting,
    /// BitMesh of a later release: other programs, same maps.
    Successor,
}

impl Program {
    /// Where cargo put it.
    ///
    /// # Errors
    ///
    /// Fails if it was not built.
    pub fn path(self) -> Result<PathBuf> {
        let name = match self {
            Self::True => "bitmesh",
            Self::Miscounting => "bitmesh-miscount",
            Self::Successor => "bitmesh-successor",
        };
        let own = std::env::current_exe()?;
        // Programs are beside the demonstration, and one folder above the tests.
        let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
        let found = found.into_iter().find(|path| path.is_file());
        found.with_context(|| format!("{name} is not built: run `cargo xtask test` or `demo`"))
    }
}

/// A price list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tariff {
    /// msat per MiB from the subscriber.
    pub uplink_msat_per_mib: u64,
    /// msat per MiB to the subscriber.
    pub downlink_msat_per_mib: u64,
    /// msat per minute.
    pub msat_per_minute: u64,
}

impl Tariff {
    /// Both ways at one price, time free.
    #[must_use]
    pub const fn bytes(msat_per_mib: u64) -> Self {
        Self {
            uplink_msat_per_mib: msat_per_mib,
            downlink_msat_per_mib: msat_per_mib,
            msat_per_minute: 0,
        }
    }
}

/// What the agent's configuration says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which program to run.
    pub program: Program,
    /// `auto`, `tcx` or `clsact`.
    pub hook: &'static str,
    /// The price lists by name; one of them is `default`.
    pub tariffs: Vec<(&'static str, Tariff)>,
    /// More keys, before all tables.
    pub keys: String,
    /// More keys of the LAN interface.
    pub lan: String,
    /// Whether what comes from another device's address is dropped.
    pub anti_spoof: bool,
    /// More tables, as they are written.
    pub more: String,
}

impl Settings {
    /// The true agent on the hook of its choice, with one price list.
    #[must_use]
    pub fn new(tariff: Tariff) -> Self {
        Self {
            program: Program::True,
            hook: "auto",
            tariffs: vec![("default", tariff)],
            keys: String::new(),
            lan: String::new(),
            anti_spoof: true,
            more: String::new(),
        }
    }

    /// The same with more tables.
    #[must_use]
    pub fn with(self, more: &str) -> Self {
        Self { more: self.more + more, ..self }
    }

    /// The same with more keys before all tables.
    #[must_use]
    pub fn before(self, keys: &str) -> Self {
        Self { keys: self.keys + keys, ..self }
    }

    /// The same with more keys of the LAN interface.
    #[must_use]
    pub fn on_lan(self, keys: &str) -> Self {
        Self { lan: self.lan + keys, ..self }
    }

    /// The same with this program.
    #[must_use]
    pub fn run_by(self, program: Program) -> Self {
        Self { program, ..self }
    }

    /// The same that asks nobody whose an address is.
    #[must_use]
    pub fn without_anti_spoof(self) -> Self {
        Self { anti_spoof: false, ..self }
    }

    /// The same on this hook.
    #[must_use]
    pub fn on_hook(self, hook: &'static str) -> Self {
        Self { hook, ..self }
    }

    /// The configuration file.
    #[must_use]
    pub fn text(&self, house: &House) -> String {
        let mut text = format!(
            "database = {:?}\nsocket = {:?}\nbpffs = {:?}\nhook = {:?}\n{}\n[[lan]]\ninterface = {LAN:?}\n{}",
            house.database(),
            house.socket(),
            house.bpffs,
            self.hook,
            self.keys,
            self.lan,
        );
        if !self.anti_spoof {
            // Above the first table.
            text.insert_str(0, "anti_spoof = false\n");
        }
        for (name, tariff) in &self.tariffs {
            text += &format!(
                "\n[tariffs.{name}]\nuplink_msat_per_mib = {}\ndownlink_msat_per_mib = {}\n\
                 msat_per_minute = {}\n",
                tariff.uplink_msat_per_mib, tariff.downlink_msat_per_mib, tariff.msat_per_minute,
            );
        }
        text += "\n";
        text += &self.more;
        text
    }
}

/// What belongs to one gateway and outlives its agent: files and pins, removed on drop.
#[derive(Debug)]
pub struct House {
    folder: TempDir,
    /// Where programs and maps are pinned.
    pub bpffs: PathBuf,
}

impl House {
    /// An empty house.
    ///
    /// # Errors
    ///
    /// Fails if no folder can be made.
    pub fn new() -> Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let bpffs = format!("/sys/fs/bpf/bitmesh-test-{}-{number}", std::process::id()).into();
        Ok(Self { folder: TempDir::with_prefix("bitmesh-")?, bpffs })
    }

    /// The database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.folder.path().join("bitmesh.db")
    }

    /// The agent's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("bitmesh.sock")
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }

    /// What the agents of this house said, all of them.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("agent.log")
    }

    /// The folder with all of these but the pins.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves everything in place: nobody removes it now.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // Removing the pinned links takes the programs off; it may all be gone already.
        let _ = std::fs::remove_dir_all(&self.bpffs);
    }
}

/// A running agent; killed on drop, before its house goes.
#[derive(Debug)]
pub struct Agent {
    child: Option<Child>,
    gateway: String,
    binary: PathBuf,
    /// Its files and pins.
    pub house: House,
}

impl Agent {
    /// Writes the configuration, starts the agent in the gateway's namespace, and waits until it
    /// answers.
    ///
    /// # Errors
    ///
    /// Fails if it ends or does not answer, with what it said.
    pub fn start(lab: &Lab, settings: &Settings) -> Result<Self> {
        let house = House::new()?;
        std::fs::write(house.config(), settings.text(&house))?;
        let binary = settings.program.path()?;
        let gateway = lab.gateway.name().to_owned();
        let mut agent = Self { child: None, gateway, binary, house };
        agent.launch(&lab.gateway)?;
        Ok(agent)
    }

    /// Starts the agent again, in the same house.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn launch(&mut self, gateway: &Namespace) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.house.log())?;
        let mut command = Command::new(&self.binary);
        command.args(["gateway", "--config"]).arg(self.house.config()).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        self.child = Some(gateway.enter(|| command.spawn().context("cannot start the agent"))?);
        self.wait_until_it_answers()
    }

    /// Installs another program in its place, for the next start.
    ///
    /// # Errors
    ///
    /// Fails if it was not built.
    pub fn install(&mut self, program: Program) -> Result<()> {
        self.binary = program.path()?;
        Ok(())
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + patiently(PATIENCE);
        while Instant::now() < deadline {
            if self.ask(&["status"]).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().context("no agent")?.try_wait()? {
                self.child = None;
                bail!("the agent ended with {status}: {}", self.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the agent does not answer: {}", self.said())
    }

    /// What the agent said so far.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.house.log()).unwrap_or_default()
    }

    /// Runs a command of `bitmesh` in the gateway's namespace, and gives all that it says.
    ///
    /// # Errors
    ///
    /// Fails if it can't be started.
    pub fn command(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.gateway)).arg(&self.binary).args(words);
        command.env("BITMESH_SOCKET", self.house.socket()).stdin(Stdio::null());
        command.output().context("cannot start nsenter")
    }

    /// Runs a command of `bitmesh` as [`Self::command`] does, for so many seconds at most.
    ///
    /// # Errors
    ///
    /// Fails if it can't be started.
    pub fn command_within(&self, seconds: u32, words: &[&str]) -> Result<Output> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.gateway));
        command.args(["timeout", "--kill-after=5", &seconds.to_string()]);
        command.arg(&self.binary).args(words).stdin(Stdio::null());
        command.output().context("cannot start nsenter")
    }

    /// Asks the agent, and gives its answer.
    ///
    /// # Errors
    ///
    /// Fails if it refuses, with its reason.
    pub fn ask(&self, words: &[&str]) -> Result<Value> {
        let done = self.command(&[words, &["--json"]].concat())?;
        if !done.status.success() {
            bail!("bitmesh {}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr).trim());
        }
        serde_json::from_slice(&done.stdout)
            .with_context(|| format!("bitmesh {} gave no JSON", words.join(" ")))
    }

    /// Grants credit under the default tariff.
    ///
    /// # Errors
    ///
    /// Fails if the agent refuses.
    pub fn grant(&self, to: &Subscriber, msat: u64) -> Result<Value> {
        self.ask(&["grant", &to.mac_text(), "--msat", &msat.to_string()])
    }

    /// Grants credit under a named tariff.
    ///
    /// # Errors
    ///
    /// Fails if the agent refuses.
    pub fn grant_under(&self, to: &Subscriber, msat: u64, tariff: &str) -> Result<Value> {
        self.ask(&["grant", &to.mac_text(), "--msat", &msat.to_string(), "--tariff", tariff])
    }

    /// The line of one account.
    ///
    /// # Errors
    ///
    /// Fails if the agent does not list it.
    pub fn account(&self, of: &Subscriber) -> Result<Value> {
        let listed = self.ask(&["accounts"])?;
        let lines = listed["accounts"].as_array().context("no list of accounts")?;
        let own = lines.iter().find(|line| line["mac"] == of.mac_text().as_str());
        own.cloned().with_context(|| format!("no account of {}: {listed}", of.mac_text()))
    }

    /// The pinned maps, which need no agent to be read.
    ///
    /// # Errors
    ///
    /// Fails if they are not there.
    pub fn pins(&self) -> Result<Pins> {
        Pins::open(&self.house.bpffs)
    }

    /// Its process.
    ///
    /// # Errors
    ///
    /// Fails if it does not run.
    pub fn pid(&self) -> Result<Pid> {
        let id = self.child.as_ref().context("the agent does not run")?.id();
        Ok(Pid::from_raw(i32::try_from(id)?))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// Fails if it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(self.pid()?, signal)
    }

    /// Stops it where it is: it does nothing until [`Self::thaw`].
    ///
    /// # Errors
    ///
    /// Fails if it does not run.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// Fails if it does not run.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Sends a signal that ends it, and waits for the end.
    ///
    /// # Errors
    ///
    /// Fails if it does not end.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        let deadline = Instant::now() + patiently(PATIENCE);
        let mut child = self.child.take().context("the agent does not run")?;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
        bail!("the agent did not end at {signal}: {}", self.said())
    }

    /// Leaves agent and house in place: nobody ends or removes them now.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended on its own.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the agent said: {}", self.said());
        }
    }
}
