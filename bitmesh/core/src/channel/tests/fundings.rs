//! Terms, addresses and fundings: what is refused and what is pinned.

use super::*;

#[test]
fn the_payer_refuses_an_address_that_the_gateway_lies_about() {
    let opened = Opened::new(terms(1)).unwrap();
    assert_eq!(opened.check_address(&opened.address().to_string()), Ok(()));
    assert_eq!(opened.check_address(&opened.address().to_string().to_uppercase()), Ok(()));
    let other = Opened::new(terms(2)).unwrap();
    let mut later = terms(1);
    later.expiry_height += 1;
    let later = Opened::new(later).unwrap();
    let mut elsewhere = terms(1);
    elsewhere.network = Network::Bitcoin;
    let elsewhere = Opened::new(elsewhere).unwrap();
    for lie in [other.address(), later.address(), elsewhere.address()] {
        assert_eq!(opened.check_address(&lie.to_string()), Err(FundingError::WrongAddress));
    }
    assert_eq!(opened.check_address("nonsense"), Err(FundingError::WrongAddress));
}

#[test]
fn both_sides_get_the_same_address_whichever_key_is_smaller() {
    let there = Opened::new(terms(1)).unwrap();
    let mut swapped = terms(1);
    std::mem::swap(&mut swapped.payer_key, &mut swapped.payee_key);
    let swapped = Opened::new(swapped).unwrap();
    assert_eq!(there.script().internal_key(), swapped.script().internal_key());
    assert_ne!(there.script().output_key(), swapped.script().output_key());
}

#[test]
fn a_uri_names_the_address_and_the_amount_in_bitcoin() {
    let opened = Opened::new(terms(1)).unwrap();
    let expected = format!("bitcoin:{}?amount=0.00123456&label=BitMesh", opened.address());
    assert_eq!(opened.uri(sat(123_456)), expected);
}

#[test]
fn a_leaf_has_the_size_of_the_design_and_the_tree_commits_to_it() {
    let secp = bitcoin::secp256k1::Secp256k1::verification_only();
    for (expiry, size) in [(37, 37), (300, 38), (900_000, 39), (499_999_999, 40)] {
        let mut terms = terms(1);
        terms.expiry_height = expiry;
        let opened = Opened::new(terms).unwrap();
        let script = opened.script();
        assert_eq!(script.pay_leaf().len(), 68);
        assert_eq!(script.refund_leaf().len(), size);
        let key = bitcoin::XOnlyPublicKey::from_slice(script.output_key()).unwrap();
        for (leaf, block) in [
            (script.pay_leaf(), script.pay_control_block()),
            (script.refund_leaf(), script.refund_control_block()),
        ] {
            let block = bitcoin::taproot::ControlBlock::decode(&block).unwrap();
            assert!(block.verify_taproot_commitment(&secp, key, leaf));
        }
    }
}

#[test]
fn terms_that_could_cost_somebody_money_are_refused() {
    let refused = |change: fn(&mut Terms)| {
        let mut terms = terms(1);
        change(&mut terms);
        Opened::new(terms).unwrap_err().reason()
    };
    assert_eq!(refused(|terms| terms.expiry_height = 0), "expiry");
    assert_eq!(refused(|terms| terms.expiry_height = 500_000_000), "expiry");
    assert_eq!(refused(|terms| terms.margin_blocks = 35), "margin");
    assert_eq!(refused(|terms| terms.margin_blocks = 300), "margin");
    assert_eq!(refused(|terms| terms.payee_key = terms.payer_key), "repeated_key");
    assert_eq!(refused(|terms| terms.min_first_update = sat(534)), "first_update");
    assert_eq!(refused(|terms| terms.min_capacity = sat(999)), "capacity_bounds");
    assert_eq!(refused(|terms| terms.max_capacity = sat(9_999)), "capacity_bounds");
    assert_eq!(refused(|terms| terms.max_capacity = sat(100_000_001)), "capacity_bounds");
}

#[test]
fn a_payers_key_with_the_other_sign_is_still_a_repeated_key() {
    let mut terms = terms(1);
    let mut bytes = terms.payer_key.to_bytes();
    bytes[0] ^= 1;
    terms.payee_key = PublicKey::from_bytes(&bytes).unwrap();
    assert_eq!(Opened::new(terms), Err(TermsError::RepeatedKey));
}

#[test]
fn money_goes_to_native_segwit_scripts_only() {
    let script = |hex: &str| ScriptBuf::from_hex(hex).unwrap();
    let zeros = "00".repeat(32);
    for good in [format!("0014{}", &zeros[..40]), format!("0020{zeros}"), format!("5120{zeros}")] {
        assert!(OutputScript::new(script(&good)).is_ok());
    }
    let p2pkh = format!("76a914{}88ac", &zeros[..40]);
    let p2sh = format!("a914{}87", &zeros[..40]);
    let v2 = format!("5220{zeros}");
    for bad in [p2pkh, p2sh, v2, "51024e73".to_owned(), "6a".to_owned(), String::new()] {
        assert_eq!(OutputScript::new(script(&bad)), Err(TermsError::OutputScript));
    }
}

#[test]
fn the_first_output_to_the_address_is_pinned_and_others_are_not() {
    let opened = Opened::new(terms(1)).unwrap();
    let tx = paying(&opened, &[20_000, 30_000]);
    let channel = opened.fund(&serialize(&tx)).unwrap();
    assert_eq!(channel.outpoint(), OutPoint::new(tx.compute_txid(), 1));
    assert_eq!(channel.capacity(), sat(20_000));
}

#[test]
fn a_funding_that_does_not_open_the_channel_says_why() {
    let opened = Opened::new(terms(1)).unwrap();
    let refused = |raw: &[u8]| opened.clone().fund(raw).unwrap_err().reason();
    assert_eq!(refused(b""), "malformed");
    assert_eq!(refused(&[0xff; 300]), "malformed");
    assert_eq!(refused(&vec![0; MAX_RAW_TX_BYTES + 1]), "too_long");
    assert_eq!(refused(&serialize(&paying(&opened, &[]))), "no_output");
    assert_eq!(refused(&serialize(&paying(&opened, &[9_999]))), "capacity");
    assert_eq!(refused(&serialize(&paying(&opened, &[1_000_001]))), "capacity");
    let mut trailing = serialize(&paying(&opened, &[CAPACITY]));
    trailing.push(0);
    assert_eq!(refused(&trailing), "malformed");
    let mut coinbase = paying(&opened, &[CAPACITY]);
    coinbase.input[0].previous_output = OutPoint::null();
    assert_eq!(refused(&serialize(&coinbase)), "coinbase");
}

#[test]
fn a_different_funding_transaction_needs_a_new_channel() {
    let opened = Opened::new(terms(1)).unwrap();
    let mut tx = paying(&opened, &[CAPACITY]);
    let channel = opened.fund(&serialize(&tx)).unwrap();
    assert_eq!(channel.check_same_funding(&serialize(&tx)), Ok(()));
    tx.input[0].previous_output.vout += 1;
    assert_eq!(channel.check_same_funding(&serialize(&tx)), Err(FundingError::OtherOutpoint));
}

#[test]
fn terms_survive_json_and_unknown_or_wrong_fields_do_not() {
    let json = serde_json::to_string(&terms(1)).unwrap();
    assert_eq!(serde_json::from_str::<Terms>(&json).unwrap(), terms(1));
    let p2sh = format!("a914{}87", "00".repeat(20));
    let change = terms(1).change_script.as_script().to_hex_string();
    assert!(serde_json::from_str::<Terms>(&json.replace(&change, &p2sh)).is_err());
    assert!(serde_json::from_str::<Terms>(&json.replace("margin", "margarine")).is_err());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_funding_panic(raw in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        proptest::prop_assert!(Opened::new(terms(1)).unwrap().fund(&raw).is_err());
    }
}
