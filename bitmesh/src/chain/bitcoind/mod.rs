//! A bitcoin node (version 24 or newer) over JSON-RPC. It may be pruned; it needs no wallet and
//! no index.

mod answers;
mod auth;
mod node;
mod rpc;

use bitcoin::Network;

use super::error::ChainError;
use super::follower::Follower;

pub use self::auth::{Auth, MAX_COOKIE_BYTES, Password};
pub use self::node::RpcNode;
pub use self::rpc::{DEFAULT_TIMEOUT, MAX_ANSWER_BYTES, MAX_BATCH, Rpc, RpcConfig};

/// A node as a chain source.
pub type Bitcoind = Follower<RpcNode>;

impl Bitcoind {
    /// Follows the node at this address, which must be on `network`. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// [`ChainError::Address`].
    pub fn at(config: RpcConfig, network: Network) -> Result<Self, ChainError> {
        Ok(Self::new(RpcNode::new(Rpc::new(config)?), network))
    }
}
