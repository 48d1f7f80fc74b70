//! The harness of the cross-crate tests.

pub mod counter;
pub mod frames;
pub mod kernel;
pub mod lab;
pub mod namespace;
pub mod objects;
pub mod tcp;
pub mod udp;
