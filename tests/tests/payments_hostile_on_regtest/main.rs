//! Hostile payers: while one attacks, another's payments are answered as before, the gateway stays
//! small, and each attack gets the refusal that the API names for it.

mod attacks;
mod measure;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bitmesh_core::wire::{ChannelView, OpenRequest, UpdateBody};
use bitmesh_tests::crowd::{PORT, PORTAL, Visitor, crowd};
use bitmesh_tests::lab::Subscriber;
use bitmesh_tests::payments::{Answer, Customer, Market, get, post};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;

use self::attacks::Tally;
use self::measure::{Honest, is_small};

const CAPACITY_SAT: u64 = 1_000_000;

/// What each pays first.
const FIRST_SAT: u64 = 3_000;

/// Channels that are opened and never funded, by so many stations, and how many of them there may
/// be at a time (`MAX_UNFUNDED`).
const ABANDONED: usize = 1_000;
const PER_STATION: u16 = 4;
const AT_A_TIME: usize = 256;

/// Two updates at once, so often.
const RACES: u64 = 20;

/// Between two requests of a station that does not want to be too fast.
const PAUSE: Duration = Duration::from_millis(60);

/// Alice is honest, the attacker is not.
fn alice_and_mallory(market: &Market) -> Result<(Customer<'_>, Customer<'_>)> {
    let mut both = Customer::all_funded(market, &market.lab.subscribers, CAPACITY_SAT)?;
    for customer in &mut both {
        customer.pay(FIRST_SAT)?;
    }
    let attacker = both.pop().context("no second customer")?;
    Ok((both.pop().context("no customer")?, attacker))
}

/// What an attack is called, what it does until it is stopped, and the answers that it may get:
/// all of the first at least once.
type Attack = (
    &'static str,
    fn(&mut Customer, &AtomicBool) -> Result<Tally>,
    &'static [&'static str],
    &'static [&'static str],
);

const ATTACKS: &[Attack] = &[
    ("replayed and stale updates", attacks::replay, &["stale"], &["too_fast"]),
    ("updates out of order", attacks::shuffle, &["accepted", "stale"], &["too_fast"]),
    (
        "updates all at once",
        attacks::rush,
        &["accepted"],
        &["stale", "too_fast", "busy", "too_many_connections"],
    ),
    ("connections that say nothing", attacks::half_open, &["too_many_connections"], &[]),
    ("bodies that never end", attacks::slow_bodies, &["too_many_connections"], &[]),
    ("a flood", attacks::flood, &["too_fast"], &["no_session", "accepted"]),
];

#[test]
fn no_attack_of_one_payer_delays_anothers_payments() -> Result<()> {
    let market = Market::with_subscribers(2)?;
    let (alice, mut attacker) = alice_and_mallory(&market)?;
    let mut honest = Honest::new(alice, market.agent.pid()?)?;
    for (name, attack, expected, tolerated) in ATTACKS {
        let tally = honest.is_unharmed_by(name, |stop| attack(&mut attacker, stop))?;
        for reason in *expected {
            ensure!(tally.contains_key(*reason), "{name}: never {reason}: {tally:?}");
        }
        let named = |reason: &&String| {
            let reason = reason.as_str();
            expected.contains(&reason) || tolerated.contains(&reason)
        };
        let other: Vec<_> = tally.keys().filter(|reason| !named(reason)).collect();
        ensure!(other.is_empty(), "{name}: it was also answered {other:?}");
        let view = view_at_last(&attacker)?;
        let newest = view.newest.context("the attacker's own update is lost")?;
        let credit = CAPACITY_SAT - newest.change_sat;
        ensure!(view.credit_msat.0 == credit * 1_000, "{name}: {view:?}");
        ensure!(credit <= attacker.signed(), "{name}: more counts than was signed");
    }
    is_small(&market)
}

/// What the gateway says of a channel whose station was too fast a moment ago.
fn view_at_last(customer: &Customer) -> Result<ChannelView> {
    let mut seen = None;
    until("the station is answered again", || {
        std::thread::sleep(PAUSE);
        let answer = get(customer.station, &customer.path(""))?;
        if answer.status != 429 {
            seen = Some(answer.json()?);
        }
        Ok(seen.is_some())
    })?;
    seen.context("nothing was said")
}

#[test]
fn a_thousand_channels_that_nobody_funds_delay_no_payment_and_have_a_limit() -> Result<()> {
    // The LAN of two is a bridge, which has room for a crowd.
    let market = Market::with_subscribers(2)?;
    let mut alice = Customer::funded(&market, market.lab.subscriber(), CAPACITY_SAT)?;
    alice.pay(FIRST_SAT)?;
    let stations = u16::try_from(ABANDONED)? / PER_STATION;
    let crowd = crowd(&market.lab, stations)?;
    let (_, request) = Customer::request(&market, market.lab.subscriber())?;
    let mut honest = Honest::new(alice, market.agent.pid()?)?;
    let mut visitors = (0..stations).map(Visitor);
    let mut first = true;
    let mut tally = Tally::new();
    let abandon = |stop: &AtomicBool| {
        let visitors = &mut visitors;
        crowd.enter(|| attacks::abandon(visitors, &request, PER_STATION, &mut first, stop))
    };
    for (answer, count) in honest.is_unharmed_by("channels without funding", abandon)? {
        *tally.entry(answer).or_default() += count;
    }
    // Those that the alternation left.
    let rest = crowd.enter(|| {
        let never = AtomicBool::new(false);
        attacks::abandon(&mut visitors, &request, PER_STATION, &mut false, &never)
    })?;
    for (answer, count) in rest {
        *tally.entry(answer).or_default() += count;
    }
    let asked = u64::try_from(ABANDONED)? + 1;
    let opened = u64::try_from(AT_A_TIME)?;
    let expected = BTreeMap::from([
        ("accepted".to_owned(), opened),
        ("too_many_channels".to_owned(), asked - opened),
    ]);
    ensure!(tally == expected, "{tally:?}");
    honest.pays_on()?;
    is_small(&market)
}

/// Where a visitor of the crowd asks.
fn portal() -> String {
    format!("{PORTAL}:{PORT}")
}

fn refused_as_stale(answer: &Answer, newest: &UpdateBody) -> Result<()> {
    let error = answer.error()?;
    ensure!(answer.status == 409 && error.reason == "stale", "{} {error:?}", answer.status);
    ensure!(error.newest.as_deref() == Some(newest), "another is the newest: {error:?}");
    Ok(())
}

#[test]
fn an_update_that_is_replayed_after_a_restart_counts_once() -> Result<()> {
    let mut market = Market::with_subscribers(1)?;
    let station: &Subscriber = market.lab.subscriber();
    let mut bob = Customer::funded(&market, station, CAPACITY_SAT)?;
    let old = bob.sign(FIRST_SAT)?;
    let newest = bob.sign(FIRST_SAT + 1_000)?;
    for body in [&old, &newest] {
        bob.post("/updates", body)?.json::<serde_json::Value>()?;
    }
    let before = market.agent.account(station)?["credited_msat"].clone();
    market.agent.end(Signal::SIGKILL)?;
    market.agent.launch(&market.lab.gateway)?;
    market.chain_is("following")?;
    for body in [&old, &newest, &old] {
        refused_as_stale(&bob.post("/updates", body)?, &newest)?;
    }
    ensure!(market.agent.account(station)?["credited_msat"] == before, "it counted twice");
    ensure!(bob.view()?.newest == Some(newest), "{:?}", bob.view()?);
    let accepted = bob.pay(FIRST_SAT + 2_000)?;
    ensure!(accepted.credit_msat.0 == (FIRST_SAT + 2_000) * 1_000, "{accepted:?}");
    Ok(())
}

#[test]
fn of_two_updates_at_once_the_greater_counts_and_nothing_counts_twice() -> Result<()> {
    let market = Market::with_subscribers(1)?;
    let station: &Subscriber = market.lab.subscriber();
    let mut bob = Customer::funded(&market, station, CAPACITY_SAT)?;
    bob.pay(FIRST_SAT)?;
    for race in 0..RACES {
        let credit = bob.signed() + 10;
        let (smaller, greater) = (bob.sign(credit)?, bob.sign(credit + 5)?);
        let path = bob.path("/updates");
        let order = if race % 2 == 0 { [smaller, greater] } else { [greater, smaller] };
        let answers = std::thread::scope(|threads| {
            let send = |body: UpdateBody| post(station, &path, &body);
            let other = threads.spawn(move || send(order[1]));
            let first = send(order[0]);
            let other = other.join().map_err(|_| anyhow!("a payer panicked"))?;
            Ok::<_, anyhow::Error>([first?, other?])
        })?;
        for (body, answer) in order.iter().zip(&answers) {
            if answer.status != 200 {
                ensure!(*body == smaller, "the greater is refused: {:?}", answer.error()?);
                refused_as_stale(answer, &greater)?;
            }
        }
        ensure!(bob.view()?.newest == Some(greater), "race {race}: {:?}", bob.view()?);
        let credited = market.agent.account(station)?["credited_msat"].clone();
        ensure!(credited == (credit + 5) * 1_000, "race {race}: {credited}");
        std::thread::sleep(PAUSE * 3);
    }
    Ok(())
}

/// A request of the crowd, as bytes.
fn open_request(request: &OpenRequest) -> Result<Vec<u8>> {
    let body = serde_json::to_string(&Customer::another(request)?)?;
    let head = format!(
        "POST /api/v1/channels HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        portal(),
        body.len()
    );
    Ok((head + &body).into_bytes())
}
