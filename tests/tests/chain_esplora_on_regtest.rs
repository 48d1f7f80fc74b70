//! The chain over the Esplora API, from a real node: the promises of every source, and what only a
//! server can get wrong.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::consensus::encode::{deserialize_hex, serialize};
use bitcoin::{Amount, Block, Network, OutPoint, ScriptBuf, Transaction};
use bitmesh::chain::conformance::TestChain as _;
use bitmesh::chain::esplora::{Esplora, EsploraConfig, MAX_SCRIPTS_PER_POLL, MAX_TEXT_BYTES};
use bitmesh::chain::{ChainError, ChainEvent, ChainSource as _, doctor};
use bitmesh::doctor::Verdict;
use bitmesh_tests::esplora::{Chain, Mood, Server};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;

bitmesh::chain_conformance!(Chain::start().unwrap());

/// How long a question may take where nobody answers.
const SHORT: Duration = Duration::from_secs(3);

/// A source that has seen the tip.
fn source(chain: &Chain) -> Result<Esplora, ChainError> {
    let config = EsploraConfig { timeout: SHORT, ..chain.config() };
    let mut source = Esplora::to(&config, Network::Regtest)?;
    source.tip()?;
    Ok(source)
}

/// A script that anybody can spend, of which there are many.
fn script(number: u32) -> ScriptBuf {
    ScriptBuf::from_bytes(number.to_le_bytes().to_vec()).to_p2wsh()
}

#[test]
fn what_a_server_gets_wrong_is_named_and_passes() {
    let chain = Chain::start().unwrap();
    let mut source = source(&chain).unwrap();
    let says = |status, text: &str| Mood::Says(status, text.as_bytes().to_vec());
    let long = vec![b'0'; MAX_TEXT_BYTES + 1];
    for (mood, passes, expected) in [
        (Mood::Silent, true, "did not answer GET /blocks/tip/hash within 3 s"),
        (Mood::BreaksOff, true, "it broke the connection off"),
        (says(429, "Too Many Requests"), true, "answers no more questions for now (HTTP 429)"),
        (says(503, "busy"), true, "can't answer for now (HTTP 503)"),
        (says(301, ""), false, "it leads elsewhere: give that address"),
        (says(404, "<html>404 Not Found"), false, "HTTP status 404"),
        (says(404, "endpoint does not exist \"/api\""), false, "endpoint does not exist"),
        (says(200, "<html>"), false, "it is no hash of a block"),
        (Mood::Says(200, long), false, "is longer than 4194304 bytes"),
    ] {
        chain.server.set(mood.clone());
        let asked = Instant::now();
        let error = source.tip().unwrap_err();
        assert!(asked.elapsed() < SHORT * 3, "{error} after {:?}", asked.elapsed());
        let text = error.to_string();
        assert!(text.contains(expected) && !text.contains('\n'), "{text}");
        assert_eq!(error.is_transient(), passes, "{text}");
        chain.server.set(Mood::Well);
        source.tip().unwrap();
    }
}

#[test]
fn a_server_that_closes_its_connections_is_asked_again() {
    let chain = Chain::start().unwrap();
    let mut source = source(&chain).unwrap();
    chain.server.set(Mood::Forgetful);
    for _ in 0..3 {
        source.tip().unwrap();
    }
}

#[test]
fn a_server_that_falls_behind_is_no_reorganisation() {
    let mut chain = Chain::start().unwrap();
    let mut source = source(&chain).unwrap();
    let cursor = source.cursor(None).unwrap();
    let known = cursor.newest().unwrap().height;
    chain.server.set(Mood::Behind(2));
    let error = source.blocks(&cursor).unwrap_err();
    let behind = matches!(error, ChainError::Behind { height, known: k } if height == known - 2 && k == known);
    assert!(behind && error.is_transient(), "{error}");
    // It has caught up, and the chain went on.
    chain.server.set(Mood::Well);
    chain.mine(1);
    let progress = source.blocks(&cursor).unwrap();
    assert!(progress.caught_up);
    assert!(matches!(progress.events[..], [ChainEvent::BlockConnected { .. }]));
}

#[test]
fn a_block_that_is_not_the_one_asked_for_is_refused() {
    let mut chain = Chain::start().unwrap();
    let mut source = source(&chain).unwrap();
    let cursor = source.cursor(None).unwrap();
    chain.mine(1);
    let raw = |height: u32| {
        let hash = chain.node.call("getblockhash", &json!([height])).unwrap();
        let hex = chain.node.call("getblock", &json!([hash, 0])).unwrap();
        deserialize_hex::<Block>(hex.as_str().unwrap()).unwrap()
    };
    let height = chain.node.height().unwrap();
    let mut forged = raw(height);
    // A payment that never was, in a true header.
    forged.txdata[0].output[0].value += Amount::ONE_SAT;
    for lie in [serialize(&raw(height - 1)), serialize(&forged), b"no block".to_vec()] {
        chain.server.set(Mood::Lies("/raw", lie));
        let error = source.blocks(&cursor).unwrap_err();
        assert!(matches!(error, ChainError::Nonsense { .. }), "{error}");
        assert!(error.to_string().contains("GET /block/:hash/raw"), "{error}");
    }
    chain.server.set(Mood::Well);
    assert_eq!(source.blocks(&cursor).unwrap().events.len(), 1);
}

#[test]
fn lies_about_transactions_are_refused() {
    let mut chain = Chain::start().unwrap();
    let mut source = source(&chain).unwrap();
    source.watch_script(script(1)).unwrap();
    let paid = chain.pay(&script(1), Amount::from_sat(50_000));
    let other = chain.pay(&script(2), Amount::from_sat(50_000));
    let hex = chain.node.call("getrawtransaction", &json!([other.txid])).unwrap();
    let another: Transaction = deserialize_hex(hex.as_str().unwrap()).unwrap();
    chain.server.set(Mood::Lies("/raw", serialize(&another)));
    let error = source.mempool().unwrap_err();
    assert!(error.to_string().contains("not the transaction that was asked for"), "{error}");
    chain.server.set(Mood::Lies("/outspend/0", b"{\"spent\":true}".to_vec()));
    let of = OutPoint::new(paid.txid, 0);
    let error = source.outpoint(&of, 0).unwrap_err();
    assert!(error.to_string().contains("by what it is spent"), "{error}");
    chain.server.set(Mood::Well);
    assert_eq!(source.mempool().unwrap().len(), 1);
}

#[test]
fn many_scripts_are_asked_for_in_turns_and_none_is_forgotten() {
    let mut chain = Chain::start().unwrap();
    let mut source = source(&chain).unwrap();
    let count = u32::try_from(MAX_SCRIPTS_PER_POLL).unwrap() * 3 + 1;
    for number in 0..count {
        source.watch_script(script(number)).unwrap();
    }
    for number in 0..count {
        if number % 25 == 0 {
            chain.pay(&script(number), Amount::from_sat(50_000));
        }
    }
    let (mut seen, mut most) = (0, 0);
    for _ in 0..4 {
        let before = chain.server.asked();
        seen += source.mempool().unwrap().len();
        most = most.max(chain.server.asked() - before);
    }
    assert_eq!(seen, usize::try_from(count.div_ceil(25)).unwrap(), "each once");
    assert!(most <= MAX_SCRIPTS_PER_POLL * 3, "{most} questions in one look");
    assert_eq!(source.mempool().unwrap(), []);
}

#[test]
fn a_first_look_takes_few_questions() {
    let chain = Chain::start().unwrap();
    let mut source = source(&chain).unwrap();
    let before = chain.server.asked();
    let cursor = source.cursor(None).unwrap();
    assert_eq!(cursor.blocks().len(), 144);
    let asked = chain.server.asked() - before;
    assert!(asked <= 20, "{asked} questions for 144 blocks: a public server refuses more");
    let before = chain.server.asked();
    assert!(source.blocks(&cursor).unwrap().events.is_empty());
    assert_eq!(chain.server.asked() - before, 1, "a look without news is one question");
}

#[test]
fn a_server_over_https_is_asked_only_if_somebody_vouches_for_it() {
    let chain = Chain::start().unwrap();
    let names = ["127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let server = Server::start_tls(chain.node.config(), Arc::new(tls)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let trusted = |pem: &str| {
        let path = folder.path().join("ca.pem");
        fs::write(&path, pem).unwrap();
        let url = server.url();
        let config = EsploraConfig { url, ca_file: Some(path), timeout: SHORT * 5 };
        Esplora::to(&config, Network::Regtest).unwrap()
    };
    let mut source = trusted(&cert.pem());
    assert_eq!(source.tip().unwrap().block.height, chain.node.height().unwrap());
    assert!(source.poll_every() > Duration::ZERO, "a public server is not asked every second");
    let other = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let error = trusted(&other.cert.pem()).tip().unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
}

#[test]
fn the_doctor_names_the_server_and_says_what_to_do_about_one_that_is_away() {
    let mut chain = Chain::start().unwrap();
    let checks = doctor::examine(&mut source(&chain).unwrap(), Network::Regtest);
    assert_eq!(checks[0].verdict, Verdict::Ok, "{checks:?}");
    assert!(checks[0].detail.starts_with("Esplora at http://127.0.0.1:"), "{checks:?}");
    let config = chain.config();
    chain.server.stop();
    let mut away = Esplora::to(&config, Network::Regtest).unwrap();
    let checks = doctor::examine(&mut away, Network::Regtest);
    assert_eq!((checks.len(), checks[0].verdict), (1, Verdict::Problem));
    assert!(checks[0].cure.as_ref().unwrap().contains("start it"), "{checks:?}");
}
