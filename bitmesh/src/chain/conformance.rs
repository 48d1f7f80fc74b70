//! What every chain source promises, as checks that any source can be held to.
//!
//! Each check takes a chain of its own, which is ready to pay, and panics with a sentence if a
//! promise is broken. What a source says in its [`Features`] that it can't do, is held to the
//! alternative: one that sees no mempool must report nothing before a block does, and one that asks
//! peers must not claim to know what they make of a transaction.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod broadcasts;
mod payments;
mod reorganisations;
mod troubles;

use bitcoin::absolute::LockTime;
use bitcoin::opcodes::all::{OP_DROP, OP_PUSHNUM_1};
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};

use super::event::{Block, Broadcast, ChainEvent, Features, OutpointStatus, TxMatch};
use super::{ChainSource, Cursor};

pub use self::broadcasts::*;
pub use self::payments::*;
pub use self::reorganisations::*;
pub use self::troubles::*;

/// A chain that the checks control.
pub trait TestChain {
    /// The source under test.
    type Source: ChainSource;

    /// A new source for this chain, which expects this network. It knows nothing yet, as after a
    /// restart.
    fn source(&self, network: Network) -> Self::Source;

    /// Mines so many blocks on the tip. The first holds all of the mempool.
    fn mine(&mut self, blocks: u32);

    /// Takes the newest `depth` blocks off and mines `depth + 1` others, empty ones. What was
    /// confirmed is in the mempool again.
    fn reorganise(&mut self, depth: u32);

    /// Pays a script from somewhere; the transaction is in the mempool.
    fn pay(&mut self, script: &ScriptBuf, amount: Amount) -> OutPoint;

    /// Makes the node go away.
    fn stop(&mut self);

    /// Brings the node back, on the same chain.
    fn start(&mut self);

    /// Waits until the source knows what the node is at. Who asks a node knows it at once.
    fn until_heard(&self, source: &mut Self::Source) {
        let _ = source;
    }

    /// Waits until the node's mempool has this transaction. A node that was asked to take it has it
    /// at once.
    fn until_taken(&self, txid: Txid) {
        let _ = txid;
    }
}

/// How much is paid.
const AMOUNT: Amount = Amount::from_sat(100_000);

/// The fee of a spend: 10 sat/vB and more.
const FEE: Amount = Amount::from_sat(2_000);

/// A script that anybody can spend who knows `number`.
fn witness_script(number: i64) -> ScriptBuf {
    let pushed = Builder::new().push_int(number).push_opcode(OP_DROP);
    pushed.push_opcode(OP_PUSHNUM_1).into_script()
}

fn script(number: i64) -> ScriptBuf {
    witness_script(number).to_p2wsh()
}

/// Spends an output that pays `script(number)`, to another script.
fn spend(outpoint: OutPoint, number: i64, to: i64, fee: Amount) -> Transaction {
    let witness = Witness::from_slice(&[witness_script(number).to_bytes()]);
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness,
        }],
        output: vec![TxOut { value: AMOUNT - fee, script_pubkey: script(to) }],
    }
}

/// What the source says that it can do, once it knows what the node is at.
fn features<C: TestChain>(chain: &C, source: &mut C::Source) -> Features {
    chain.until_heard(source);
    source.features().expect("a source knows what it can do")
}

/// Sends a transaction that is taken: a node says so, peers don't.
fn send<C: TestChain>(chain: &C, source: &mut C::Source, transaction: &Transaction) {
    let peers = features(chain, source).peers;
    match source.broadcast(transaction).expect("a transaction can be sent") {
        Broadcast::Accepted => assert_eq!(peers, None, "peers don't say so"),
        Broadcast::Offered { peers: offered } => {
            assert!(peers.is_some(), "a node says what it makes of it");
            assert!(offered > 0, "somebody hears of it");
        }
        other => panic!("it must be taken: {other:?}"),
    }
    chain.until_taken(transaction.compute_txid());
}

/// One who follows a chain, and what it believes.
struct Reader<S> {
    source: S,
    cursor: Cursor,
    features: Features,
}

impl<S: ChainSource> Reader<S> {
    /// Begins at the tip, and watches these scripts.
    fn begin<C: TestChain<Source = S>>(chain: &C, scripts: &[i64]) -> Self {
        let mut source = chain.source(Network::Regtest);
        let features = features(chain, &mut source);
        let cursor = source.cursor(None).expect("a source gives a cursor at the tip");
        let mut reader = Self { source, cursor, features };
        reader.watch(scripts);
        reader
    }

    /// Goes on from a stored cursor, with a new source.
    fn resume<C: TestChain<Source = S>>(chain: &C, cursor: Cursor, scripts: &[i64]) -> Self {
        let json = serde_json::to_string(&cursor).expect("a cursor can be stored");
        let cursor = serde_json::from_str(&json).expect("a stored cursor can be read");
        let mut source = chain.source(Network::Regtest);
        let features = features(chain, &mut source);
        let mut reader = Self { source, cursor, features };
        reader.watch(scripts);
        reader
    }

    fn watch(&mut self, scripts: &[i64]) {
        for number in scripts {
            self.source.watch_script(script(*number)).expect("there is room for a script");
        }
    }

    /// Reads on to the tip, once it is heard of.
    fn catch_up<C: TestChain<Source = S>>(&mut self, chain: &C) -> Vec<ChainEvent> {
        chain.until_heard(&mut self.source);
        let mut all = Vec::new();
        loop {
            let progress = self.source.blocks(&self.cursor).expect("blocks can be read");
            for event in &progress.events {
                self.cursor.apply(event).expect("each event follows from the one before");
            }
            all.extend(progress.events);
            if progress.caught_up {
                let tip = self.source.tip().expect("the tip is known").block;
                assert_eq!(self.cursor.newest(), Some(tip), "caught up means: at the tip");
                return all;
            }
        }
    }

    fn mempool(&mut self) -> Vec<ChainEvent> {
        self.source.mempool().expect("the mempool can be read")
    }

    /// What came to the mempool: so many transactions, or nothing if the source sees none.
    fn seen(&mut self, expected: usize) -> Vec<Txid> {
        let events = self.mempool();
        let found: Vec<Txid> = seen(&events).iter().map(|found| found.txid).collect();
        let sees = self.features.sees_mempool;
        assert_eq!(found.len(), if sees { expected } else { 0 }, "in the mempool: {events:?}");
        found
    }

    /// What is known of an output that is in the mempool.
    fn known(&self, in_mempool: OutpointStatus) -> OutpointStatus {
        if self.features.sees_mempool { in_mempool } else { OutpointStatus::Unknown }
    }

    fn height(&self) -> u32 {
        self.cursor.newest().expect("a cursor has a block").height
    }
}

/// The transactions of interest in blocks that joined.
fn confirmed(events: &[ChainEvent]) -> Vec<(Block, &TxMatch)> {
    let mut found = Vec::new();
    for event in events {
        if let ChainEvent::BlockConnected { block, matches, .. } = event {
            found.extend(matches.iter().map(|found| (*block, found)));
        }
    }
    found
}

/// The blocks that left.
fn disconnected(events: &[ChainEvent]) -> Vec<Block> {
    let left = |event: &ChainEvent| match event {
        ChainEvent::BlockDisconnected { block } => Some(*block),
        _ => None,
    };
    events.iter().filter_map(left).collect()
}

/// The transactions that came to the mempool.
fn seen(events: &[ChainEvent]) -> Vec<&TxMatch> {
    let mut found = Vec::new();
    for event in events {
        if let ChainEvent::MempoolSeen(came) = event {
            found.push(came);
        }
    }
    found
}

/// The transactions that left the mempool other than into a block.
fn gone(events: &[ChainEvent]) -> Vec<Txid> {
    let went = |event: &ChainEvent| match event {
        ChainEvent::MempoolGone { txid } => Some(*txid),
        _ => None,
    };
    events.iter().filter_map(went).collect()
}

/// Runs every check as a test of its own, each with the chain that `$chain` makes.
#[macro_export]
macro_rules! chain_conformance {
    ($chain:expr) => {
        $crate::chain_conformance! { @each $chain =>
            a_payment_is_seen_in_the_mempool_and_then_in_its_block
            a_spend_is_seen_in_the_mempool_and_then_in_its_block
            an_outpoint_watched_by_name_is_followed_after_a_restart
            an_output_watched_with_its_script_is_followed_after_a_restart
            a_payment_that_is_spent_at_once_is_not_missed
            a_replaced_transaction_is_gone
            what_is_forgotten_is_not_reported
            many_blocks_are_read_in_bounded_steps
            a_reorganisation_of_1_block_undoes_a_confirmation
            a_reorganisation_of_6_blocks_undoes_a_confirmation
            a_reorganisation_of_100_blocks_undoes_a_confirmation
            a_restart_goes_on_where_the_cursor_is
            a_restart_on_a_stale_branch_finds_its_way_back
            a_cursor_of_another_chain_is_lost
            a_cursor_can_begin_at_an_older_height
            a_transaction_can_be_sent_again
            a_refusal_tells_its_kind
            a_feerate_is_known_and_bounded
            a_node_that_goes_and_comes_back_loses_nothing
            a_node_of_another_network_is_refused
        }
    };
    (@each $chain:expr => $($check:ident)*) => {
        $(#[test]
        fn $check() {
            $crate::chain::conformance::$check($chain);
        })*
    };
}
