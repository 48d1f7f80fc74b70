//! The operator's door: a Unix socket that only root can open.
//!
//! One JSON object a line, a response for each request, in their order. A connection may carry
//! several requests.

mod client;
mod protocol;
mod server;

use std::time::Duration;

pub use self::client::{ClientError, ask};
pub use self::protocol::{
    AccountLine, Attachment, BackupStatus, Bypass, ChainState, ChainStatus, ChannelRow, Hooked,
    PeersStatus, Request, Response, State, Status, Unbilled,
};
pub use self::server::{Asked, ControlError, Server};

/// Bytes of a request, its line end included, at most.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024;

/// Bytes of a response, its line end included, at most: every account that a ledger can hold.
pub const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// Connections at the same time, at most.
pub const MAX_CONNECTIONS: usize = 32;

/// Requests on one connection, at most.
pub const MAX_REQUESTS_PER_CONNECTION: usize = 1_000;

/// How long a connection may stay silent, or not take its response.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the agent may take to answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
