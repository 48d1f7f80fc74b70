//! The subscriber's agent: connects to a gateway, pays as it is used, and closes.
//!
//! What is decided is decided in [`bitmesh_core::payer`]; here are the disk, the connection and
//! the clock. The order is always the same: sign, store, send. So a crash at any moment loses
//! nothing, and the next run goes on where this one was.

mod api;
mod bargain;
mod closing;
mod connect;
pub mod counter;
mod error;
mod event;
mod funding;
mod http;
mod moving;
mod paying;
mod refund;
pub mod route;
mod state;
mod stop;
#[cfg(test)]
mod tests;

pub use self::connect::{Agent, Setup};
pub use self::error::PayerError;
pub use self::event::{Event, Settled, Standing, Watch};
pub use self::funding::Wallet;
pub use self::http::{DEFAULT_PORT, Gateway, HttpError};
pub use self::paying::Meter;
pub use self::refund::{Node, Refunded, build_refund};
pub use self::state::{ChannelRecord, End, Funding, Phase, State, StateError, default_directory};
pub use self::stop::Stop;
