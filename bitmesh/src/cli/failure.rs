//! How a command ends.

use std::fmt::Display;
use std::process::ExitCode;

/// Exit code of a wrong use of the command.
pub(super) const USAGE: u8 = 2;
/// Exit code of everything else that failed.
const FAILED: u8 = 1;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// What is wrong and how to mend it, in one line.
    Told(String),
    /// All was said already.
    Silent,
}

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Told(one_line(&error.to_string()))
    }
}

/// The text without line ends and the blanks around them.
pub(super) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Tells the operator, and the shell.
pub(super) fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Silent) => FAILED.into(),
        Err(Failure::Told(line)) => {
            eprintln!("bitmesh: {line}");
            FAILED.into()
        }
    }
}
