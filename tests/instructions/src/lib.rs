//! What the cross-crate tests know of frames and programs, without the rest of them: few
//! dependencies, all of them Rust, so that a static program for another machine takes no C
//! compiler.

#[path = "../../src/frames.rs"]
pub mod frames;
#[path = "../../src/kernel.rs"]
pub mod kernel;
