//! Who may know whom, file by file.

use super::Complaint;
use super::tree::{File, Tree};
use super::uses::paths;

/// What the core is free of: it has no clock, socket, file or thread.
const NOT_IN_CORE: &[&str] = &[
    "std::net",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
];

/// Modules of the agent that do not know each other: only the event loop wires them.
const SHELLS: &[&str] = &[
    "backup",
    "chain",
    "control",
    "fence",
    "leases",
    "lightning",
    "meter",
    "payer",
    "portal",
    "store",
];

/// Modules that know the shells: what wires them.
const WIRING: &[&str] = &["agent", "cli"];

/// Complains of each forbidden path.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    tree.rust().flat_map(|file| core(file).into_iter().chain(shell(file))).collect()
}

fn core(file: &File) -> Vec<Complaint> {
    let held = ["bitmesh/core/src/", "bitmesh-common/src/"];
    if !held.iter().any(|folder| file.path.starts_with(folder)) {
        return Vec::new();
    }
    forbid(file, |path| NOT_IN_CORE.iter().any(|no| begins(path, no)), "the core is sans-IO")
}

fn shell(file: &File) -> Vec<Complaint> {
    let Some(inside) = file.path.strip_prefix("bitmesh/src/") else { return Vec::new() };
    let own = inside.split(['/', '.']).next().unwrap_or_default();
    if !SHELLS.contains(&own) {
        return Vec::new();
    }
    let foreign = |path: &str| {
        let Some(inside) = path.strip_prefix("crate::") else { return false };
        let module = inside.split("::").next().unwrap_or_default();
        module != own && (SHELLS.contains(&module) || WIRING.contains(&module))
    };
    forbid(file, foreign, "shells do not know each other: let the agent's event loop wire them")
}

fn forbid(file: &File, forbidden: impl Fn(&str) -> bool, why: &str) -> Vec<Complaint> {
    let named = paths(&file.text).into_iter().filter(|named| forbidden(&named.path));
    let complain = |named: super::uses::Named| {
        Complaint::new(
            format_args!("{}:{}", file.path, named.line),
            format_args!("`{}`: {why}", named.path),
        )
    };
    named.map(complain).collect()
}

/// Whether the path is `prefix` or inside it.
fn begins(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn the_core_has_no_clock_socket_file_or_thread() {
        for text in [
            "use std::net::IpAddr;",
            "use std::{fmt, fs};",
            "use std::time::{Duration, Instant};",
            "fn f() { std::thread::yield_now() }",
            "fn f() { tokio::spawn(x) }",
        ] {
            assert_eq!(complaints("bitmesh/core/src/a.rs", text), 1, "{text}");
            assert_eq!(complaints("bitmesh/src/agent.rs", text), 0, "{text}");
        }
        assert_eq!(complaints("bitmesh/core/src/a.rs", "use std::time::Duration;"), 0);
    }

    #[test]
    fn shells_do_not_know_each_other() {
        assert_eq!(complaints("bitmesh/src/store/mod.rs", "use crate::meter::Gate;"), 1);
        assert_eq!(complaints("bitmesh/src/store.rs", "use crate::{agent, config};"), 1);
        assert_eq!(complaints("bitmesh/src/store/mod.rs", "use crate::store::Row;"), 0);
        assert_eq!(complaints("bitmesh/src/agent/mod.rs", "use crate::meter::Gate;"), 0);
    }
}
