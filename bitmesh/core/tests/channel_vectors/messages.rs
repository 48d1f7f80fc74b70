//! Signed messages: fields, serialisation, digest, signature.

use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, Network};
use bitmesh_core::channel::message::{
    Agreement, Bid, Challenge, CloseRequest, Message, Offer, Receipt, Resume,
};
use bitmesh_core::channel::{Role, Seed, SessionSecret, SpendPath};
use bitmesh_core::{Mac, MilliSat, Tariff};
use serde::Serialize;
use serde_json::{Value, json};

use crate::fixture::{Case, sat};

const TARIFF: Tariff = Tariff {
    uplink_msat_per_mib: 1_000,
    downlink_msat_per_mib: 2_000,
    msat_per_minute: 3_000,
    uplink_kbit_per_s: 4_000,
    downlink_kbit_per_s: 5_000,
    throttle_kbit_per_s: 64,
};

/// One of each.
pub(crate) fn messages(cases: &[Case]) -> Vec<Value> {
    let seed = Seed::new([0x66; 32]);
    let network = cases[0].terms.network;
    let offer_key = seed.offer_secret(network).unwrap();
    let payer = seed.session_secret(network, Role::Payer, 1).unwrap();
    let payee = seed.session_secret(network, Role::Payee, 1).unwrap();
    let outpoint = cases[0].funded().outpoint();
    let mac = Mac::new([2, 0, 0, 0, 0, 0xb0]);
    let offer = offer(network, &offer_key);
    let bid = Bid {
        offer: offer.digest(),
        round: 2,
        tariff: Tariff { uplink_msat_per_mib: 700, downlink_msat_per_mib: 1_400, ..TARIFF },
        payer_session_key: payer.public_key(),
    };
    let agreement = Agreement {
        offer: offer.digest(),
        tariff: TARIFF,
        terms: cases[0].terms.clone(),
        payer_session_key: payer.public_key(),
        payee_session_key: payee.public_key(),
        mac,
    };
    let digest = agreement.digest();
    let challenge = Challenge([0x78; 32]);
    let resume = Resume { agreement: digest, outpoint, mac, challenge };
    let close = CloseRequest {
        agreement: digest,
        outpoint,
        path: SpendPath::PayLeaf,
        counted_msat: MilliSat(25_000_001),
        challenge,
    };
    let receipt = Receipt {
        agreement: digest,
        outpoint,
        uplink_bytes: 1,
        downlink_bytes: 1 << 40,
        time_ms: 600_000,
        charged_msat: MilliSat(25_000_001),
        credited: sat(30_000),
        settled: sat(25_001),
        returned: sat(74_691),
        fee: sat(308),
        close_txid: outpoint.txid,
    };
    vec![
        vector(&offer, &[&offer_key]),
        vector(&bid, &[&payer]),
        vector(&agreement, &[&payer, &payee]),
        vector(&resume, &[&payer]),
        vector(&close, &[&payer]),
        vector(&receipt, &[&payer, &payee]),
    ]
}

fn offer(network: Network, key: &SessionSecret) -> Offer {
    Offer {
        network,
        gateway_key: key.public_key(),
        tariff: TARIFF,
        min_capacity: sat(10_000),
        max_capacity: sat(10_000_000),
        min_first_update: sat(1_000),
        max_close_fee: Amount::from_sat(5_000),
        lock_blocks: 144,
        margin_blocks: 36,
        confirmations: 1,
        valid_until_unix_s: 1_900_000_000,
        challenge: Challenge([0x77; 32]),
    }
}

fn vector<M: Message + Serialize>(message: &M, signers: &[&SessionSecret]) -> Value {
    let signatures: Vec<Value> = signers
        .iter()
        .map(|secret| json!({"key": secret.public_key(), "signature": message.sign(secret)}))
        .collect();
    json!({
        "tag": M::TAG,
        "message": message,
        "serialized": message.serialize_fields().to_lower_hex_string(),
        "digest": message.digest().as_byte_array().to_lower_hex_string(),
        "signatures": signatures,
    })
}
