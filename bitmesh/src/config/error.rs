//! What is wrong with a configuration file, and where.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {error}: give the path of a readable configuration with --config")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is longer than any configuration.
    #[error("{0}: longer than {max} bytes: give a configuration of bitmesh", max = super::MAX_CONFIG_BYTES)]
    TooLong(PathBuf),
    /// Something in it is wrong.
    #[error("{path}:{line}: {what}")]
    Wrong {
        /// In which file.
        path: PathBuf,
        /// In which line, from 1.
        line: usize,
        /// What, and how to mend it.
        what: String,
    },
    /// Something is not there.
    #[error("{path}: {what}")]
    Missing {
        /// In which file.
        path: PathBuf,
        /// What, and how to mend it.
        what: String,
    },
}

/// A complaint, before the file's name and line are known.
pub(super) struct Wrong {
    /// Where in the text; an empty range at 0 if it is not there at all.
    pub(super) span: Range<usize>,
    /// What, and how to mend it.
    pub(super) what: String,
}

impl Wrong {
    pub(super) fn new(span: Range<usize>, what: String) -> Self {
        Self { span, what }
    }

    /// The complaint with its place.
    pub(super) fn at(self, path: &Path, text: &str) -> ConfigError {
        let path = path.to_owned();
        if self.span.is_empty() {
            return ConfigError::Missing { path, what: self.what };
        }
        ConfigError::Wrong { path, line: line_of(text, self.span.start), what: self.what }
    }
}

impl ConfigError {
    /// What the TOML reader says, with its place and how to mend it.
    pub(super) fn from_toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let what = describe(error.message(), text, at);
        Self::Wrong { path: path.to_owned(), line: line_of(text, at), what }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
}

/// Turns the reader's message into one that says how to mend it.
fn describe(message: &str, text: &str, at: usize) -> String {
    let message = message.lines().collect::<Vec<_>>().join(", ");
    if let Some((key, known)) = unknown_key(&message) {
        return format!("unknown key `{key}`: use {known}");
    }
    if let Some((value, known)) = unknown_choice(&message) {
        let key = key_at(text, at).unwrap_or("the value");
        return format!("`{key}` can't be `{value}`: use {known}");
    }
    if let Some(key) = between(&message, "missing field `", "`") {
        return format!("`{key}` is missing: add `{key} = …` to this table");
    }
    if let Some((given, wanted)) = wrong_kind(&message) {
        let key = key_at(text, at).unwrap_or("the value");
        let given = if given == "map" { "a table" } else { given };
        return format!("`{key}` can't be {given}: give {}", plain(wanted));
    }
    format!("{message}: this is not TOML, mend the line")
}

fn unknown_key(message: &str) -> Option<(&str, &str)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    Some((key, rest.strip_prefix(", expected ")?))
}

fn unknown_choice(message: &str) -> Option<(&str, &str)> {
    let rest = message.strip_prefix("unknown variant `")?;
    let (value, rest) = rest.split_once('`')?;
    Some((value, rest.strip_prefix(", expected ")?))
}

fn wrong_kind(message: &str) -> Option<(&str, &str)> {
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    rest.split_once(", expected ")
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.split_once(after).map(|(found, _)| found)
}

/// The reader's names of types, in words.
fn plain(wanted: &str) -> &str {
    match wanted {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number, 0 or more",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text in quotes",
        "a map" | "struct Tariff" | "struct RawLan" | "struct RawChain" | "struct RawChannels"
        | "struct RawTls" => "a table",
        "a sequence" => "a table in double brackets, as in [[lan]]",
        other => other,
    }
}

/// The key of the line at this place, or the name of the table that starts there.
fn key_at(text: &str, at: usize) -> Option<&str> {
    let line = text.lines().nth(line_of(text, at) - 1)?.trim();
    let key = match line.strip_prefix('[') {
        Some(table) => table.trim_matches(['[', ']']),
        None => line.split_once('=')?.0,
    };
    Some(key.trim()).filter(|key| !key.is_empty())
}
