//! Why the payer stops.

use bitcoin::{Network, OutPoint};
use bitmesh_core::channel::{CloseError, FundingError, KeyError, PayError, RefundError};
use bitmesh_core::payer::{BidRefused, ClosedRefused, OfferRefused, OpenRefused};

use super::counter::CounterError;
use super::http::HttpError;
use super::state::StateError;

/// Why the payer can't go on. Each is one line with what is wrong and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum PayerError {
    /// The disk.
    #[error(transparent)]
    State(#[from] StateError),
    /// The gateway does not answer, or refuses.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The offer is beyond a limit.
    #[error(transparent)]
    Offer(#[from] OfferRefused),
    /// The gateway does not bargain honestly.
    #[error(transparent)]
    Bid(#[from] BidRefused),
    /// The gateway does not keep to its offer.
    #[error(transparent)]
    Open(#[from] OpenRefused),
    /// The funding does not fit.
    #[error(transparent)]
    Funding(#[from] FundingError),
    /// Something that is not signed.
    #[error(transparent)]
    Pay(#[from] PayError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A close that is not signed.
    #[error("the gateway's close is not signed: {0}")]
    Close(#[from] CloseError),
    /// A close that is not as it was signed.
    #[error(transparent)]
    Closed(#[from] ClosedRefused),
    /// A refund that can't be made.
    #[error(transparent)]
    Refund(#[from] RefundError),
    /// The own count.
    #[error(transparent)]
    Counter(#[from] CounterError),
    /// The wallet, or the node of a refund.
    #[error("{0}")]
    Node(String),
    /// Nobody said where the change goes.
    #[error("where shall the change go? Give --change-to ADDRESS, or --fund-from a node's wallet")]
    NoChange,
    /// The lock can't be judged.
    #[error(
        "how high is the chain? Without a node nobody but the gateway could tell on {0}: give \
         --tip-height"
    )]
    NoView(Network),
    /// The gateway sees another funding.
    #[error("the gateway names {named} as the funding, this side paid {own}: nothing is signed")]
    OtherFunding {
        /// What the gateway says.
        named: OutPoint,
        /// What was paid.
        own: OutPoint,
    },
    /// The gateway says that it has a funding, and not which.
    #[error(
        "the gateway says that the channel is open and not by which funding: nothing is signed"
    )]
    NoFunding,
    /// The gateway does not know the channel any more.
    #[error(
        "the gateway has forgotten channel {id}: connect again for another; what was paid to its \
         address comes back from block {block} on by `bitmesh refund {id} --node URL`"
    )]
    Forgotten {
        /// Which.
        id: String,
        /// From which block on there is a refund.
        block: u32,
    },
    /// The funding was undone.
    #[error(
        "the funding of channel {0} was undone by a reorganisation: the gateway takes no more; \
         connect again for another channel"
    )]
    FundingLost(String),
    /// There is none.
    #[error("there is no channel with this gateway in the state: nothing to close")]
    NothingToClose,
    /// Interrupted or failed; the money is safe.
    #[error(
        "{why}; channel {id} can be closed later by `bitmesh connect --gateway {url} --close`, or \
         refunded from block {block} on by `bitmesh refund {id} --node URL`"
    )]
    Left {
        /// What happened.
        why: String,
        /// Which channel.
        id: String,
        /// Its gateway.
        url: String,
        /// From which block on there is a refund.
        block: u32,
    },
}
