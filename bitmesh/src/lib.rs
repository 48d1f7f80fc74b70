//! x
pub mod meter;
