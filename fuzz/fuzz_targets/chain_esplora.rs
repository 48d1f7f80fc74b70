//! Any bytes as the answers of an Esplora server: every question gets an answer or an error, soon.
//!
//! The input is a list of lines, one an answer ([`Node`]): its body, or what a body says in hex
//! after a `#`, for blocks and transactions.

#![no_main]

use std::sync::OnceLock;

use bitcoin::Network;
use bitcoin::hex::FromHex as _;
use bitmesh::chain::esplora::{Esplora, EsploraConfig};
use bitmesh_fuzz::{Node, TIMEOUT, ask_everything};
use libfuzzer_sys::fuzz_target;

static NODE: OnceLock<Node> = OnceLock::new();

fn answer(_asked: &[u8], line: &[u8]) -> Vec<u8> {
    let hex = line.strip_prefix(b"#").and_then(|hex| std::str::from_utf8(hex).ok());
    hex.and_then(|hex| Vec::from_hex(hex).ok()).unwrap_or_else(|| line.to_vec())
}

fuzz_target!(|input: &[u8]| {
    let node = NODE.get_or_init(|| Node::start(answer));
    node.say(input);
    let config = EsploraConfig { url: node.url().to_owned(), ca_file: None, timeout: TIMEOUT };
    ask_everything(&mut Esplora::to(&config, Network::Regtest).expect("an address"));
});
