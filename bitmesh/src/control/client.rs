//! Asking the agent.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{ANSWER_TIMEOUT, MAX_RESPONSE_BYTES, Request, Response};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no agent answers at {0}: start `bitmesh gateway --config FILE`, or give its socket with \
         --socket"
    )]
    NoAgent(PathBuf),
    /// The socket is somebody else's.
    #[error("{0} is not open to you: run as root")]
    Denied(PathBuf),
    /// The agent did not answer in time.
    #[error("the agent did not answer within {} s: see its log", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// The answer made no sense.
    #[error("the agent's answer can't be read ({0}): use the agent's version of this command")]
    Garbled(String),
    /// The connection broke.
    #[error("the connection to the agent broke: {0}: see its log")]
    Broken(io::Error),
}

impl ClientError {
    /// Whether the agent may have done what was asked although it did not say so.
    #[must_use]
    pub const fn is_uncertain(&self) -> bool {
        match self {
            Self::NoAgent(_) | Self::Denied(_) => false,
            Self::Silent | Self::Garbled(_) | Self::Broken(_) => true,
        }
    }
}

/// Asks the agent at this socket, once.
///
/// # Errors
///
/// Fails if there is no agent, no right to ask it, or no answer in time. A request may have been
/// carried out all the same if its answer was lost.
pub fn ask(socket: &Path, request: &Request) -> Result<Response, ClientError> {
    let mut stream = connect(socket)?;
    let mut line = serde_json::to_vec(request).map_err(|e| ClientError::Broken(e.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut answer = Vec::new();
    BufReader::new(stream)
        .take(MAX_RESPONSE_BYTES as u64)
        .read_until(b'\n', &mut answer)
        .map_err(broken)?;
    if answer.pop() != Some(b'\n') {
        return Err(ClientError::Broken(ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&answer).map_err(|error| ClientError::Garbled(error.to_string()))
}

fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            ClientError::NoAgent(socket.to_owned())
        }
        ErrorKind::PermissionDenied => ClientError::Denied(socket.to_owned()),
        _ => ClientError::Broken(error),
    })?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(ClientError::Broken)?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(ClientError::Broken)?;
    Ok(stream)
}

fn broken(error: io::Error) -> ClientError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::Silent,
        _ => ClientError::Broken(error),
    }
}
