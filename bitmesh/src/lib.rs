//! The agent: shells around the core.
//!
//! Shells do not know each other; only the agent's event loop wires them to the core.

pub mod agent;
pub mod backup;
pub mod chain;
pub mod cli;
pub mod config;
pub mod control;
pub mod doctor;
mod exclusive;
pub mod fence;
mod folder;
mod http;
mod leases;
pub mod mac;
pub mod meter;
mod netlink;
pub mod payer;
pub mod portal;
pub mod seed;
pub mod store;
