//! A server of the Esplora API in front of a real node on regtest. It answers the questions that
//! BitMesh asks as the real server does, its own words and limits included, and misbehaves on
//! demand.

mod answers;
mod index;
mod server;

use anyhow::Result;
use bitcoin::{Amount, Network, OutPoint, ScriptBuf};
use bitmesh::chain::conformance::TestChain;
use bitmesh::chain::esplora::{Esplora, EsploraConfig};

use crate::regtest::Regtest;

pub use self::answers::MAX_MEMPOOL_TXS;
pub use self::server::{Mood, PATIENCE, Server};

/// A node and its server.
#[derive(Debug)]
pub struct Chain {
    /// The node.
    pub node: Regtest,
    /// The server; none while it is stopped.
    pub server: Server,
}

impl Chain {
    /// Starts both, with coins in the node's wallet.
    ///
    /// # Errors
    ///
    /// Fails if one does not start.
    pub fn start() -> Result<Self> {
        let node = Regtest::start()?;
        let server = Server::start(node.config())?;
        Ok(Self { node, server })
    }

    /// How the server is asked.
    #[must_use]
    pub fn config(&self) -> EsploraConfig {
        EsploraConfig { url: self.server.url(), ca_file: None, timeout: PATIENCE }
    }
}

/// The server under the checks that hold for every chain source.
#[allow(clippy::expect_used)]
impl TestChain for Chain {
    type Source = Esplora;

    fn source(&self, network: Network) -> Esplora {
        Esplora::to(&self.config(), network).expect("an address of this machine")
    }

    fn mine(&mut self, blocks: u32) {
        TestChain::mine(&mut self.node, blocks);
    }

    fn reorganise(&mut self, depth: u32) {
        TestChain::reorganise(&mut self.node, depth);
    }

    fn pay(&mut self, script: &ScriptBuf, amount: Amount) -> OutPoint {
        TestChain::pay(&mut self.node, script, amount)
    }

    fn stop(&mut self) {
        self.server.stop();
        TestChain::stop(&mut self.node);
    }

    fn start(&mut self) {
        TestChain::start(&mut self.node);
        self.server.start_again().expect("the server starts again");
    }
}
