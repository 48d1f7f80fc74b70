//! The chain source against a real node: the promises of every source, and what only a real node
//! can get wrong.

use std::time::{Duration, Instant};

use bitcoin::Network;
use bitmesh::chain::bitcoind::{Auth, Bitcoind, Password, RpcConfig};
use bitmesh::chain::{ChainError, ChainSource as _, Truc, doctor};
use bitmesh::doctor::Verdict;
use bitmesh_tests::regtest::{Options, Regtest};
use nix::sys::signal::Signal;
use serde_json::json;

/// How long a node may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lets alice in with the password `correct`, beside the cookie.
const RPC_AUTH: &str =
    "-rpcauth=alice:0badcafe$b8cae2cf309020a44c838b5a64527bbc42f5612dbcb501f273bfdd12767e62d6";

bitmesh::chain_conformance!(Regtest::start().unwrap());

fn options(arguments: &[&str]) -> Options {
    let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
    Options { arguments, own_policy: false }
}

#[test]
fn a_node_without_a_chain_is_catching_up() {
    let node = Regtest::launch(&Options::default()).unwrap();
    let mut source = node.source(Network::Regtest).unwrap();
    let error = source.tip().unwrap_err();
    assert!(matches!(error, ChainError::Syncing { blocks: 0, .. }), "{error}");
    assert!(error.is_transient());
}

#[test]
fn a_node_that_is_starting_says_nothing_but_that_it_will_answer() {
    let mut node = Regtest::start().unwrap();
    let tip = node.height().unwrap();
    let mut source = node.source(Network::Regtest).unwrap();
    node.stop().unwrap();
    node.spawn().unwrap();
    let mut failures = 0;
    let deadline = Instant::now() + PATIENCE;
    let seen = loop {
        match source.tip() {
            Ok(seen) => break seen,
            Err(error) => {
                assert!(error.is_transient() && Instant::now() < deadline, "{error}");
            }
        }
        failures += 1;
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(seen.block.height, tip);
    assert!(failures > 0, "a node takes its time to start");
}

#[test]
fn a_node_that_hangs_is_given_up_in_time_and_taken_up_again() {
    let node = Regtest::start().unwrap();
    let timeout = Duration::from_secs(2);
    let config = RpcConfig { timeout, ..node.config() };
    let mut source = Bitcoind::at(config, Network::Regtest).unwrap();
    source.tip().unwrap();
    node.signal(Signal::SIGSTOP).unwrap();
    let asked = Instant::now();
    let error = source.tip().unwrap_err();
    assert!(matches!(error, ChainError::Slow { .. }), "{error}");
    assert!(asked.elapsed() < timeout * 2, "it is given up after {:?}", asked.elapsed());
    node.signal(Signal::SIGCONT).unwrap();
    source.tip().unwrap();
}

#[test]
fn a_wrong_password_is_named_and_not_shown() {
    let node = Regtest::launch(&options(&[RPC_AUTH])).unwrap();
    let config = |password: &str| {
        let password = Password::new(password.to_owned());
        RpcConfig { auth: Auth::User { name: "alice".to_owned(), password }, ..node.config() }
    };
    let mut wrong = Bitcoind::at(config("secret-of-bob"), Network::Regtest).unwrap();
    let error = wrong.tip().unwrap_err();
    assert!(matches!(error, ChainError::Unauthorized), "{error}");
    assert!(!format!("{error}{error:?}{wrong:?}").contains("secret-of-bob"));
    let mut right = Bitcoind::at(config("correct"), Network::Regtest).unwrap();
    // It is let in: this node has no chain yet.
    assert!(matches!(right.tip().unwrap_err(), ChainError::Syncing { .. }));
}

#[test]
fn the_doctor_tells_whether_a_node_enforces_truc() {
    let node = Regtest::start().unwrap();
    let mut source = node.source(Network::Regtest).unwrap();
    assert_eq!(source.features().unwrap().truc, Truc::Enforced);
    let checks = doctor::examine(&mut source, Network::Regtest);
    assert!(checks.iter().all(|check| check.verdict == Verdict::Ok), "{checks:?}");

    let own = Options { own_policy: true, ..Options::default() };
    let node = Regtest::launch(&own).unwrap();
    node.open_wallet().unwrap();
    node.mine(1).unwrap();
    let mut source = node.source(Network::Regtest).unwrap();
    let features = source.features().unwrap();
    if features.name.contains("Knots") {
        assert_eq!(features.truc, Truc::NotEnforced);
        let checks = doctor::examine(&mut source, Network::Regtest);
        let complaint = checks.iter().find(|check| check.verdict != Verdict::Ok).unwrap();
        assert!(complaint.cure.as_ref().unwrap().contains("-corepolicy=1"), "{complaint:?}");
    }
}

#[test]
fn the_doctor_says_what_to_do_about_a_node_that_is_away() {
    let mut node = Regtest::launch(&Options::default()).unwrap();
    node.stop().unwrap();
    let checks = doctor::examine(&mut node.source(Network::Regtest).unwrap(), Network::Regtest);
    assert_eq!(checks.len(), 1);
    assert_eq!(checks[0].verdict, Verdict::Problem);
    assert!(checks[0].cure.as_ref().unwrap().contains("start the node"), "{checks:?}");
}

#[test]
fn a_pruned_node_serves_until_a_pruned_block_is_needed() {
    let node = Regtest::launch(&options(&["-prune=1", "-fastprune"])).unwrap();
    node.open_wallet().unwrap();
    node.mine(800).unwrap();
    let mut source = node.source(Network::Regtest).unwrap();
    let cursor = source.cursor(Some(20)).unwrap();
    assert!(!source.blocks(&cursor).unwrap().events.is_empty(), "nothing is pruned yet");
    node.call("pruneblockchain", &json!([400])).unwrap();
    let pruned_below = source.features().unwrap().pruned_below.unwrap();
    assert!(pruned_below > 21, "it has pruned below {pruned_below}");
    let error = source.blocks(&cursor).unwrap_err();
    assert!(matches!(error, ChainError::Pruned { height: 21 }), "{error}");
    let cursor = source.cursor(Some(790)).unwrap();
    assert_eq!(source.blocks(&cursor).unwrap().events.len(), 10);
}

#[test]
fn a_node_that_hears_of_no_transactions_says_so() {
    let node = Regtest::launch(&options(&["-blocksonly"])).unwrap();
    node.open_wallet().unwrap();
    node.mine(1).unwrap();
    let features = node.source(Network::Regtest).unwrap().features().unwrap();
    assert!(!features.sees_mempool && !features.knows_fees, "{features:?}");
}
