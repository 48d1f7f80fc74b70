//! What visitors see on the LAN side, over HTTP/1.1: the page (`page/`), the captive portal API of
//! RFC 8908 (`captive.rs`), the way there for who was led here (`foreign.rs`), and the payment API
//! under `/api/v1`, JSON and a WebSocket. `bitmesh/API.md` describes it. With a certificate (`tls/`)
//! the page is over TLS, at a port of its own; the gate leads plain HTTP to the plain port all the same.
//!
//! Whoever can reach it may be an enemy: every size, count, rate and wait below has a limit, a
//! caller is told by its MAC address (from the kernel's neighbour table, never from a header), and
//! what it sends goes to the core as parsed fields.

mod ask;
mod body;
mod caller;
mod captive;
mod connection;
mod door;
mod explain;
mod foreign;
mod host;
mod page;
mod pass;
mod patient;
mod places;
mod problem;
mod rate;
mod routes;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod visit;

use std::time::Duration;

pub use self::ask::{Answered, Asked, Question, Told};
pub use self::captive::CAPTIVE_PATH;
pub use self::door::{LanPort, Portal, PortalError};
pub use self::tls::{Tls, TlsError};
pub use self::visit::Visit;

/// Connections at the same time, at most.
pub const MAX_CONNECTIONS: usize = 1_024;

/// Connections of one station at the same time, at most.
pub const MAX_CONNECTIONS_PER_STATION: usize = 8;

/// Requests of one station, and updates on its streams, a second, on average.
pub const MAX_REQUESTS_PER_SECOND: u32 = 25;

/// Requests of one station at once, after a pause.
pub const MAX_BURST: u32 = 50;

/// Requests of all stations a second, on average. Updates that count are not among them.
pub const MAX_REQUESTS_PER_SECOND_IN_ALL: u32 = 1_000;

/// Requests of all stations at once, after a pause.
pub const MAX_BURST_IN_ALL: u32 = 3_000;

/// Open pages of one station that are kept fresh, at most.
pub const MAX_PAGES_PER_STATION: usize = 3;

/// Stations whose rate is remembered, at most. One that was quiet is forgotten first.
pub const MAX_STATIONS: usize = 4_096;

/// Requests that wait for the core, at most.
pub const MAX_WAITING: usize = 1_024;

/// Bytes of a request's head, at most.
pub const MAX_HEAD_BYTES: usize = 16 * 1_024;

/// Headers of a request, at most.
pub const MAX_HEADERS: usize = 48;

/// How long a connection may be silent between requests, and how long a request's head may take.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a TLS handshake may take, from the first byte on. The connection has its place all the
/// while.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a body may take.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a caller may take no byte of an answer.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the core may take to answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection that ends may still send what nobody reads, so that it reads its answer.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes that a connection that ends may still send, at most.
pub const MAX_LINGER_BYTES: usize = 16 * 1_024 * 1_024;

/// Bytes of a message on a stream, at most.
pub const MAX_STREAM_MESSAGE_BYTES: usize = 1_024;

/// How often a stream tells how the session is.
pub const STREAM_EVERY: Duration = Duration::from_secs(1);

/// The addresses of the LAN interfaces are read anew this often.
pub const REFRESH_EVERY: Duration = Duration::from_secs(5);
