//! What can go wrong between the agent and the kernel, and how to mend it.

use std::io;
use std::path::PathBuf;

use bitmesh_common::abi::{MAX_LANS, MAX_METERS};

use super::kernel::TooOld;

/// Why the kernel did not do what the agent asked for.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// The kernel lacks what the programs need.
    #[error("{0}")]
    KernelTooOld(TooOld),
    /// There is no BPF file system where the maps are to be pinned.
    #[error("{0} is not on a BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf`")]
    NoBpffs(PathBuf),
    /// The pin directory can't be used.
    #[error("{path}: {error}: run as root, or choose another `bpffs` in the configuration")]
    PinDirectory {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another agent holds the pin directory.
    #[error("another agent holds the gate in {0}: stop it first")]
    Held(PathBuf),
    /// The pinned maps are of another version.
    #[error(
        "the gate in {path} was made by another version of bitmesh ({what}): run `bitmesh teardown`, which ends the sessions and keeps the balances"
    )]
    OtherLayout {
        /// Where.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// An interface does not exist.
    #[error("there is no interface {0}: see `ip link`, and mend `interface` in the configuration")]
    NoInterface(String),
    /// More interfaces than the kernel's array holds.
    #[error("at most {MAX_LANS} LAN interfaces are possible: remove some from the configuration")]
    TooManyLans,
    /// The interface is attached with a hook that the configuration does not want.
    #[error(
        "{interface} is attached with {attached}, but `hook` says otherwise: run `bitmesh teardown` first, which keeps the balances"
    )]
    OtherHook {
        /// Which.
        interface: String,
        /// `tcx` or `clsact`.
        attached: &'static str,
    },
    /// The kernel refused to attach.
    #[error(
        "{interface}: the kernel refused the {direction} program: {error}: see `bitmesh doctor`"
    )]
    Attach {
        /// Where.
        interface: String,
        /// `uplink` or `downlink`.
        direction: &'static str,
        /// What it said.
        error: String,
    },
    /// The eBPF object could not be loaded.
    #[error("the kernel refused the eBPF programs: {0}: see `bitmesh doctor`")]
    Load(String),
    /// All slots are taken.
    #[error("the gateway is full: it holds at most {MAX_METERS} accounts")]
    NoRoom,
    /// There is no meter for this account.
    #[error("there is no meter for this account")]
    NoMeter,
    /// A map could not be read or written.
    #[error("the map `{map}`: {error}: see `bitmesh doctor`")]
    Map {
        /// Which.
        map: &'static str,
        /// What the kernel says.
        error: String,
    },
    /// The kernel's network configuration could not be read or changed.
    #[error("netlink: {0}: run as root")]
    Netlink(#[source] io::Error),
}

impl MeterError {
    /// A failure of the map with this name.
    pub(super) fn map(map: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |error| Self::Map { map, error: describe(&error) }
    }
}

/// An error with its causes, on one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = next.source();
    }
    line.replace('\n', " ")
}
