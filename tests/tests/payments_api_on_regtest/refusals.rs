//! What is refused gets a clear reason, and changes nothing.

use std::net::TcpStream;

use anyhow::{Result, ensure};
use bitcoin::Amount;
use bitmesh_core::wire::{ApiError, ChannelWord, UpdateBody};
use bitmesh_tests::lab::Subscriber;
use bitmesh_tests::payments::{Answer, Customer, HOST, Market, get, post_text, raw, raw_at, send};
use bitmesh_tests::wait::until;
use serde_json::json;

const CAPACITY: u64 = 100_000;

fn refused(answer: &Answer, status: i32, reason: &str) -> Result<()> {
    let got = answer.refusal()?;
    ensure!(got == (status, reason.to_owned()), "{got:?} instead of {status} {reason}");
    Ok(())
}

/// The same body with another last byte: the hash type.
fn with_hash_type(body: &UpdateBody, hash_type: u8) -> UpdateBody {
    let mut other = *body;
    other.signature.0[64] = hash_type;
    other
}

#[test]
fn a_wrong_update_gets_its_reason_and_changes_nothing() -> Result<()> {
    let market = Market::with_subscribers(2)?;
    let [alice, bob] = [&market.lab.subscribers[0], &market.lab.subscribers[1]];
    let mut other = Customer::funded(&market, alice, CAPACITY)?;
    let mut bob = Customer::funded(&market, bob, CAPACITY)?;
    let first = bob.sign(3_000)?;
    let try_now = |body: &UpdateBody| bob_post(&bob, body);
    refused(&try_now(&UpdateBody { change_sat: 96_000, ..first })?, 422, "forged")?;
    refused(&try_now(&UpdateBody { change_sat: CAPACITY + 1, ..first })?, 422, "over_capacity")?;
    refused(&try_now(&UpdateBody { change_sat: 329, ..first })?, 422, "dust_change")?;
    refused(&try_now(&with_hash_type(&first, 0x01))?, 422, "hash_type")?;
    refused(&try_now(&with_hash_type(&first, 0x82))?, 422, "hash_type")?;
    refused(&try_now(&with_hash_type(&first, 0x03))?, 422, "hash_type")?;
    refused(&try_now(&UpdateBody { change_sat: 0, ..first })?, 422, "hash_type")?;
    refused(&try_now(&other.sign(3_000)?)?, 422, "forged")?;
    // The same keys and terms, another payment to the same address.
    let elsewhere = market.signed_payment(bob.opened.address(), Amount::from_sat(CAPACITY))?;
    refused(&try_now(&bob.sign_on(&elsewhere, 3_000)?)?, 422, "forged")?;
    ensure!(bob.view()?.newest.is_none(), "a refused update counts");
    bob.post("/updates", &first)?.json::<serde_json::Value>()?;
    let second = bob.sign(4_000)?;
    bob.post("/updates", &second)?.json::<serde_json::Value>()?;
    let before = bob.view()?;
    let stale = bob.post("/updates", &first)?;
    refused(&stale, 409, "stale")?;
    let error: ApiError = serde_json::from_slice(&stale.body)?;
    ensure!(
        error.newest.as_deref() == Some(&second),
        "a stale payer is told the newest: {error:?}"
    );
    ensure!(bob.view()? == before, "something changed");
    Ok(())
}

fn bob_post(bob: &Customer, body: &UpdateBody) -> Result<Answer> {
    bob.post("/updates", body)
}

#[test]
fn what_is_no_request_gets_a_4xx_and_changes_nothing() -> Result<()> {
    let market = Market::with_subscribers(1)?;
    let station = market.lab.subscriber();
    let mut bob = Customer::funded(&market, station, CAPACITY)?;
    bob.pay(3_000)?;
    let before = bob.view()?;
    let updates = bob.path("/updates");
    for text in ["", "{", "[]", "null", "{\"change_sat\":1}", "\u{0}"] {
        refused(&post_text(station, &updates, text)?, 400, "malformed")?;
    }
    let mut more = serde_json::to_value(bob.sign(4_000)?)?;
    more["tip_sat"] = json!(1);
    refused(&post_text(station, &updates, more.to_string())?, 400, "malformed")?;
    let mut short = serde_json::to_value(bob.sign(5_000)?)?;
    short["signature"] = json!("00");
    refused(&post_text(station, &updates, short.to_string())?, 400, "malformed")?;
    let no_http = raw(station, b"update me\r\n\r\n")?;
    ensure!(no_http.starts_with("HTTP/1.1 400 ") && no_http.contains("\"malformed\""), "{no_http}");
    refused(&get(station, &updates)?, 405, "wrong_method")?;
    refused(&get(station, "/nothing")?, 404, "not_found")?;
    refused(&get(station, "/offer?challenge=00")?, 400, "malformed")?;
    refused(&get(station, "/channels/zz")?, 404, "no_channel")?;
    refused(&get(station, &format!("/channels/{}", "00".repeat(32)))?, 404, "no_channel")?;
    refused(&get(station, &bob.path("/stream"))?, 426, "no_upgrade")?;
    ensure!(bob.view()? == before, "something changed");
    ensure!(bob.view()?.state == ChannelWord::Open, "the channel closed");
    Ok(())
}

#[test]
fn ten_megabytes_are_refused_without_being_read() -> Result<()> {
    let market = Market::with_subscribers(1)?;
    let station = market.lab.subscriber();
    let mut bob = Customer::funded(&market, station, CAPACITY)?;
    bob.pay(3_000)?;
    let before = bob.view()?;
    for rest in ["/updates", "/funding", "/close"] {
        let answer = post_text(station, &bob.path(rest), vec![b'7'; 10 << 20])?;
        refused(&answer, 413, "too_long")?;
    }
    // Without a length beforehand.
    let head = format!(
        "POST /api/v1{} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        bob.path("/updates")
    );
    let mut chunked = head.into_bytes();
    for _ in 0..160 {
        chunked.extend(b"10000\r\n");
        chunked.extend(vec![b'7'; 1 << 16]);
        chunked.extend(b"\r\n");
    }
    let said = raw(station, &chunked)?;
    ensure!(said.starts_with("HTTP/1.1 413 ") && said.contains("\"too_long\""), "{said}");
    ensure!(bob.view()? == before, "something changed");
    Ok(())
}

#[test]
fn a_page_of_another_site_reaches_nothing() -> Result<()> {
    let market = Market::with_subscribers(1)?;
    let station = market.lab.subscriber();
    let rebound = raw(
        station,
        b"GET /api/v1/session HTTP/1.1\r\nHost: evil.example:2121\r\nConnection: close\r\n\r\n",
    )?;
    ensure!(rebound.starts_with("HTTP/1.1 421 "), "{rebound}");
    let text = bitreq::post(format!("http://{HOST}/api/v1/channels"))
        .with_header("Content-Type", "text/plain")
        .with_body("{}");
    refused(&send(station, text)?, 415, "not_json")?;
    Ok(())
}

/// Who is asked about is told from the packets, not from what they say.
#[test]
fn a_station_has_so_many_connections_and_requests_and_others_are_not_disturbed() -> Result<()> {
    let market = Market::with_subscribers(2)?;
    let [attacker, bob] = [&market.lab.subscribers[0], &market.lab.subscribers[1]];
    let refusals = flood(attacker, 120)?;
    ensure!(refusals > 20, "{refusals} of 120 requests were too many");
    refused(&get(bob, "/session")?, 404, "no_session")?;
    let held = attacker
        .namespace
        .enter(|| (0..20).map(|_| Ok(TcpStream::connect(HOST)?)).collect::<Result<Vec<_>>>())?;
    let said = raw(attacker, b"GET / HTTP/1.1\r\n\r\n")?;
    ensure!(said.starts_with("HTTP/1.1 429 "), "{said}");
    refused(&get(bob, "/session")?, 404, "no_session")?;
    drop(held);
    Ok(())
}

/// Requests on one connection, and how many of them were too many.
fn flood(from: &Subscriber, count: usize) -> Result<usize> {
    let one = format!("GET /api/v1/session HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let last = format!("GET /api/v1/session HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let said = raw(from, (one.repeat(count - 1) + &last).as_bytes())?;
    ensure!(said.matches("HTTP/1.1 ").count() == count, "{said}");
    Ok(said.matches("too_fast").count())
}

#[test]
fn the_portal_is_on_the_lan_over_both_protocols_and_nowhere_else() -> Result<()> {
    let market = Market::with_subscribers(1)?;
    let station = market.lab.subscriber();
    refused(&get(station, "/session")?, 404, "no_session")?;
    let host = "[fd77::1]:2121";
    let request =
        format!("GET /api/v1/session HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let said = raw_at(station, host, request.as_bytes())?;
    ensure!(said.starts_with("HTTP/1.1 404 ") && said.contains("no_session"), "{said}");
    for address in ["10.77.0.1:2121", "10.99.0.1:2121", "[fd77::1]:2121", "[fd99::1]:2121"] {
        let from_outside = market.lab.internet.enter(|| Ok(TcpStream::connect(address).is_ok()))?;
        ensure!(!from_outside, "{address} answers the internet");
    }
    Ok(())
}

/// An interface that comes back is another one to the kernel.
#[test]
fn an_interface_that_vanished_and_came_back_has_its_portal_again() -> Result<()> {
    let market = Market::with_subscribers(2)?;
    let station = &market.lab.subscribers[0];
    refused(&get(station, "/session")?, 404, "no_session")?;
    let gateway = &market.lab.gateway;
    gateway.ip("link del lan0")?;
    for words in [
        "link add lan0 type bridge mcast_snooping 0",
        "link set lan0 address 02:00:00:00:77:01 up",
        "addr add 10.77.0.1/24 dev lan0",
        "link set port0 master lan0 up",
    ] {
        gateway.ip(words)?;
    }
    until("the portal answers", || {
        let answer = get(station, "/session");
        Ok(answer.is_ok_and(|answer| answer.status == 404))
    })
}
