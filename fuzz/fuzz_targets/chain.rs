//! Any bytes as the answers of a bitcoin node: every question gets an answer or an error, soon.
//!
//! The input is a list of lines, one an answer. A line that starts with `!` is the whole HTTP
//! response; any other is the `result` of each question that is asked in that request.

#![no_main]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bitcoin::hashes::Hash as _;
use bitcoin::{Network, OutPoint, ScriptBuf, Transaction, Txid};
use bitmesh::chain::bitcoind::{Auth, Bitcoind, Password, RpcConfig};
use bitmesh::chain::{ChainSource as _, Cursor};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// The longest that all questions together may take.
const MAX_TIME: Duration = Duration::from_secs(20);

/// How long the client waits for one answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What the node says next.
type Lines = Arc<Mutex<Vec<Vec<u8>>>>;

/// A node that says what the input says, on a port of its own.
struct Node {
    url: String,
    lines: Lines,
}

static NODE: OnceLock<Node> = OnceLock::new();

impl Node {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let lines = Lines::default();
        let said = lines.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever asks may be gone.
                let _ = answer(stream, &said);
            }
        });
        Self { url, lines }
    }
}

fn answer(stream: TcpStream, lines: &Lines) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        let lower = line.to_ascii_lowercase();
        if let Some(number) = lower.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let next = lines.lock().expect("no panic").pop().unwrap_or_default();
    let mut stream = reader.into_inner();
    if let Some(raw) = next.strip_prefix(b"!") {
        return stream.write_all(raw);
    }
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let result = String::from_utf8_lossy(&next);
    let one =
        |question: &Value| format!(r#"{{"id":{},"error":null,"result":{result}}}"#, question["id"]);
    let said = match &asked {
        Value::Array(all) => format!("[{}]", all.iter().map(one).collect::<Vec<_>>().join(",")),
        question => one(question),
    };
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", said.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(said.as_bytes())
}

fuzz_target!(|input: &[u8]| {
    let node = NODE.get_or_init(Node::start);
    let lines = input.split(|byte| *byte == b'\n').rev().map(<[u8]>::to_vec).collect();
    *node.lines.lock().expect("no panic") = lines;
    let auth = Auth::User { name: "bob".to_owned(), password: Password::new("x".to_owned()) };
    let config = RpcConfig { url: node.url.clone(), auth, timeout: TIMEOUT };
    let mut chain = Bitcoind::at(config, Network::Regtest).expect("an address");
    let started = Instant::now();
    let outpoint = OutPoint::new(Txid::from_byte_array([9; 32]), 0);
    let script = ScriptBuf::from_bytes([&[0x51, 0x20][..], &[7; 32]].concat());
    let _ = (chain.watch_script(script), chain.watch_outpoint(outpoint));
    let block = json!([{"height": 1, "hash": format!("{:064x}", 1)}]);
    let start = serde_json::from_value::<Cursor>(block).ok();
    let _ = (chain.check(Network::Regtest), chain.tip(), chain.features());
    let cursor = chain.cursor(None).ok().or(start);
    if let Some(cursor) = cursor {
        let _ = chain.blocks(&cursor);
    }
    let _ = (chain.mempool(), chain.outpoint(&outpoint, 1), chain.fee_rate(6));
    let transaction = Transaction {
        version: bitcoin::transaction::Version(3),
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: Vec::new(),
        output: Vec::new(),
    };
    let _ = chain.broadcast(&transaction);
    assert!(started.elapsed() < MAX_TIME, "the answers held the chain's thread up");
});
