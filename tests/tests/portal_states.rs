//! What visitors and their devices are told by the real gateway, before and after they paid.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::lab::{GATEWAY_V4, Lab, SERVER_V4, Subscriber};
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;
use serde_json::Value;

const TARIFF: Tariff =
    Tariff { uplink_msat_per_mib: 1_000_000, downlink_msat_per_mib: 500_000, msat_per_minute: 0 };
const PORTAL: &str = "http://10.77.0.1:2121/";
const PATIENCE: Duration = Duration::from_secs(5);

/// What each system asks, and what tells it that it is online.
const PROBES: [(&str, &str, &str); 7] = [
    ("android.example", "/generate_204", "HTTP/1.1 204 "),
    ("apple.example", "/hotspot-detect.html", "Success"),
    ("windows.example", "/connecttest.txt", "Microsoft Connect Test"),
    ("ncsi.example", "/ncsi.txt", "Microsoft NCSI"),
    ("firefox.example", "/success.txt", "success"),
    ("firefox.example", "/canonical.html", "support.mozilla"),
    ("gnome.example", "/check_network_status.txt", "NetworkManager is online"),
];

/// The internet's own answers to the probes.
fn serve(lab: &Lab) -> Result<()> {
    let listener = lab.internet.enter(|| Ok(TcpListener::bind((SERVER_V4, 80))?))?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = [0; 1_024];
            let length = stream.read(&mut asked).unwrap_or(0);
            let asked = String::from_utf8_lossy(&asked[..length]);
            let known = PROBES.iter().find(|(_, path, _)| asked.contains(&format!("GET {path} ")));
            let answer = match known {
                Some((_, _, status)) if status.starts_with("HTTP/") => {
                    format!("{status}No Content\r\nconnection: close\r\n\r\n")
                }
                Some((_, _, body)) => format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}"),
                None => "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n".to_owned(),
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    Ok(())
}

/// Sends a request from Bob's device, and gives all that comes back.
fn ask(bob: &Subscriber, to: SocketAddr, request: &str) -> Result<String> {
    bob.namespace.enter(|| {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("the answer does not end")?;
        Ok(answer)
    })
}

fn probe(bob: &Subscriber, host: &str, path: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    ask(bob, (SERVER_V4, 80).into(), &request)
}

fn own(bob: &Subscriber, path: &str) -> Result<String> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: 10.77.0.1:2121\r\n");
    ask(bob, (GATEWAY_V4, 2121).into(), &format!("{head}Connection: close\r\n\r\n"))
}

fn captive(bob: &Subscriber) -> Result<Value> {
    let said = own(bob, "/captive")?;
    ensure!(said.contains("content-type: application/captive+json"), "{said}");
    ensure!(said.contains("cache-control: private"), "{said}");
    Ok(serde_json::from_str(said.split_once("\r\n\r\n").context("no body")?.1)?)
}

fn are_led(bob: &Subscriber) -> Result<()> {
    for (host, path, online) in PROBES {
        let said = probe(bob, host, path)?;
        ensure!(said.starts_with("HTTP/1.1 302 "), "{host}{path}: {said}");
        ensure!(said.contains(&format!("location: {PORTAL}\r\n")), "{host}{path}: {said}");
        ensure!(!said.contains(online), "{host}{path}: {said}");
    }
    Ok(())
}

fn reach_the_internet(bob: &Subscriber) -> Result<()> {
    for (host, path, online) in PROBES {
        let said = probe(bob, host, path)?;
        ensure!(said.contains(online) && !said.contains(PORTAL), "{host}{path}: {said}");
    }
    Ok(())
}

/// Bob uses all that he has: packets that are long, then short ones, for which the rest still pays.
fn use_up(lab: &Lab, agent: &Agent) -> Result<()> {
    let bob = lab.subscriber();
    let receiver = Receiver::start(&lab.internet, SERVER_V4)?;
    for (payload, packets) in [(1_400, 500), (1, 100)] {
        let pace = Pace { payload, every: Duration::from_millis(1), packets: Some(packets) };
        Sender::start(&bob.namespace, receiver.address, pace)?.finish()?;
    }
    receiver.stop()?;
    until("the gateway has noticed", || Ok(captive(bob)?["captive"] == true))
        .with_context(|| agent.said())
}

/// What RFC 8908 has to say.
#[derive(Clone, Copy)]
enum Answer {
    /// Captive, and nothing is left.
    Captive,
    /// What is left buys bytes alone, at this price of the dearer direction.
    Bytes { msat_per_mib: u64 },
    /// What is left buys time alone, at this price.
    Time { msat_per_minute: u64 },
}

/// The captive state and the answer to every system's probe, as they have to be.
fn are_told(agent: &Agent, bob: &Subscriber, expected: Answer) -> Result<()> {
    let balance = || agent.account(bob)?["balance_msat"].as_u64().context("no balance");
    let before = balance().unwrap_or(0);
    let state = captive(bob)?;
    ensure!(state["user-portal-url"] == PORTAL, "{state}");
    ensure!(state["can-extend-session"] == true, "{state}");
    ensure!(state["venue-info-url"] == "https://cafe.example/", "{state}");
    let (bytes, seconds) = (state["bytes-remaining"].as_u64(), state["seconds-remaining"].as_u64());
    ensure!(state["captive"] == matches!(expected, Answer::Captive), "{state}");
    match expected {
        Answer::Captive => {
            ensure!((bytes, seconds) == (None, None), "{state}");
            return are_led(bob);
        }
        Answer::Bytes { msat_per_mib } => {
            // A last packet of an earlier step may be charged meanwhile.
            let bought = |balance: u64| balance * (1 << 20) / msat_per_mib;
            let range = bought(balance()?)..=bought(before);
            ensure!(bytes.is_some_and(|bytes| range.contains(&bytes)), "{state}, not {range:?}");
            ensure!(seconds.is_none(), "{state}");
        }
        Answer::Time { msat_per_minute } => {
            let most = balance()? * 60 / msat_per_minute;
            ensure!(seconds.is_some_and(|s| (most..=most + 5).contains(&s)), "{state}, {most} s");
            ensure!(bytes.is_none(), "{state}");
        }
    }
    reach_the_internet(bob)
}

#[test]
fn the_captive_state_and_every_probe_follow_each_change_of_the_account() -> Result<()> {
    const BYTES: Answer = Answer::Bytes { msat_per_mib: 1_000_000 };
    const TIME: Answer = Answer::Time { msat_per_minute: 60_000 };
    type Change = fn(&Lab, &mut Agent) -> Result<()>;
    let changes: [(&str, Change, Answer); 10] = [
        ("joined", |_, _| Ok(()), Answer::Captive),
        ("granted", |lab, agent| agent.grant(lab.subscriber(), 500_000).map(drop), BYTES),
        ("used up", |lab, agent| use_up(lab, agent), Answer::Captive),
        ("topped up", |lab, agent| agent.grant(lab.subscriber(), 700_000).map(drop), BYTES),
        ("agent killed and started again", restart, BYTES),
        ("stopped", stop, Answer::Captive),
        ("agent killed and started again, stopped", restart, Answer::Captive),
        (
            "granted under another tariff",
            |lab, agent| agent.grant_under(lab.subscriber(), 600_000, "timed").map(drop),
            TIME,
        ),
        ("stopped again", stop, Answer::Captive),
        ("granted once more", |lab, agent| agent.grant(lab.subscriber(), 1_000).map(drop), BYTES),
    ];
    let lab = Lab::new()?;
    let mut settings =
        Settings::new(TARIFF).with("[portal]\nvenue_info_url = \"https://cafe.example/\"\n");
    settings.tariffs.push(("timed", Tariff { msat_per_minute: 60_000, ..Tariff::default() }));
    let mut agent = Agent::start(&lab, &settings)?;
    serve(&lab)?;
    for (what, change, expected) in changes {
        change(&lab, &mut agent).context(what)?;
        are_told(&agent, lab.subscriber(), expected).context(what)?;
    }
    Ok(())
}

fn stop(lab: &Lab, agent: &mut Agent) -> Result<()> {
    agent.ask(&["stop", &lab.subscriber().mac_text()]).map(drop)
}

fn restart(lab: &Lab, agent: &mut Agent) -> Result<()> {
    agent.end(Signal::SIGKILL)?;
    agent.launch(&lab.gateway)
}

/// The token in a page's form.
fn pass_in(page: &str) -> Result<String> {
    let (_, rest) = page.split_once("name=\"pass\" value=\"").context("no token")?;
    Ok(rest.split_once('"').context("no end")?.0.to_owned())
}

fn press_stop(bob: &Subscriber, pass: &str, more: &str) -> Result<String> {
    let form = format!("pass={pass}");
    let request = format!(
        "POST /stop HTTP/1.1\r\nHost: 10.77.0.1:2121\r\nConnection: close\r\n{more}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    ask(bob, (GATEWAY_V4, 2121).into(), &request)
}

#[test]
fn no_visitor_sees_or_stops_the_session_of_another_whatever_its_headers_say() -> Result<()> {
    let lab = Lab::with_subscribers(2)?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let [bob, carol] = [&lab.subscribers[0], &lab.subscribers[1]];
    agent.grant(bob, 500_000)?;
    ensure!(own(bob, "/api/v1/session")?.contains("\"balance_msat\":500000"), "Bob sees his own");
    let as_bob = format!(
        "X-Forwarded-For: {0}\r\nForwarded: for={0}\r\nX-Real-IP: {0}\r\nCookie: mac={1}\r\n",
        bob.v4(),
        bob.mac_text()
    );
    let asks = |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: 10.77.0.1:2121\r\n{as_bob}");
        ask(carol, (GATEWAY_V4, 2121).into(), &format!("{head}Connection: close\r\n\r\n"))
    };
    ensure!(asks("/api/v1/session")?.contains("\"no_session\""), "Carol has a session");
    ensure!(asks("/captive")?.contains("\"captive\":true"), "Carol is online");
    let page = asks("/?lang=en")?;
    ensure!(page.contains("You are not online yet."), "{page}");
    ensure!(page.contains("<data id=\"left\" value=\"0\">"), "{page}");
    ensure!(page.contains(&carol.mac_text()) && !page.contains(&bob.mac_text()), "{page}");
    let event = carol.namespace.enter(|| {
        let mut stream = TcpStream::connect_timeout(&(GATEWAY_V4, 2121).into(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!("GET /live?lang=en HTTP/1.1\r\nHost: 10.77.0.1:2121\r\n{as_bob}\r\n");
        stream.write_all(head.as_bytes())?;
        let (mut said, mut part) = (String::new(), [0; 4_096]);
        while !said.contains("\"fields\"") {
            let length = stream.read(&mut part)?;
            ensure!(length > 0, "the stream ended: {said}");
            said += &String::from_utf8_lossy(&part[..length]);
        }
        Ok(said)
    })?;
    ensure!(event.contains("\"state\":\"offline\""), "{event}");
    ensure!(event.contains("{\"id\":\"left\",\"value\":\"0\""), "{event}");

    let of_bob = pass_in(&own(bob, "/")?)?;
    let said = press_stop(carol, &of_bob, &as_bob)?;
    ensure!(said.starts_with("HTTP/1.1 403 "), "{said}");
    ensure!(agent.account(bob)?["state"] == "open", "Carol stopped Bob");
    let said = press_stop(carol, &pass_in(&page)?, &as_bob)?;
    ensure!(agent.account(bob)?["state"] == "open", "Carol stopped Bob: {said}");
    Ok(())
}

#[test]
fn the_page_shows_what_the_books_say_and_its_button_closes_the_gate() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    let bob = lab.subscriber();
    agent.grant(bob, 500_000)?;
    let receiver = Receiver::start(&lab.internet, SERVER_V4)?;
    let pace = Pace { payload: 500, every: Duration::from_millis(1), packets: Some(100) };
    Sender::start(&bob.namespace, receiver.address, pace)?.finish()?;
    receiver.stop()?;
    let books = agent.account(bob)?;
    let page = own(bob, "/")?;
    for (id, key) in [("up", "uplink_bytes"), ("down", "downlink_bytes"), ("left", "balance_msat")]
    {
        let expected = format!("<data id=\"{id}\" value=\"{}\">", books[key]);
        ensure!(page.contains(&expected), "no {expected} in {page}");
    }
    ensure!(books["uplink_bytes"] == 52_800, "{books}");
    let said = press_stop(bob, &pass_in(&page)?, "")?;
    ensure!(said.starts_with("HTTP/1.1 303 "), "{said}");
    ensure!(agent.account(bob)?["state"] == "closed", "the gate is open");
    ensure!(own(bob, "/")?.contains("You are offline."), "the page says otherwise");
    Ok(())
}
