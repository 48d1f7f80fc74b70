//! Keysend between two Lightning nodes of one process, on the disk that they are given: how many
//! payments a second, one after another and with several under way.
//!
//! It asks for what it needs of a chain in lines on its standard output, and reads `done` when it
//! has it: `pay ADDRESS SATOSHI`, `mine BLOCKS`. Its results are lines, too: `result NAME VALUE`.

use std::fs;
use std::io::{BufRead as _, stdin};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use ldk_node::bitcoin::Network;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::logger::LogLevel;
use ldk_node::{Builder, Event, Node};

/// What the channel holds, and what each node has beside it.
const CAPACITY_SAT: u64 = 10_000_000;
const COINS_SAT: u64 = 20_000_000;

/// One payment: a second or two of a metered connection.
const AMOUNT_MSAT: u64 = 10_000;

/// Payments that may be under way at once.
const MAX_IN_FLIGHT: usize = 16;

/// How long anything may take that is not measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at the events.
const LOOK: Duration = Duration::from_micros(500);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [rpc, cookie, folder, seconds] = &words[..] else {
        bail!("usage: keysend RPC-ADDRESS COOKIE-FILE FOLDER SECONDS");
    };
    let rpc: SocketAddr = rpc.parse().context("an address and a port")?;
    let cookie = fs::read_to_string(cookie).context("the node's cookie")?;
    let time = Duration::from_secs(seconds.parse()?);
    let alice = node(rpc, &cookie, &Path::new(folder).join("alice"))?;
    let bob = node(rpc, &cookie, &Path::new(folder).join("bob"))?;
    open_channel(&alice, &bob)?;
    // Routes, caches and files are warm when the clock starts.
    let _ = rate(&alice, &bob, 1, time / 10)?;
    println!("result keysend_one_by_one_per_s {}", rate(&alice, &bob, 1, time)?);
    println!("result keysend_per_s {}", rate(&alice, &bob, MAX_IN_FLIGHT, time)?);
    alice.stop().and_then(|()| bob.stop()).map_err(|error| anyhow!("a node stops: {error}"))
}

/// A node with the store that it has by default, which says little.
fn node(rpc: SocketAddr, cookie: &str, folder: &Path) -> Result<Node> {
    let (user, password) = cookie.trim().split_once(':').context("a name and a password")?;
    let mut builder = Builder::new();
    builder.set_network(Network::Regtest);
    builder.set_storage_dir_path(shown(folder.to_owned())?);
    builder.set_filesystem_logger(None, Some(LogLevel::Error));
    let (host, port) = (rpc.ip().to_string(), rpc.port());
    builder.set_chain_source_bitcoind_rpc(host, port, user.to_owned(), password.to_owned());
    builder.set_listening_addresses(vec![free_address()?])?;
    let node = builder.build()?;
    node.start()?;
    Ok(node)
}

fn shown(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().map_err(|path| anyhow!("{path:?} is no text"))
}

/// A port of the loopback that nobody listens at now.
fn free_address() -> Result<SocketAddress> {
    let address = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    address.to_string().parse().map_err(|error| anyhow!("{address}: {error:?}"))
}

/// Has the other side of the standard streams do something.
fn ask(what: &str) -> Result<()> {
    println!("{what}");
    let mut said = String::new();
    stdin().lock().read_line(&mut said)?;
    ensure!(said.trim() == "done", "{what}: {said}");
    Ok(())
}

/// A channel from Alice to Bob that can be used.
fn open_channel(alice: &Node, bob: &Node) -> Result<()> {
    for node in [alice, bob] {
        ask(&format!("pay {} {COINS_SAT}", node.onchain_payment().new_address()?))?;
    }
    ask("mine 1")?;
    alice.sync_wallets()?;
    bob.sync_wallets()?;
    let address = bob.listening_addresses().and_then(|all| all.first().cloned());
    let address = address.context("Bob listens")?;
    alice.open_channel(bob.node_id(), address, CAPACITY_SAT, None, None)?;
    let pending = |event: &Event| matches!(event, Event::ChannelPending { .. });
    wait_for(alice, pending)?;
    wait_for(bob, pending)?;
    ask("mine 6")?;
    alice.sync_wallets()?;
    bob.sync_wallets()?;
    let ready = |event: &Event| matches!(event, Event::ChannelReady { .. });
    wait_for(alice, ready)?;
    wait_for(bob, ready)
}

/// Waits for an event of this kind.
fn wait_for(node: &Node, is_it: impl Fn(&Event) -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let Some(event) = node.next_event() else {
            sleep(LOOK);
            continue;
        };
        node.event_handled()?;
        if is_it(&event) {
            return Ok(());
        }
    }
    bail!("a node is not told in {PATIENCE:?} what it waits for");
}

/// Payments a second that Bob has and Alice knows of, with so many under way.
fn rate(alice: &Node, bob: &Node, in_flight: usize, time: Duration) -> Result<f64> {
    let (mut under_way, mut paid, mut received) = (0, 0_u32, 0_u32);
    let start = Instant::now();
    let mut last = start;
    while start.elapsed() < time || under_way > 0 {
        ensure!(last.elapsed() < PATIENCE, "no payment arrives in {PATIENCE:?}");
        while under_way < in_flight && start.elapsed() < time {
            alice.spontaneous_payment().send(AMOUNT_MSAT, bob.node_id(), None)?;
            under_way += 1;
        }
        let (ours, theirs) = (alice.next_event(), bob.next_event());
        match &ours {
            Some(Event::PaymentSuccessful { .. }) => {
                (under_way, paid, last) = (under_way - 1, paid + 1, Instant::now());
            }
            Some(Event::PaymentFailed { reason, .. }) => bail!("a payment failed: {reason:?}"),
            _ => {}
        }
        received += u32::from(matches!(theirs, Some(Event::PaymentReceived { .. })));
        for node in [ours.as_ref().map(|_| alice), theirs.as_ref().map(|_| bob)] {
            node.map_or(Ok(()), Node::event_handled)?;
        }
        if ours.is_none() && theirs.is_none() {
            sleep(LOOK);
        }
    }
    let rate = f64::from(paid) / last.duration_since(start).as_secs_f64();
    let deadline = Instant::now() + PATIENCE;
    while received < paid && Instant::now() < deadline {
        if let Some(event) = bob.next_event() {
            bob.event_handled()?;
            received += u32::from(matches!(event, Event::PaymentReceived { .. }));
        }
    }
    ensure!(received == paid, "{paid} are paid, and {received} received");
    Ok(rate)
}
