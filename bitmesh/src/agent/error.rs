//! Why the agent ends.

use std::io;
use std::path::PathBuf;

use bitmesh_core::AllowanceError;

use crate::chain::ChainError;
use crate::control::ControlError;
use crate::fence::FenceError;
use crate::meter::MeterError;
use crate::portal::PortalError;
use crate::seed::SeedError;
use crate::store::StoreError;

/// Why the agent could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The process may not load programs.
    #[error("no right to meter in the kernel: run as root")]
    NoRights,
    /// The rights that are not needed could not be given up.
    #[error("the rights that are not needed could not be given up: {0}: run as root")]
    DropRights(#[source] io::Error),
    /// The gate in the kernel is not the one that the database knows.
    #[error(
        "the gate under {0} belongs to another database: point `database` at it, or run \
         `bitmesh teardown`"
    )]
    ForeignGate(PathBuf),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that writes the database is gone.
    #[error("the database is no longer written: see the log, and start again")]
    WriterEnded,
    /// What newcomers are to be given.
    #[error(transparent)]
    Allowance(#[from] AllowanceError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The kernel.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// The fence behind the gate.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// Something goes past the gate, and the configuration does not allow that.
    #[error("{what}: {cure}; or set `allow_bypass = true`, and sell what is not all counted")]
    Bypass {
        /// What was seen.
        what: String,
        /// How to mend it.
        cure: String,
    },
    /// The internet is reached through a LAN interface.
    #[error("{what}: {cure}")]
    UplinkInLan {
        /// What was seen.
        what: String,
        /// How to mend it.
        cure: String,
    },
    /// There is no fence, and the configuration does not allow that.
    #[error(
        "nothing would close a LAN interface that comes back while no agent runs: {0}; or set \
         `allow_bypass = true`"
    )]
    NoFence(String),
    /// The books do not add up.
    #[error(transparent)]
    Books(#[from] bitmesh_core::RestoreError),
    /// The portal.
    #[error(transparent)]
    Portal(#[from] PortalError),
    /// The bitcoin node's address.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The node's password.
    #[error("the node's password in {path}: {error}: mend `password_file`")]
    Password {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The copy of the channels has no place.
    #[error("the backup at {path}: {error}: mend [backup] in the configuration")]
    Backup {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Without channels there is nothing to recover.
    #[error("the configuration sells no channels: add [chain] and [channels] as they were")]
    NoChannels,
    /// This machine's own gateway knows more than a copy does.
    #[error(
        "there is a gate under {0}, so its database is the newest: use `bitmesh gateway` and \
         `bitmesh close --all`, or run `bitmesh teardown` first"
    )]
    GateHere(PathBuf),
    /// The database did not take the backup.
    #[error("the backup could not be taken into the database: {0}")]
    NotRecovered(String),
    /// The system has no random numbers.
    #[error("the system has no random numbers: {0}: try again")]
    NoEntropy(#[source] io::Error),
    /// The secret of all keys.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The terms of the channels.
    #[error("[channels]: {0}")]
    Policy(#[from] bitmesh_core::PolicyError),
    /// The system has no event loop for us.
    #[error("the system refuses an event loop: {0}: look for limits of this process")]
    Runtime(#[source] io::Error),
}
