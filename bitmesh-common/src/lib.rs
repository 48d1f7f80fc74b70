//! What the kernel and the agent share.
//!
//! - [`abi`]: the records in the BPF maps, laid out once for both sides.
//! - [`directory`]: where the account of a MAC address is.
//! - [`money`]: what bytes and time cost, in the kernel's unit.
//! - [`budget`]: how much of the resolver is free.
//! - [`packet`]: from a frame to what it is and how many bytes of it are billed.
//! - [`quick`]: the same for the common case, in few instructions.
//! - [`gate`]: from a packet, a meter and an account to a verdict.
//! - [`police`]: speed limits.
//!
//! Nothing here allocates, panics or does input and output: the same code runs in the kernel,
//! in the agent, in the simulation and in the fuzzers.

#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod budget;
pub mod directory;
mod extensions;
pub mod gate;
pub mod money;
pub mod packet;
pub mod police;
pub mod quick;
mod segments;
pub mod source;
