//! Nodes that are gone, or not the right ones.

use super::*;
use crate::chain::ChainError;

/// While the node is away every question fails, names the cure and changes nothing; when it is
/// back, the same source goes on.
pub fn a_node_that_goes_and_comes_back_loses_nothing<C: TestChain>(mut chain: C) {
    let mut reader = Reader::begin(&chain, &[1]);
    reader.catch_up(&chain);
    let paid = chain.pay(&script(1), AMOUNT);
    chain.mine(1);
    chain.stop();
    let close = spend(paid, 1, 9, FEE);
    let source = &mut reader.source;
    chain.until_heard(source);
    let failures = [
        source.tip().map(drop).unwrap_err(),
        source.blocks(&reader.cursor).map(drop).unwrap_err(),
        source.mempool().map(drop).unwrap_err(),
        source.outpoint(&paid, 0).map(drop).unwrap_err(),
        source.fee_rate(6).map(drop).unwrap_err(),
        source.broadcast(&close).map(drop).unwrap_err(),
        source.features().map(drop).unwrap_err(),
        source.cursor(None).map(drop).unwrap_err(),
    ];
    for error in failures {
        assert!(error.is_transient(), "it may pass: {error}");
        let text = error.to_string();
        assert!(text.contains("start") && !text.contains('\n'), "it says what to do: {text}");
    }
    chain.start();
    let events = reader.catch_up(&chain);
    assert_eq!(confirmed(&events).len(), 1, "what happened meanwhile is not lost");
}

/// A node of another network is refused before anything is believed. Peers of other networks hang
/// up on each other: to who asks peers, there is nobody.
pub fn a_node_of_another_network_is_refused<C: TestChain>(chain: C) {
    let asks_peers = features(&chain, &mut chain.source(Network::Regtest)).peers.is_some();
    for network in [Network::Bitcoin, Network::Signet] {
        let mut source = chain.source(network);
        for result in [
            source.check(network),
            source.tip().map(drop),
            source.mempool().map(drop),
            source.cursor(None).map(drop),
        ] {
            let refused = match &result {
                Err(ChainError::WrongNetwork { expected }) => *expected == network && !asks_peers,
                Err(ChainError::NoPeers { network: sought, .. }) => {
                    *sought == network && asks_peers
                }
                _ => false,
            };
            assert!(refused, "the wrong network is refused: {result:?}");
        }
    }
    chain.source(Network::Regtest).check(Network::Regtest).expect("the right one is not");
}
