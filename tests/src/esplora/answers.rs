//! Questions and answers, as `API.md` of Esplora describes them and its server words them.

use std::str::FromStr;

use anyhow::Result;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::{BlockHash, OutPoint, Transaction, TxOut, Txid};
use bitmesh::chain::ChainError;
use serde_json::{Value, json};

use super::index::{Found, Index};

/// Transactions of a script in the mempool that one answer holds, at most.
pub const MAX_MEMPOOL_TXS: usize = 50;

/// Blocks in one answer, at most.
const BLOCK_LIMIT: usize = 10;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(status: u16, text: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: "text/plain", body: text.into() }
    }

    fn json(value: &Value) -> Self {
        let body = value.to_string().into_bytes();
        Self { status: 200, content_type: "application/json", body }
    }

    fn binary(body: Vec<u8>) -> Self {
        Self { status: 200, content_type: "application/octet-stream", body }
    }
}

/// Why there is none.
enum No {
    NotFound(&'static str),
    Bad(&'static str),
}

type Said = Result<Answer, No>;

/// Answers a question, with what the node has now.
pub(super) fn answer(index: &mut Index, method: &str, path: &str, body: &[u8]) -> Answer {
    if let Err(error) = index.update() {
        return Answer::text(503, error.to_string());
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let said = match (method, parts.as_slice()) {
        ("POST", ["tx"]) => return broadcast(index, body),
        ("GET", ["blocks", "tip", "hash"]) => Ok(tip(index)),
        ("GET", ["blocks", height]) => blocks(index, height),
        ("GET", ["block-height", height]) => block_height(index, height),
        ("GET", ["block", hash]) => block(index, hash),
        ("GET", ["block", hash, "raw"]) => raw_block(index, hash),
        ("GET", ["tx", txid]) => transaction(index, txid),
        ("GET", ["tx", txid, "raw"]) => raw_transaction(index, txid),
        ("GET", ["tx", txid, "outspend", vout]) => outspend(index, txid, vout),
        ("GET", ["scripthash", hash, "txs", "mempool"]) => script_mempool(index, hash),
        ("GET", ["fee-estimates"]) => Ok(fee_estimates(index)),
        _ => return Answer::text(404, format!("endpoint does not exist {path:?}")),
    };
    match said {
        Ok(answer) => answer,
        Err(No::NotFound(what)) => Answer::text(404, what),
        Err(No::Bad(what)) => Answer::text(400, what),
    }
}

const NO_BLOCK: No = No::NotFound("Block not found");
const NO_TX: No = No::NotFound("Transaction not found");

fn hash<T: FromStr>(text: &str) -> Result<T, No> {
    text.parse().map_err(|_| No::Bad("Invalid hash string"))
}

fn number<T: FromStr>(text: &str) -> Result<T, No> {
    text.parse().map_err(|_| No::Bad("Invalid number"))
}

fn tip(index: &Index) -> Answer {
    Answer::text(200, index.best.last().map(ToString::to_string).unwrap_or_default())
}

fn block_height(index: &Index, height: &str) -> Said {
    let found = index.best.get(number::<usize>(height)?).ok_or(NO_BLOCK)?;
    Ok(Answer::text(200, found.to_string()))
}

fn summary(index: &Index, hash: &BlockHash) -> Option<Value> {
    let (height, block) = index.block(hash)?;
    let header = &block.header;
    Some(json!({
        "id": hash,
        "height": height,
        "version": header.version.to_consensus(),
        "timestamp": header.time,
        "tx_count": block.txdata.len(),
        "size": block.total_size(),
        "weight": block.weight().to_wu(),
        "merkle_root": header.merkle_root,
        "previousblockhash": header.prev_blockhash,
        "mediantime": header.time,
        "nonce": header.nonce,
        "bits": header.bits.to_consensus(),
        "difficulty": header.difficulty_float(),
    }))
}

fn block(index: &Index, text: &str) -> Said {
    let found = summary(index, &hash(text)?).ok_or(NO_BLOCK)?;
    Ok(Answer::json(&found))
}

/// Up to ten blocks from this height downwards.
fn blocks(index: &Index, height: &str) -> Said {
    let height: usize = number(height)?;
    if height >= index.best.len() {
        return Err(NO_BLOCK);
    }
    let newest_first = index.best[..=height].iter().rev().take(BLOCK_LIMIT);
    Ok(Answer::json(&newest_first.filter_map(|hash| summary(index, hash)).collect()))
}

fn raw_block(index: &Index, text: &str) -> Said {
    let (_, block) = index.block(&hash(text)?).ok_or(NO_BLOCK)?;
    Ok(Answer::binary(serialize(&*block)))
}

fn status(found: &Found) -> Value {
    match found.block {
        Some((height, hash)) => {
            json!({"confirmed": true, "block_height": height, "block_hash": hash})
        }
        None => json!({"confirmed": false}),
    }
}

fn output(output: &TxOut) -> Value {
    let script = &output.script_pubkey;
    json!({
        "scriptpubkey": script.to_hex_string(),
        "scriptpubkey_asm": script.to_asm_string(),
        "value": output.value.to_sat(),
    })
}

fn whole(index: &Index, found: &Found) -> Value {
    let tx = &found.tx;
    let inputs = tx.input.iter().map(|input| {
        let OutPoint { txid, vout } = input.previous_output;
        let prevout = index.output(&input.previous_output);
        json!({
            "txid": txid,
            "vout": vout,
            "prevout": prevout.as_ref().map(output),
            "scriptsig": input.script_sig.to_hex_string(),
            "is_coinbase": tx.is_coinbase(),
            "sequence": input.sequence.to_consensus_u32(),
        })
    });
    json!({
        "txid": tx.compute_txid(),
        "version": tx.version.0,
        "locktime": tx.lock_time.to_consensus_u32(),
        "vin": inputs.collect::<Vec<_>>(),
        "vout": tx.output.iter().map(output).collect::<Vec<_>>(),
        "size": tx.total_size(),
        "weight": tx.weight().to_wu(),
        "fee": fee(index, tx),
        "status": status(found),
    })
}

fn fee(index: &Index, tx: &Transaction) -> u64 {
    let spent = tx.input.iter().filter_map(|input| index.output(&input.previous_output));
    let spent: u64 = spent.map(|output| output.value.to_sat()).sum();
    let paid: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    spent.saturating_sub(paid)
}

fn transaction(index: &Index, text: &str) -> Said {
    let found = index.tx(&hash(text)?).ok_or(NO_TX)?;
    Ok(Answer::json(&whole(index, &found)))
}

fn raw_transaction(index: &Index, text: &str) -> Said {
    let found = index.tx(&hash(text)?).ok_or(NO_TX)?;
    Ok(Answer::binary(serialize(&found.tx)))
}

/// The server does not look whether there is such an output.
fn outspend(index: &Index, txid: &str, vout: &str) -> Said {
    let outpoint = OutPoint::new(hash::<Txid>(txid)?, number(vout)?);
    let spend = match index.spend(&outpoint) {
        Some((by, vin)) => json!({
            "spent": true,
            "txid": by.tx.compute_txid(),
            "vin": vin,
            "status": status(&by),
        }),
        None => json!({"spent": false}),
    };
    Ok(Answer::json(&spend))
}

fn script_mempool(index: &Index, text: &str) -> Said {
    let wanted: sha256::Hash = text.parse().map_err(|_| No::Bad("Invalid scripthash"))?;
    let txs = index.mempool_of(|script| sha256::Hash::hash(script.as_bytes()) == wanted);
    let txs = txs.into_iter().take(MAX_MEMPOOL_TXS).map(|tx| Found { tx, block: None });
    Ok(Answer::json(&txs.map(|found| whole(index, &found)).collect()))
}

/// Empty where the node can't estimate, as on regtest.
fn fee_estimates(index: &Index) -> Answer {
    let mut estimates = serde_json::Map::new();
    for target in [1, 2, 3, 6, 144, 1_008] {
        let Ok(said) = index.call("estimatesmartfee", &json!([target])) else { continue };
        if let Some(btc_per_kvb) = said["feerate"].as_f64() {
            estimates.insert(target.to_string(), json!(btc_per_kvb * 100_000.0));
        }
    }
    Answer::json(&Value::from(estimates))
}

/// The node's refusal is passed on with its number.
fn broadcast(index: &Index, body: &[u8]) -> Answer {
    let hex = String::from_utf8_lossy(body);
    match index.call("sendrawtransaction", &json!([hex])) {
        Ok(txid) => Answer::text(200, txid.as_str().unwrap_or_default()),
        Err(ChainError::Refused { code, message, .. }) => {
            let error = json!({"code": code, "message": message});
            Answer::text(400, format!("sendrawtransaction RPC error: {error}"))
        }
        Err(error) => Answer::text(504, error.to_string()),
    }
}
