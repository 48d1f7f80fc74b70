//! A power cut at every write and every sync.
//!
//! A scripted session runs once for real, under `strace`: what it writes, syncs, renames and
//! acknowledges is the recording ([`trace`]). A model of a disk ([`disk`]) then gives, for each
//! moment of the recording, the files that a power cut could leave there; the program's own code
//! opens them and must find what was acknowledged ([`session`]).
//!
//! The system calls are recorded, not a shim of SQLite's: so the real library writes to a real
//! file system, directories and renames are in the recording, and every other file that must last
//! is tried in the same way.

pub mod disk;
pub mod gateway;
pub mod payer;
pub mod session;
pub mod trace;
