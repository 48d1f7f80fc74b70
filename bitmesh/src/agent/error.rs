//! Why the agent ends.

use std::io;
use std::path::PathBuf;

use crate::control::ControlError;
use crate::meter::MeterError;
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
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The kernel.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// The books do not add up.
    #[error(transparent)]
    Books(#[from] bitmesh_core::RestoreError),
    /// The system has no event loop for us.
    #[error("the system refuses an event loop: {0}: look for limits of this process")]
    Runtime(#[source] io::Error),
}
