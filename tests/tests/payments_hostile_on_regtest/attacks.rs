//! What hostile payers do. Each attack goes on until it is told to stop, and counts what it is
//! answered.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use bitmesh_core::wire::{OpenRequest, UpdateBody};
use bitmesh_tests::crowd::{MAX_ANSWER, Visitor};
use bitmesh_tests::payments::{Answer, Customer, HOST, post};

use crate::measure::count;
use crate::open_request;

/// Answers by their reason.
pub(crate) type Tally = BTreeMap<String, u64>;

/// Between two tries of an attack that is no flood.
const BREATH: Duration = Duration::from_millis(20);

/// Connections that are held, and tried: more than a station may have.
const HELD: usize = 12;

/// Requests that a flood sends before it reads.
const PIPELINED: usize = 200;

/// Bytes of an answer, at most.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

fn goes_on(stop: &AtomicBool) -> bool {
    !stop.load(Ordering::Relaxed)
}

/// The reason of an answer, or that there was none.
fn word(answer: &Answer) -> Result<String> {
    if answer.status == 200 { Ok("accepted".to_owned()) } else { Ok(answer.error()?.reason) }
}

/// Sends the newest update and an older one, again and again.
pub(crate) fn replay(attacker: &mut Customer, stop: &AtomicBool) -> Result<Tally> {
    let mut tally = Tally::new();
    let old = attacker.sign(attacker.signed() + 1)?;
    let newest = attacker.sign(attacker.signed() + 1)?;
    insist(attacker, &newest, stop, &mut tally)?;
    // It was new once; all that follows is not.
    tally.clear();
    while goes_on(stop) {
        for body in [&old, &newest] {
            count(&mut tally, &word(&attacker.post("/updates", body)?)?);
        }
        thread::sleep(BREATH);
    }
    Ok(tally)
}

/// Sends until it is not too fast.
fn insist(
    attacker: &Customer,
    body: &UpdateBody,
    stop: &AtomicBool,
    tally: &mut Tally,
) -> Result<()> {
    while goes_on(stop) {
        let said = word(&attacker.post("/updates", body)?)?;
        count(tally, &said);
        if said != "too_fast" {
            break;
        }
        thread::sleep(BREATH);
    }
    Ok(())
}

/// Sends updates in another order than they were signed in.
pub(crate) fn shuffle(attacker: &mut Customer, stop: &AtomicBool) -> Result<Tally> {
    let mut tally = Tally::new();
    while goes_on(stop) {
        let from = attacker.signed();
        let bodies = (1..=5).map(|n| attacker.sign(from + n)).collect::<Result<Vec<_>>>()?;
        for number in [2, 0, 3, 1, 4] {
            insist(attacker, &bodies[number], stop, &mut tally)?;
        }
    }
    Ok(tally)
}

/// Sends many updates of one channel at once.
pub(crate) fn rush(attacker: &mut Customer, stop: &AtomicBool) -> Result<Tally> {
    let mut tally = Tally::new();
    while goes_on(stop) {
        let from = attacker.signed();
        let count_of = u64::try_from(HELD)?;
        let bodies = (1..=count_of).map(|n| attacker.sign(from + n)).collect::<Result<Vec<_>>>()?;
        let (station, path) = (attacker.station, attacker.path("/updates"));
        let answers = thread::scope(|threads| {
            let path = &path;
            let sent: Vec<_> = bodies
                .iter()
                .map(|body| threads.spawn(move || post(station, path, body)))
                .collect();
            let answers =
                sent.into_iter().map(|one| one.join().map_err(|_| anyhow!("it panicked"))?);
            answers.collect::<Result<Vec<_>>>()
        })?;
        for answer in &answers {
            count(&mut tally, &word(answer)?);
        }
        thread::sleep(BREATH);
    }
    Ok(tally)
}

fn connect(attacker: &Customer) -> Result<TcpStream> {
    attacker.station.namespace.enter(|| {
        let stream = TcpStream::connect(HOST)?;
        stream.set_read_timeout(Some(BREATH))?;
        Ok(stream)
    })
}

/// What a connection was told, if it was told anything yet.
fn told(stream: &mut TcpStream) -> Option<String> {
    let mut said = [0; 1_024];
    let length = stream.read(&mut said).ok()?;
    let said = String::from_utf8_lossy(&said[..length]).into_owned();
    if said.is_empty() { Some("closed".to_owned()) } else { Some(reason(&said)) }
}

/// The reason in an answer as it is on the wire.
fn reason(said: &str) -> String {
    let reason = said.split_once("\"reason\":\"").and_then(|(_, rest)| rest.split('"').next());
    reason.unwrap_or(if said.starts_with("HTTP/1.1 200 ") { "accepted" } else { said }).to_owned()
}

/// Holds as many connections as it gets, which begin like this and go on like that.
fn hold(attacker: &Customer, stop: &AtomicBool, begin: &str, go_on: &str) -> Result<Tally> {
    let (mut tally, mut held) = (Tally::new(), Vec::new());
    while goes_on(stop) {
        if held.len() < HELD {
            let mut stream = connect(attacker)?;
            // It may have been closed at once.
            let _ = stream.write_all(begin.as_bytes());
            held.push(stream);
        }
        held.retain_mut(|stream| {
            let _ = stream.write_all(go_on.as_bytes());
            match told(stream) {
                Some(said) => {
                    if said != "closed" {
                        count(&mut tally, &said);
                    }
                    false
                }
                None => true,
            }
        });
    }
    Ok(tally)
}

/// Connections that begin a request and say no more.
pub(crate) fn half_open(attacker: &mut Customer, stop: &AtomicBool) -> Result<Tally> {
    hold(attacker, stop, "GET /api/v1/ses", "")
}

/// Bodies that come a byte at a time.
pub(crate) fn slow_bodies(attacker: &mut Customer, stop: &AtomicBool) -> Result<Tally> {
    let begin = format!(
        "POST /api/v1{} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n\
         Content-Length: 8000\r\n\r\n",
        attacker.path("/updates")
    );
    hold(attacker, stop, &begin, " ")
}

/// Requests as fast as they go, on one connection after another.
pub(crate) fn flood(attacker: &mut Customer, stop: &AtomicBool) -> Result<Tally> {
    let ask = |more: &str| format!("GET /api/v1/session HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n");
    let all = ask("").repeat(PIPELINED - 1) + &ask("Connection: close\r\n");
    let mut tally = Tally::new();
    while goes_on(stop) {
        let mut stream = connect(attacker)?;
        stream.set_read_timeout(Some(MAX_ANSWER))?;
        stream.set_write_timeout(Some(MAX_ANSWER))?;
        let mut writer = stream.try_clone()?;
        let said = thread::scope(|threads| {
            // The gateway may close before it has read all.
            threads.spawn(|| drop(writer.write_all(all.as_bytes())));
            let mut said = Vec::new();
            let _ = (&mut stream).take(MAX_ANSWER_BYTES).read_to_end(&mut said);
            said
        });
        for answer in String::from_utf8_lossy(&said).split("HTTP/1.1 ").skip(1) {
            count(&mut tally, &reason(&format!("HTTP/1.1 {answer}")));
        }
    }
    Ok(tally)
}

/// Opens channels that nobody will fund, so many for each visitor; the very first visitor tries one
/// more.
pub(crate) fn abandon(
    visitors: &mut (impl Iterator<Item = Visitor> + Send),
    request: &OpenRequest,
    each: u16,
    first: &mut bool,
    stop: &AtomicBool,
) -> Result<Tally> {
    let mut tally = Tally::new();
    while goes_on(stop) {
        let Some(visitor) = visitors.next() else { break };
        let more = u16::from(std::mem::take(first));
        for _ in 0..each + more {
            let mut stream = visitor.connect()?;
            stream.write_all(&open_request(request)?)?;
            let mut said = String::new();
            stream.take(MAX_ANSWER_BYTES).read_to_string(&mut said)?;
            count(&mut tally, &reason(&said));
        }
    }
    Ok(tally)
}
