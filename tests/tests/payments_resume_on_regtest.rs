//! A subscriber comes back under another MAC address, with the real agent, a real node and real
//! traffic: its balance comes along to the byte and the msat, also when the gateway is killed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bitmesh::store::Store;
use bitmesh_common::money::UNITS_PER_MSAT;
use bitmesh_core::channel::SpendPath;
use bitmesh_core::channel::message::{Challenge, MessageSignature};
use bitmesh_core::wire::ResumeBody;
use bitmesh_tests::agent::Agent;
use bitmesh_tests::lab::{Lab, Subscriber};
use bitmesh_tests::payments::{Customer, Market};
use bitmesh_tests::scale::of_soak;
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;
use serde_json::Value;

const CAPACITY_SAT: u64 = 200_000;

/// A packet is 1,024 bytes with its headers, and costs a satoshi.
const PAYLOAD: usize = 996;
const EVERY: Duration = Duration::from_micros(500);
const MSAT_PER_PACKET: u64 = 1_000;
const BYTES_PER_PACKET: u64 = 1_024;

/// Tries until a gateway that was killed has moved the channel, at most.
const MAX_TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Sends so many packets from the internet; gives how many arrived.
fn download(lab: &Lab, to: &Subscriber, packets: u64) -> Result<u64> {
    let counter = to.count_downlink()?;
    let here = Receiver::start(&to.namespace, to.v4())?;
    let pace = Pace { payload: PAYLOAD, every: EVERY, packets: Some(packets) };
    Sender::start(&lab.internet, here.address, pace)?.finish()?;
    let counted = counter.settled()?.bytes;
    let arrived = u64::try_from(here.stop()?.len())?;
    ensure!(counted == arrived * BYTES_PER_PACKET, "{counted} bytes in {arrived} packets");
    Ok(arrived)
}

fn number(account: &Value, name: &str) -> Result<u64> {
    account[name].as_u64().with_context(|| format!("no {name}: {account}"))
}

/// An account as its operator sees it is this, to the msat.
fn is(agent: &Agent, of: &Subscriber, state: &str, msat: [u64; 3]) -> Result<()> {
    let holds = |account: &Value| -> Result<bool> {
        let lines = ["credited_msat", "charged_for_bytes_msat", "balance_msat"];
        let found = lines.map(|line| number(account, line));
        let [credited, charged, balance] = found;
        Ok(account["state"] == state && [credited?, charged?, balance?] == msat)
    };
    let waited = until("the account is so", || holds(&agent.account(of)?));
    waited.with_context(|| format!("{state} {msat:?}: {:?}", agent.account(of)))
}

/// Whoever has no good proof is refused, and nothing changes.
fn nobody_else_moves_it<'a>(
    agent: &Agent,
    bob: &mut Customer<'a>,
    stations: &'a [Subscriber],
) -> Result<()> {
    let [first, second] = stations else { anyhow::bail!("two stations") };
    let before = (agent.account(first)?, bob.view()?);
    bob.station = second;
    let good = bob.prove()?;
    let refusal = |bob: &Customer<'_>, body: &ResumeBody| bob.post("/resume", body)?.refusal();
    let is_refused = |bob: &Customer<'_>, body: &ResumeBody, reason: &str| -> Result<()> {
        let (status, found) = refusal(bob, body)?;
        ensure!(found == reason && (400..500).contains(&status), "{status} {found}, not {reason}");
        Ok(())
    };
    let forged = ResumeBody { signature: MessageSignature([7; 64]), ..good.clone() };
    is_refused(bob, &forged, "forged")?;
    let mut other = good.request.clone();
    other.challenge = Challenge([9; 32]);
    is_refused(bob, &bob.sign_proof(other), "challenge")?;
    let mut other = good.request.clone();
    other.outpoint.vout += 1;
    is_refused(bob, &bob.sign_proof(other), "wrong_channel")?;
    let mut other = good.request.clone();
    other.agreement = bitcoin::hashes::Hash::from_byte_array([1; 32]);
    is_refused(bob, &bob.sign_proof(other), "wrong_channel")?;
    // Somebody saw it pass, and sends it from another address.
    bob.station = first;
    is_refused(bob, &good, "other_station")?;
    ensure!((agent.account(first)?, bob.view()?) == before, "something changed");
    Ok(())
}

#[test]
fn a_balance_comes_along_to_another_address_to_the_byte_and_the_msat() -> Result<()> {
    let market = Market::with_subscribers(2)?;
    let stations = market.lab.subscribers.as_slice();
    let [first, second] = stations else { anyhow::bail!("two stations") };
    let mut bob = Customer::funded(&market, first, CAPACITY_SAT)?;
    bob.pay(3_000)?;
    ensure!(download(&market.lab, first, 700)? == 700, "what was paid for did not pass");
    is(&market.agent, first, "open", [3_000_000, 700_000, 2_300_000])?;
    nobody_else_moves_it(&market.agent, &mut bob, stations)?;
    ensure!(download(&market.lab, second, 20)? == 0, "it passes before the proof");
    bob.station = second;
    let proof = bob.prove()?;
    let view = bob.resume_with(&proof)?;
    ensure!(view.mac.octets == second.mac() && view.charged_msat.0 == 700_000, "{view:?}");
    let replayed = bob.post("/resume", &proof)?.refusal()?;
    ensure!(replayed == (422, "challenge".to_owned()), "{replayed:?}");
    is(&market.agent, first, "closed", [700_000, 700_000, 0])?;
    is(&market.agent, second, "open", [2_300_000, 0, 2_300_000])?;
    ensure!(download(&market.lab, first, 20)? == 0, "the old address is still served");
    // Every packet that is paid for passes, and not one more.
    let passed = download(&market.lab, second, 2_400)?;
    ensure!(passed == 2_300, "{passed} of 2,300 packets passed");
    is(&market.agent, second, "exhausted", [2_300_000, 2_300_000, 0])?;
    bob.pay(3_100)?;
    ensure!(download(&market.lab, second, 50)? == 50, "what is paid now counts elsewhere");
    let expected = bob.expected(3_050 * BYTES_PER_PACKET)?;
    let closed = bob.close(SpendPath::KeyPath)?;
    ensure!(closed.receipt.downlink_bytes == 3_050 * BYTES_PER_PACKET, "{:?}", closed.receipt);
    ensure!(closed.receipt.charged_msat.0 == 3_050_000, "{:?}", closed.receipt);
    market.node_holds(1)?;
    let fee = expected.closed_together(&market, &market.next_block()?)?;
    ensure!(fee == closed.fee_sat, "{closed:?}");
    Ok(())
}

/// What is on the disk of an agent that is dead: where the channel is, and that no msat is lost or
/// counts twice. The kernel holds no more than that.
fn look(agent: &Agent, stations: &[Subscriber], paid_msat: u64) -> Result<usize> {
    let snapshot = Store::open(&agent.house.database())?.load()?;
    let mut transfers = snapshot.transfers.clone();
    transfers.sort_by_key(|transfer| transfer.number);
    let kept: u64 = transfers.iter().map(|transfer| transfer.kept.0).sum();
    let here = stations[0].mac();
    let here = transfers.last().map_or(here, |transfer| transfer.to.octets);
    let pins = agent.pins()?;
    for station in stations {
        let stays = transfers.iter().filter(|transfer| transfer.from.octets == station.mac());
        let stays: u64 = stays.map(|transfer| transfer.kept.0).sum();
        let brought = if station.mac() == here { paid_msat - kept } else { 0 };
        // One that was never paid for has no meter.
        let Ok(account) = pins.account(station) else { continue };
        let most = (stays + brought) * UNITS_PER_MSAT;
        let (held, spent) = (account.prepaid, pins.meter(station)?.spent);
        let open = bitmesh_common::abi::ACCOUNT_OPEN;
        ensure!(account.state != open || held <= most, "the kernel holds {held} of {most} units");
        ensure!(spent <= most, "{spent} units were spent of {most}");
    }
    Ok(transfers.len())
}

/// Asks again until the gateway says that the channel pays for this station.
fn insist(bob: &Customer<'_>) -> Result<()> {
    let mut last = None;
    for _ in 0..MAX_TRIES {
        match bob.resume() {
            Ok(view) if view.mac.octets == bob.station.mac() => return Ok(()),
            Ok(view) => anyhow::bail!("an answer for another station: {view:?}"),
            Err(error) => last = Some(error),
        }
        std::thread::sleep(PAUSE);
    }
    Err(last.context("never tried")?.context("the channel was never moved"))
}

#[test]
fn a_gateway_killed_while_a_balance_moves_loses_no_msat_and_credits_none_twice() -> Result<()> {
    let mut market = Market::with_subscribers(2)?;
    let lab = &market.lab;
    let stations = lab.subscribers.as_slice();
    let mut bob = Customer::funded(&market, &stations[0], CAPACITY_SAT)?;
    let (mut paid, mut used, mut midway) = (2_000, 0, 0);
    bob.pay(paid)?;
    let kills = of_soak(200, 10);
    for kill in 0..kills {
        let packets = 40 + kill % 7;
        ensure!(download(lab, bob.station, packets)? == packets, "a paid packet was lost");
        used += packets;
        let before = bob.view()?.mac.octets;
        let to = usize::try_from((kill + 1) % 2)?;
        bob.station = &stations[to];
        let proof = bob.prove()?;
        // The gateway dies at another moment of the way each time.
        std::thread::scope(|threads| -> Result<()> {
            let asked = threads.spawn(|| bob.post("/resume", &proof).map(drop));
            std::thread::sleep(Duration::from_micros(kill * 3_919 % 40_000));
            market.agent.end(Signal::SIGKILL)?;
            // It has no answer, or one.
            drop(asked.join());
            Ok(())
        })?;
        let moves = look(&market.agent, stations, paid * MSAT_PER_PACKET)?;
        ensure!([kill, kill + 1].map(|moves| moves as usize).contains(&moves), "{moves} moves");
        midway += u64::from(moves as u64 == kill);
        market.agent.launch(&lab.gateway)?;
        insist(&bob).with_context(|| format!("kill {kill}, from {before:?}"))?;
        until("the chain is followed", || {
            Ok(market.agent.ask(&["status"])?["chain"]["state"] == "following")
        })?;
        paid += packets;
        bob.pay(paid)?;
    }
    println!("{kills} kills, {midway} of them before the transfer was durable");
    let (mut balance, mut credited) = (0, 0);
    for station in stations {
        let account = market.agent.account(station)?;
        balance += number(&account, "balance_msat")?;
        credited += number(&account, "credited_msat")?;
    }
    ensure!(credited == paid * MSAT_PER_PACKET, "{credited} msat of {paid} sat");
    ensure!(balance == (paid - used) * MSAT_PER_PACKET, "{balance} msat are left of {paid} sat");
    let expected = bob.expected(used * BYTES_PER_PACKET)?;
    let closed = bob.close(SpendPath::KeyPath)?;
    ensure!(closed.receipt.downlink_bytes == used * BYTES_PER_PACKET, "{:?}", closed.receipt);
    market.node_holds(1)?;
    let fee = expected.closed_together(&market, &market.next_block()?)?;
    ensure!(fee == closed.fee_sat && closed.settled_sat == used, "{closed:?}");
    Ok(())
}
