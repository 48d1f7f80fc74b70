//! Closes of all kinds and the refund: sizes, amounts, refusals.

use bitcoin::FeeRate;

use super::*;

const TEN: FeeRate = FeeRate::from_sat_per_vb_u32(10);

fn vsize(tx: &Transaction) -> u64 {
    tx.weight().to_vbytes_ceil()
}

fn sums_up(tx: &Transaction, inputs: u64, fee: Amount) {
    let outputs: Amount = tx.output.iter().map(|output| output.value).sum();
    assert_eq!(outputs + fee, sat(inputs));
    assert!(tx.output.iter().all(|output| output.value >= DUST));
    assert_eq!(fee, fee_for(tx.weight(), TEN));
}

#[test]
fn a_unilateral_close_has_the_sizes_of_the_design() {
    for (credit, charges, size) in
        [(20_000, 20_000, 205), (20_000, 15_000, 248), (CAPACITY, CAPACITY, 162)]
    {
        let (_, payee) = closing(1, credit, charges);
        let close = payee.unilateral(&p2tr(0xbb), TEN).unwrap();
        assert_eq!(vsize(&close.tx), size);
        assert_eq!(close.tx.version.0, 3);
        sums_up(&close.tx, CAPACITY, close.fee);
        assert_eq!(close.payout, sat(credit) - close.returned - close.fee);
    }
}

#[test]
fn a_unilateral_close_returns_what_is_worth_returning() {
    let (_, payee) = closing(1, 20_000, 15_000);
    let close = payee.unilateral(&p2tr(0xbb), TEN).unwrap();
    assert_eq!(close.returned, sat(5_000 - 430));
    // 759 unused less 430 is 329: dust.
    let (_, payee) = closing(1, 20_000, 20_000 - 759);
    assert_eq!(payee.unilateral(&p2tr(0xbb), TEN).unwrap().returned, Amount::ZERO);
    let (_, payee) = closing(1, 20_000, 20_000 - 760);
    assert_eq!(payee.unilateral(&p2tr(0xbb), TEN).unwrap().returned, sat(330));
}

#[test]
fn where_the_charges_do_not_pay_for_the_close_the_return_does() {
    let (_, payee) = closing(1, 20_000, 100);
    let close = payee.unilateral(&p2tr(0xbb), TEN).unwrap();
    assert_eq!(close.payout, DUST);
    assert_eq!(close.returned, sat(20_000) - DUST - close.fee);
    sums_up(&close.tx, CAPACITY, close.fee);
}

#[test]
fn a_close_never_costs_more_than_was_paid() {
    let (_, payee) = closing(1, 2_380, 0);
    let close = payee.unilateral(&p2tr(0xbb), TEN).unwrap();
    assert_eq!((close.payout, close.returned), (sat(330), sat(0)));
    let (_, payee) = closing(1, 2_379, 0);
    let refused = payee.unilateral(&p2tr(0xbb), TEN).unwrap_err();
    assert_eq!(refused, CloseError::FeeTooHigh { fee: sat(2_050) });
    let (_, payee) = closing(1, 0, 0);
    assert_eq!(payee.unilateral(&p2tr(0xbb), TEN).unwrap_err().reason(), "no_update");
}

#[test]
fn charges_beyond_what_was_paid_are_refused_and_the_payee_goes_on() {
    let (_, payee) = paid(1, 2_000);
    let (payee, refused) = payee.close(MilliSat(2_000_001)).unwrap_err();
    assert_eq!(refused, CloseError::OverCredit { charges: sat(2_001), credit: sat(2_000) });
    assert_eq!(payee.close(MilliSat(1_999_001)).unwrap().charges(), sat(2_000));
}

#[test]
fn a_batch_pairs_each_change_with_its_input_and_leaves_none_out() {
    let credits = [CAPACITY, 20_000, CAPACITY, 30_000, 40_000];
    let ends: Vec<_> =
        (1..).zip(credits).map(|(index, credit)| closing(index, credit, credit - 10_000)).collect();
    let batch: Vec<_> = ends.iter().map(|(_, payee)| (payee, 1)).collect();
    let close = close_batch(&batch, &p2tr(0xbb), TEN).unwrap();
    let order: Vec<_> = close.tx.input.iter().map(|input| input.previous_output).collect();
    let expected = [2, 4, 5, 1, 3].map(|index| funded(index).outpoint());
    assert_eq!(order, expected);
    for (output, credit) in close.tx.output.iter().zip([20_000, 30_000, 40_000]) {
        assert_eq!(output.value, sat(CAPACITY - credit));
    }
    assert_eq!(close.tx.output[3].value, close.payout);
    assert_eq!(close.returned, sat(5 * (10_000 - 430)));
    sums_up(&close.tx, 5 * CAPACITY, close.fee);
}

#[test]
fn a_batch_costs_about_151_vbytes_a_channel_and_stays_inside_truc() {
    let ends: Vec<_> = (0..64).map(|index| closing(index, 20_000, 20_000)).collect();
    let batch: Vec<_> = ends.iter().map(|(_, payee)| (payee, 6)).collect();
    let close = close_batch(&batch, &p2tr(0xbb), TEN).unwrap();
    assert!(vsize(&close.tx) <= 10_000);
    assert_eq!((vsize(&close.tx) - 54).div_ceil(64), 151);
    let returning: Vec<_> = (0..64).map(|index| closing(index, 20_000, 10_000)).collect();
    let batch: Vec<_> = returning.iter().map(|(_, payee)| (payee, 6)).collect();
    let refused = close_batch(&batch, &p2tr(0xbb), TEN).unwrap_err();
    assert_eq!(refused, CloseError::BatchTooLarge);
}

#[test]
fn a_batch_refuses_what_would_hold_it_up() {
    let (_, one) = closing(1, 20_000, 20_000);
    let (_, none) = closing(2, 0, 0);
    let reason =
        |batch: &[(&PayeeClosing, u32)]| close_batch(batch, &p2tr(0xbb), TEN).unwrap_err().reason();
    assert_eq!(reason(&[]), "empty_batch");
    assert_eq!(reason(&[(&one, 0)]), "unconfirmed");
    assert_eq!(reason(&[(&one, 1), (&one, 1)]), "repeated");
    assert_eq!(reason(&[(&one, 1), (&none, 1)]), "no_update");
    assert_eq!(reason(&vec![(&one, 1); 65]), "batch_too_large");
}

fn plan(payee: &PayeeClosing, path: SpendPath) -> CooperativePlan {
    CooperativePlan::at_feerate(payee.channel(), path, payee.charges(), TEN).unwrap()
}

/// Closes by the key path with nonces from `entropy`.
fn by_key_path(payer: &PayerClosing, payee: &PayeeClosing, entropy: u8) -> Transaction {
    let plan = plan(payee, SpendPath::KeyPath);
    let signing = payee.start_key_path(plan.clone(), NonceSeed::new([entropy; 32])).unwrap();
    let seed = NonceSeed::new([entropy + 1; 32]);
    let half = payer.sign_key_path(&plan, &PLENTY, &signing.nonce(), seed).unwrap();
    signing.complete(payee, &half).unwrap()
}

#[test]
fn a_cooperative_close_has_the_sizes_of_the_design_and_settles_to_the_satoshi() {
    let (payer, payee) = closing(1, 20_000, 15_000);
    let tx = by_key_path(&payer, &payee, 1);
    assert_eq!(vsize(&tx), 154);
    sums_up(&tx, CAPACITY, sat(1_540));
    assert_eq!(tx.output[1].value, sat(15_000));
    let plan = plan(&payee, SpendPath::PayLeaf);
    let half = payer.sign_pay_leaf(&plan, &PLENTY).unwrap();
    let tx = payee.complete_pay_leaf(&plan, &half).unwrap();
    assert_eq!(vsize(&tx), 204);
    sums_up(&tx, CAPACITY, sat(2_040));
    assert_eq!(tx.output[1].value, sat(15_000));
}

#[test]
fn a_payer_tells_a_close_that_both_signed_from_any_other() {
    let (payer, payee) = closing(1, 20_000, 15_000);
    let tx = by_key_path(&payer, &payee, 1);
    let plan = plan(&payee, SpendPath::KeyPath);
    assert!(plan.is_signed_by_both(&tx));
    let mut unsigned = tx.clone();
    unsigned.input[0].witness.clear();
    let mut forged = tx.clone();
    forged.input[0].witness = bitcoin::Witness::from_slice(&[[7; 64]]);
    let mut other = tx.clone();
    other.output[0].value -= Amount::ONE_SAT;
    for tx in [unsigned, forged, other] {
        assert!(!plan.is_signed_by_both(&tx));
    }
}

#[test]
fn a_key_path_signature_is_one_of_the_output_key() {
    let (payer, payee) = closing(1, 20_000, 15_000);
    let tx = by_key_path(&payer, &payee, 1);
    let prevout = payee.channel().prevout();
    let sighash = sighash::key_path_sighash(&tx, &prevout).unwrap();
    let signature = tx.input[0].witness.to_vec().remove(0);
    let key: [u8; 32] = *payee.channel().opened().script().output_key();
    let key = secp256k1::XOnlyPublicKey::from_byte_array(key).unwrap();
    let signature = secp256k1::schnorr::Signature::from_byte_array(signature.try_into().unwrap());
    assert!(signature.verify(&sighash, &key).is_ok());
}

#[test]
fn outputs_below_dust_are_left_out_of_a_cooperative_close() {
    let (payer, payee) = closing(1, 20_000, 329);
    let tx = by_key_path(&payer, &payee, 1);
    assert_eq!((tx.output.len(), vsize(&tx)), (1, 111));
    assert_eq!(tx.output[0].script_pubkey, *p2tr(0xaa).as_script());
    sums_up(&tx, CAPACITY, sat(1_110));
    let (payer, payee) = closing(1, CAPACITY, CAPACITY);
    let tx = by_key_path(&payer, &payee, 1);
    assert_eq!(tx.output.len(), 1);
    assert_eq!(tx.output[0].script_pubkey, *p2tr(0xbb).as_script());
    sums_up(&tx, CAPACITY, sat(1_110));
}

#[test]
fn nothing_paid_can_be_closed_together_too() {
    let (payer, payee) = closing(1, 0, 0);
    let tx = by_key_path(&payer, &payee, 1);
    assert_eq!(tx.output[0].value, sat(CAPACITY - 1_110));
}

#[test]
fn a_payer_signs_no_close_beyond_its_own_count_or_its_own_updates() {
    let (payer, payee) = closing(1, 20_000, 15_000);
    let count = Count { counted: MilliSat(14_000_000), step: sat(999) };
    let beyond = CloseError::BeyondCount { charges: sat(15_000), allowed: sat(14_999) };
    let by_leaf = plan(&payee, SpendPath::PayLeaf);
    assert_eq!(payer.sign_pay_leaf(&by_leaf, &count).unwrap_err(), beyond);
    let by_key = plan(&payee, SpendPath::KeyPath);
    let signing = payee.start_key_path(by_key.clone(), NonceSeed::new([1; 32])).unwrap();
    let seed = || NonceSeed::new([2; 32]);
    let refused = payer.sign_key_path(&by_key, &count, &signing.nonce(), seed()).unwrap_err();
    assert_eq!(refused, beyond);
    let (little, _) = closing(1, 14_999, 0);
    assert_eq!(little.sign_pay_leaf(&by_leaf, &PLENTY).unwrap_err(), beyond);
    assert_eq!(payer.sign_pay_leaf(&by_key, &PLENTY).unwrap_err(), CloseError::WrongPath);
    let (other, _) = closing(2, 20_000, 15_000);
    assert_eq!(other.sign_pay_leaf(&by_leaf, &PLENTY).unwrap_err(), CloseError::WrongChannel);
}

#[test]
fn a_forged_half_of_a_close_is_refused() {
    let (payer, payee) = closing(1, 20_000, 15_000);
    let by_leaf = plan(&payee, SpendPath::PayLeaf);
    let mut half = payer.sign_pay_leaf(&by_leaf, &PLENTY).unwrap();
    half[10] ^= 1;
    assert_eq!(payee.complete_pay_leaf(&by_leaf, &half), Err(CloseError::Forged));
    let by_key = plan(&payee, SpendPath::KeyPath);
    let start =
        |entropy| payee.start_key_path(by_key.clone(), NonceSeed::new([entropy; 32])).unwrap();
    let sign =
        |nonce: &PublicNonce| payer.sign_key_path(&by_key, &PLENTY, nonce, NonceSeed::new([9; 32]));
    let signing = start(1);
    let mut half = sign(&signing.nonce()).unwrap();
    half.partial.0[31] ^= 1;
    assert_eq!(signing.complete(&payee, &half), Err(CloseError::Forged));
    let half = sign(&start(1).nonce()).unwrap();
    assert_eq!(start(2).complete(&payee, &half), Err(CloseError::Forged), "an older nonce");
    for rubbish in [[0; 66], [0xff; 66]] {
        let half = PayerKeyPathSignature { nonce: PublicNonce(rubbish), ..half };
        assert_eq!(start(3).complete(&payee, &half).unwrap_err().reason(), "key");
        assert_eq!(sign(&PublicNonce(rubbish)).unwrap_err().reason(), "key");
    }
    for rubbish in [[0; 32], [0xff; 32]] {
        let half = PayerKeyPathSignature { partial: PartialSignature(rubbish), ..half };
        assert_eq!(start(3).complete(&payee, &half), Err(CloseError::Forged));
    }
}

#[test]
fn a_payee_completes_no_plan_with_other_charges() {
    let (payer, payee) = closing(1, 20_000, 15_000);
    let path = SpendPath::PayLeaf;
    let less = CooperativePlan::at_feerate(payee.channel(), path, sat(14_999), TEN).unwrap();
    let half = payer.sign_pay_leaf(&less, &PLENTY).unwrap();
    assert_eq!(payee.complete_pay_leaf(&less, &half), Err(CloseError::WrongChannel));
}

#[test]
fn a_second_payment_to_the_address_goes_back_whole() {
    let (payer, payee) = closing(1, 20_000, 15_000);
    let pinned = payee.channel().outpoint();
    let stray = OutPoint { vout: pinned.vout + 1, ..pinned };
    let give_back = |outpoint| {
        CooperativePlan::give_back(
            payee.channel(),
            outpoint,
            sat(7_000),
            SpendPath::PayLeaf,
            sat(200),
        )
    };
    assert_eq!(give_back(pinned), Err(CloseError::WrongChannel));
    let plan = give_back(stray).unwrap();
    let half = payer.sign_pay_leaf(&plan, &PLENTY).unwrap();
    let tx = payee.complete_pay_leaf(&plan, &half).unwrap();
    assert_eq!(tx.input[0].previous_output, stray);
    assert_eq!(tx.output[0].value, sat(6_800));
}

#[test]
fn a_refund_has_the_size_of_the_design_and_waits_for_the_expiry() {
    let channel = funded(1);
    let coins = [(channel.outpoint(), channel.capacity())];
    let opened = channel.opened();
    let made = refund(opened, &secret(Role::Payer, 1), &coins, &p2tr(0xaa), TEN).unwrap();
    assert_eq!(vsize(&made.tx), 138);
    assert_eq!(made.tx.lock_time.to_consensus_u32(), 300);
    assert!(made.tx.input.iter().all(|input| input.sequence.enables_absolute_lock_time()));
    sums_up(&made.tx, CAPACITY, made.fee);
    assert_eq!(first_refund_block(300), 301);
}

#[test]
fn a_refund_that_can_not_be_is_refused() {
    let channel = funded(1);
    let (outpoint, capacity) = (channel.outpoint(), channel.capacity());
    let reason = |coins: &[(OutPoint, Amount)], index| {
        let secret = secret(Role::Payer, index);
        refund(channel.opened(), &secret, coins, &p2tr(0xaa), TEN).unwrap_err().reason()
    };
    assert_eq!(reason(&[], 1), "inputs");
    assert_eq!(reason(&vec![(outpoint, capacity); 65], 1), "inputs");
    assert_eq!(reason(&[(outpoint, capacity), (outpoint, capacity)], 1), "repeated");
    let other = OutPoint { vout: 7, ..outpoint };
    assert_eq!(reason(&[(outpoint, Amount::MAX), (other, Amount::MAX)], 1), "amount");
    assert_eq!(reason(&[(outpoint, sat(1_380 + 329))], 1), "fee_too_high");
    assert_eq!(reason(&[(outpoint, capacity)], 2), "key");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    #[test]
    fn a_unilateral_close_pays_everyone_to_the_satoshi_or_is_refused(
        credit in 1_000..=CAPACITY, used in 0..=1_000u64, kwu in 0..20_000u64,
    ) {
        let credit = funded(1).creditable(sat(credit)).to_sat();
        let (_, payee) = closing(1, credit, credit * used / 1_000);
        let rate = FeeRate::from_sat_per_kwu(kwu);
        let Ok(close) = payee.unilateral(&p2tr(0xbb), rate) else {
            proptest::prop_assert!(fee_for(bitcoin::Weight::from_vb_unwrap(205), rate) + DUST > sat(credit)
                || credit == CAPACITY);
            return Ok(());
        };
        let outputs: Amount = close.tx.output.iter().map(|output| output.value).sum();
        proptest::prop_assert_eq!(outputs + close.fee, sat(CAPACITY));
        proptest::prop_assert_eq!(close.payout + close.returned + close.fee, sat(credit));
        proptest::prop_assert_eq!(close.change, sat(CAPACITY - credit));
        proptest::prop_assert_eq!(close.fee, fee_for(close.tx.weight(), rate));
        proptest::prop_assert!(close.tx.output.iter().all(|output| output.value >= DUST));
        proptest::prop_assert!(close.returned <= payee.unused());
    }

    #[test]
    fn a_plan_at_a_feerate_pays_that_feerate(charges in 0..=CAPACITY, kwu in 250..6_000u64) {
        let rate = FeeRate::from_sat_per_kwu(kwu);
        for path in [SpendPath::KeyPath, SpendPath::PayLeaf] {
            let plan = CooperativePlan::at_feerate(&funded(1), path, sat(charges), rate);
            let Ok(plan) = plan else { continue };
            let fee = fee_for(plan.weight(), rate);
            proptest::prop_assert!(plan.settlement().fee >= fee);
            proptest::prop_assert!(plan.settlement().fee <= fee * 2);
            let again = CooperativePlan::new(&funded(1), path, sat(charges), plan.settlement().fee);
            proptest::prop_assert_eq!(again.unwrap(), plan);
        }
    }

    #[test]
    fn no_numbers_of_the_other_side_make_a_plan_panic(charges: u64, fee: u64, near in 0..200_000u64) {
        for (charges, fee) in [(charges, fee), (near, fee), (charges, near), (near, near / 3)] {
            let plan = CooperativePlan::new(&funded(1), SpendPath::KeyPath, sat(charges), sat(fee));
            let Ok(plan) = plan else { continue };
            let settled = plan.settlement();
            proptest::prop_assert_eq!(settled.payout + settled.change + settled.fee, sat(CAPACITY));
        }
    }
}
