//! Writing to standard output.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use serde::Serialize;

use super::failure::Failure;

/// Writes text. A reader that has gone away, as `head` does, is no failure of ours.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::Silent),
        Err(error) => Err(Failure::Told(format!("standard output: {error}: give another one"))),
        Ok(()) => Ok(()),
    }
}

/// Writes one line of JSON.
pub(super) fn write_json(value: &impl Serialize) -> Result<(), Failure> {
    write(&format!("{}\n", serde_json::to_string(value)?))
}

/// Whether somebody watches.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether colours are welcome (no-color.org).
pub(super) fn wants_colour() -> bool {
    is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
