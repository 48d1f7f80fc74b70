//! Any bytes as the answers of a bitcoin node: every question gets an answer or an error, soon.
//!
//! The input is a list of lines, one an answer ([`Node`]): the `result` of each question that is
//! asked in that request.

#![no_main]

use std::sync::OnceLock;

use bitcoin::Network;
use bitmesh::chain::bitcoind::{Auth, Bitcoind, Password, RpcConfig};
use bitmesh_fuzz::{Node, TIMEOUT, ask_everything};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static NODE: OnceLock<Node> = OnceLock::new();

fn answer(asked: &[u8], line: &[u8]) -> Vec<u8> {
    let asked: Value = serde_json::from_slice(asked).unwrap_or_default();
    let result = String::from_utf8_lossy(line);
    let one =
        |question: &Value| format!(r#"{{"id":{},"error":null,"result":{result}}}"#, question["id"]);
    let said = match &asked {
        Value::Array(all) => format!("[{}]", all.iter().map(one).collect::<Vec<_>>().join(",")),
        question => one(question),
    };
    said.into_bytes()
}

fuzz_target!(|input: &[u8]| {
    let node = NODE.get_or_init(|| Node::start(answer));
    node.say(input);
    let auth = Auth::User { name: "bob".to_owned(), password: Password::new("x".to_owned()) };
    let config = RpcConfig { url: node.url().to_owned(), auth, timeout: TIMEOUT };
    ask_everything(&mut Bitcoind::at(config, Network::Regtest).expect("an address"));
});
