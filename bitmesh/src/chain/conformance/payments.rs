//! Payments and spends, in mempool and blocks.

use super::*;
use crate::chain::event::Spender;

/// A payment is reported once when it comes, and once when it is confirmed, with its block.
pub fn a_payment_is_seen_in_the_mempool_and_then_in_its_block<C: TestChain>(mut chain: C) {
    let mut reader = Reader::begin(&chain, &[1]);
    assert_eq!(reader.catch_up(&chain), [], "nothing has happened yet");
    assert_eq!(reader.mempool(), [], "nothing is watched that is there");
    let paid = chain.pay(&script(1), AMOUNT);
    let other = chain.pay(&script(2), AMOUNT);

    let events = reader.mempool();
    let sees_mempool = reader.features.sees_mempool;
    assert_eq!(seen(&events).len(), usize::from(sees_mempool), "one payment: {events:?}");
    for found in seen(&events) {
        is_the_payment(found, paid);
    }
    assert_eq!(reader.mempool(), [], "a payment is reported once");
    assert_eq!(reader.catch_up(&chain), [], "it is in no block yet");
    let status = reader.source.outpoint(&paid, 0).unwrap();
    assert_eq!(status, reader.known(OutpointStatus::InMempool));

    chain.mine(3);
    let events = reader.catch_up(&chain);
    let [(block, found)] = confirmed(&events)[..] else { panic!("it is confirmed: {events:?}") };
    assert_eq!(events.len(), 3, "every block is reported");
    assert_eq!(block.height, reader.height() - 2, "it is in the first of them");
    is_the_payment(found, paid);
    assert_eq!(reader.mempool(), [], "what is confirmed is not gone");
    let status = reader.source.outpoint(&paid, 0).unwrap();
    assert_eq!(status, OutpointStatus::Confirmed(block));
    let status = reader.source.outpoint(&other, 0).unwrap();
    if reader.features.knows_all_outputs {
        assert_eq!(status, OutpointStatus::Confirmed(block), "status needs no watching");
    } else {
        assert_eq!(status, OutpointStatus::Unknown, "of what is not watched nothing is claimed");
    }
    let unknown = OutPoint::new(paid.txid, paid.vout + 7);
    assert_eq!(reader.source.outpoint(&unknown, 0).unwrap(), OutpointStatus::Unknown);
}

fn is_the_payment(found: &TxMatch, paid: OutPoint) {
    let outputs: Vec<_> = found.paid().map(|(outpoint, output)| (outpoint, output.value)).collect();
    assert_eq!(outputs, [(paid, AMOUNT)], "the payment is the one that was made");
    assert_eq!(found.transaction.compute_txid(), paid.txid, "the whole transaction is reported");
    assert_eq!(found.txid, paid.txid);
}

/// What spends a payment is reported, in the mempool and in its block.
pub fn a_spend_is_seen_in_the_mempool_and_then_in_its_block<C: TestChain>(mut chain: C) {
    let mut reader = Reader::begin(&chain, &[1]);
    let paid = chain.pay(&script(1), AMOUNT);
    chain.mine(1);
    reader.catch_up(&chain);
    let close = spend(paid, 1, 9, FEE);
    let txid = close.compute_txid();
    send(&chain, &mut reader.source, &close);

    let events = reader.mempool();
    let sees_mempool = reader.features.sees_mempool;
    assert_eq!(seen(&events).len(), usize::from(sees_mempool), "one spend: {events:?}");
    for found in seen(&events) {
        assert_eq!((found.txid, found.spent().collect::<Vec<_>>()), (txid, vec![paid]));
    }
    assert_eq!(reader.mempool(), [], "a spend is reported once");
    let status = reader.source.outpoint(&paid, 0).unwrap();
    match status {
        OutpointStatus::Spent(spender) if sees_mempool => {
            assert_eq!(spender, Spender { txid, block: None });
        }
        OutpointStatus::Confirmed(_) if !sees_mempool => {}
        other => panic!("it is spent in the mempool: {other:?}"),
    }

    chain.mine(1);
    let events = reader.catch_up(&chain);
    let [(block, found)] = confirmed(&events)[..] else { panic!("it is confirmed: {events:?}") };
    assert_eq!((found.txid, found.spent().collect::<Vec<_>>()), (txid, vec![paid]));
    let status = reader.source.outpoint(&paid, 0).unwrap();
    assert_eq!(status, OutpointStatus::Spent(Spender { txid, block: Some(block) }));
    let status = reader.source.outpoint(&paid, block.height + 1).unwrap();
    assert_eq!(status, OutpointStatus::Unknown, "only the blocks asked for are searched");
}

/// An outpoint that is watched by name is found, though its payment was long before.
pub fn an_outpoint_watched_by_name_is_followed_after_a_restart<C: TestChain>(mut chain: C) {
    let paid = chain.pay(&script(1), AMOUNT);
    chain.mine(1);
    let mut reader = Reader::begin(&chain, &[]);
    reader.source.watch_outpoint(paid).unwrap();
    is_followed(chain, reader, paid);
}

/// The same, if who watches it knows its script, and that alone.
pub fn an_output_watched_with_its_script_is_followed_after_a_restart<C: TestChain>(mut chain: C) {
    let paid = chain.pay(&script(1), AMOUNT);
    chain.mine(1);
    let mut reader = Reader::begin(&chain, &[]);
    reader.source.watch_coin(paid, &script(1)).unwrap();
    is_followed(chain, reader, paid);
}

fn is_followed<C: TestChain>(mut chain: C, mut reader: Reader<C::Source>, paid: OutPoint) {
    let close = spend(paid, 1, 9, FEE);
    send(&chain, &mut reader.source, &close);
    // It is seen without any script.
    reader.seen(1);
    chain.mine(1);
    let events = reader.catch_up(&chain);
    let [(_, found)] = confirmed(&events)[..] else { panic!("it is confirmed: {events:?}") };
    assert_eq!((found.txid, found.spent().collect::<Vec<_>>()), (close.compute_txid(), vec![paid]));
    assert_eq!(reader.mempool(), [], "what is confirmed is not gone");
}

/// Payment and spend in one block, and in one look at the mempool, are both reported.
pub fn a_payment_that_is_spent_at_once_is_not_missed<C: TestChain>(mut chain: C) {
    let mut reader = Reader::begin(&chain, &[1]);
    let paid = chain.pay(&script(1), AMOUNT);
    let close = spend(paid, 1, 9, FEE);
    let txid = close.compute_txid();
    send(&chain, &mut reader.source, &close);
    let events = [reader.mempool(), reader.mempool()].concat();
    let mut found: Vec<Txid> = seen(&events).iter().map(|found| found.txid).collect();
    found.sort_unstable();
    let mut both = vec![paid.txid, txid];
    both.sort_unstable();
    if !reader.features.sees_mempool {
        both.clear();
    }
    assert_eq!(found, both, "both are seen, each once");
    chain.mine(1);
    let events = reader.catch_up(&chain);
    let found: Vec<Txid> = confirmed(&events).iter().map(|(_, found)| found.txid).collect();
    assert_eq!(found, [paid.txid, txid], "in the order of the block");
}

/// A transaction that is replaced is reported gone, and its replacement seen.
pub fn a_replaced_transaction_is_gone<C: TestChain>(mut chain: C) {
    let mut reader = Reader::begin(&chain, &[1]);
    let paid = chain.pay(&script(1), AMOUNT);
    chain.mine(1);
    reader.catch_up(&chain);
    let (first, second) = (spend(paid, 1, 8, FEE), spend(paid, 1, 9, FEE * 5));
    send(&chain, &mut reader.source, &first);
    reader.seen(1);
    send(&chain, &mut reader.source, &second);
    let events = reader.mempool();
    let found: Vec<Txid> = seen(&events).iter().map(|found| found.txid).collect();
    if reader.features.sees_mempool {
        assert_eq!(
            (gone(&events), found),
            (vec![first.compute_txid()], vec![second.compute_txid()])
        );
    } else {
        assert_eq!(events, [], "only a block tells which it was");
    }
    chain.mine(1);
    let events = reader.catch_up(&chain);
    let found: Vec<Txid> = confirmed(&events).iter().map(|(_, found)| found.txid).collect();
    assert_eq!(found, [second.compute_txid()], "the replacement is confirmed");
}

/// What is no longer watched is not reported.
pub fn what_is_forgotten_is_not_reported<C: TestChain>(mut chain: C) {
    let mut reader = Reader::begin(&chain, &[1, 2]);
    reader.source.unwatch_script(&script(1));
    chain.pay(&script(1), AMOUNT);
    let paid = chain.pay(&script(2), AMOUNT);
    // Only the other is seen.
    reader.seen(1);
    chain.mine(1);
    let events = reader.catch_up(&chain);
    let found: Vec<Txid> = confirmed(&events).iter().map(|(_, found)| found.txid).collect();
    assert_eq!(found, [paid.txid]);
}
