//! Where a copy of the channels is kept.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::check::absolute;
use super::error::Wrong;
use crate::backup::Target;

/// Words of a backup command, at most.
const MAX_WORDS: usize = 64;

/// `[backup]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBackup {
    directory: Option<Spanned<PathBuf>>,
    command: Option<Spanned<Vec<String>>>,
}

/// Checks the table.
pub(super) fn check(raw: Spanned<RawBackup>, database: &Path) -> Result<Target, Wrong> {
    let table = raw.span();
    match raw.into_inner() {
        RawBackup { directory: Some(directory), command: None } => {
            let (span, path) = absolute("directory", directory)?;
            if database.parent() == Some(&path) {
                let what = "`directory` is the database's own: name one on another disk";
                return Err(Wrong::new(span, what.to_owned()));
            }
            Ok(Target::Directory(path))
        }
        RawBackup { directory: None, command: Some(command) } => {
            let span = command.span();
            let words = command.into_inner();
            let absolute = words.first().is_some_and(|program| program.starts_with('/'));
            if absolute && words.len() <= MAX_WORDS {
                return Ok(Target::Command(words));
            }
            let what = format!(
                "`command` names a program and its arguments, at most {MAX_WORDS} words, the first \
                 with a path that starts with /"
            );
            Err(Wrong::new(span, what))
        }
        _ => {
            let what = "give either `directory` or `command`";
            Err(Wrong::new(table, what.to_owned()))
        }
    }
}
