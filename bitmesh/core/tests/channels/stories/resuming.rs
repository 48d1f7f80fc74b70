//! A subscriber that comes back under another MAC address.

use bitmesh_core::channel::message::{Challenge, Message, MessageSignature, Resume};
use bitmesh_core::gateway::channels::{
    BURIED_BLOCKS, CHALLENGE_VALID, MAX_CHALLENGES, MAX_RESUMES,
};
use bitmesh_core::wire::{ChannelWord, ResumeBody};
use bitmesh_core::{ChannelAnswer, ChannelInput, ChannelPhase, Mac, StateWord};

use super::*;

const FIRST: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
const SECOND_MAC: Mac = Mac::new([2, 0, 0, 0, 7, 1]);
const THIRD: Mac = Mac::new([2, 0, 0, 0, 8, 1]);

impl World {
    fn account_of(&self, mac: Mac) -> Option<AccountView> {
        self.gateway.as_ref().unwrap().account(mac)
    }

    fn bytes_of(&mut self, mac: Mac, bytes: u64) -> bool {
        self.kernel.packet(self.now, mac, Direction::Downlink, bytes)
    }
}

/// 5000 sat were paid, and 1,234.567 sat used; then the address changes.
fn moved() -> (World, ChannelId) {
    let (mut world, id) = paid(BYTES, 5_000);
    assert!(world.use_bytes(0, 1_234_567));
    world.moves_to(0, SECOND_MAC);
    (world, id)
}

#[test]
fn the_balance_comes_along_and_the_old_address_is_closed_and_owes_nothing() {
    let (mut world, id) = moved();
    assert!(!world.use_bytes(0, 1), "nothing passes before the proof");
    let view = ok(world.resume(0));
    assert_eq!((view.mac, view.state), (SECOND_MAC, ChannelWord::Open));
    assert_eq!(view.charged_msat, MilliSat(1_234_567));
    let old = world.account_of(FIRST).unwrap();
    assert_eq!((old.balance, old.credited), (MilliSat(0), MilliSat(1_234_567)));
    assert_eq!((old.charged_for_bytes, old.state), (MilliSat(1_234_567), StateWord::Closed));
    assert!(!world.bytes_of(FIRST, 1), "its gate is closed");
    let new = world.account_of(SECOND_MAC).unwrap();
    assert_eq!((new.balance, new.credited), (MilliSat(3_765_433), MilliSat(3_765_433)));
    assert!(world.bytes_of(SECOND_MAC, 3_765_433), "every byte that was paid passes");
    assert!(!world.bytes_of(SECOND_MAC, 1), "and not one more");
    // What is paid on counts at the new address.
    ok(world.pay(0, 10));
    assert!(world.bytes_of(SECOND_MAC, 10_000) && !world.bytes_of(FIRST, 1));
    world.pass(SECOND).unwrap();
    assert_eq!(world.view(id).charged_msat, MilliSat(5_010_000));
}

#[test]
fn the_receipt_and_the_close_count_what_was_used_under_every_address() {
    let (mut world, id) = moved();
    ok(world.resume(0));
    assert!(world.bytes_of(SECOND_MAC, 1_000_000));
    world.moves_to(0, THIRD);
    ok(world.resume(0));
    assert!(world.bytes_of(THIRD, 222_222));
    // And back to where it came from.
    world.moves_to(0, FIRST);
    ok(world.resume(0));
    assert!(world.bytes_of(FIRST, 1_000_000));
    let closed = ok(world.close(0));
    assert_eq!(closed.receipt.downlink_bytes, 3_456_789);
    assert_eq!(closed.receipt.charged_msat, MilliSat(3_456_789));
    assert_eq!(closed.settled_sat, 3_457);
    world.mine(BURIED_BLOCKS).unwrap();
    assert_eq!(world.view(id).state, ChannelWord::ClosedTogether);
    world.check().unwrap();
    world.check_at_rest().unwrap();
    for mac in [SECOND_MAC, THIRD] {
        assert_eq!(world.account_of(mac).unwrap().balance, MilliSat(0));
    }
}

#[test]
fn time_is_charged_where_it_was_served_and_not_between() {
    let (mut world, id) = paid(TIME, 5_000);
    world.pass(SECOND * 10).unwrap();
    world.moves_to(0, SECOND_MAC);
    let view = ok(world.resume(0));
    let old = world.account_of(FIRST).unwrap().charged_for_time;
    assert!((10_000..10_900).contains(&old.0), "{old:?}");
    assert_eq!(view.charged_msat, old);
    world.pass(SECOND * 10).unwrap();
    assert_eq!(world.account_of(FIRST).unwrap().charged_for_time, old, "its clock stands still");
    let new = world.account_of(SECOND_MAC).unwrap().charged_for_time;
    assert!((9_900..10_300).contains(&new.0), "{new:?}");
    let both = world.view(id).charged_msat.0;
    assert!(both.abs_diff(old.0 + new.0) <= 2, "{both} of {old:?} and {new:?}");
}

#[test]
fn what_was_granted_to_an_address_stays_there_and_is_used_first() {
    let (mut world, _) = ready(BYTES);
    world.grant_msat(0, 2_000_000, BYTES);
    ok(world.pay(0, 5_000));
    assert!(world.use_bytes(0, 1_500_000));
    world.moves_to(0, SECOND_MAC);
    world.subscribers[0].earlier = FIRST;
    ok(world.resume(0));
    assert_eq!(world.account_of(SECOND_MAC).unwrap().balance, MilliSat(5_000_000));
    assert_eq!(world.account_of(FIRST).unwrap().balance, MilliSat(500_000));
}

#[test]
fn an_account_that_is_open_at_other_prices_gets_those_of_the_channel() {
    let (mut world, _) = moved();
    world.grant_msat(0, 1_000_000, TIME);
    world.pass(SECOND).unwrap();
    ok(world.resume(0));
    let new = world.account_of(SECOND_MAC).unwrap();
    assert_eq!(new.tariff, BYTES);
    assert_eq!(new.credited, MilliSat(1_000_000 + 3_765_433));
    let left = new.balance.0;
    assert!(world.bytes_of(SECOND_MAC, left) && !world.bytes_of(SECOND_MAC, 2));
}

#[test]
fn the_same_address_and_the_same_proof_change_nothing() {
    let (mut world, _) = paid(BYTES, 5_000);
    let before = world.account(0);
    assert_eq!(ok(world.resume(0)).mac, FIRST);
    assert!(world.store.transfers.is_empty());
    assert_eq!(world.account(0), before);
    world.moves_to(0, SECOND_MAC);
    let body = ok(world.proof(0));
    ok(world.resume_with(0, body.clone()));
    assert_eq!(reason(world.resume_with(0, body)), "challenge", "it is good once");
    ok(world.resume(0));
    assert_eq!(world.store.transfers.len(), 1);
}

#[test]
fn a_proof_for_another_channel_gateway_address_or_challenge_changes_nothing() {
    let (mut world, id) = moved();
    let good = ok(world.proof(0)).request;
    let other_agreement = Resume { agreement: Message::digest(&good), ..good.clone() };
    let mut other_outpoint = good.clone();
    other_outpoint.outpoint.vout += 1;
    let other_mac = Resume { mac: THIRD, ..good.clone() };
    let other_challenge = Resume { challenge: Challenge([7; 32]), ..good.clone() };
    let before = (world.account_of(FIRST), world.view(id));
    for (request, why) in [
        (other_agreement, "wrong_channel"),
        (other_outpoint, "wrong_channel"),
        (other_mac, "other_station"),
        (other_challenge, "challenge"),
    ] {
        let body = world.sign_proof(0, request);
        assert_eq!(reason(world.resume_with(0, body)), why);
    }
    // Without the key, and from another station that saw a good proof.
    let forged = ResumeBody { signature: MessageSignature([1; 64]), request: good.clone() };
    assert_eq!(reason(world.resume_with(0, forged)), "forged");
    let body = world.sign_proof(0, good);
    world.moves_to(0, THIRD);
    assert_eq!(reason(world.resume_with(0, body.clone())), "other_station");
    assert_eq!((world.account_of(FIRST), world.view(id)), before);
    assert!(world.store.transfers.is_empty());
    // None of that used the challenge up.
    world.moves_to(0, SECOND_MAC);
    ok(world.resume_with(0, body));
}

#[test]
fn a_challenge_is_one_stations_and_good_for_a_short_time() {
    let (mut world, id) = moved();
    let body = ok(world.proof(0));
    // Other stations that ask don't take it away, up to a limit.
    let ask = |world: &mut World, number: u8| {
        let (mac, entropy) = (Mac::new([2, 9, 9, 9, 9, number]), world.entropy());
        let input = |request| ChannelInput::Challenge { request, channel: id, mac, entropy };
        match *world.ask(input).unwrap().unwrap().unwrap() {
            ChannelAnswer::Challenge(answer) => assert_eq!(answer.mac, mac),
            other => panic!("{other:?}"),
        }
    };
    (1..MAX_CHALLENGES).for_each(|number| ask(&mut world, u8::try_from(number).unwrap()));
    ok(world.resume_with(0, body));
    world.moves_to(0, THIRD);
    let late = ok(world.proof(0));
    world.pass(CHALLENGE_VALID + SECOND).unwrap();
    assert_eq!(reason(world.resume_with(0, late)), "challenge");
    assert_eq!(world.store.transfers.len(), 1);
}

#[test]
fn a_station_that_pays_on_another_channel_cannot_take_one_more() {
    let (mut world, _) = moved();
    world.subscriber();
    world.ready(1, BYTES, CAPACITY);
    ok(world.pay(1, 5_000));
    let taken = world.subscribers[1].mac;
    world.moves_to(0, taken);
    assert_eq!(reason(world.resume(0)), "one_channel");
    assert!(world.store.transfers.is_empty());
    assert!(world.bytes_of(FIRST, 1_000), "the old gate is as it was");
}

#[test]
fn a_channel_that_is_closing_does_not_come_along() {
    let (mut world, id) = moved();
    ok(world.ask_close(0));
    assert_eq!(reason(world.resume(0)), "closing");
    assert_eq!(world.store.channels[&id].phase, ChannelPhase::Closing);
}

#[test]
fn a_channel_comes_along_before_anything_was_paid_on_it() {
    let (mut world, id) = ready(BYTES);
    world.moves_to(0, SECOND_MAC);
    assert_eq!(ok(world.resume(0)).mac, SECOND_MAC);
    assert_eq!(world.account_of(SECOND_MAC), None);
    ok(world.pay(0, 5_000));
    assert!(world.bytes_of(SECOND_MAC, 4_000_000));
    assert_eq!(world.account_of(FIRST), None);
    world.restart();
    assert_eq!(world.view(id).mac, SECOND_MAC);
    let receipt = ok(world.close(0)).receipt;
    assert_eq!(receipt.downlink_bytes, 4_000_000);
}

#[test]
fn a_transfer_that_is_not_durable_did_not_happen_and_the_old_gate_opens_again() {
    let (mut world, id) = moved();
    let body = ok(world.proof(0));
    world.store.full = true;
    assert_eq!(reason(world.resume_with(0, body)), "not_durable");
    world.store.full = false;
    world.pass(SECOND).unwrap();
    assert_eq!(world.view(id).mac, FIRST);
    assert!(world.bytes_of(FIRST, 1_000) && !world.bytes_of(SECOND_MAC, 1));
    ok(world.resume(0));
    assert!(world.bytes_of(SECOND_MAC, 3_764_433) && !world.bytes_of(SECOND_MAC, 1));
}

#[test]
fn the_transfer_survives_the_agent_and_a_reboot() {
    let (mut world, id) = moved();
    ok(world.resume(0));
    assert!(world.bytes_of(SECOND_MAC, 765_433));
    world.restart();
    assert!(world.bytes_of(SECOND_MAC, 1_000_000) && !world.bytes_of(FIRST, 1));
    world.pass(SECOND).unwrap();
    let view = world.view(id);
    assert_eq!((view.mac, view.charged_msat), (SECOND_MAC, MilliSat(3_000_000)));
    assert_eq!(world.account_of(FIRST).unwrap().credited, MilliSat(1_234_567));
    assert_eq!(world.account_of(SECOND_MAC).unwrap().balance, MilliSat(2_000_000));
}

#[test]
fn one_channel_moves_no_more_than_the_named_number_of_times() {
    let (mut world, id) = paid(BYTES, 5_000);
    let mut channel = world.store.channels[&id].clone();
    for number in 0..MAX_RESUMES {
        world.moves_to(0, if number % 2 == 0 { SECOND_MAC } else { FIRST });
        ok(world.resume(0));
    }
    world.moves_to(0, SECOND_MAC);
    assert_eq!(reason(world.resume(0)), "too_many_resumes");
    assert_eq!(world.account_of(FIRST).unwrap().balance, MilliSat(5_000_000));
    channel.revision = world.store.channels[&id].revision;
    assert_eq!(world.store.channels[&id], channel, "its row is as it was");
}
