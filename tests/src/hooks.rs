//! The hooks that a kernel has.

/// Set by `cargo xtask vm`, which knows what it boots: `yes` or `no`.
pub const KNOWN_TCX: &str = "BITMESH_KNOWN_TCX";

/// Those of these that the kernel has: all of them, but for `tcx` in a virtual machine whose kernel is
/// older than 6.6.
#[must_use]
pub fn had_of(hooks: &[&'static str]) -> Vec<&'static str> {
    let has_tcx = std::env::var(KNOWN_TCX).map_or(true, |known| known != "no");
    hooks.iter().copied().filter(|hook| *hook != "tcx" || has_tcx).collect()
}
