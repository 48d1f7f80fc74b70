//! What a line, or a file, must not hold.

use super::Complaint;
use super::tree::{File, Tree};
use super::uses::without_comments;

/// Lines of one Rust file, at most.
const MAX_LINES: usize = 500;

/// Where `unsafe` may be: glue to the kernel.
const UNSAFE_ALLOWED: &[&str] = &[
    "bitmesh-ebpf/src/",
    "bitmesh-common/src/abi.rs",
    "bitmesh/src/meter/",
    // Descriptors of the kernel's ring, and a thread that leaves its network namespace.
    "bitmesh/src/agent/event_loop.rs",
    "bitmesh/src/doctor/interface.rs",
    // Programs of the bench, which only bpf(2) loads and runs.
    "tests/src/bench/bpf.rs",
    // What a network card does by itself is told by ioctl(2) alone.
    "bitmesh/src/netlink/features.rs",
];

/// What makes `unsafe` code of the word.
const UNSAFE_FOLLOWED_BY: &[&str] = &[" {", " fn", " impl", " extern", " trait", "("];

/// Hosts that a URL may name. The last is in the name of every picture's format (SVG).
const HOSTS: &[&str] =
    &["github.com", "localhost", "www.apache.org", "www.rfc-editor.org", "www.w3.org"];

/// Files that other programs write, or that are others' words.
const NOT_OURS: &[&str] = &[
    "Cargo.lock",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "bitmesh/portal/package-lock.json",
    "bitmesh/src/portal/page/pay.js",
    "tests/browser/package-lock.json",
];

/// Complains of each line, and of files that are too long or say nothing of themselves.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    let ours = || tree.files().filter(|file| !NOT_OURS.contains(&file.path.as_str()));
    let mut complaints: Vec<Complaint> = ours().flat_map(each_line).collect();
    complaints.extend(tree.rust().filter_map(length));
    complaints.extend(tree.rust().filter_map(documented));
    complaints
}

fn each_line(file: &File) -> Vec<Complaint> {
    let rules: [fn(&File, &str) -> Option<String>; 4] = [unfinished, place, host, unsafety];
    let numbered = file.text.lines().enumerate();
    numbered
        .flat_map(|(index, line)| {
            let at = format!("{}:{}", file.path, index + 1);
            rules.iter().filter_map(move |rule| Some(Complaint::new(&at, rule(file, line)?)))
        })
        .collect()
}

fn unfinished(_: &File, line: &str) -> Option<String> {
    // Spelt in halves, so that this file keeps its own rule.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["todo", "!("], ["unimplemented", "!("]];
    let found = marks.iter().map(|halves| halves.concat()).find(|mark| line.contains(mark))?;
    Some(format!("{found}: finish it or leave it out"))
}

fn place(_: &File, line: &str) -> Option<String> {
    let places = [["/ro", "ot/"], ["/ho", "me/"], ["/wo", "rk/"]];
    let found = places.iter().map(|halves| halves.concat()).find(|place| line.contains(place))?;
    Some(format!("{found} is a place on one machine only"))
}

fn host(_: &File, line: &str) -> Option<String> {
    let urls = line.split("://").skip(1);
    let hosts = urls.map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c));
        &rest[..end.unwrap_or(rest.len())]
    });
    let unknown = hosts.into_iter().find(|host| {
        let name = host.contains(|c: char| c.is_ascii_alphabetic()) && host.contains('.');
        let reserved = host.ends_with(".test") || host.ends_with(".example");
        name && !reserved && !HOSTS.contains(host)
    })?;
    Some(format!("the host {unknown} is not in the list in xtask/src/tidy/lines.rs"))
}

fn unsafety(file: &File, line: &str) -> Option<String> {
    let allowed = UNSAFE_ALLOWED.iter().any(|place| file.path.starts_with(place));
    if !file.is_rust() || allowed {
        return None;
    }
    let code = without_comments(line);
    code.split("unsafe")
        .skip(1)
        .any(|rest| UNSAFE_FOLLOWED_BY.iter().any(|next| rest.starts_with(next)))
        .then(|| "`unsafe` outside the places in xtask/src/tidy/lines.rs".to_owned())
}

fn length(file: &File) -> Option<Complaint> {
    let lines = file.text.lines().count();
    (lines > MAX_LINES).then(|| {
        Complaint::new(&file.path, format_args!("{lines} lines; split it, {MAX_LINES} at most"))
    })
}

/// Every file says first what it is about, but for a module's tests.
fn documented(file: &File) -> Option<Complaint> {
    let tests = file.path.ends_with("/tests.rs")
        || file.path.contains("src/") && file.path.contains("/tests/");
    let says = file.text.starts_with("//!") || tests;
    (!says).then(|| Complaint::new(&file.path, "has no `//!` line that says what it is about"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, line: &str) -> usize {
        check(&Tree::of(&[(path, &format!("//! About.\n{line}\n"))])).len()
    }

    #[test]
    fn what_is_unfinished_is_found() {
        let mark = ["TO", "DO"].concat();
        assert_eq!(complaints("a/src/b.rs", &format!("// {mark}: later")), 1);
        assert_eq!(complaints("a/src/b.rs", "// to do good"), 0);
    }

    #[test]
    fn places_on_one_machine_are_found() {
        assert_eq!(complaints("a.toml", &["path = \"/ho", "me/x\""].concat()), 1);
        assert_eq!(complaints("a.toml", "path = \"/var/lib/bitmesh\""), 0);
    }

    #[test]
    fn unknown_hosts_are_found() {
        let url = |host: &str| format!("see https:{}{host}/x", "//");
        assert_eq!(complaints("a.md", &url("registry.invalid")), 1);
        assert_eq!(complaints("a.md", &url("github.com")), 0);
        assert_eq!(complaints("a.md", &url("portal.test")), 0);
        assert_eq!(complaints("a.md", &url("192.0.2.1")), 0);
    }

    #[test]
    fn unsafe_code_stays_where_it_is_allowed() {
        let code = ["unsa", "fe { f() }"].concat();
        assert_eq!(complaints("bitmesh/src/store.rs", &code), 1);
        assert_eq!(complaints("bitmesh/src/store.rs", "#[deny(unsafe_code)] // unsafe"), 0);
        assert_eq!(complaints("bitmesh/src/meter/a.rs", &code), 0);
    }

    #[test]
    fn long_files_and_files_that_say_nothing_are_found() {
        let long = format!("//! About.\n{}", "fn f() {}\n".repeat(MAX_LINES));
        assert_eq!(check(&Tree::of(&[("a.rs", &long)])).len(), 1);
        let silent = |path| check(&Tree::of(&[(path, "fn f() {}\n")])).len();
        assert_eq!(silent("a/src/b.rs"), 1);
        assert_eq!(silent("tests/tests/b.rs"), 1);
        assert_eq!(silent("a/src/b/tests.rs"), 0);
        assert_eq!(silent("a/src/b/tests/c.rs"), 0);
    }
}
