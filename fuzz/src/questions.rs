//! Every question that a chain source can be asked.

use std::time::{Duration, Instant};

use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash as _;
use bitcoin::{Network, OutPoint, ScriptBuf, Transaction, Txid};
use bitmesh::chain::{ChainSource, Cursor};
use serde_json::json;

/// How long a source waits for one answer.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// The longest that all questions together may take.
const MAX_TIME: Duration = Duration::from_secs(20);

/// Asks a source on regtest whose answers can be anything: each question ends, in time.
///
/// # Panics
///
/// If the answers held it up.
pub fn ask_everything(chain: &mut impl ChainSource) {
    let started = Instant::now();
    let outpoint = OutPoint::new(Txid::from_byte_array([9; 32]), 0);
    let script = ScriptBuf::from_bytes([&[0x51, 0x20][..], &[7; 32]].concat());
    let _ = (chain.watch_script(script), chain.watch_outpoint(outpoint));
    let _ = (chain.check(Network::Regtest), chain.tip(), chain.features());
    let _ = (chain.blocks(&at_genesis()), chain.cursor(None));
    let _ = (chain.mempool(), chain.outpoint(&outpoint, 1), chain.fee_rate(6));
    let transaction = Transaction {
        version: bitcoin::transaction::Version(3),
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: Vec::new(),
        output: Vec::new(),
    };
    let _ = chain.broadcast(&transaction);
    assert!(started.elapsed() < MAX_TIME, "the answers held the chain's thread up");
}

fn at_genesis() -> Cursor {
    let hash = genesis_block(Network::Regtest).block_hash();
    serde_json::from_value(json!([{"height": 0, "hash": hash}])).expect("a cursor")
}
