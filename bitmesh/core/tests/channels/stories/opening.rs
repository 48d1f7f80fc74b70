//! Offers, opens, and what becomes of channels that nobody funds.

use bitcoin::Network;
use bitmesh_core::channel::message::{Challenge, Message as _, MessageSignature};
use bitmesh_core::channel::{Role, Seed};
use bitmesh_core::gateway::channels::{
    MAX_UNFUNDED, MAX_UNFUNDED_PER_STATION, OFFER_VALID_S, SIGNED_LAPSE_S, UNSIGNED_LAPSE_S,
};
use bitmesh_core::wire::{ChannelWord, OpenRequest, OpenResponse, SignedOffer};
use bitmesh_core::{
    BootTime, ChannelAnswer, ChannelInput, ChannelPolicy, Epoch, Gateway, Mac, PolicyError, Sample,
    Snapshot,
};

use super::*;
use crate::world::{Payouts, script};

pub(super) const STATION: Mac = Mac::new([2, 0, 0, 0, 0, 9]);

pub(super) fn offer(world: &mut World) -> SignedOffer {
    let (challenge, unix_s) = (Challenge([4; 32]), world.unix_s());
    let input = |request| ChannelInput::Offer { request, tariff: BYTES, challenge, unix_s };
    let answer = world.ask(input).unwrap().unwrap().unwrap();
    let ChannelAnswer::Offer(offer) = *answer else { panic!("{answer:?}") };
    offer
}

pub(super) fn request(offer: SignedOffer, index: u32) -> OpenRequest {
    let seed = Seed::new([9; 32]);
    let key = seed.channel_secret(Network::Regtest, Role::Payer, index).unwrap();
    let session = seed.session_secret(Network::Regtest, Role::Payer, index).unwrap();
    OpenRequest {
        offer: offer.offer,
        signature: offer.signature,
        payer_key: key.public_key(),
        payer_session_key: session.public_key(),
        change_script: script(9),
    }
}

pub(super) fn open(
    world: &mut World,
    mac: Mac,
    body: &OpenRequest,
) -> Result<OpenResponse, ApiError> {
    let (body, unix_s) = (Box::new(body.clone()), world.unix_s());
    let answer = world.ask(|request| ChannelInput::Open { request, mac, body, unix_s });
    match *answer.unwrap().unwrap()? {
        ChannelAnswer::Opened(answer) => Ok(answer),
        other => panic!("{other:?}"),
    }
}

fn refusal(world: &mut World, mac: Mac, body: &OpenRequest) -> String {
    open(world, mac, body).unwrap_err().reason
}

#[test]
fn an_offer_is_signed_and_its_agreement_keeps_to_it() {
    let mut world = world();
    let signed = offer(&mut world);
    signed.offer.verify(&signed.offer.gateway_key, &signed.signature).unwrap();
    assert_eq!(signed.offer.challenge, Challenge([4; 32]));
    let body = request(signed.clone(), 1);
    let answer = open(&mut world, STATION, &body).unwrap();
    let agreement = &answer.agreement;
    agreement.check_against(&signed.offer).unwrap();
    agreement.verify(&agreement.payee_session_key, &answer.signature).unwrap();
    assert_eq!(answer.channel, agreement.digest().into());
    assert_eq!(agreement.terms.expiry_height, world.chain.tip() + signed.offer.lock_blocks);
    assert_eq!(agreement.mac, STATION);
    let durable = &world.store.channels[&answer.channel];
    assert_eq!(world.store.key_index, Some(durable.index), "durable before it is shown");
}

#[test]
fn a_payer_that_kept_nothing_but_its_key_finds_its_channel() {
    let mut world = world();
    let body = request(offer(&mut world), 1);
    let opened = open(&mut world, STATION, &body).unwrap();
    world.restart();
    let find = |world: &World, key| world.gateway.as_ref().unwrap().opened_with(key);
    assert_eq!(find(&world, body.payer_key), Ok(opened));
    let other = find(&world, body.payer_session_key).unwrap_err();
    assert_eq!(other.reason, "no_channel");
}

#[test]
fn the_same_request_gets_the_same_answer_and_a_repeated_key_is_refused() {
    let mut world = world();
    let body = request(offer(&mut world), 1);
    let first = open(&mut world, STATION, &body).unwrap();
    assert_eq!(open(&mut world, STATION, &body), Ok(first.clone()));
    world.restart();
    assert_eq!(open(&mut world, STATION, &body), Ok(first));
    let other_script = OpenRequest { change_script: script(8), ..body.clone() };
    assert_eq!(refusal(&mut world, STATION, &other_script), "repeated_key");
    assert_eq!(refusal(&mut world, Mac::new([2; 6]), &body), "repeated_key");
    assert_eq!(world.store.channels.len(), 1);
}

#[test]
fn an_offer_that_is_forged_or_too_old_is_refused() {
    let mut world = world();
    let signed = offer(&mut world);
    let cheaper = SignedOffer {
        offer: bitmesh_core::channel::message::Offer { tariff: TIME, ..signed.offer.clone() },
        ..signed.clone()
    };
    assert_eq!(refusal(&mut world, STATION, &request(cheaper, 1)), "forged_offer");
    let unsigned = SignedOffer { signature: MessageSignature([1; 64]), ..signed.clone() };
    assert_eq!(refusal(&mut world, STATION, &request(unsigned, 1)), "forged_offer");
    let body = request(signed, 1);
    let own = OpenRequest { change_script: script(0xbb), ..body.clone() };
    assert_eq!(refusal(&mut world, STATION, &own), "output_script");
    assert_eq!(refusal(&mut world, Mac::new([0xff; 6]), &body), "not_a_station");
    world.pass(Duration::from_secs(OFFER_VALID_S + 1)).unwrap();
    assert_eq!(refusal(&mut world, STATION, &body), "offer_expired");
    assert!(world.store.channels.is_empty());
}

#[test]
fn channels_that_nobody_funds_are_limited_and_lapse() {
    let mut world = world();
    let signed = offer(&mut world);
    let most = u32::try_from(MAX_UNFUNDED_PER_STATION).unwrap();
    for index in 0..most {
        open(&mut world, STATION, &request(signed.clone(), index)).unwrap();
    }
    let one_more = request(signed.clone(), most);
    assert_eq!(refusal(&mut world, STATION, &one_more), "too_many_channels");
    for index in most..u32::try_from(MAX_UNFUNDED).unwrap() {
        let [.., high, low] = index.to_be_bytes();
        let mac = Mac::new([2, 0, 0, 1, high, low]);
        open(&mut world, mac, &request(signed.clone(), 1_000 + index)).unwrap();
    }
    let body = request(signed, 5_000);
    assert_eq!(refusal(&mut world, Mac::new([2, 0, 0, 2, 0, 0]), &body), "too_many_channels");
    world.pass(Duration::from_secs(UNSIGNED_LAPSE_S + 1)).unwrap();
    world.poll_chain().unwrap();
    world.pass(SECOND).unwrap();
    assert!(world.store.channels.is_empty());
    let lines = world.gateway.as_ref().unwrap().channels();
    assert!(lines.iter().all(|line| line.state == ChannelWord::Lapsed), "{lines:?}");
    let highest = u32::try_from(MAX_UNFUNDED).unwrap() - 1;
    assert_eq!(world.store.key_index, Some(highest), "no key comes back");
    let again = request(offer(&mut world), 6_000);
    let answer = open(&mut world, STATION, &again).unwrap();
    assert_eq!(world.store.channels[&answer.channel].index, highest + 1);
}

#[test]
fn a_countersigned_channel_has_more_time_to_be_funded() {
    let mut world = world();
    let id = ok(world.open(0, BYTES));
    // Too small to fund it, so it is not relayed.
    assert_eq!(reason(world.fund(0, 19_999)), "capacity");
    world.is_chain_down = true;
    ok(world.fund(0, CAPACITY));
    world.is_chain_down = false;
    world.pass(Duration::from_secs(SIGNED_LAPSE_S - 60)).unwrap();
    world.poll_chain().unwrap();
    world.pass(SECOND).unwrap();
    assert!(world.store.channels.contains_key(&id));
    world.pass(Duration::from_secs(120)).unwrap();
    world.poll_chain().unwrap();
    world.pass(SECOND).unwrap();
    assert!(world.store.channels.is_empty());
}

#[test]
fn without_a_chain_nothing_is_offered() {
    let mut world = world();
    let body = request(offer(&mut world), 1);
    world.is_chain_down = true;
    world.poll_chain().unwrap();
    assert_eq!(reason(world.open(0, BYTES)), "chain_unavailable");
    assert_eq!(refusal(&mut world, STATION, &body), "chain_unavailable");
    world.restart();
    assert_eq!(refusal(&mut world, STATION, &body), "chain_unavailable");
    world.is_chain_down = false;
    world.poll_chain().unwrap();
    open(&mut world, STATION, &body).unwrap();
}

#[test]
fn the_first_update_pays_for_a_close_at_the_present_feerate() {
    let mut world = world();
    let first = |world: &mut World| offer(world).offer.min_first_update.to_sat();
    assert_eq!(first(&mut world), 1_000, "a close costs less than the operator asks for");
    world.feerate = bitcoin::FeeRate::from_sat_per_vb_u32(50);
    world.poll_chain().unwrap();
    assert_eq!(first(&mut world), 330 + 205 * 50 * 2);
    world.feerate = bitcoin::FeeRate::from_sat_per_vb_u32(4_000);
    world.poll_chain().unwrap();
    assert_eq!(reason(world.open(0, BYTES)), "fees_too_high");
}

#[test]
fn a_gateway_without_a_policy_sells_no_channels() {
    let now = BootTime(1);
    let none = Vec::<Sample>::new();
    let mut gateway = Gateway::restore(now, Epoch(1), Snapshot::default(), none).unwrap();
    let request = bitmesh_core::RequestId(1);
    let (challenge, unix_s) = (Challenge([0; 32]), 1);
    let input = ChannelInput::Offer { request, tariff: BYTES, challenge, unix_s };
    gateway.handle_input(now, Input::Channel(input));
    let Some(bitmesh_core::Command::ChannelReply { result: Err(error), .. }) =
        gateway.poll_command()
    else {
        panic!("an answer");
    };
    assert_eq!((error.reason.as_str(), error.status()), ("channels_off", 503));
}

#[test]
fn a_policy_that_can_not_stand_is_refused() {
    let (world, id) = paid(BYTES, 3_000);
    let try_policy = |change: fn(&mut ChannelPolicy)| {
        let mut policy = world.policy();
        change(&mut policy);
        let none = Vec::<Sample>::new();
        let snapshot = world.store.snapshot();
        let gateway = Gateway::restore(BootTime(1), Epoch(1), snapshot, none).unwrap();
        gateway.with_channels(policy).map(drop)
    };
    assert_eq!(try_policy(|_| {}), Ok(()));
    assert_eq!(try_policy(|policy| policy.margin_blocks = 35), Err(PolicyError::Margin(35)));
    let lock = PolicyError::Lock { lock: 36, margin: 36 };
    assert_eq!(try_policy(|policy| policy.lock_blocks = 36), Err(lock));
    let capacity = Err(PolicyError::Capacity);
    assert_eq!(try_policy(|p| p.max_capacity = bitcoin::Amount::from_sat(1)), capacity);
    let other_seed = try_policy(|policy| policy.seed = Seed::new([1; 32]));
    assert_eq!(other_seed, Err(PolicyError::OtherSeed(id)));
}

#[test]
fn each_channel_pays_to_an_output_of_its_own_that_was_durable_before_it_was_shown() {
    let mut world = world();
    world.payout = Payouts::Ranged;
    world.restart();
    let mut shown = Vec::new();
    for killed in [false, true, false, true] {
        let id = ok(world.open(0, BYTES));
        if killed {
            world.restart();
        }
        let state = &world.store.channels[&id];
        assert!(world.store.key_index >= Some(state.index));
        shown.push(state.agreement.terms.payout_script.clone());
    }
    let mut different = shown.clone();
    different.sort_by(|a, b| a.as_script().cmp(b.as_script()));
    different.dedup();
    assert_eq!(different.len(), shown.len(), "{shown:?}");
}

#[test]
fn a_close_pays_the_output_that_was_agreed_also_after_the_operator_gave_another() {
    let mut world = world();
    world.payout = Payouts::Ranged;
    world.restart();
    let id = world.ready(0, BYTES, CAPACITY);
    ok(world.pay(0, 5_000));
    assert!(world.use_bytes(0, 3_000_000));
    let agreed = world.store.channels[&id].agreement.terms.payout_script.clone();
    world.payout = Payouts::One;
    world.restart();
    ok(world.close(0));
    let (tx, _) = world.chain.spend(world.outpoint(0)).expect("a close");
    assert!(tx.output.iter().any(|output| output.script_pubkey == *agreed.as_script()));
}
