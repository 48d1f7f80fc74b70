//! A network namespace that is gone when its owner is.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};

/// Counts the namespaces of this process, so that no two have the same name.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A network namespace under `/run/netns`, removed on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one. `role` is the last part of its name.
    ///
    /// # Errors
    ///
    /// Fails without root, or without `ip`.
    pub fn new(role: &str) -> Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("bm-{}-{number}-{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))
            .context("network namespaces need root: run it again with sudo -E")?;
        let made = Self { name };
        // Addresses are ours alone: no second of waiting whether another has them.
        made.sysctl("ipv6/conf/default/accept_dad", "0")?;
        made.ip("link set lo up")?;
        Ok(made)
    }

    /// Its name for `ip -n NAME` and `/run/netns/NAME`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Leaves it in place: nobody removes it now.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// Runs the closure on a thread inside the namespace. Sockets that it makes, and programs that
    /// it starts, belong to the namespace wherever they go. Mounts stay those of the caller, bpffs
    /// among them (`ip netns exec` would hide it).
    ///
    /// # Errors
    ///
    /// Fails if the namespace can't be entered, and as the closure does.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(format!("/run/netns/{}", self.name))
            .with_context(|| format!("the namespace {} is gone", self.name))?;
        std::thread::scope(|threads| {
            let thread = threads.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
                inside()
            });
            thread.join().map_err(|_| anyhow!("the thread in the namespace panicked"))?
        })
    }

    /// Runs a program inside and gives what it says.
    ///
    /// # Errors
    ///
    /// Fails if the program does, with what it complains of.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.enter(|| run(Command::new(program).args(arguments)))
    }

    /// Runs `ip`; the words are separated by spaces.
    ///
    /// # Errors
    ///
    /// Fails if `ip` does.
    pub fn ip(&self, words: &str) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.name]).args(words.split(' ')))
    }

    /// Sets a `net.…` parameter; the name has slashes, `ipv4/ip_forward` for example.
    ///
    /// # Errors
    ///
    /// Fails if there is no such parameter.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{name}");
        self.enter(|| std::fs::write(&path, value).with_context(|| format!("cannot set {path}")))
    }

    /// Switches offloads of a device on or off, as `ethtool -K` does: `tso off gso off`, say.
    ///
    /// # Errors
    ///
    /// Fails if `ethtool` does.
    pub fn offloads(&self, device: &str, switches: &str) -> Result<()> {
        let words: Vec<&str> = ["-K", device].into_iter().chain(switches.split(' ')).collect();
        self.run("ethtool", &words).map(|_| ())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("ip").args(["netns", "del", &self.name])) {
            eprintln!("the namespace {} is still there: {error:#}", self.name);
        }
    }
}

/// Runs a program and gives what it says, or what it complains of.
///
/// # Errors
///
/// Fails if the program can't be started, or fails.
pub fn run(command: &mut Command) -> Result<String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !done.status.success() {
        let complaint = String::from_utf8_lossy(&done.stderr);
        bail!("{command:?} ended with {}: {}", done.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
