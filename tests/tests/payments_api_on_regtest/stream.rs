//! Updates over a WebSocket.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bitmesh_core::wire::{StreamMessage, UpdateBody};
use bitmesh_tests::payments::{Customer, HOST, Market};
use tungstenite::handshake::client::Response;
use tungstenite::{Message, WebSocket};

type Socket = WebSocket<TcpStream>;

fn connect(bob: &Customer) -> Result<(Socket, Response)> {
    let stream = bob.station.namespace.enter(|| Ok(TcpStream::connect(HOST)?))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let url = format!("ws://{HOST}/api/v1{}", bob.path("/stream"));
    Ok(tungstenite::client(url, stream)?)
}

/// The next message that is no session's.
fn answer(socket: &mut Socket, sessions: &mut usize) -> Result<StreamMessage> {
    for _ in 0..10 {
        match serde_json::from_str(socket.read()?.to_text()?)? {
            StreamMessage::Session(_) => *sessions += 1,
            said => return Ok(said),
        }
    }
    bail!("no answer among ten messages")
}

fn pay(socket: &mut Socket, body: &UpdateBody) -> Result<()> {
    Ok(socket.send(Message::text(serde_json::to_string(body)?))?)
}

#[test]
fn a_stream_takes_updates_answers_each_and_tells_how_the_session_is() -> Result<()> {
    let market = Market::with_subscribers(1)?;
    let mut bob = Customer::funded(&market, market.lab.subscriber(), 100_000)?;
    let (mut socket, _) = connect(&bob)?;
    let mut sessions = 0;
    let first = bob.sign(3_000)?;
    for credit in [3_000, 3_500, 4_000] {
        let body = if credit == 3_000 { first } else { bob.sign(credit)? };
        pay(&mut socket, &body)?;
        match answer(&mut socket, &mut sessions)? {
            StreamMessage::Accepted(accepted) => {
                ensure!(accepted.credit_msat.0 == credit * 1_000, "{accepted:?}");
            }
            other => bail!("{other:?}"),
        }
    }
    pay(&mut socket, &first)?;
    match answer(&mut socket, &mut sessions)? {
        StreamMessage::Refused(error) => {
            ensure!(error.reason == "stale" && error.newest.is_some(), "{error:?}");
        }
        other => bail!("{other:?}"),
    }
    socket.send(Message::text("{"))?;
    match answer(&mut socket, &mut sessions)? {
        StreamMessage::Refused(error) => ensure!(error.reason == "malformed", "{error:?}"),
        other => bail!("{other:?}"),
    }
    while sessions < 2 {
        match serde_json::from_str(socket.read()?.to_text()?)? {
            StreamMessage::Session(session) => {
                ensure!(session.open && session.balance_msat.0 == 4_000_000, "{session:?}");
                sessions += 1;
            }
            other => bail!("{other:?}"),
        }
    }
    // A message that is too long ends the stream; the channel is as it was.
    let _ = socket.send(Message::text("7".repeat(100_000)));
    ensure!((0..10).any(|_| socket.read().is_err()), "the stream goes on");
    ensure!(bob.view()?.credit_msat.0 == 4_000_000, "{:?}", bob.view()?);
    Ok(())
}
