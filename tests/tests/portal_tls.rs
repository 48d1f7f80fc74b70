//! TLS at the real gateway, with a certificate that the operator has and replaces.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bitmesh::portal::{HANDSHAKE_TIMEOUT, MAX_CONNECTIONS_PER_STATION};
use bitmesh_tests::agent::Agent;
use bitmesh_tests::lab::{GATEWAY_V4, Lab, SERVER_V4, Subscriber};
use bitmesh_tests::tls::{NAME, Operator, TLS_PORT, over_tls};
use bitmesh_tests::wait::until;

const AT: SocketAddr = SocketAddr::new(GATEWAY_V4, TLS_PORT);
/// A handshake and an answer, at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who has no place is told so unasked.
fn is_turned_away(bob: &Subscriber) -> Result<bool> {
    bob.namespace.enter(|| {
        let mut stream = TcpStream::connect_timeout(&(GATEWAY_V4, 2121).into(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut said = [0; 13];
        Ok(stream.read_exact(&mut said).is_ok() && said == *b"HTTP/1.1 429 ")
    })
}

fn plain(bob: &Subscriber, to: SocketAddr, host: &str) -> Result<String> {
    bob.namespace.enter(|| {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut said = String::new();
        stream.read_to_string(&mut said).context("the answer does not end")?;
        Ok(said)
    })
}

#[test]
fn pages_are_over_tls_and_a_certificate_that_is_replaced_is_shown_unless_it_is_bad() -> Result<()> {
    let lab = Lab::new()?;
    let files = Operator::new()?;
    let first = files.renew()?;
    let agent = Agent::start(&lab, &files.settings())?;
    let bob = lab.subscriber();
    let page = over_tls(bob, AT, &first, "/?lang=en")?;
    ensure!(page.starts_with("HTTP/1.1 200 ") && page.contains("</html>"), "{page}");
    let there = format!("location: https://{NAME}:{TLS_PORT}/\r\n");
    for (to, host) in [((SERVER_V4, 80), "android.example"), ((GATEWAY_V4, 2121), "10.77.0.1:2121")]
    {
        let said = plain(bob, to.into(), host)?;
        ensure!(said.starts_with("HTTP/1.1 302 ") && said.contains(&there), "{host}: {said}");
    }

    let second = files.renew()?;
    until("the new certificate is shown", || Ok(over_tls(bob, AT, &second, "/captive").is_ok()))?;
    ensure!(over_tls(bob, AT, &first, "/captive").is_err(), "the old one is shown, too");
    files.spoil()?;
    until("the agent says what is wrong", || {
        let said = agent.said();
        Ok(said.contains("goes on with the certificate that it has")
            && said.contains("holds no chain of 1 to 8 certificates as PEM"))
    })?;
    over_tls(bob, AT, &second, "/captive").context("the good one is shown no more")?;
    Ok(())
}

#[test]
fn a_gateway_does_not_start_with_a_certificate_for_somebody_else() -> Result<()> {
    let lab = Lab::new()?;
    let files = Operator::new()?;
    files.renew_for("shop.example")?;
    let started = Agent::start(&lab, &files.settings());
    let said = format!("{:#}", started.err().context("it starts")?);
    ensure!(said.contains("is not for portal.example: get one that is"), "{said}");
    Ok(())
}

#[test]
fn half_a_handshake_counts_as_a_connection_and_ends_in_time() -> Result<()> {
    let lab = Lab::with_subscribers(2)?;
    let files = Operator::new()?;
    let root = files.renew()?;
    let _agent = Agent::start(&lab, &files.settings())?;
    let [bob, carol] = [&lab.subscribers[0], &lab.subscribers[1]];
    let began = Instant::now();
    let half = bob.namespace.enter(|| {
        let open = |_| Ok(TcpStream::connect_timeout(&AT, PATIENCE)?);
        (0..MAX_CONNECTIONS_PER_STATION).map(open).collect::<Result<Vec<_>>>()
    })?;
    until("all places of the station are taken", || {
        Ok(over_tls(bob, AT, &root, "/captive").is_err())
    })?;
    ensure!(is_turned_away(bob)?, "plain HTTP has places of its own");
    over_tls(carol, AT, &root, "/captive").context("another station has no place")?;
    ensure!(began.elapsed() < HANDSHAKE_TIMEOUT, "too slow to see it");
    until("the places are free again", || Ok(over_tls(bob, AT, &root, "/captive").is_ok()))?;
    ensure!(began.elapsed() >= HANDSHAKE_TIMEOUT, "hung up on after {:?}", began.elapsed());
    ensure!(began.elapsed() < HANDSHAKE_TIMEOUT * 2, "still there after {:?}", began.elapsed());
    drop(half);
    Ok(())
}
