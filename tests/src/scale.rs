//! How much of the large counts to run.

/// Set by `cargo xtask soak`.
const SOAK: &str = "BITMESH_SOAK";

/// Set by `cargo xtask vm`: where a processor is emulated, a fraction is too much.
const TIMES: &str = "BITMESH_TIMES";

/// The large count in `cargo xtask soak`, the fraction everywhere else; no more than
/// `BITMESH_TIMES`, if that is set.
#[must_use]
pub fn of_soak(large: u64, fraction: u64) -> u64 {
    let count = if std::env::var_os(SOAK).is_some() { large } else { fraction };
    let most = std::env::var(TIMES).ok().and_then(|times| times.parse().ok());
    count.min(most.unwrap_or(u64::MAX)).max(1)
}
