//! What the chain does to channels.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Transaction, TxIn, TxOut};
use bitmesh_core::gateway::channels::{BURIED_BLOCKS, PAYER_THERE};
use bitmesh_core::wire::ChannelWord;
use bitmesh_core::{ChannelInput, ChannelPhase, Purpose};

use super::*;
use crate::chain::outside;

fn paying(world: &World, number: u64, amounts: &[u64]) -> Transaction {
    let script_pubkey = world.own(0).opened.script().script_pubkey().clone();
    let value =
        |sat: &u64| TxOut { value: Amount::from_sat(*sat), script_pubkey: script_pubkey.clone() };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output: outside(number), ..TxIn::default() }],
        output: amounts.iter().map(value).collect(),
    }
}

impl World {
    fn told(&mut self) {
        self.poll_chain().unwrap();
        self.pass(SECOND).unwrap();
    }

    /// The block with the funding leaves the chain.
    fn undo_block(&mut self) {
        self.chain.disconnect();
        self.told();
    }

    /// The funding's coins are spent elsewhere.
    fn undo_funding(&mut self, id: ChannelId) {
        let funding = self.store.channels[&id].funding.unwrap().outpoint.txid;
        self.chain.evict(funding);
        self.undone.insert(id);
        self.told();
    }
}

#[test]
fn credit_counts_on_when_the_funding_is_reorganised_but_there_is_no_new_credit() {
    let (mut world, id) = paid(BYTES, 5_000);
    world.undo_block();
    assert_eq!(world.view(id).state, ChannelWord::Unconfirmed);
    assert!(world.use_bytes(0, 5_000_000), "what was paid is served");
    let body = world.sign(0, 1_000).unwrap();
    assert_eq!(reason(world.pay_with(0, body)), "unconfirmed");
    world.mine(1).unwrap();
    ok(world.pay_with(0, body));
    assert_eq!(world.view(id).credit_msat, MilliSat(6_000_000));
}

#[test]
fn a_funding_that_is_replaced_before_the_first_update_is_another_funding() {
    let mut world = world();
    let id = ok(world.open(0, BYTES));
    ok(world.fund(0, CAPACITY));
    world.told();
    let first = world.view(id).outpoint.unwrap();
    world.chain.evict(first.txid);
    let other = paying(&world, 77, &[50_000]);
    ok(world.fund_with(0, &other));
    world.mine(1).unwrap();
    assert_eq!(world.view(id).outpoint.unwrap().txid, other.compute_txid());
    assert_eq!(world.view(id).capacity_sat, 50_000);
    ok(world.pay(0, 5_000));
    assert_eq!(world.view(id).credit_msat, MilliSat(5_000_000));
}

#[test]
fn once_paid_a_different_funding_needs_a_new_channel() {
    let (mut world, id) = paid(BYTES, 5_000);
    let before = world.view(id).outpoint;
    let other = paying(&world, 78, &[90_000]);
    assert_eq!(reason(world.fund_with(0, &other)), "other_outpoint");
    world.chain.submit(other).unwrap();
    world.mine(1).unwrap();
    assert_eq!(world.view(id).outpoint, before);
    assert_eq!(world.view(id).credit_msat, MilliSat(5_000_000));
}

#[test]
fn credit_whose_funding_is_undone_has_a_line_of_its_own() {
    let (mut world, id) = paid(BYTES, 5_000);
    assert!(world.use_bytes(0, 1_200_000));
    world.undo_block();
    world.undo_funding(id);
    assert_eq!(world.view(id).state, ChannelWord::FundingLost);
    assert!(!world.use_bytes(0, 1), "nothing is served for it");
    let account = world.account(0);
    assert_eq!(account.undone, MilliSat(3_800_000));
    assert_eq!(account.charged_for_bytes, MilliSat(1_200_000));
    assert_eq!(account.balance, MilliSat(0));
    let body = world.sign(0, 1_000).unwrap();
    assert_eq!(reason(world.pay_with(0, body)), "closing");
    world.restart();
    assert_eq!(world.account(0), account);
    world.check_at_rest().unwrap();
}

#[test]
fn a_lost_funding_that_comes_back_is_closed() {
    let (mut world, id) = paid(BYTES, 5_000);
    let funding = world.chain.mempool.first().cloned();
    assert_eq!(funding, None);
    world.chain.disconnect();
    let funding = world.chain.mempool[0].clone();
    world.undo_funding(id);
    assert_eq!(world.view(id).state, ChannelWord::FundingLost);
    world.chain.submit(funding).unwrap();
    world.mine(1).unwrap();
    assert_eq!(world.view(id).state, ChannelWord::Closing);
    world.mine(BURIED_BLOCKS + 7).unwrap();
    assert_eq!(world.view(id).state, ChannelWord::ClosedAlone);
    assert_eq!(world.account(0).undone, MilliSat(0));
}

#[test]
fn a_funding_that_vanishes_while_the_agent_is_dead_is_noticed() {
    let (mut world, id) = paid(BYTES, 5_000);
    world.kill_agent();
    world.chain.disconnect();
    let funding = world.store.channels[&id].funding.unwrap().outpoint.txid;
    world.chain.evict(funding);
    world.start_agent().unwrap();
    world.pass(SECOND).unwrap();
    assert_eq!(world.view(id).state, ChannelWord::FundingLost);
    assert!(!world.use_bytes(0, 1));
}

#[test]
fn only_one_output_is_the_funding() {
    let mut world = world();
    let id = ok(world.open(0, BYTES));
    let tx = paying(&world, 79, &[40_000, 60_000]);
    ok(world.fund_with(0, &tx));
    world.mine(1).unwrap();
    assert_eq!(world.view(id).outpoint.map(|outpoint| outpoint.vout), Some(0));
    assert_eq!(world.view(id).capacity_sat, 40_000);
    ok(world.pay(0, 5_000));
    ok(world.close(0));
}

#[test]
fn a_funding_outside_of_the_terms_is_no_funding_and_its_payer_is_told() {
    let mut world = world();
    let id = ok(world.open(0, BYTES));
    world.chain.submit(paying(&world, 80, &[19_999])).unwrap();
    world.mine(1).unwrap();
    assert_eq!(world.view(id).state, ChannelWord::Opened);
    let notice = world.view(id).notice.unwrap();
    assert!(notice.contains("the channel got 19999 sat and takes 20000 to 1000000"), "{notice}");
}

#[test]
fn what_the_node_says_of_a_relayed_funding_reaches_the_payer() {
    let mut world = world();
    let id = ok(world.open(0, BYTES));
    let tx = paying(&world, 81, &[CAPACITY]);
    let mut rival = tx.clone();
    rival.output.clear();
    world.chain.submit(rival).unwrap();
    world.chain.mine();
    ok(world.fund_with(0, &tx));
    world.pass(SECOND).unwrap();
    assert_eq!(world.view(id).notice.as_deref(), Some("inputs are spent"));
}

#[test]
fn a_spend_that_is_undone_is_broadcast_again_also_if_the_agent_was_dead() {
    for dead in [false, true] {
        let (mut world, id) = paid(BYTES, 5_000);
        world.pass(PAYER_THERE + SECOND).unwrap();
        let request = world.request();
        world.fact(ChannelInput::CloseByOperator { request, channel: Some(id) }).unwrap();
        world.pass(SECOND).unwrap();
        world.mine(1).unwrap();
        assert_eq!(world.view(id).state, ChannelWord::ClosedAlone);
        if dead {
            world.kill_agent();
        }
        world.chain.disconnect();
        let close = world.view_close(id);
        world.chain.evict(close);
        if dead {
            world.start_agent().unwrap();
        }
        world.told();
        world.mine(BURIED_BLOCKS + 1).unwrap();
        world.mine(BURIED_BLOCKS + 1).unwrap();
        assert_eq!(world.view(id).state, ChannelWord::ClosedAlone);
        let closes = world.broadcasts.iter().filter(|(p, _)| *p == Purpose::UnilateralClose);
        assert!(closes.count() >= 2);
        world.check_at_rest().unwrap();
    }
}

impl World {
    fn view_close(&self, id: ChannelId) -> bitcoin::Txid {
        self.store.channels[&id].close.as_ref().unwrap().tx.compute_txid()
    }
}

#[test]
fn a_refund_after_the_expiry_ends_a_channel_and_costs_the_gateway_what_it_did_not_close() {
    let (mut world, id) = paid(BYTES, 5_000);
    assert!(world.use_bytes(0, 1_000_000));
    world.pass(SECOND).unwrap();
    let expiry = world.own(0).opened.terms().expiry_height;
    world.kill_agent();
    world.chain.mine_empty(expiry - world.chain.tip());
    let refund = world.refund(0);
    world.chain.submit(refund).unwrap();
    world.chain.mine();
    world.start_agent().unwrap();
    world.pass(SECOND).unwrap();
    world.mine(BURIED_BLOCKS).unwrap();
    assert_eq!(world.view(id).state, ChannelWord::Refunded);
    assert_eq!(world.store.channels[&id].phase, ChannelPhase::Ended);
    let end = world.store.channels[&id].end.unwrap();
    assert_eq!((end.payout, end.change + end.fee), (Amount::ZERO, Amount::from_sat(CAPACITY)));
    assert_eq!(world.account(0).returned, MilliSat(4_000_000));
    assert!(world.sentence(id).starts_with("the payer took a refund at height"));
}

#[test]
fn a_channel_that_was_never_used_is_forgotten_when_its_payer_can_take_a_refund() {
    let (mut world, id) = ready(BYTES);
    let expiry = world.own(0).opened.terms().expiry_height;
    world.chain.mine_empty(expiry - 1 - world.chain.tip());
    world.told();
    assert!(world.store.channels.contains_key(&id));
    world.mine(1).unwrap();
    assert!(!world.store.channels.contains_key(&id));
}
