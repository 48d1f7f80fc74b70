//! Updates: what is credited, what is refused, what the payer signs.

use super::*;

/// Refuses `update` and shows that nothing changed.
fn refused(payee: &Payee, update: Update) -> &'static str {
    let before = (payee.newest().cloned(), payee.credit());
    let error = payee.verify(update, TIP).unwrap_err();
    assert_eq!((payee.newest().cloned(), payee.credit()), before);
    assert!(!error.to_string().is_empty());
    error.reason()
}

fn with_change(update: &Update, change: u64) -> Update {
    let mut signature = update.wire_signature();
    signature[64] = if change == 0 { 0x82 } else { 0x83 };
    Update::from_wire(update.outpoint(), change, &signature).unwrap()
}

#[test]
fn an_update_is_credited_and_only_the_difference_is_new() {
    let (mut payer, mut payee) = paid(1, 1_000);
    let update = payer.sign(sat(1_500), &PLENTY).unwrap();
    let verified = payee.verify(update.clone(), TIP).unwrap();
    assert_eq!(payee.credit(), MilliSat(1_000_000));
    let credited = payee.accept(verified).unwrap();
    assert_eq!(credited, Credited { total: MilliSat(1_500_000), added: MilliSat(500_000) });
    assert_eq!(payee.newest(), Some(&update));
}

#[test]
fn a_stale_update_is_refused_and_the_newest_one_brings_the_payer_up_to_date() {
    let (mut payer, payee) = paid(1, 2_000);
    let mut restored = self::payer(1);
    for credit in [1_000, 2_000] {
        let stale =
            Update::signed(payer.channel(), sat(CAPACITY - credit), &secret(Role::Payer, 1));
        assert_eq!(refused(&payee, stale.unwrap()), "stale");
    }
    restored.adopt(payee.newest().unwrap().clone()).unwrap();
    assert_eq!(restored.signed(), sat(2_000));
    let update = restored.sign(sat(2_001), &PLENTY).unwrap();
    assert!(payee.verify(update.clone(), TIP).is_ok());
    payer.adopt(update).unwrap();
    payer.adopt(payee.newest().unwrap().clone()).unwrap();
    assert_eq!(payer.signed(), sat(2_001), "an older update must not replace a newer one");
}

#[test]
fn an_update_that_overtook_another_is_not_undone_by_it() {
    let (mut payer, mut payee) = paid(1, 1_000);
    let first = payee.verify(payer.sign(sat(1_100), &PLENTY).unwrap(), TIP).unwrap();
    let second = payee.verify(payer.sign(sat(1_200), &PLENTY).unwrap(), TIP).unwrap();
    payee.accept(second).unwrap();
    assert_eq!(payee.accept(first).unwrap_err().reason(), "stale");
    assert_eq!(payee.credit(), MilliSat(1_200_000));
}

#[test]
fn a_forged_update_is_refused() {
    let (mut payer, payee) = paid(1, 1_000);
    let update = payer.sign(sat(2_000), &PLENTY).unwrap();
    assert_eq!(refused(&payee, with_change(&update, CAPACITY - 3_000)), "forged");
    assert_eq!(refused(&payee, with_change(&update, 0)), "forged");
    let other_key = Update::signed(payer.channel(), sat(50_000), &secret(Role::Payer, 2)).unwrap();
    assert_eq!(refused(&payee, other_key), "forged");
    let by_payee = Update::signed(payer.channel(), sat(50_000), &secret(Role::Payee, 1)).unwrap();
    assert_eq!(refused(&payee, by_payee), "forged");
}

#[test]
fn an_update_for_another_channel_or_outpoint_is_refused() {
    let (_, payee) = paid(1, 1_000);
    let mut other = payer(2);
    let update = other.sign(sat(2_000), &PLENTY).unwrap();
    assert_eq!(refused(&payee, update.clone()), "wrong_channel");
    let here = payee.channel().outpoint();
    let relabelled =
        Update::from_wire(here, update.change().to_sat(), &update.wire_signature()).unwrap();
    assert_eq!(refused(&payee, relabelled), "forged");
    // Same keys, same transaction, another output.
    let elsewhere = OutPoint { vout: here.vout + 1, ..here };
    let opened = Opened::new(terms(1)).unwrap();
    let twin = opened.pinned(elsewhere, sat(CAPACITY)).unwrap();
    let update = Update::signed(&twin, sat(50_000), &secret(Role::Payer, 1)).unwrap();
    assert_eq!(refused(&payee, update.clone()), "wrong_channel");
    let relabelled = Update::from_wire(here, 50_000, &update.wire_signature()).unwrap();
    assert_eq!(refused(&payee, relabelled), "forged");
}

#[test]
fn an_update_over_capacity_is_refused() {
    let (_, payee) = paid(1, 1_000);
    for change in [CAPACITY + 1, u64::MAX] {
        let update = with_change(payee.newest().unwrap(), change);
        assert_eq!(refused(&payee, update), "over_capacity");
    }
}

#[test]
fn every_other_hash_type_is_refused() {
    let (mut payer, payee) = paid(1, 1_000);
    let update = payer.sign(sat(2_000), &PLENTY).unwrap();
    for change in [update.change().to_sat(), 0] {
        let want = if change == 0 { 0x82 } else { 0x83 };
        for hash_type in (0..=u8::MAX).filter(|hash_type| *hash_type != want) {
            let mut signature = update.wire_signature();
            signature[64] = hash_type;
            let error = Update::from_wire(update.outpoint(), change, &signature).unwrap_err();
            assert_eq!(error, UpdateError::HashType { got: hash_type, want });
            assert_eq!(error.reason(), "hash_type");
        }
    }
    assert!(payee.verify(update, TIP).is_ok());
}

#[test]
fn a_change_that_is_dust_is_refused() {
    let (mut payer, payee) = paid(1, 1_000);
    let update = payer.sign(sat(2_000), &PLENTY).unwrap();
    for change in 1..330 {
        let wire = Update::from_wire(update.outpoint(), change, &update.wire_signature());
        assert_eq!(wire.unwrap_err().reason(), "dust_change");
    }
    let least = payer.sign(sat(CAPACITY - 330), &PLENTY).unwrap();
    assert!(payee.verify(least, TIP).is_ok());
}

#[test]
fn a_malformed_update_is_refused() {
    let outpoint = funded(1).outpoint();
    for length in (0..200).filter(|length| *length != 65) {
        let error = Update::from_wire(outpoint, 50_000, &vec![0x83; length]).unwrap_err();
        assert_eq!(error.reason(), "malformed");
    }
    for hex in ["", "zz", &"00".repeat(64), &"00".repeat(66), &"é".repeat(65)] {
        assert_eq!(Update::from_hex(outpoint, 50_000, hex).unwrap_err().reason(), "malformed");
    }
}

#[test]
fn a_first_update_that_would_not_pay_for_a_close_is_refused_on_both_sides() {
    let mut payer = payer(1);
    let small = payer.sign(sat(999), &PLENTY).unwrap_err();
    assert_eq!(small, PayError::FirstTooSmall { min: sat(1_000) });
    let update = Update::signed(payer.channel(), sat(CAPACITY - 999), &secret(Role::Payer, 1));
    assert_eq!(refused(&payee(1), update.unwrap()), "first_too_small");
}

#[test]
fn there_is_no_credit_in_the_margin_before_the_expiry() {
    let (mut payer, payee) = paid(1, 1_000);
    let update = payer.sign(sat(2_000), &PLENTY).unwrap();
    assert!(payee.verify(update.clone(), 263).is_ok());
    assert!(!payee.is_expiring(263));
    for height in [264, 299, 300, u32::MAX] {
        assert!(payee.is_expiring(height));
        let error = payee.verify(update.clone(), height).unwrap_err();
        assert_eq!(error, UpdateError::Expiring(264));
    }
}

#[test]
fn the_whole_capacity_is_credited_by_change_0_and_hash_type_0x82() {
    let (mut payer, mut payee) = paid(1, 1_000);
    let update = payer.sign(sat(CAPACITY), &PLENTY).unwrap();
    assert_eq!(update.wire_signature()[64], 0x82);
    let verified = payee.verify(update, TIP).unwrap();
    assert_eq!(payee.accept(verified).unwrap().total, MilliSat(CAPACITY * 1_000));
}

#[test]
fn a_payer_asked_to_sign_beyond_its_own_count_refuses() {
    let mut payer = payer(1);
    let mut count = Count { counted: MilliSat(0), step: sat(100) };
    assert_eq!(payer.allowed(&count), sat(1_000), "the first update is as the terms say");
    assert_eq!(payer.sign(sat(1_001), &count).unwrap_err().reason(), "beyond_count");
    assert!(payer.newest().is_none());
    payer.sign(sat(1_000), &count).unwrap();
    count.counted = MilliSat(1_899_001);
    let asked_too_much = PayError::BeyondCount { asked: sat(2_001), allowed: sat(2_000) };
    assert_eq!(payer.sign(sat(2_001), &count), Err(asked_too_much));
    assert_eq!(payer.signed(), sat(1_000));
    payer.sign(sat(2_000), &count).unwrap();
}

#[test]
fn a_payer_signs_neither_less_than_before_nor_dust_nor_more_than_there_is() {
    let (mut payer, _) = paid(1, 2_000);
    assert_eq!(payer.sign(sat(2_000), &PLENTY).unwrap_err().reason(), "not_more");
    assert_eq!(payer.sign(sat(1_999), &PLENTY).unwrap_err().reason(), "not_more");
    assert_eq!(payer.sign(sat(CAPACITY + 1), &PLENTY).unwrap_err().reason(), "over_capacity");
    for change in [1, 329] {
        let count = Count { counted: MilliSat(CAPACITY * 1_000), step: sat(0) };
        let error = payer.sign(sat(CAPACITY - change), &count).unwrap_err();
        assert_eq!(error, PayError::DustChange(sat(change)));
    }
    let count = Count { counted: MilliSat((CAPACITY - 1) * 1_000), step: sat(0) };
    assert_eq!(payer.allowed(&count), sat(CAPACITY - 330));
}

#[test]
fn a_payer_adopts_no_update_that_it_did_not_sign() {
    let mut payer = payer(1);
    let other = Update::signed(payer.channel(), sat(50_000), &secret(Role::Payer, 2)).unwrap();
    assert_eq!(payer.adopt(other.clone()).unwrap_err().reason(), "not_our_update");
    assert!(payer.newest().is_none());
    assert!(Payer::new(funded(1), secret(Role::Payer, 1), Some(other.clone())).is_err());
    assert!(Payee::new(funded(1), secret(Role::Payee, 1), Some(other)).is_err());
    assert_eq!(
        Payer::new(funded(1), secret(Role::Payer, 2), None).unwrap_err(),
        PayError::Key(KeyError::NotOurs)
    );
}

#[test]
fn an_update_survives_json_and_is_the_same_when_signed_again() {
    let (payer, payee) = paid(1, 1_000);
    let json = serde_json::to_string(payee.newest().unwrap()).unwrap();
    let back: Update = serde_json::from_str(&json).unwrap();
    assert_eq!(Some(&back), payer.newest());
    assert_eq!(paid(1, 1_000).0.newest(), payer.newest());
    assert!(serde_json::from_str::<Update>(&json.replace("83\"", "81\"")).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_comes_in_whatever_order_credit_only_grows_and_never_beyond_what_was_signed(
        changes in proptest::collection::vec(0..110_000u64, 1..20),
        flip in proptest::collection::vec(0..650usize, 1..20),
    ) {
        let (payer, mut payee) = paid(1, 1_000);
        let mut most = payee.credit();
        for (change, flip) in changes.iter().zip(flip) {
            let signed = Update::signed(payer.channel(), sat(*change), &secret(Role::Payer, 1));
            let signed = signed.unwrap();
            let mut wire = signed.wire_signature();
            let intact = flip >= 520;
            if !intact {
                wire[flip / 8] ^= 1 << (flip % 8);
            }
            let before = payee.credit();
            let Ok(update) = Update::from_wire(signed.outpoint(), *change, &wire) else { continue };
            let Ok(verified) = payee.verify(update, TIP) else {
                proptest::prop_assert_eq!(payee.credit(), before);
                continue;
            };
            proptest::prop_assert!(intact, "a flipped bit must not pass");
            payee.accept(verified).unwrap();
            most = most.max(MilliSat((CAPACITY - change) * 1_000));
            proptest::prop_assert!(payee.credit() > before);
            proptest::prop_assert_eq!(payee.credit(), most);
        }
    }
}
