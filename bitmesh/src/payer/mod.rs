//! The subscriber's agent.

pub mod counter;
