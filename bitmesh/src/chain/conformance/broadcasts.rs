//! Sending transactions, and fees.

use super::*;
use crate::chain::event::{FeeSource, Refusal, Refused};
use crate::chain::{MAX_FEE_RATE, MIN_FEE_RATE};

/// The kind of a refusal.
fn refused(broadcast: Broadcast) -> Refusal {
    match broadcast {
        Broadcast::Refused(Refused { kind, reason }) => {
            assert!(!reason.is_empty(), "a refusal has a reason");
            kind
        }
        other => panic!("it must be refused: {other:?}"),
    }
}

/// A transaction can be sent again, before and after it is confirmed.
pub fn a_transaction_can_be_sent_again<C: TestChain>(mut chain: C) {
    let paid = chain.pay(&script(1), AMOUNT);
    chain.mine(1);
    let mut source = chain.source(Network::Regtest);
    let close = spend(paid, 1, 9, FEE);
    send(&chain, &mut source, &close);
    let asks_peers = features(&chain, &mut source).peers.is_some();
    let again = |source: &mut C::Source, known: Broadcast| {
        let answer = source.broadcast(&close).unwrap();
        match answer {
            Broadcast::Offered { .. } if asks_peers => {}
            answer => assert_eq!(answer, known),
        }
    };
    again(&mut source, Broadcast::AlreadyInMempool);
    chain.mine(1);
    again(&mut source, Broadcast::AlreadyConfirmed);
}

/// Each refusal is told by its kind. Peers refuse in silence: then none is claimed, and the source
/// goes on.
pub fn a_refusal_tells_its_kind<C: TestChain>(mut chain: C) {
    let paid = chain.pay(&script(1), AMOUNT);
    chain.mine(1);
    let mut source = chain.source(Network::Regtest);
    let asks_peers = features(&chain, &mut source).peers.is_some();
    let refuses = |source: &mut C::Source, transaction: &Transaction, kind: Refusal| {
        let answer = source.broadcast(transaction).unwrap();
        if asks_peers {
            let offered = matches!(answer, Broadcast::Offered { .. });
            assert!(offered, "nothing is claimed: {answer:?}");
        } else {
            assert_eq!(refused(answer), kind);
        }
    };
    let nowhere = OutPoint::new(paid.txid, paid.vout + 7);
    refuses(&mut source, &spend(nowhere, 1, 9, FEE), Refusal::MissingInputs);
    refuses(&mut source, &spend(paid, 1, 9, Amount::ZERO), Refusal::FeeTooLow);
    let mut early = spend(paid, 1, 9, FEE);
    let height = source.tip().unwrap().block.height;
    early.lock_time = LockTime::from_height(height + 2).unwrap();
    refuses(&mut source, &early, Refusal::NotFinal);
    let mut greedy = spend(paid, 1, 9, FEE);
    greedy.output[0].value = AMOUNT * 2;
    refuses(&mut source, &greedy, Refusal::Invalid);

    // Refusals changed nothing: in its time the same transaction is taken.
    chain.mine(2);
    send(&chain, &mut source, &early);
    let poor = spend(paid, 1, 8, FEE);
    refuses(&mut source, &poor, Refusal::Conflict);
    let mut reader = Reader::begin(&chain, &[]);
    reader.source.watch_coin(paid, &script(1)).unwrap();
    chain.mine(1);
    let events = reader.catch_up(&chain);
    let [(_, found)] = confirmed(&events)[..] else { panic!("one is confirmed: {events:?}") };
    assert_eq!(found.txid, early.compute_txid(), "a replacement must pay more");
    refuses(&mut source, &spend(paid, 1, 8, FEE * 5), Refusal::MissingInputs);
}

/// A feerate is always known, and bounded.
pub fn a_feerate_is_known_and_bounded<C: TestChain>(chain: C) {
    let mut source = chain.source(Network::Regtest);
    for target in [0, 1, 6, 144, u16::MAX] {
        let fee = source.fee_rate(target).unwrap();
        assert!((MIN_FEE_RATE..=MAX_FEE_RATE).contains(&fee.rate), "{fee:?}");
        assert_eq!(fee.source, FeeSource::MempoolMinimum, "there is nothing to learn from");
    }
}
