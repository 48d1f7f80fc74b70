//! `cargo xtask bench`: what the gate costs, beside what else one could do.
//!
//! Machines are noisy, so everything that is compared runs in one go, in turns, and ratios are
//! taken within a turn. What is told is a median and its spread. A run in which a packet was lost
//! is invalid: it is reported and repeated.

mod agent_load;
mod batch_read;
mod bpf;
mod contender;
mod data_plane;
mod flood;
mod payments;
mod program;
mod report;
mod statistics;
mod streams;
mod turns;

pub use self::data_plane::{Options, data_plane};
pub use self::payments::{Options as PaymentOptions, payments};
pub use self::report::Report;

/// An invalid run is repeated until so many were tried.
pub const MAX_TRIES: usize = 3;
