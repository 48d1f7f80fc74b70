//! A light client of real nodes on regtest.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bitcoin::{Amount, Network, OutPoint, ScriptBuf, Txid};
use bitmesh::chain::ChainSource as _;
use bitmesh::chain::conformance::TestChain;
use bitmesh::chain::light::{LightClient, LightConfig};
use serde_json::json;
use tempfile::TempDir;

use crate::regtest::{Options, Regtest};

/// How long a light client may take to hear of what its node knows, and a node of a transaction.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that serves filters to peers, and what its light clients keep.
#[derive(Debug)]
pub struct Served {
    /// The node.
    pub node: Regtest,
    peer: SocketAddr,
    is_running: bool,
    /// Each client has a folder of its own: a new one knows nothing.
    folders: RefCell<Vec<TempDir>>,
}

impl Served {
    /// A node as [`Regtest::start`] makes it, that peers can ask.
    ///
    /// # Errors
    ///
    /// As [`Regtest::start`].
    pub fn start() -> Result<Self> {
        let served = Self::launch()?;
        served.node.open_wallet()?;
        served.node.mine(crate::regtest::FIRST_BLOCKS)?;
        Ok(served)
    }

    /// The same with nothing but the genesis block.
    ///
    /// # Errors
    ///
    /// As [`Regtest::start`].
    pub fn launch() -> Result<Self> {
        Self::launch_with(&["-blockfilterindex=1", "-peerblockfilters=1"])
    }

    /// The same with these arguments in place of those that let it serve filters.
    ///
    /// # Errors
    ///
    /// As [`Regtest::start`].
    pub fn launch_with(more: &[&str]) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let bind = format!("-bind={peer}");
        let first = ["-listen=1", "-listenonion=0", &bind];
        let arguments = first.iter().chain(more).map(|&word| word.to_owned()).collect();
        let node = Regtest::launch(&Options { arguments, own_policy: false })?;
        Ok(Self { node, peer, is_running: true, folders: RefCell::default() })
    }

    /// The node alone.
    #[must_use]
    pub fn into_node(self) -> Regtest {
        self.node
    }

    /// Where peers ask.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Makes this node follow another.
    ///
    /// # Errors
    ///
    /// Fails if it does not within a minute.
    pub fn follow(&self, other: &Self) -> Result<()> {
        self.node.call("addnode", &json!([other.peer.to_string(), "onetry"]))?;
        self.until_as_high_as(other)
    }

    /// Waits until this node has what another has.
    ///
    /// # Errors
    ///
    /// Fails if it has not within a minute.
    pub fn until_as_high_as(&self, other: &Self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let tip = |served: &Self| served.node.call("getbestblockhash", &json!([]));
        while tip(self)? != tip(other)? {
            if Instant::now() > deadline {
                bail!("the node does not follow the other: {}", self.node.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What a light client of these nodes is told, with a new folder.
    ///
    /// # Errors
    ///
    /// Fails if there is no room for a folder.
    pub fn config(&self, peers: &[SocketAddr], required: u8) -> Result<LightConfig> {
        let folder = TempDir::with_prefix("bitmesh-light-")?;
        let path = folder.path().to_owned();
        self.folders.borrow_mut().push(folder);
        let (network, peers) = (Network::Regtest, peers.to_vec());
        let wanted = u8::try_from(peers.len())?;
        Ok(LightConfig { network, peers, wanted, required, folder: path })
    }

    /// Waits until a light client is at the node's tip, or has noticed that there is none.
    ///
    /// # Errors
    ///
    /// Fails if it is not within a minute.
    pub fn until_heard_by(&self, source: &mut LightClient) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let heard = source.tip();
            let knows = match (&heard, self.is_running) {
                (Ok(tip), true) => {
                    let best = self.node.call("getbestblockhash", &json!([]))?;
                    best.as_str() == Some(&tip.block.hash.to_string())
                }
                (heard, is_running) => heard.is_err() && !is_running,
            };
            if knows {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the light client does not hear of it: {heard:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the node's mempool has this transaction within two seconds.
    #[must_use]
    pub fn until_has_soon(&self, txid: Txid) -> bool {
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            if self.node.call("getmempoolentry", &json!([txid])).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Waits until the node's mempool has this transaction.
    ///
    /// # Errors
    ///
    /// Fails if it has not within a minute.
    pub fn until_has(&self, txid: Txid) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.node.call("getmempoolentry", &json!([txid])).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the transaction does not reach the node: {}", self.node.said())
    }
}

/// The light client under the checks that hold for every chain source.
#[allow(clippy::expect_used)]
impl TestChain for Served {
    type Source = LightClient;

    fn source(&self, network: Network) -> LightClient {
        let config = self.config(&[self.peer], 1).context("no folder").expect("a folder");
        LightClient::new(LightConfig { network, ..config })
    }

    fn mine(&mut self, blocks: u32) {
        self.node.mine(blocks).expect("the node mines");
    }

    fn reorganise(&mut self, depth: u32) {
        self.node.reorganise(depth, depth + 1).expect("the node reorganises its chain");
    }

    fn pay(&mut self, script: &ScriptBuf, amount: Amount) -> OutPoint {
        self.node.pay(script, amount).expect("the node pays").0
    }

    fn stop(&mut self) {
        self.node.stop().expect("the node stops");
        self.is_running = false;
    }

    fn start(&mut self) {
        self.node.start_again().expect("the node starts again");
        self.is_running = true;
    }

    fn until_heard(&self, source: &mut LightClient) {
        self.until_heard_by(source).expect("the light client hears of it");
    }

    fn until_taken(&self, txid: Txid) {
        self.until_has(txid).expect("the node takes it");
    }
}
