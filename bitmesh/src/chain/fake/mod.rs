//! A chain in memory, with a node that can be slow to start, far behind or gone.
//!
//! It checks what moves coins (inputs exist, once; values; lock times; replacement by fee) but no
//! scripts, signatures or proof of work. Nothing in it is random and it has no clock: a
//! simulation replays.

mod ledger;
mod node;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, Network, OutPoint, ScriptBuf, Transaction, TxIn, TxOut};

use self::ledger::Ledger;
use super::event::{Broadcast, Peers, Tip, Truc};
use super::follower::Follower;

pub use self::node::FakeNode;

/// A source that follows a [`FakeChain`].
pub type FakeSource = Follower<FakeNode>;

/// Seconds between two blocks, by their headers.
pub const BLOCK_INTERVAL_SECONDS: u32 = 600;

/// How the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Up,
    /// Nobody answers.
    Down,
    /// It takes too long for every question.
    Slow,
    /// It is starting.
    WarmingUp,
    /// It is catching up, and the network is so many blocks ahead.
    Syncing {
        /// Blocks that it lacks.
        behind: u32,
    },
}

/// A chain, its miners and its one node. Clones are handles of the same chain.
#[derive(Clone, Debug)]
pub struct FakeChain(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    network: Network,
    ledger: Ledger,
    health: Health,
    /// What the node estimates, if anything.
    estimate: Option<FeeRate>,
    truc: Truc,
    /// The node has no block below this height.
    pruned_below: u32,
    /// The source is as a light client, with these peers.
    peers: Option<Peers>,
    /// Makes each payment another one.
    payments: u32,
}

impl FakeChain {
    /// A chain with nothing but the genesis block of this network.
    #[must_use]
    pub fn new(network: Network) -> Self {
        Self(Arc::new(Mutex::new(State {
            network,
            ledger: Ledger::new(network),
            health: Health::Up,
            estimate: None,
            truc: Truc::Enforced,
            pruned_below: 0,
            peers: None,
            payments: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No method leaves it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new source, as after a restart, that expects this network.
    #[must_use]
    pub fn source(&self, network: Network) -> FakeSource {
        Follower::new(FakeNode::new(self.clone()), network)
    }

    /// How the node is from now on.
    pub fn set_health(&self, health: Health) {
        self.state().health = health;
    }

    /// What the node estimates from now on; with none, the mempool's minimum is all it knows.
    pub fn set_estimate(&self, estimate: Option<FeeRate>) {
        self.state().estimate = estimate;
    }

    /// What the node says of TRUC. It does not act on it.
    pub fn set_truc(&self, truc: Truc) {
        self.state().truc = truc;
    }

    /// The source is as a light client from now on: it asks peers, sees no mempool, and of outputs
    /// knows only what blocks say.
    pub fn set_peers(&self, peers: Option<Peers>) {
        self.state().peers = peers;
    }

    /// Lets the node forget all blocks below this height.
    pub fn prune_below(&self, height: u32) {
        self.state().pruned_below = height;
    }

    /// The newest block, whatever the node's health.
    #[must_use]
    pub fn tip(&self) -> Tip {
        self.state().ledger.tip()
    }

    /// Mines so many blocks; the first holds all of the mempool.
    pub fn mine(&self, blocks: u32) {
        let mut state = self.state();
        for _ in 0..blocks {
            state.ledger.mine_mempool();
        }
    }

    /// Mines so many blocks that hold nothing: nobody's transaction gets in.
    pub fn mine_empty(&self, blocks: u32) {
        let mut state = self.state();
        for _ in 0..blocks {
            state.ledger.mine(Vec::new());
        }
    }

    /// Takes the newest `depth` blocks off, never the first, and mines `length` empty ones in
    /// their place. What was confirmed is in the mempool again, as far as it is still valid.
    pub fn reorganise(&self, depth: u32, length: u32) {
        let mut state = self.state();
        state.ledger.disconnect(depth);
        for _ in 0..length {
            state.ledger.mine(Vec::new());
        }
        state.ledger.refill_mempool();
    }

    /// Takes a transaction out of the mempool, and what spends it.
    pub fn evict(&self, txid: &bitcoin::Txid) {
        self.state().ledger.evict(txid);
    }

    /// Sends a transaction as somebody else would, whatever the node's health.
    pub fn send(&self, transaction: &Transaction) -> Broadcast {
        self.state().ledger.accept(transaction)
    }

    /// The transactions in the mempool, in the order in which they came.
    #[must_use]
    pub fn mempool(&self) -> Vec<Transaction> {
        self.state().ledger.mempool().to_vec()
    }

    /// An output that is not spent in a block.
    #[must_use]
    pub fn output(&self, outpoint: &OutPoint) -> Option<TxOut> {
        self.state().ledger.confirmed(outpoint).map(|coin| coin.output.clone())
    }

    /// Makes a payment from new coins, which the fake makes from nothing, and sends it.
    pub fn pay(&self, script: &ScriptBuf, amount: Amount) -> OutPoint {
        let mut state = self.state();
        state.payments = state.payments.saturating_add(1);
        let number = state.payments;
        let coin = state.ledger.make_coin(number, amount);
        let transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn { previous_output: coin, ..TxIn::default() }],
            output: vec![TxOut { value: amount, script_pubkey: script.clone() }],
        };
        state.ledger.add_to_mempool(transaction.clone());
        OutPoint::new(transaction.compute_txid(), 0)
    }
}
