//! What is accepted, and what is refused before anything is signed or paid.

use super::*;
use crate::channel::message::MessageSignature;
use crate::payer::{OfferRefused, OpenRefused};

fn refused(change: impl FnOnce(&mut Offer)) -> OfferRefused {
    let mut changed = offer();
    change(&mut changed);
    limits().accept(signed(changed), &CHALLENGE, NOW_UNIX_S).unwrap_err()
}

#[test]
fn an_offer_at_every_limit_is_accepted_and_the_budget_goes_into_the_channel() {
    let at_limits = Offer {
        tariff: Tariff {
            uplink_msat_per_mib: 1_000,
            downlink_msat_per_mib: 1_000,
            msat_per_minute: 100,
            ..Tariff::FREE
        },
        min_capacity: sat(50_000),
        min_first_update: sat(2_000),
        lock_blocks: 300,
        ..offer()
    };
    let accepted = limits().accept(signed(at_limits), &CHALLENGE, NOW_UNIX_S).unwrap();
    assert_eq!(accepted.capacity(), sat(50_000));
    let small = Offer { max_capacity: sat(20_000), ..offer() };
    let accepted = limits().accept(signed(small), &CHALLENGE, NOW_UNIX_S).unwrap();
    assert_eq!(accepted.capacity(), sat(20_000));
}

#[test]
fn each_refusal_names_the_limit_and_what_was_offered() {
    let refusals: [(OfferRefused, [&str; 2]); 8] = [
        (refused(|o| o.tariff.uplink_msat_per_mib = 1_001), ["1001", "--max-msat-per-mib 1000"]),
        (refused(|o| o.tariff.downlink_msat_per_mib = 9_999), ["9999", "--max-msat-per-mib 1000"]),
        (refused(|o| o.tariff.msat_per_minute = 101), ["101", "--max-msat-per-minute 100"]),
        (refused(|o| o.min_capacity = sat(50_001)), ["50001", "--budget-sat 50000"]),
        (refused(|o| o.min_first_update = sat(2_001)), ["2001", "--max-first-update-sat 2000"]),
        (refused(|o| o.max_close_fee = sat(2_001)), ["2001", "--max-first-update-sat 2000"]),
        (refused(|o| o.lock_blocks = 301), ["301", "--max-lock-blocks 300"]),
        (refused(|o| o.network = Network::Bitcoin), ["bitcoin", "regtest"]),
    ];
    for (refusal, words) in refusals {
        let line = refusal.to_string();
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
}

#[test]
fn an_offer_that_contradicts_itself_is_refused() {
    for refusal in [
        refused(|o| o.margin_blocks = 35),
        refused(|o| o.margin_blocks = 288),
        refused(|o| o.max_capacity = sat(9_999)),
        refused(|o| o.max_capacity = sat(100_000_001)),
    ] {
        assert!(matches!(refusal, OfferRefused::Nonsense(_)), "{refusal}");
    }
}

#[test]
fn an_offer_that_is_forged_replayed_or_over_is_refused() {
    let accept = |signed, challenge, now| limits().accept(signed, &challenge, now);
    let forged = SignedOffer { signature: MessageSignature([1; 64]), ..signed(offer()) };
    assert_eq!(accept(forged, CHALLENGE, NOW_UNIX_S), Err(OfferRefused::Forged));
    let other = accept(signed(offer()), Challenge([8; 32]), NOW_UNIX_S);
    assert_eq!(other, Err(OfferRefused::OtherChallenge));
    let late = accept(signed(offer()), CHALLENGE, NOW_UNIX_S + 3_600);
    assert_eq!(late, Err(OfferRefused::Expired));
}

fn check(answer: &OpenResponse) -> Result<Opened, OpenRefused> {
    accepted().check(&own(), ChainView::told(TIP), answer)
}

#[test]
fn an_honest_answer_opens_the_channel_at_the_address_that_was_computed() {
    let answer = answer(agreement(&offer()));
    let opened = check(&answer).unwrap();
    assert_eq!(opened.address().to_string(), answer.address);
}

#[test]
fn every_term_that_the_gateway_changes_is_noticed_although_it_signs_it() {
    type Lie = (&'static str, fn(&mut Agreement));
    let lies: [Lie; 10] = [
        ("tariff", |a| a.tariff.downlink_msat_per_mib += 1),
        ("offer", |a| a.offer = Offer { lock_blocks: 1, ..offer() }.digest()),
        ("payer's session key", |a| a.payer_session_key = a.payee_session_key),
        ("payer's key", |a| a.terms.payer_key = session_secret(Role::Payee).public_key()),
        ("change script", |a| a.terms.change_script = script(0xbb)),
        ("margin", |a| a.terms.margin_blocks += 1),
        ("min_capacity_sat", |a| a.terms.min_capacity += Amount::ONE_SAT),
        ("max_capacity_sat", |a| a.terms.max_capacity += Amount::ONE_SAT),
        ("min_first_update_sat", |a| a.terms.min_first_update += Amount::ONE_SAT),
        ("max_close_fee_sat", |a| a.terms.max_close_fee += Amount::ONE_SAT),
    ];
    for (what, lie) in lies {
        let mut agreement = agreement(&offer());
        lie(&mut agreement);
        let refused = check(&answer(agreement)).unwrap_err();
        assert!(refused.to_string().contains(what), "{what}: {refused}");
    }
}

#[test]
fn an_expiry_beyond_the_offer_or_in_the_past_is_refused_whatever_height_the_gateway_claims() {
    let expiring = |expiry_height| {
        let mut agreement = agreement(&offer());
        agreement.terms.expiry_height = expiry_height;
        check(&answer(agreement))
    };
    let latest = TIP + 288 + NEWS_BLOCKS;
    assert!(expiring(latest).is_ok());
    let refused = expiring(latest + 1).unwrap_err();
    assert_eq!(refused, OpenRefused::LockedTooLong { expiry: latest + 1, latest });
    assert!(expiring(499_999_999).unwrap_err().to_string().contains("499999999"));
    assert_eq!(expiring(TIP - 100).unwrap_err(), OpenRefused::TooLate(TIP - 136));
}

#[test]
fn another_address_name_or_signature_is_refused() {
    let honest = answer(agreement(&offer()));
    let mut other = agreement(&offer());
    other.terms.expiry_height += 1;
    let elsewhere = answer(other.clone());
    let lie = OpenResponse { address: elsewhere.address.clone(), ..honest.clone() };
    assert!(matches!(check(&lie), Err(OpenRefused::Address(_))));
    let none = OpenResponse { address: "bcrt1nothing".into(), ..honest.clone() };
    assert!(matches!(check(&none), Err(OpenRefused::Address(_))));
    let named = OpenResponse { channel: elsewhere.channel, ..honest.clone() };
    assert_eq!(check(&named), Err(OpenRefused::OtherName));
    let unsigned = OpenResponse { agreement: other, ..honest };
    assert_eq!(check(&unsigned), Err(OpenRefused::Forged));
}

#[test]
fn without_a_node_the_clock_bounds_the_lock_on_the_main_network_alone() {
    let year_later = 1_713_571_767 + 52_560 * 600;
    let view = ChainView::by_clock(Network::Bitcoin, year_later).unwrap();
    assert_eq!(view, ChainView { height: 892_560, slack: 1_051 + 144 });
    assert!(view.latest_expiry(288) < 900_000);
    assert_eq!(ChainView::by_clock(Network::Regtest, year_later), None);
    let before = ChainView::by_clock(Network::Bitcoin, 0).unwrap();
    assert_eq!(before.height, 840_000);
}
