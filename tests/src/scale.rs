//! How much of the large counts to run.

/// Set by `cargo xtask soak`.
const SOAK: &str = "BITMESH_SOAK";

/// The large count in `cargo xtask soak`, the fraction everywhere else.
#[must_use]
pub fn of_soak(large: u64, fraction: u64) -> u64 {
    if std::env::var_os(SOAK).is_some() { large } else { fraction }
}
