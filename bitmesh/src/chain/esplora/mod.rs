//! A server of the Esplora API over HTTP or HTTPS, one's own or another's.
//!
//! It is believed in what it leaves out, and in nothing that can be checked: a block must be the
//! one that was asked for, whole, and on the main network as much work as a real one
//! ([`MIN_MAINNET_DIFFICULTY`]). What it says of the mempool and of fees is a hint.
//!
//! The API has no look at a whole mempool that a public server would give every few seconds, so
//! the scripts are asked for one by one, some at a time ([`MAX_SCRIPTS_PER_POLL`]).

mod answers;
mod broadcast;
mod client;
mod node;
mod roots;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use bitcoin::Network;

use super::error::ChainError;
use super::follower::Follower;

pub use self::client::{MAX_BLOCK_BYTES, MAX_TEXT_BYTES};
pub use self::node::{EsploraNode, MAX_SCRIPTS_PER_POLL, MAX_TXS_PER_SCRIPT, PUBLIC_POLL_EVERY};
pub use self::work::MIN_MAINNET_DIFFICULTY;

/// How long one question may take, unless the configuration says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A server as a chain source.
pub type Esplora = Follower<EsploraNode>;

/// Where a server is and how to ask it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EsploraConfig {
    /// `https://HOST/PATH` or `http://HOST:PORT/PATH`: what stands before `/blocks/tip/hash`.
    pub url: String,
    /// Certificates (PEM) of who vouches for the server, in place of the machine's own list.
    pub ca_file: Option<PathBuf>,
    /// How long one question may take.
    pub timeout: Duration,
}

impl Esplora {
    /// Follows the server at this address, which must be on `network`. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// [`ChainError::Esplora`] if the address can't be used, and [`ChainError::NoAuthorities`] if
    /// its certificate could not be judged.
    pub fn to(config: &EsploraConfig, network: Network) -> Result<Self, ChainError> {
        Ok(Self::new(EsploraNode::new(config, network)?, network))
    }
}
