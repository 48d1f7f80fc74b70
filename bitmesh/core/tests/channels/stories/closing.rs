//! Closes of every kind, to the satoshi.

use bitcoin::{Amount, Transaction};
use bitmesh_core::channel::message::MessageSignature;
use bitmesh_core::channel::message::{Challenge, Message as _};
use bitmesh_core::gateway::channels::{
    BUMP_BLOCKS, BURIED_BLOCKS, CHALLENGE_VALID, CLOSE_PATIENCE_BLOCKS, PAYER_THERE,
};
use bitmesh_core::wire::{ChannelWord, CloseCompletion, CloseHalf, ReceiptError};
use bitmesh_core::{ChannelAnswer, ChannelInput, ChannelPhase, Purpose, SpendKind};

use super::*;

impl World {
    pub(super) fn spend(&self, who: usize) -> Transaction {
        self.chain.spend(self.outpoint(who)).expect("a spend").0.clone()
    }

    pub(super) fn operator_closes(&mut self, channel: Option<ChannelId>) -> Vec<ChannelId> {
        let answer = self.ask(|request| ChannelInput::CloseByOperator { request, channel });
        match *answer.unwrap().unwrap().unwrap() {
            ChannelAnswer::Closing(ids) => ids,
            other => panic!("{other:?}"),
        }
    }

    /// The operator closes a channel whose payer is gone.
    pub(super) fn closed_by_operator(&mut self, id: ChannelId) {
        self.pass(PAYER_THERE + SECOND).unwrap();
        assert_eq!(self.operator_closes(Some(id)), [id]);
        self.pass(SECOND).unwrap();
    }

    fn challenge(&mut self, channel: ChannelId) -> Challenge {
        let (mac, entropy) = (self.subscribers[0].mac, self.entropy());
        let answer = self.ask(|request| ChannelInput::Challenge { request, channel, mac, entropy });
        match *answer.unwrap().unwrap().unwrap() {
            ChannelAnswer::Challenge(answer) => answer.challenge,
            other => panic!("{other:?}"),
        }
    }

    fn close_with(
        &mut self,
        channel: ChannelId,
        body: bitmesh_core::wire::CloseBody,
    ) -> Result<Box<ChannelAnswer>, ApiError> {
        let (body, entropy) = (Box::new(body), self.entropy());
        let input = |request| ChannelInput::Close { request, channel, body, entropy };
        self.ask(input).unwrap().unwrap()
    }

    pub(super) fn mined(&mut self, blocks: u32) {
        self.mine(blocks).unwrap();
    }

    fn receipt(&self, id: ChannelId) -> Option<bitmesh_core::wire::SignedReceipt> {
        self.gateway.as_ref().and_then(|gateway| gateway.receipt(id))
    }

    fn fees(&self, tx: &Transaction) -> u64 {
        self.chain.fee(tx).unwrap().to_sat()
    }
}

fn sats(tx: &Transaction) -> Vec<u64> {
    tx.output.iter().map(|output| output.value.to_sat()).collect()
}

#[test]
fn closing_together_pays_the_charges_rounded_up_and_returns_the_rest() {
    for who in [0, 1] {
        let mut world = world();
        world.subscriber();
        let id = world.ready(who, BYTES, CAPACITY);
        ok(world.pay(who, 5_000));
        assert!(world.use_bytes(who, 3_456_789));
        let closed = ok(world.close(who));
        assert!(!world.use_bytes(who, 1), "the gate is closed");
        let tx = world.spend(who);
        assert_eq!(tx.compute_txid(), closed.txid);
        // 154 vB by the key path, 204 by the pay leaf, at 1 sat/vB; witnesses vary by a byte.
        let fee = world.fees(&tx);
        assert!(if who == 0 { (153..=155).contains(&fee) } else { (203..=206).contains(&fee) });
        assert_eq!(sats(&tx), [CAPACITY - 3_457 - fee, 3_457]);
        let numbers = (closed.settled_sat, closed.returned_sat, closed.fee_sat);
        assert_eq!(numbers, (3_457, CAPACITY - 3_457 - fee, fee));
        let receipt = &closed.receipt;
        let key = world.own(who).answer.agreement.payee_session_key;
        receipt.verify(&key, &closed.receipt_signature).unwrap();
        assert_eq!(receipt.charged_msat, MilliSat(3_456_789));
        assert_eq!((receipt.uplink_bytes, receipt.downlink_bytes), (0, 3_456_789));
        assert_eq!(receipt.credited, Amount::from_sat(5_000));
        assert_eq!(receipt.close_txid, closed.txid);
        world.mined(1);
        assert_eq!(world.view(id).state, ChannelWord::ClosedTogether);
        world.mined(BURIED_BLOCKS - 1);
        let account = world.account(who);
        assert_eq!(account.balance, MilliSat(0));
        assert_eq!(account.returned, MilliSat((5_000 - 3_457 - fee) * 1_000));
        assert_eq!(account.close_fees, MilliSat(fee * 1_000));
        assert_eq!(account.rounding, MilliSat(211));
        world.check_at_rest().unwrap();
    }
}

#[test]
fn both_sign_the_receipt_and_it_is_durable_with_the_close() {
    let (mut world, id) = paid(BYTES, 5_000);
    assert!(world.use_bytes(0, 3_456_789));
    let offer = ok(world.ask_close(0));
    let completion = world.sign_close(0, &offer);
    assert_eq!(world.receipt(id), None, "nothing is closed");
    let closed = ok(world.complete(0, completion));
    assert_eq!(offer.receipt, closed.receipt);
    let signed = world.receipt(id).expect("a receipt");
    assert_eq!(signed.verify(), Ok(()));
    assert_eq!(signed.receipt, closed.receipt);
    world.restart();
    assert_eq!(world.receipt(id), Some(signed.clone()));
    let mut more = signed.clone();
    more.receipt.downlink_bytes += 1;
    assert_eq!(more.verify(), Err(ReceiptError::Payee));
    let mut cheaper = signed.clone();
    cheaper.agreement.tariff.downlink_msat_per_mib -= 1;
    assert_eq!(cheaper.verify(), Err(ReceiptError::OtherAgreement));
    let mut alone = signed;
    alone.payer_signature = alone.payee_signature;
    assert_eq!(alone.verify(), Err(ReceiptError::Payer));
}

#[test]
fn a_close_does_not_wait_for_the_payers_signature_of_the_receipt_but_takes_no_forged_one() {
    let (mut world, id) = paid(BYTES, 5_000);
    let offer = ok(world.ask_close(0));
    let completion = world.sign_close(0, &offer);
    let receipt_signature = Some(MessageSignature([7; 64]));
    let forged = CloseCompletion { receipt_signature, ..completion };
    assert_eq!(reason(world.complete(0, forged)), "forged");
    let offer = ok(world.ask_close(0));
    let completion = world.sign_close(0, &offer);
    ok(world.complete(0, CloseCompletion { receipt_signature: None, ..completion }));
    assert_eq!(world.receipt(id), None);
}

#[test]
fn the_time_on_a_receipt_is_the_time_that_was_billed() {
    let (mut world, _) = paid(TIME, 60_000);
    world.pass(Duration::from_millis(12_345)).unwrap();
    let closed = ok(world.close(0));
    let receipt = closed.receipt;
    assert_eq!(MilliSat(receipt.time_ms), receipt.charged_msat, "1 msat a ms");
    assert!((12_345..20_000).contains(&receipt.time_ms), "{receipt:?}");
}

#[test]
fn a_channel_on_which_nothing_was_paid_gives_everything_back_less_the_fee() {
    let (mut world, id) = ready(BYTES);
    let closed = ok(world.close(0));
    assert_eq!(closed.settled_sat, 0);
    assert_eq!(closed.returned_sat + closed.fee_sat, CAPACITY);
    world.mined(BURIED_BLOCKS);
    assert_eq!(world.view(id).state, ChannelWord::ClosedTogether);
}

#[test]
fn no_update_counts_once_a_close_was_asked_for() {
    let (mut world, id) = paid(BYTES, 5_000);
    let late = world.sign(0, 1_000).unwrap();
    ok(world.ask_close(0));
    let error = refused(world.pay_with(0, late));
    assert_eq!((error.reason.as_str(), error.status()), ("closing", 409));
    assert_eq!(world.view(id).state, ChannelWord::Closing);
    assert_eq!(world.sentence(id), "waits for the payer to sign the close");
    world.restart();
    assert_eq!(reason(world.pay_with(0, late)), "closing");
    ok(world.close(0));
    assert_eq!(reason(world.pay_with(0, late)), "closing");
}

#[test]
fn an_update_that_waits_is_credited_before_the_close() {
    let (mut world, id) = paid(TIME, 5_000);
    let challenge = world.challenge(id);
    let body = Box::new(world.close_body(0, challenge).unwrap());
    let entropy = world.entropy();
    let [first, second] = [100, 100].map(|more| world.sign(0, more).unwrap());
    world.send(0, first).unwrap();
    world.send(0, second).unwrap();
    let request = world.request();
    let channel = id;
    world.fact(ChannelInput::Close { request, channel, body, entropy }).unwrap();
    world.pass(SECOND).unwrap();
    assert!(world.answers.remove(&request).unwrap().is_ok());
    assert_eq!(world.store.updates[&id].change_sat, second.change_sat);
}

#[test]
fn each_retry_has_a_new_nonce_and_the_old_one_signs_nothing() {
    let (mut world, _) = paid(BYTES, 5_000);
    let first = ok(world.ask_close(0));
    let signed_first = world.sign_close(0, &first);
    let second = ok(world.ask_close(0));
    assert_ne!(first.nonce, second.nonce);
    assert_eq!(first.plan, second.plan);
    assert_eq!(reason(world.complete(0, signed_first)), "forged");
    let signed_second = world.sign_close(0, &second);
    let gone = reason(world.complete(0, signed_second));
    assert_eq!(gone, "no_close_offer", "a nonce that was tried is gone");
    ok(world.close(0));
}

#[test]
fn the_same_entropy_twice_does_not_give_the_same_nonce() {
    let (mut world, id) = paid(BYTES, 5_000);
    let mut nonces = Vec::new();
    for _ in 0..2 {
        let challenge = world.challenge(id);
        let body = Box::new(world.close_body(0, challenge).unwrap());
        let entropy = bitmesh_core::Entropy([1; 32]);
        let input = |request| ChannelInput::Close { request, channel: id, body, entropy };
        match *world.ask(input).unwrap().unwrap().unwrap() {
            ChannelAnswer::CloseOffer(offer) => nonces.push(offer.nonce),
            other => panic!("{other:?}"),
        }
    }
    assert_ne!(nonces[0], nonces[1]);
}

#[test]
fn a_close_request_that_the_payer_did_not_make_now_is_refused() {
    let (mut world, id) = paid(BYTES, 5_000);
    let challenge = world.challenge(id);
    let body = world.close_body(0, challenge).unwrap();
    let mut forged = body.clone();
    forged.signature.0[3] ^= 1;
    assert_eq!(world.close_with(id, forged).unwrap_err().reason, "forged");
    let old = world.close_body(0, Challenge([1; 32])).unwrap();
    assert_eq!(world.close_with(id, old).unwrap_err().reason, "challenge");
    world.pass(CHALLENGE_VALID + SECOND).unwrap();
    assert_eq!(world.close_with(id, body).unwrap_err().reason, "challenge");
    assert_eq!(world.view(id).state, ChannelWord::Open, "nothing changed");
    let challenge = world.challenge(id);
    let body = world.close_body(0, challenge).unwrap();
    world.close_with(id, body.clone()).unwrap();
    assert_eq!(world.close_with(id, body).unwrap_err().reason, "challenge", "good once");
}

#[test]
fn a_signature_over_the_other_path_is_refused() {
    let (mut world, _) = paid(BYTES, 5_000);
    ok(world.ask_close(0));
    let leaf = bitmesh_core::channel::message::MessageSignature([1; 64]);
    let completion = CloseCompletion { half: CloseHalf::PayLeaf(leaf), receipt_signature: None };
    assert_eq!(reason(world.complete(0, completion)), "wrong_path");
}

#[test]
fn the_close_is_durable_before_the_answer_and_answered_again() {
    let (mut world, id) = paid(BYTES, 5_000);
    let offer = ok(world.ask_close(0));
    let completion = world.sign_close(0, &offer);
    world.store.full = true;
    assert_eq!(reason(world.complete(0, completion)), "not_durable");
    assert!(world.broadcasts.iter().all(|(purpose, _)| *purpose == Purpose::Funding));
    world.store.full = false;
    world.pass(Duration::from_secs(20)).unwrap();
    let closed = ok(world.close(0));
    let again = ok(world.complete(0, completion));
    assert_eq!(closed, again);
    assert_eq!(reason(world.ask_close(0)), "closed");
    world.restart();
    assert_eq!(ok(world.complete(0, completion)), closed);
    assert_eq!(world.view(id).closing_txid, Some(closed.txid));
}

#[test]
fn a_full_disk_keeps_the_session_open_and_the_payer_can_ask_again() {
    let (mut world, id) = paid(BYTES, 5_000);
    world.store.full = true;
    assert_eq!(reason(world.ask_close(0)), "not_durable");
    world.pass(SECOND).unwrap();
    assert_eq!(world.view(id).state, ChannelWord::Open);
    assert!(world.use_bytes(0, 1_000), "the gate is open again");
    world.store.full = false;
    ok(world.close(0));
}

#[test]
fn a_close_together_that_is_not_confirmed_is_followed_by_one_alone() {
    let (mut world, id) = paid(BYTES, 5_000);
    assert!(world.use_bytes(0, 1_000_000));
    let closed = ok(world.close(0));
    world.chain.mine_empty(CLOSE_PATIENCE_BLOCKS - 1);
    world.poll_chain().unwrap();
    world.pass(SECOND).unwrap();
    assert_eq!(world.spend(0).compute_txid(), closed.txid);
    world.chain.mine_empty(1);
    world.poll_chain().unwrap();
    world.pass(SECOND).unwrap();
    let tx = world.spend(0);
    assert_ne!(tx.compute_txid(), closed.txid, "it was replaced");
    world.mined(1);
    assert_eq!(world.view(id).state, ChannelWord::ClosedAlone);
    world.mined(BURIED_BLOCKS);
    world.check_at_rest().unwrap();
}

#[test]
fn a_payer_that_asked_for_a_close_and_never_signs_is_closed_alone() {
    let (mut world, id) = paid(BYTES, 5_000);
    ok(world.ask_close(0));
    world.mined(CLOSE_PATIENCE_BLOCKS);
    assert_eq!(world.store.channels[&id].phase, ChannelPhase::ClosingAlone);
    assert_eq!(reason(world.ask_close(0)), "closed");
    world.mined(BURIED_BLOCKS);
    assert_eq!(world.view(id).state, ChannelWord::ClosedAlone);
    world.check_at_rest().unwrap();
}

#[test]
fn closing_alone_pays_the_newest_update_less_what_is_returned_and_the_fee() {
    let (mut world, id) = paid(BYTES, 5_000);
    ok(world.pay(0, 3_000));
    assert!(world.use_bytes(0, 2_500_500));
    world.closed_by_operator(id);
    assert!(!world.use_bytes(0, 1));
    let tx = world.spend(0);
    let fee = world.fees(&tx);
    assert!((247..=249).contains(&fee), "248 vB at 1 sat/vB: {fee}");
    // The newest update is 8,000; 2,501 are charged; an output that returns costs 43.
    let returned = 8_000 - 2_501 - 43;
    assert_eq!(sats(&tx), [CAPACITY - 8_000, 8_000 - returned - fee, returned]);
    world.mined(BURIED_BLOCKS);
    let account = world.account(0);
    assert_eq!(account.returned, MilliSat(returned * 1_000));
    assert_eq!(account.close_fees, MilliSat(43_000));
    assert_eq!((account.rounding, account.balance), (MilliSat(500), MilliSat(0)));
    world.check_at_rest().unwrap();
}

#[test]
fn what_is_too_little_to_be_returned_stays_on_the_account() {
    let (mut world, id) = paid(BYTES, 5_000);
    assert!(world.use_bytes(0, 4_700_000));
    world.closed_by_operator(id);
    world.mined(1);
    assert_eq!(world.account(0).balance, MilliSat(0), "not while it could be undone");
    assert_eq!(world.account(0).settling, MilliSat(300_000));
    world.mined(BURIED_BLOCKS);
    assert_eq!(world.account(0).balance, MilliSat(300_000));
    world.grant_msat(0, 1, BYTES);
    assert!(world.use_bytes(0, 300_001) && !world.use_bytes(0, 1));
    world.check_at_rest().unwrap();
}

#[test]
fn the_gateway_closes_when_the_margin_begins_also_if_it_was_dead_then() {
    for dead in [false, true] {
        let (mut world, id) = paid(BYTES, 5_000);
        let last_call = world.view(id).last_call_height;
        let before = last_call - 1 - world.chain.tip();
        world.mined(before);
        assert_eq!(world.view(id).state, ChannelWord::Open);
        if dead {
            world.kill_agent();
        }
        world.chain.mine_empty(1);
        if dead {
            world.start_agent().unwrap();
        }
        world.poll_chain().unwrap();
        world.pass(SECOND).unwrap();
        assert_eq!(world.view(id).state, ChannelWord::Closing);
        world.mined(1);
        assert_eq!(world.view(id).state, ChannelWord::ClosedAlone);
    }
}

#[test]
fn a_close_that_is_not_confirmed_or_refused_is_raised_and_still_pays_the_newest_update() {
    let (mut world, id) = paid(BYTES, 20_000);
    assert!(world.use_bytes(0, 9_000_000));
    world.closed_by_operator(id);
    let mut fees = vec![world.fees(&world.spend(0))];
    for refused in [false, true, false] {
        if refused {
            let why = "mempool min fee not met".to_owned();
            let purpose = Purpose::UnilateralClose;
            let fact = ChannelInput::BroadcastRefused { channel: id, purpose, why };
            world.fact(fact).unwrap();
            assert!(world.sentence(id).starts_with("the node refuses its close"));
        }
        world.chain.mine_empty(if refused { 1 } else { BUMP_BLOCKS });
        world.poll_chain().unwrap();
        world.pass(SECOND).unwrap();
        fees.push(world.fees(&world.spend(0)));
    }
    assert!(fees.windows(2).all(|pair| pair[1] * 4 >= pair[0] * 5 - 4), "{fees:?}");
    world.mined(BURIED_BLOCKS);
    world.check_at_rest().unwrap();
}

#[test]
fn a_channel_too_small_for_the_present_feerate_is_closed_at_the_highest_it_can_pay() {
    let (mut world, id) = paid(BYTES, 1_000);
    assert!(world.use_bytes(0, 1_000_000));
    world.feerate = bitcoin::FeeRate::from_sat_per_vb_u32(100);
    world.poll_chain().unwrap();
    world.closed_by_operator(id);
    world.mined(BURIED_BLOCKS);
    assert_eq!(world.view(id).state, ChannelWord::ClosedAlone);
    world.check_at_rest().unwrap();
}

#[test]
fn the_payers_share_of_the_fee_has_a_limit() {
    let (mut world, _) = paid(BYTES, 50_000);
    assert!(world.use_bytes(0, 40_000_000));
    world.feerate = bitcoin::FeeRate::from_sat_per_vb_u32(100);
    world.poll_chain().unwrap();
    let closed = ok(world.close(0));
    assert_eq!(closed.returned_sat, CAPACITY - 40_000 - 2_000);
    assert_eq!(closed.settled_sat, 40_000 - (closed.fee_sat - 2_000));
    assert!(closed.fee_sat > 15_000);
}

#[test]
fn dust_is_left_out_of_a_close_together_and_both_know_it_beforehand() {
    let (mut world, _) = paid(BYTES, 5_000);
    assert!(world.use_bytes(0, 200_000));
    let offer = ok(world.ask_close(0));
    assert_eq!((offer.plan.charges_sat, offer.plan.payout_sat), (200, 0));
    let completion = world.sign_close(0, &offer);
    let closed = ok(world.complete(0, completion));
    assert_eq!(closed.returned_sat + closed.fee_sat, CAPACITY);
    world.mined(BURIED_BLOCKS);
    world.check_at_rest().unwrap();
}

#[test]
fn a_subscriber_that_closed_can_open_another_channel() {
    let (mut world, first) = paid(BYTES, 5_000);
    assert!(world.use_bytes(0, 1_500_500));
    ok(world.close(0));
    world.mined(1);
    let second = world.ready(0, BYTES, CAPACITY);
    ok(world.pay(0, 4_000));
    assert!(world.use_bytes(0, 4_000_000) && !world.use_bytes(0, 1));
    world.pass(SECOND).unwrap();
    assert_eq!(world.view(first).charged_msat, MilliSat(1_500_500));
    assert_eq!(world.view(second).charged_msat, MilliSat(4_000_000));
    ok(world.close(0));
    world.mined(BURIED_BLOCKS);
    assert_eq!(world.store.channels[&second].end.unwrap().kind, SpendKind::Together);
    world.check_at_rest().unwrap();
}

#[test]
fn a_close_while_the_chain_is_unknown_has_its_full_time_once_it_is_known() {
    let (mut world, id) = paid(BYTES, 5_000);
    world.is_chain_down = true;
    world.restart();
    let closed = ok(world.close(0));
    world.is_chain_down = false;
    world.mined(0);
    world.poll_chain().unwrap();
    world.pass(SECOND).unwrap();
    assert_eq!(world.store.channels[&id].phase, ChannelPhase::Closing);
    assert_eq!(world.spend(0).compute_txid(), closed.txid, "it is broadcast");
    world.mined(1);
    assert_eq!(world.view(id).state, ChannelWord::ClosedTogether);
}
