//! Credit before the funding is confirmed.

use bitcoin::Amount;
use bitmesh_core::EarlyCredit;
use bitmesh_core::wire::{ChannelWord, EarlyTerms};

use super::*;

fn sat(sat: u64) -> Amount {
    Amount::from_sat(sat)
}

/// So many subscribers whose fundings wait at the node, and a gateway that risks so much.
fn waiting(subscribers: usize, per_channel: u64, in_total: u64) -> (World, Vec<ChannelId>) {
    let mut world = World::new(1, None).unwrap();
    world.kill_agent();
    world.early = Some(EarlyCredit { per_channel: sat(per_channel), in_total: sat(in_total) });
    world.start_agent().unwrap();
    let ids = (0..subscribers)
        .map(|who| {
            world.subscriber();
            let id = ok(world.open(who, BYTES));
            ok(world.fund(who, CAPACITY));
            id
        })
        .collect();
    world.poll_chain().unwrap();
    world.pass(SECOND).unwrap();
    (world, ids)
}

#[test]
fn nothing_is_credited_early_unless_the_operator_says_so() {
    let mut world = world();
    let id = ok(world.open(0, BYTES));
    ok(world.fund(0, CAPACITY));
    world.poll_chain().unwrap();
    world.pass(SECOND).unwrap();
    assert_eq!(world.view(id).state, ChannelWord::Unconfirmed);
    assert_eq!(reason(world.pay(0, 5_000)), "unconfirmed");
    assert_eq!(super::opening::offer(&mut world).unconfirmed, None);
}

#[test]
fn a_channel_is_credited_early_up_to_its_limit_and_beyond_when_it_is_confirmed() {
    let (mut world, ids) = waiting(1, 3_000, 10_000);
    let Some(EarlyTerms { credit_sat, explanation }) =
        super::opening::offer(&mut world).unconfirmed
    else {
        panic!("the offer does not say so");
    };
    assert_eq!(credit_sat, 3_000);
    assert!(explanation.starts_with("up to 3000 sat count at once"), "{explanation}");
    assert_eq!(world.view(ids[0]).state, ChannelWord::Open);
    let says = world.sentence(ids[0]);
    assert!(says.starts_with("takes updates up to 3000 sat; its funding has 0 of 1"), "{says}");
    ok(world.pay(0, 2_000));
    assert!(world.use_bytes(0, 1_000_000));
    let refused = refused(world.pay(0, 1_001));
    assert_eq!(refused.reason, "unconfirmed");
    assert!(refused.message.starts_with("no more than 3000 sat"), "{refused:?}");
    world.mine(1).unwrap();
    ok(world.pay(0, 1_000));
    assert_eq!(world.view(ids[0]).credit_msat.0, 4_001_000, "with what was refused before");
}

#[test]
fn all_channels_together_are_credited_early_up_to_the_total() {
    let (mut world, ids) = waiting(3, 3_000, 5_000);
    ok(world.pay(0, 3_000));
    ok(world.pay(1, 2_000));
    assert_eq!(world.view(ids[2]).state, ChannelWord::Unconfirmed, "no room is left");
    assert_eq!(reason(world.pay(2, 1_000)), "unconfirmed");
    world.mine(1).unwrap();
    ok(world.pay(2, 1_000));
}

#[test]
fn what_a_replaced_funding_took_counts_against_the_total_for_a_day() {
    let (mut world, ids) = waiting(2, 3_000, 3_000);
    ok(world.pay(0, 3_000));
    let txid = world.outpoint(0).txid;
    world.undone.insert(ids[0]);
    world.chain.evict(txid);
    world.poll_chain().unwrap();
    world.pass(SECOND).unwrap();
    assert_eq!(world.view(ids[0]).state, ChannelWord::FundingLost);
    assert_eq!(reason(world.pay(1, 1_000)), "unconfirmed", "who took once could take again");
}
