//! Which paths a Rust file names: `use` trees unfolded, and paths in code.

/// A path and the line that names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Counted from 1.
    pub(super) line: usize,
    /// As if written out, such as `std::fs::File`.
    pub(super) path: String,
}

/// All paths with `::` that the source names. Comments are left out, strings are not.
pub(super) fn paths(source: &str) -> Vec<Named> {
    let code = without_comments(source);
    let mut found = Vec::new();
    let mut rest = code.as_str();
    let mut line = 1;
    while let Some(start) = rest.find(is_word) {
        line += rest[..start].matches('\n').count();
        rest = &rest[start..];
        let consumed = read_path(rest, "", line, &mut found);
        line += rest[..consumed].matches('\n').count();
        rest = &rest[consumed..];
    }
    found
}

/// Reads one path, with the trees in its braces, and gives how many bytes it took.
fn read_path(text: &str, prefix: &str, line: usize, found: &mut Vec<Named>) -> usize {
    let end = text.find(|c: char| !is_word(c) && c != ':').unwrap_or(text.len());
    let path = format!("{prefix}{}", &text[..end]);
    if path.ends_with("::") && text[end..].starts_with('{') {
        return end + read_braces(&text[end..], &path, line, found);
    }
    if path.contains("::") {
        found.push(Named { line, path: path.trim_end_matches(':').to_owned() });
    }
    end.max(1)
}

fn read_braces(text: &str, prefix: &str, mut line: usize, found: &mut Vec<Named>) -> usize {
    let mut at = 1;
    while let Some(c) = text[at..].chars().next() {
        if c == '}' {
            return at + 1;
        }
        if is_word(c) {
            at += read_path(&text[at..], prefix, line, found);
        } else {
            line += usize::from(c == '\n');
            at += c.len_utf8();
        }
    }
    at
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Line comments blanked; lines keep their numbers.
pub(super) fn without_comments(source: &str) -> String {
    let lines = source.lines().map(|line| line.find("//").map_or(line, |at| &line[..at]));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(source: &str) -> Vec<String> {
        paths(source).into_iter().map(|named| named.path).collect()
    }

    #[test]
    fn use_trees_are_unfolded() {
        assert_eq!(
            named("use std::{fmt, fs::{self, File},\n net};"),
            ["std::fmt", "std::fs::self", "std::fs::File", "std::net"]
        );
    }

    #[test]
    fn paths_in_code_are_found_on_their_line() {
        let found = paths("// std::net\nfn f() {\n  std::fs::read(x);\n}\n");
        assert_eq!(found, [Named { line: 3, path: "std::fs::read".into() }]);
    }
}
