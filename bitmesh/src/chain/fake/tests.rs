//! The fake keeps the promises of every chain source, and its own.

use super::*;
use crate::chain::conformance::TestChain;
use crate::chain::event::{OutpointStatus, Refusal};
use crate::chain::{ChainError, ChainSource as _};

impl TestChain for FakeChain {
    type Source = FakeSource;

    fn source(&self, network: Network) -> FakeSource {
        Self::source(self, network)
    }

    fn mine(&mut self, blocks: u32) {
        Self::mine(self, blocks);
    }

    fn reorganise(&mut self, depth: u32) {
        Self::reorganise(self, depth, depth + 1);
    }

    fn pay(&mut self, script: &ScriptBuf, amount: Amount) -> OutPoint {
        Self::pay(self, script, amount)
    }

    fn stop(&mut self) {
        self.set_health(Health::Down);
    }

    fn start(&mut self) {
        self.set_health(Health::Up);
    }
}

fn chain() -> FakeChain {
    let chain = FakeChain::new(Network::Regtest);
    chain.mine(101);
    chain
}

crate::chain_conformance!(chain());

#[test]
fn a_node_that_is_not_ready_says_why_and_passes() {
    let chain = chain();
    let mut source = chain.source(Network::Regtest);
    for health in [Health::Slow, Health::WarmingUp, Health::Syncing { behind: 9 }] {
        chain.set_health(health);
        let error = source.tip().unwrap_err();
        assert!(error.is_transient(), "{error}");
        chain.set_health(Health::Up);
        assert!(source.tip().is_ok());
    }
}

#[test]
fn a_pruned_block_is_named() {
    let chain = chain();
    let mut source = chain.source(Network::Regtest);
    let cursor = source.cursor(Some(20)).unwrap();
    chain.prune_below(23);
    // The blocks from 21 on are needed.
    assert!(matches!(source.blocks(&cursor), Err(ChainError::Pruned { height: 21 })));
    assert_eq!(source.features().unwrap().pruned_below, Some(23));
}

#[test]
fn an_evicted_transaction_takes_its_children_along() {
    let chain = chain();
    let amount = Amount::from_sat(50_000);
    let paid = chain.pay(&ScriptBuf::new(), amount);
    let child = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output: paid, ..TxIn::default() }],
        output: vec![TxOut { value: Amount::from_sat(40_000), script_pubkey: ScriptBuf::new() }],
    };
    assert_eq!(chain.send(&child), Broadcast::Accepted);
    chain.evict(&paid.txid);
    assert_eq!(chain.mempool(), []);
    let mut source = chain.source(Network::Regtest);
    assert_eq!(source.outpoint(&paid, 0).unwrap(), OutpointStatus::Unknown);
    let Broadcast::Refused(refused) = chain.send(&child) else { panic!("it has no input") };
    assert_eq!(refused.kind, Refusal::MissingInputs);
}
