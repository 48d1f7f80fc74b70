//! Arguments that several commands share.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use crate::config::DEFAULT_SOCKET;
use crate::control::{ClientError, Request, Response, ask};

/// Which agent to ask.
#[derive(Args)]
pub(super) struct Agent {
    /// The agent's control socket
    #[arg(long, value_name = "PATH", env = "BITMESH_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
}

impl Agent {
    /// Asks the agent; a refusal is an error.
    pub(super) fn ask(&self, request: &Request) -> Result<Response, Failure> {
        match self.try_ask(request)? {
            Response::Refused { why } | Response::Unanswered { why } => Err(Failure::Told(why)),
            response => Ok(response),
        }
    }

    /// Asks the agent.
    pub(super) fn try_ask(&self, request: &Request) -> Result<Response, ClientError> {
        ask(&self.socket, request)
    }
}

/// The agent answered another question.
pub(super) fn beside_the_point() -> Failure {
    Failure::Told(
        "the agent's answer fits another question: use the agent's version of this command"
            .to_owned(),
    )
}
