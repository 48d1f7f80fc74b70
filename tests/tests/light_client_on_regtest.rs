//! The light client against real nodes: the promises of every source, and what only peers can get
//! wrong.

use std::time::{Duration, Instant};

use bitcoin::{Amount, Network, ScriptBuf, Transaction};
use bitmesh::chain::light::LightClient;
use bitmesh::chain::{Broadcast, ChainError, ChainEvent, ChainSource as _, Cursor};
use bitmesh_tests::light::Served;
use nix::sys::signal::Signal;
use serde_json::json;

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);

bitmesh::chain_conformance!(Served::start().unwrap());

/// Reads blocks until it is at the tip, and says what they were.
#[allow(clippy::unwrap_used)]
fn read(source: &mut LightClient, cursor: &mut Cursor) -> Vec<ChainEvent> {
    let deadline = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    loop {
        match source.blocks(cursor) {
            Ok(progress) => {
                progress.events.iter().for_each(|event| cursor.apply(event).unwrap());
                all.extend(progress.events);
                if progress.caught_up {
                    return all;
                }
            }
            Err(error) => assert!(error.is_transient() && Instant::now() < deadline, "{error}"),
        }
    }
}

#[test]
fn a_block_is_believed_only_when_as_many_peers_as_required_agree() {
    let alice = Served::start().unwrap();
    let mut bob = Served::launch().unwrap();
    bob.follow(&alice).unwrap();
    // Nobody listens there.
    let away = "127.0.0.1:1".parse().unwrap();
    let config = alice.config(&[alice.peer(), bob.peer(), away], 2).unwrap();
    let mut source = LightClient::new(config);
    let mut cursor = source.cursor(None).unwrap();
    let script = alice.node.address().unwrap().script_pubkey();
    source.watch_script(script.clone()).unwrap();
    alice.node.pay(&script, Amount::from_sat(50_000)).unwrap();
    alice.node.mine(1).unwrap();
    bob.until_as_high_as(&alice).unwrap();
    alice.until_heard_by(&mut source).unwrap();
    assert_eq!(read(&mut source, &mut cursor).len(), 1, "both say the same");
    let peers = source.features().unwrap().peers.unwrap();
    assert_eq!((peers.connected, peers.required), (2, 2));

    bob.node.end(Signal::SIGKILL).unwrap();
    alice.node.pay(&script, Amount::from_sat(60_000)).unwrap();
    alice.node.mine(1).unwrap();
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        match source.blocks(&cursor) {
            Ok(progress) => assert_eq!(progress.events, [], "one peer alone is not believed"),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // For a moment there is none, whenever the connections are made anew.
    let is_one = |error: &ChainError| matches!(error, ChainError::FewPeers { connected: 1, .. });
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        let error = source.tip().unwrap_err();
        if is_one(&error) {
            break error;
        }
        assert!(error.is_transient() && Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(error.to_string().starts_with("1 of the 2 peers that must agree"), "{error}");

    bob.node.start_again().unwrap();
    bob.follow(&alice).unwrap();
    alice.until_heard_by(&mut source).unwrap();
    let events = read(&mut source, &mut cursor);
    let [ChainEvent::BlockConnected { matches, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(matches.len(), 1, "now it is, and nothing in it is missed");
}

#[test]
fn a_transaction_is_offered_to_each_of_three_peers() {
    let alice = Served::start().unwrap();
    let others = [Served::launch().unwrap(), Served::launch().unwrap()];
    let script = alice.node.address().unwrap().script_pubkey();
    let (_, funding) = alice.node.pay(&script, Amount::from_sat(90_000)).unwrap();
    alice.node.mine(1).unwrap();
    for other in &others {
        other.follow(&alice).unwrap();
        // What one of them has must have come from the client.
        other.node.call("disconnectnode", &json!([alice.peer().to_string()])).unwrap();
    }
    let close = spend(&alice, &funding, &script);
    let peers = [alice.peer(), others[0].peer(), others[1].peer()];
    let mut source = LightClient::new(alice.config(&peers, 3).unwrap());
    let deadline = Instant::now() + PATIENCE;
    // By chance one may be left out; the agent offers it again with each block, too.
    loop {
        assert_eq!(source.broadcast(&close).unwrap(), Broadcast::Offered { peers: 3 });
        let has = |served: &&Served| served.until_has_soon(close.compute_txid());
        if [&alice, &others[0], &others[1]].iter().all(has) {
            return;
        }
        assert!(Instant::now() < deadline, "each peer hears of it");
    }
}

/// A transaction of the node's wallet that the node itself has not sent.
#[allow(clippy::unwrap_used)]
fn spend(served: &Served, funding: &Transaction, script: &ScriptBuf) -> Transaction {
    let vout = funding.output.iter().position(|output| output.script_pubkey == *script).unwrap();
    let input = json!([{"txid": funding.compute_txid(), "vout": vout}]);
    let address = served.node.address().unwrap();
    let raw =
        served.node.call("createrawtransaction", &json!([input, {address.to_string(): 0.0008}]));
    let signed =
        served.node.wallet("signrawtransactionwithwallet", &json!([raw.unwrap()])).unwrap();
    bitcoin::consensus::encode::deserialize_hex(signed["hex"].as_str().unwrap()).unwrap()
}

#[test]
fn what_is_kept_saves_a_start_and_a_reorganisation_meanwhile_is_seen() {
    let alice = Served::start().unwrap();
    let config = alice.config(&[alice.peer()], 1).unwrap();
    let mut source = LightClient::new(config.clone());
    alice.node.mine(5).unwrap();
    alice.until_heard_by(&mut source).unwrap();
    let mut cursor = source.cursor(None).unwrap();
    drop(source);
    let kept = config.folder.join(format!("headers-{}", Network::Regtest));
    let length = kept.metadata().unwrap().len();
    assert_eq!(length, 68 + 80 * u64::from(alice.node.height().unwrap()));

    alice.node.reorganise(5, 7).unwrap();
    let mut source = LightClient::new(config.clone());
    alice.until_heard_by(&mut source).unwrap();
    let events = read(&mut source, &mut cursor);
    let left = events.iter().filter(|e| matches!(e, ChainEvent::BlockDisconnected { .. })).count();
    assert_eq!((left, events.len()), (5, 12), "the old branch leaves, and the new one joins");
    drop(source);

    std::fs::write(&kept, b"nonsense").unwrap();
    let mut source = LightClient::new(config);
    alice.until_heard_by(&mut source).unwrap();
    assert_eq!(read(&mut source, &mut cursor), [], "a lost file costs nothing but a sync");
    assert_eq!(kept.metadata().unwrap().len(), length + 2 * 80);
}

#[test]
fn a_peer_without_filters_is_told_from_one_that_is_away() {
    let served = Served::launch_with(&["-blockfilterindex=1"]).unwrap();
    served.node.open_wallet().unwrap();
    served.node.mine(3).unwrap();
    let mut source = LightClient::new(served.config(&[served.peer()], 1).unwrap());
    let error = source.tip().unwrap_err();
    assert!(matches!(error, ChainError::NoPeers { .. }) && error.is_transient(), "{error}");
    assert!(error.to_string().contains("see its -peerblockfilters"), "{error}");
}
