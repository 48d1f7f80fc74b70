//! A bitcoin node that is dead, slow, or reads its own chain first: sessions in force go on, new
//! channels are refused with the reason, nothing is lost, and all mends itself.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use bitmesh_core::channel::SpendPath;
use bitmesh_core::wire::OpenRequest;
use bitmesh_tests::lab::{Lab, SERVER_V4, Subscriber};
use bitmesh_tests::payments::{Customer, Market, get, post};
use bitmesh_tests::regtest::Regtest;
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;
use serde_json::json;

const CAPACITY_SAT: u64 = 200_000;

/// A hundred packets a second, up and down: a session in force.
const PACE: Pace = Pace { payload: 500, every: Duration::from_millis(10), packets: None };

/// What an update is answered in, whatever the node does: it never waits for it.
const PROMPT: Duration = Duration::from_secs(3);

/// More than the day after which a node without new blocks takes itself to be behind.
const FAR_BEHIND: Duration = Duration::from_secs(3 * 86_400);

/// Updates that are sent in each trouble.
const UPDATES: u64 = 20;

/// Somebody who is online all the time.
struct Online {
    sender: Sender,
    receiver: Receiver,
}

impl Online {
    fn start(lab: &Lab, one: &Subscriber) -> Result<Self> {
        let receiver = Receiver::start(&lab.internet, SERVER_V4)?;
        let sender = Sender::start(&one.namespace, receiver.address, PACE)?;
        Ok(Self { sender, receiver })
    }

    /// Every packet passed.
    fn stop(self) -> Result<()> {
        let sent = self.sender.stop()?;
        let arrived = self.receiver.stop()?.len() as u64;
        ensure!(sent > 100 && arrived == sent, "{arrived} of {sent} packets passed");
        Ok(())
    }
}

/// Updates count as ever, and promptly.
fn goes_on_paying(bob: &mut Customer) -> Result<()> {
    for _ in 0..UPDATES {
        let began = Instant::now();
        let credit = bob.signed() + 100;
        let accepted = bob.pay(credit)?;
        ensure!(accepted.credit_msat.0 == credit * 1_000, "{accepted:?}");
        ensure!(began.elapsed() < PROMPT, "an update took {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Neither an offer nor a channel, and the reason for machines and for people.
fn sells_nothing(market: &Market, carol: &Subscriber, request: &OpenRequest) -> Result<()> {
    let unavailable = (503, "chain_unavailable".to_owned());
    let open = post(carol, "/channels", request)?.refusal()?;
    ensure!(open == unavailable, "an open got {open:?}");
    let asked = format!("/offer?challenge={}", "07".repeat(32));
    let offer = get(carol, &asked)?.refusal()?;
    ensure!(offer == unavailable, "an offer got {offer:?}");
    let status = market.agent.ask(&["status"])?;
    let why = status["chain"]["why"].as_str().context("the operator is not told why")?;
    ensure!(!why.is_empty(), "{status}");
    Ok(())
}

/// The node is back: blocks are read that came meanwhile, and a new channel can be bought.
fn sells_again(market: &Market, carol: &Subscriber) -> Result<()> {
    market.chain_is("following")?;
    market.mine(2)?;
    let mut customer = Customer::funded(market, carol, CAPACITY_SAT)?;
    customer.pay(5_000)?;
    // So that Carol can buy another one next time.
    customer.close(SpendPath::KeyPath)?;
    market.node_holds(1)?;
    market.mine(1)
}

/// Bob pays and is online through a trouble; Carol can't buy until it is over.
fn comes_through(
    trouble: impl FnOnce(&mut Regtest) -> Result<()> + Send,
    relief: impl FnOnce(&mut Regtest) -> Result<()> + Send,
) -> Result<()> {
    let mut market = Market::with_subscribers(2)?;
    let lab = &market.lab;
    let [bob, carol] = [&lab.subscribers[0], &lab.subscribers[1]];
    let mut bob = Customer::funded(&market, bob, CAPACITY_SAT)?;
    bob.pay(20_000)?;
    let counter = lab.count_arrived(bob.station)?;
    let online = Online::start(lab, bob.station)?;
    let (_, request) = Customer::request(&market, carol)?;
    let node = &mut market.node;
    lab.gateway.enter(|| trouble(node))?;
    goes_on_paying(&mut bob).context("before the gateway knows")?;
    market.chain_is("unavailable")?;
    sells_nothing(&market, carol, &request)?;
    goes_on_paying(&mut bob).context("when the gateway knows")?;
    let node = &mut market.node;
    lab.gateway.enter(|| relief(node))?;
    sells_again(&market, carol)?;
    goes_on_paying(&mut bob).context("afterwards")?;
    online.stop()?;
    let view = bob.view()?;
    ensure!(view.credit_msat.0 == bob.signed() * 1_000, "{} sat signed: {view:?}", bob.signed());
    let expected = bob.expected(counter.settled()?.bytes)?;
    bob.close(SpendPath::KeyPath)?;
    market.node_holds(1)?;
    expected.closed_together(&market, &market.next_block()?).map(drop)
}

/// Dies at once. What it mined is on its disk before: no other node could send it that again.
fn dies(node: &mut Regtest) -> Result<()> {
    node.call("gettxoutsetinfo", &json!([]))?;
    node.end(Signal::SIGKILL)
}

/// Starts with a clock that is days ahead: it takes itself to be far behind its chain.
fn starts_far_behind(node: &mut Regtest) -> Result<()> {
    node.stop()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    node.start_with(&[&format!("-mocktime={}", (now + FAR_BEHIND).as_secs())])
}

#[test]
fn a_node_that_dies_harms_no_session_and_is_found_again() -> Result<()> {
    comes_through(dies, Regtest::start_again)
}

#[test]
fn a_node_that_hangs_harms_no_session_and_is_found_again() -> Result<()> {
    comes_through(|node| node.signal(Signal::SIGSTOP), |node| node.signal(Signal::SIGCONT))
}

#[test]
fn a_node_that_still_reads_its_chain_harms_no_session_and_is_used_when_it_is_done() -> Result<()> {
    comes_through(starts_far_behind, |node| node.mine(1))
}

#[test]
fn a_close_that_is_asked_for_while_the_node_is_dead_is_in_a_block_when_it_is_back() -> Result<()> {
    let mut market = Market::with_subscribers(1)?;
    let lab = &market.lab;
    let mut bob = Customer::funded(&market, lab.subscriber(), CAPACITY_SAT)?;
    bob.pay(20_000)?;
    let (down, up) = (bob.station.count_downlink()?, lab.count_arrived(bob.station)?);
    let ends = Ends { client: &bob.station.namespace, server: &lab.internet, address: SERVER_V4 };
    Stream::download(ends, Load::of(1 << 20))?.finish()?;
    let expected = bob.expected(down.settled()?.bytes + up.settled()?.bytes)?;
    let id = bob.id.to_string();
    let node = &mut market.node;
    lab.gateway.enter(|| dies(node))?;
    market.chain_is("unavailable")?;
    let closed = bob.close(SpendPath::KeyPath)?;
    // The gateway dies as well before it could tell the node.
    market.agent.end(Signal::SIGKILL)?;
    market.agent.launch(&lab.gateway)?;
    let node = &mut market.node;
    lab.gateway.enter(|| node.start_again())?;
    market.chain_is("following")?;
    market.node_holds(1)?;
    let fee = expected.closed_together(&market, &market.next_block()?)?;
    ensure!(fee == closed.fee_sat, "another close: {closed:?}");
    until("the channel is over", || Ok(market.row(&id)?["state"] == "closed_together"))
}
