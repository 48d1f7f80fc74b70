//! The channel's test vectors: every script, sighash and transaction, made from fixed seeds.
//!
//! `tests/vectors/channel.json` is what other implementations check; `tests/vectors/check.py` is
//! one. Made anew with `BITMESH_WRITE_VECTORS=1 cargo test -p bitmesh-core --test channel_vectors`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod closes;
mod fixture;
mod messages;

use std::path::PathBuf;

use serde_json::{Value, json};

use fixture::{Case, cases};

#[test]
fn the_vectors_are_what_the_code_makes() {
    let made = text(&vectors());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/channel.json");
    if std::env::var_os("BITMESH_WRITE_VECTORS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert!(
        stored == made,
        "{} differs from what the code makes; if the protocol was meant to change, write it anew \
         with BITMESH_WRITE_VECTORS=1 and let tests/vectors/check.py have the last word",
        path.display()
    );
}

fn vectors() -> Value {
    let cases = cases();
    json!({
        "about": "Unidirectional Taproot payment channel of BitMesh, version 1. Amounts in \
                  satoshi. Sighashes and keys as BIP 340, 341, 342 and 327 serialise them.",
        "channels": cases.iter().map(Case::describe).collect::<Vec<_>>(),
        "unilateral": closes::unilateral(&cases),
        "batches": closes::batches(&cases),
        "cooperative": closes::cooperative(&cases),
        "refunds": closes::refunds(&cases),
        "messages": messages::messages(&cases),
    })
}

/// Pretty, with sorted keys, whatever serde_json's features are in this build.
fn text(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(&sorted(value)).unwrap();
    text.push('\n');
    text
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            keys.into_iter().map(|key| (key.clone(), sorted(&map[key]))).collect()
        }
        Value::Array(values) => values.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
