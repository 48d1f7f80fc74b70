//! Messages: what a signature covers.

use bitcoin::hashes::{Hash, sha256};

use super::super::message::*;
use super::*;
use crate::{Mac, Tariff};

type Change = fn(&mut Agreement);

fn session(role: Role) -> SessionSecret {
    Seed::new([3; 32]).session_secret(Network::Regtest, role, 1).unwrap()
}

fn agreement() -> Agreement {
    Agreement {
        offer: sha256::Hash::hash(b"offer"),
        tariff: Tariff {
            uplink_msat_per_mib: 1,
            downlink_msat_per_mib: 2,
            msat_per_minute: 3,
            ..Tariff::FREE
        },
        terms: terms(1),
        payer_session_key: session(Role::Payer).public_key(),
        payee_session_key: session(Role::Payee).public_key(),
        mac: Mac::new([2, 0, 0, 0, 0, 0xab]),
    }
}

fn offer() -> Offer {
    let terms = terms(1);
    Offer {
        network: terms.network,
        gateway_key: session(Role::Payee).public_key(),
        tariff: agreement().tariff,
        min_capacity: terms.min_capacity,
        max_capacity: terms.max_capacity,
        min_first_update: terms.min_first_update,
        max_close_fee: terms.max_close_fee,
        lock_blocks: 144,
        margin_blocks: terms.margin_blocks,
        confirmations: 1,
        valid_until_unix_s: 1,
        challenge: Challenge([4; 32]),
    }
}

#[test]
fn an_agreement_that_differs_from_the_offer_is_refused_by_the_field() {
    let agreed = Agreement { offer: offer().digest(), ..agreement() };
    assert_eq!(agreed.check_against(&offer()), Ok(()));
    let changes: [(&str, Change); 8] = [
        ("offer", |a| a.offer = sha256::Hash::hash(b"another")),
        ("network", |a| a.terms.network = Network::Bitcoin),
        ("tariff", |a| a.tariff.downlink_msat_per_mib += 1),
        ("min_capacity_sat", |a| a.terms.min_capacity += Amount::ONE_SAT),
        ("max_capacity_sat", |a| a.terms.max_capacity += Amount::ONE_SAT),
        ("min_first_update_sat", |a| a.terms.min_first_update += Amount::ONE_SAT),
        ("max_close_fee_sat", |a| a.terms.max_close_fee += Amount::ONE_SAT),
        ("margin_blocks", |a| a.terms.margin_blocks += 1),
    ];
    for (field, change) in changes {
        let mut changed = agreed.clone();
        change(&mut changed);
        assert_eq!(changed.check_against(&offer()), Err(MessageError::NotAsOffered(field)));
    }
}

fn close_request() -> CloseRequest {
    CloseRequest {
        agreement: agreement().digest(),
        outpoint: funded(1).outpoint(),
        path: SpendPath::PayLeaf,
        counted_msat: MilliSat(1_234),
        challenge: Challenge([5; 32]),
    }
}

#[test]
fn a_message_holds_for_its_key_and_its_fields_alone() {
    let key = session(Role::Payer);
    let request = close_request();
    let signature = request.sign(&key);
    assert_eq!(request.verify(&key.public_key(), &signature), Ok(()));
    let other = session(Role::Payee).public_key();
    assert_eq!(request.verify(&other, &signature), Err(MessageError::Forged));
    let changes: [fn(&mut CloseRequest); 5] = [
        |request| request.agreement = sha256::Hash::hash(b"another"),
        |request| request.outpoint.vout += 1,
        |request| request.path = SpendPath::KeyPath,
        |request| request.counted_msat.0 += 1,
        |request| request.challenge.0[0] ^= 1,
    ];
    for change in changes {
        let mut changed = request.clone();
        change(&mut changed);
        assert_eq!(changed.verify(&key.public_key(), &signature), Err(MessageError::Forged));
    }
}

#[test]
fn every_term_of_an_agreement_is_signed() {
    let digest = agreement().digest();
    let changes: [Change; 19] = [
        |a| a.offer = sha256::Hash::hash(b"another"),
        |a| a.tariff.uplink_msat_per_mib += 1,
        |a| a.tariff.msat_per_minute += 1,
        |a| a.tariff.uplink_kbit_per_s += 1,
        |a| a.tariff.downlink_kbit_per_s += 1,
        |a| a.tariff.throttle_kbit_per_s += 1,
        |a| a.terms.network = Network::Bitcoin,
        |a| a.terms.payer_key = terms(2).payer_key,
        |a| a.terms.payee_key = terms(2).payee_key,
        |a| a.terms.expiry_height += 1,
        |a| a.terms.margin_blocks += 1,
        |a| a.terms.change_script = p2tr(1),
        |a| a.terms.payout_script = p2tr(1),
        |a| a.terms.min_capacity += Amount::ONE_SAT,
        |a| a.terms.max_capacity += Amount::ONE_SAT,
        |a| a.terms.min_first_update += Amount::ONE_SAT,
        |a| a.terms.max_close_fee += Amount::ONE_SAT,
        |a| a.payee_session_key = terms(2).payee_key,
        |a| a.mac = Mac::new([2, 0, 0, 0, 0, 1]),
    ];
    for change in changes {
        let mut changed = agreement();
        change(&mut changed);
        assert_ne!(changed.digest(), digest);
    }
}

#[test]
fn a_signature_for_one_purpose_is_none_for_another() {
    let resume = Resume {
        agreement: agreement().digest(),
        outpoint: funded(1).outpoint(),
        mac: agreement().mac,
        challenge: Challenge([5; 32]),
    };
    assert_ne!(Resume::TAG, CloseRequest::TAG);
    let tag = sha256::Hash::hash(b"BitMesh/resume/v1");
    let tag = tag.as_byte_array();
    let preimage = [&tag[..], &tag[..], &resume.serialize_fields()].concat();
    assert_eq!(resume.digest(), sha256::Hash::hash(&preimage));
}

#[test]
fn a_message_survives_json_and_unknown_fields_do_not() {
    let json = serde_json::to_string(&agreement()).unwrap();
    assert_eq!(serde_json::from_str::<Agreement>(&json).unwrap(), agreement());
    assert!(json.contains("\"02:00:00:00:00:ab\""));
    assert!(serde_json::from_str::<Agreement>(&json.replace("02:00:00", "+2:00:00")).is_err());
    assert!(serde_json::from_str::<Agreement>(&json.replace("\"mac\"", "\"mec\"")).is_err());
    let signature = close_request().sign(&session(Role::Payer));
    let json = serde_json::to_string(&signature).unwrap();
    assert_eq!(serde_json::from_str::<MessageSignature>(&json).unwrap(), signature);
}
