//! Plain HTTP of who can't pay reaches the portal, and never the internet.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::counter::Counter;
use bitmesh_tests::lab::{ETH, Lab, SERVER_V4, SERVER_V6};
use bitmesh_tests::namespace::Namespace;
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::wait::{until, until_still};
use nix::sys::signal::Signal;

const TARIFF: Tariff = Tariff::bytes(1_000_000);
const MIB: u64 = 1 << 20;
const HTTP: u16 = 80;

/// How long an answer may take in the lab.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long nobody must answer.
const SILENCE: Duration = Duration::from_millis(500);

/// What the server on the internet says.
const SERVED: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

/// Asks for a page, and gives what is answered.
fn get(from: &Namespace, server: IpAddr, patience: Duration) -> Result<String> {
    from.enter(|| {
        let address = SocketAddr::new(server, HTTP);
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        write!(
            stream,
            "GET /generate_204 HTTP/1.1\r\nhost: probe.example\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("the answer does not end")?;
        Ok(answer)
    })
}

/// A server on the internet that says the same to everybody.
fn serve(lab: &Lab, at: IpAddr) -> Result<()> {
    let listener = lab.internet.enter(|| Ok(TcpListener::bind((at, HTTP))?))?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = [0; 512];
            let _ = stream.read(&mut asked).and_then(|_| stream.write_all(SERVED.as_bytes()));
        }
    });
    Ok(())
}

/// Counts what the internet hears of the LAN.
fn heard(lab: &Lab) -> Result<Counter> {
    Counter::arriving(&lab.internet, ETH, &["10.77.0.0/24", "fd77::/64"])
}

fn is_led(lab: &Lab) -> Result<()> {
    let heard = heard(lab)?;
    for server in [SERVER_V4, SERVER_V6] {
        let answer = get(&lab.subscriber().namespace, server, PATIENCE)?;
        ensure!(answer.starts_with("HTTP/1.1 ") && !answer.starts_with(SERVED), "{answer}");
    }
    ensure!(heard.settled()?.packets == 0, "the internet heard of it: {:?}", heard.read()?);
    Ok(())
}

#[test]
fn plain_http_of_a_stranger_is_answered_by_the_portal_and_not_forwarded() -> Result<()> {
    for hook in ["tcx", "clsact", "xdp"] {
        let lab = Lab::new()?;
        let _agent = Agent::start(&lab, &Settings::new(TARIFF).on_hook(hook))?;
        for server in [SERVER_V4, SERVER_V6] {
            serve(&lab, server)?;
        }
        is_led(&lab).with_context(|| hook)?;
    }
    Ok(())
}

#[test]
fn who_pays_reaches_the_server_and_who_ran_dry_the_portal_again() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let bob = lab.subscriber();
    serve(&lab, SERVER_V4)?;
    agent.grant(bob, 10 * 1_000_000)?;
    ensure!(get(&bob.namespace, SERVER_V4, PATIENCE)? == SERVED, "it is paid for");
    agent.ask(&["stop", &bob.mac_text()])?;
    is_led(&lab)
}

#[test]
fn a_download_at_port_80_that_runs_dry_stalls_and_goes_on() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let bob = lab.subscriber();
    agent.grant(bob, 2 * 1_000_000)?;
    let ends = Ends { client: &bob.namespace, server: &lab.internet, address: SERVER_V4 };
    let download = Stream::download_at(ends, HTTP, Load::of(6 * MIB))?;
    let before = until_still(|| Ok(download.received()))?;
    ensure!(before < 2 * MIB, "{before} bytes for 2 MiB of credit");
    agent.grant(bob, 10 * 1_000_000)?;
    until("the download goes on", || Ok(download.received() > before + MIB))?;
    ensure!(download.finish()? == 6 * MIB, "the same connection carries all of it");
    Ok(())
}

#[test]
fn with_the_agent_dead_and_all_rules_gone_nothing_of_the_unpaid_is_forwarded() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    serve(&lab, SERVER_V4)?;
    agent.end(Signal::SIGKILL)?;
    lab.gateway.run("nft", &["flush", "ruleset"])?;
    let heard = heard(&lab)?;
    let bob = &lab.subscriber().namespace;
    ensure!(get(bob, SERVER_V4, SILENCE).is_err(), "somebody answers");
    ensure!(get(bob, SERVER_V6, SILENCE).is_err(), "somebody answers");
    let probe = SocketAddr::new(SERVER_V4, 443);
    ensure!(bob.enter(|| Ok(TcpStream::connect_timeout(&probe, SILENCE)))?.is_err(), "it passes");
    ensure!(heard.settled()?.packets == 0, "the internet heard of it: {:?}", heard.read()?);
    Ok(())
}
