//! Sending transactions, and fees.

use super::*;
use crate::chain::event::{Broadcast, FeeSource, Refusal, Refused};
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
    assert_eq!(source.broadcast(&close).unwrap(), Broadcast::Accepted);
    assert_eq!(source.broadcast(&close).unwrap(), Broadcast::AlreadyInMempool);
    chain.mine(1);
    assert_eq!(source.broadcast(&close).unwrap(), Broadcast::AlreadyConfirmed);
}

/// Each refusal is told by its kind.
pub fn a_refusal_tells_its_kind<C: TestChain>(mut chain: C) {
    let paid = chain.pay(&script(1), AMOUNT);
    chain.mine(1);
    let mut source = chain.source(Network::Regtest);
    let nowhere = OutPoint::new(paid.txid, paid.vout + 7);
    let missing = source.broadcast(&spend(nowhere, 1, 9, FEE)).unwrap();
    assert_eq!(refused(missing), Refusal::MissingInputs);
    let cheap = source.broadcast(&spend(paid, 1, 9, Amount::ZERO)).unwrap();
    assert_eq!(refused(cheap), Refusal::FeeTooLow);

    let mut early = spend(paid, 1, 9, FEE);
    let height = source.tip().unwrap().block.height;
    early.lock_time = LockTime::from_height(height + 2).unwrap();
    let early_answer = source.broadcast(&early).unwrap();
    assert_eq!(refused(early_answer), Refusal::NotFinal);
    let mut greedy = spend(paid, 1, 9, FEE);
    greedy.output[0].value = AMOUNT * 2;
    let greedy_answer = source.broadcast(&greedy).unwrap();
    assert_eq!(refused(greedy_answer), Refusal::Invalid);

    // Refusals changed nothing: in its time the same transaction is taken.
    chain.mine(2);
    assert_eq!(source.broadcast(&early).unwrap(), Broadcast::Accepted);
    let poor = source.broadcast(&spend(paid, 1, 8, FEE)).unwrap();
    assert_eq!(refused(poor), Refusal::Conflict, "a replacement must pay more");
    chain.mine(1);
    let late = source.broadcast(&spend(paid, 1, 8, FEE * 5)).unwrap();
    assert_eq!(refused(late), Refusal::MissingInputs, "it is spent in a block");
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
