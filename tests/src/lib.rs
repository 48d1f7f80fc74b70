//! The harness of the cross-crate tests.

pub mod agent;
pub mod bench;
pub mod browser;
pub mod clock;
pub mod counter;
pub mod demo;
pub mod frames;
pub mod kernel;
pub mod lab;
pub mod mixed;
pub mod namespace;
pub mod objects;
pub mod payer;
pub mod payments;
pub mod pins;
pub mod power_cut;
pub mod process;
pub mod regtest;
pub mod scale;
pub mod tcp;
pub mod tls;
pub mod tunnel;
pub mod udp;
pub mod verdict;
pub mod wait;
pub mod wire;
