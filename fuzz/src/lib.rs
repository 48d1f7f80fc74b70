//! What the targets `chain_bitcoind` and `chain_esplora` share: a node that says any bytes, and
//! every question that a chain source can be asked.

#![cfg(feature = "agent")]

mod node;
mod questions;

pub use node::Node;
pub use questions::{TIMEOUT, ask_everything};
