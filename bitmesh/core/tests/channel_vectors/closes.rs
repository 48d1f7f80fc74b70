//! Closes and refunds: the transactions, what they spend, and every sighash.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::{LeafVersion, TapLeafHash};
use bitcoin::{FeeRate, OutPoint, ScriptBuf, Transaction, TxOut};
use bitmesh_core::MilliSat;
use bitmesh_core::channel::{
    CooperativePlan, Funded, NonceSeed, Opened, OutputScript, PayeeClosing, Role, SignedClose,
    SpendPath, close_batch, refund,
};
use serde_json::{Value, json};

use crate::fixture::{Case, PLENTY, sat};

const FEERATE: FeeRate = FeeRate::from_sat_per_vb_u32(2);

/// What every transaction of the vectors has: itself, what it spends, and its sighashes.
fn transaction(tx: &Transaction, prevouts: &[TxOut], leaf: Option<&[ScriptBuf]>) -> Value {
    let sighashes: Vec<String> = (0..tx.input.len())
        .map(|index| {
            let mut cache = SighashCache::new(tx);
            let prevouts = Prevouts::All(prevouts);
            let sighash = match leaf {
                None => cache.taproot_key_spend_signature_hash(
                    index,
                    &prevouts,
                    TapSighashType::Default,
                ),
                Some(leaves) => cache.taproot_script_spend_signature_hash(
                    index,
                    &prevouts,
                    TapLeafHash::from_script(&leaves[index], LeafVersion::TapScript),
                    TapSighashType::Default,
                ),
            };
            sighash.unwrap().to_byte_array().to_lower_hex_string()
        })
        .collect();
    let prevouts: Vec<Value> = prevouts
        .iter()
        .map(|prevout| {
            json!({"amount_sat": prevout.value.to_sat(), "script_pubkey": prevout.script_pubkey})
        })
        .collect();
    json!({
        "raw": serialize_hex(tx),
        "txid": tx.compute_txid(),
        "wtxid": tx.compute_wtxid(),
        "vsize": tx.vsize(),
        "prevouts": prevouts,
        "sighashes": sighashes,
    })
}

fn prevout(opened: &Opened, sat_value: u64) -> TxOut {
    TxOut { value: sat(sat_value), script_pubkey: opened.script().script_pubkey().clone() }
}

fn closing(case: &Case, change: u64, charges: u64) -> PayeeClosing {
    let (_, payee) = case.paid(Some(change));
    payee.close(MilliSat(charges * 1_000)).unwrap()
}

fn close_values(close: &SignedClose, channels: &[&Funded]) -> Value {
    let prevouts: Vec<TxOut> = close
        .tx
        .input
        .iter()
        .map(|input| {
            let is_it = |channel: &&&Funded| channel.outpoint() == input.previous_output;
            let channel = channels.iter().find(is_it).unwrap();
            prevout(channel.opened(), channel.capacity().to_sat())
        })
        .collect();
    let leaves: Vec<ScriptBuf> = close
        .tx
        .input
        .iter()
        .map(|input| ScriptBuf::from_bytes(input.witness.to_vec()[2].clone()))
        .collect();
    json!({
        "feerate_sat_per_vb": 2,
        "payout_sat": close.payout.to_sat(),
        "returned_sat": close.returned.to_sat(),
        "change_sat": close.change.to_sat(),
        "fee_sat": close.fee.to_sat(),
        "tx": transaction(&close.tx, &prevouts, Some(&leaves)),
    })
}

/// Closes by the payee alone: all used, something returned, no change, dust not returned.
pub(crate) fn unilateral(cases: &[Case]) -> Vec<Value> {
    let mut vectors = Vec::new();
    for case in cases {
        let capacity = case.funded().capacity().to_sat();
        for (change, unused) in [(capacity / 2, 0), (capacity / 2, 2_000), (0, 0), (330, 400)] {
            let closing = closing(case, change, capacity - change - unused);
            let close = closing.unilateral(&case.terms.payout_script, FEERATE).unwrap();
            let mut vector = close_values(&close, &[closing.channel()]);
            vector["channel"] = case.name.into();
            vector["unused_sat"] = closing.unused().to_sat().into();
            vector["charges_sat"] = closing.charges().to_sat().into();
            vectors.push(vector);
        }
    }
    vectors
}

/// One batch of three: with change, without, with change and a return.
pub(crate) fn batches(cases: &[Case]) -> Vec<Value> {
    let payout: &OutputScript = &cases[0].terms.payout_script;
    let ends = [
        closing(&cases[3], 0, 50_000),
        closing(&cases[0], 60_000, 40_000),
        closing(&cases[1], 500_000, 1_900_000),
    ];
    let batch: Vec<_> = ends.iter().map(|closing| (closing, 1)).collect();
    let close = close_batch(&batch, payout, FEERATE).unwrap();
    let channels: Vec<_> = ends.iter().map(PayeeClosing::channel).collect();
    let mut vector = close_values(&close, &channels);
    vector["channels"] = json!([cases[3].name, cases[0].name, cases[1].name]);
    vec![vector]
}

/// Closes by both: by key path and by pay leaf; with both outputs, and with either left out.
pub(crate) fn cooperative(cases: &[Case]) -> Vec<Value> {
    let mut vectors = Vec::new();
    for (number, case) in (0..).zip(cases) {
        let capacity = case.funded().capacity().to_sat();
        for (turn, charges) in (0..).zip([capacity / 4, 100, capacity]) {
            vectors.push(by_key_path(case, charges, number * 16 + turn));
            vectors.push(by_pay_leaf(case, charges));
        }
    }
    vectors
}

fn cooperative_values(case: &Case, plan: &CooperativePlan, tx: &Transaction) -> Value {
    let channel = case.funded();
    let prevout = prevout(channel.opened(), channel.capacity().to_sat());
    let leaf = channel.opened().script().pay_leaf().clone();
    let leaf = (plan.path() == SpendPath::PayLeaf).then_some([leaf]);
    let settlement = plan.settlement();
    json!({
        "channel": case.name,
        "path": plan.path(),
        "charges_sat": plan.charges().to_sat(),
        "payout_sat": settlement.payout.to_sat(),
        "change_sat": settlement.change.to_sat(),
        "fee_sat": settlement.fee.to_sat(),
        "unsigned": serialize_hex(&plan.unsigned()),
        "tx": transaction(tx, &[prevout], leaf.as_ref().map(|leaf| &leaf[..])),
    })
}

/// Nonces of the vectors come from counters; those of a channel never do.
fn by_key_path(case: &Case, charges: u64, counter: u8) -> Value {
    let (payer, payee) = case.paid(Some(0));
    let (payer, payee) = (payer.close(), payee.close(MilliSat(charges * 1_000)).unwrap());
    let path = SpendPath::KeyPath;
    let plan =
        CooperativePlan::at_feerate(payee.channel(), path, payee.charges(), FEERATE).unwrap();
    let seed = |side: u8| NonceSeed::new([counter.wrapping_mul(2) + side; 32]);
    let signing = payee.start_key_path(plan.clone(), seed(0)).unwrap();
    let payee_nonce = signing.nonce();
    let half = payer.sign_key_path(&plan, &PLENTY, &payee_nonce, seed(1)).unwrap();
    let tx = signing.complete(&payee, &half).unwrap();
    let mut vector = cooperative_values(case, &plan, &tx);
    vector["payee_nonce"] = json!(payee_nonce);
    vector["payer_nonce"] = json!(half.nonce);
    vector["payer_partial"] = json!(half.partial);
    vector
}

fn by_pay_leaf(case: &Case, charges: u64) -> Value {
    let (payer, payee) = case.paid(Some(0));
    let (payer, payee) = (payer.close(), payee.close(MilliSat(charges * 1_000)).unwrap());
    let path = SpendPath::PayLeaf;
    let plan =
        CooperativePlan::at_feerate(payee.channel(), path, payee.charges(), FEERATE).unwrap();
    let half = payer.sign_pay_leaf(&plan, &PLENTY).unwrap();
    let tx = payee.complete_pay_leaf(&plan, &half).unwrap();
    cooperative_values(case, &plan, &tx)
}

/// Refunds of the pinned outpoint, and of it together with a second payment to the address.
pub(crate) fn refunds(cases: &[Case]) -> Vec<Value> {
    let mut vectors = Vec::new();
    for case in cases {
        let channel = case.funded();
        let first = (channel.outpoint(), channel.capacity());
        let stray = (OutPoint { vout: first.0.vout + 1, ..first.0 }, sat(777));
        for outputs in [vec![first], vec![first, stray]] {
            let secret = case.secret(Role::Payer);
            let to = &case.terms.change_script;
            let made = refund(channel.opened(), &secret, &outputs, to, FEERATE).unwrap();
            let prevouts: Vec<TxOut> = outputs
                .iter()
                .map(|(_, value)| prevout(channel.opened(), value.to_sat()))
                .collect();
            let leaf = channel.opened().script().refund_leaf().clone();
            let leaves = vec![leaf; outputs.len()];
            vectors.push(json!({
                "channel": case.name,
                "returned_sat": made.returned.to_sat(),
                "fee_sat": made.fee.to_sat(),
                "tx": transaction(&made.tx, &prevouts, Some(&leaves)),
            }));
        }
    }
    vectors
}
