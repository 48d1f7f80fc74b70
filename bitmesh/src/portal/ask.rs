//! What the portal asks of the agent.

use bitmesh_core::channel::PublicKey;
use bitmesh_core::channel::message::Challenge;
use bitmesh_core::wire::{
    ApiError, BidRequest, ChannelId, CloseBody, CloseCompletion, FundingRequest, OpenRequest,
    ResumeBody, SessionView, UpdateBody,
};
use bitmesh_core::{ChannelAnswer, Mac};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::ANSWER_TIMEOUT;
use super::problem::Problem;
use super::visit::Visit;

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub question: Question,
    /// Takes the answer. The asker may be gone.
    pub answer: oneshot::Sender<Answered>,
}

/// What a station asks.
#[derive(Debug)]
pub enum Question {
    /// For an offer.
    Offer {
        /// Comes back in it.
        challenge: Challenge,
    },
    /// For a lower price.
    Bid {
        /// Who asks.
        mac: Mac,
        /// What it sent.
        body: Box<BidRequest>,
    },
    /// For a channel.
    Open {
        /// Who asks.
        mac: Mac,
        /// What it sent.
        body: Box<OpenRequest>,
    },
    /// To take a countersignature, and relay a funding.
    Fund {
        /// Which channel.
        channel: ChannelId,
        /// What it sent.
        body: FundingRequest,
    },
    /// For the state of a channel.
    View {
        /// Which channel.
        channel: ChannelId,
    },
    /// For the channel of a payer that has nothing but its key.
    Find {
        /// C.
        payer_key: PublicKey,
    },
    /// To take an update.
    Update {
        /// Which channel.
        channel: ChannelId,
        /// What it sent.
        body: UpdateBody,
    },
    /// For a challenge.
    Challenge {
        /// Who asks.
        mac: Mac,
        /// Which channel.
        channel: ChannelId,
    },
    /// To have its channel pay for it under this address.
    Resume {
        /// Who asks.
        mac: Mac,
        /// Which channel.
        channel: ChannelId,
        /// What it sent.
        body: Box<ResumeBody>,
    },
    /// For a cooperative close.
    Close {
        /// Which channel.
        channel: ChannelId,
        /// What it sent.
        body: Box<CloseBody>,
    },
    /// To complete it.
    Complete {
        /// Which channel.
        channel: ChannelId,
        /// What it sent.
        body: Box<CloseCompletion>,
    },
    /// For its session.
    Session {
        /// Who asks.
        mac: Mac,
    },
    /// For all that its page shows.
    Visit {
        /// Who asks.
        mac: Mac,
    },
    /// To close its own gate.
    Stop {
        /// Who asks.
        mac: Mac,
    },
}

/// What a station is told.
#[derive(Debug)]
pub enum Told {
    /// What the core says of a channel.
    Channel(Box<ChannelAnswer>),
    /// How the session is.
    Session(SessionView),
    /// What the page shows.
    Visit(Box<Visit>),
    /// The gate is closed.
    Stopped,
}

/// An answer, or why there is none.
pub type Answered = Result<Told, ApiError>;

/// Asks the agent.
pub(super) async fn ask(asked: &mpsc::Sender<Asked>, question: Question) -> Result<Told, Problem> {
    let (answer, answered) = oneshot::channel();
    asked.try_send(Asked { question, answer }).map_err(|_| Problem::overloaded())?;
    match timeout(ANSWER_TIMEOUT, answered).await {
        Ok(Ok(answer)) => answer.map_err(Problem::of),
        Ok(Err(_)) | Err(_) => Err(Problem::no_answer()),
    }
}
