//! What visitors and their devices are told by the real gateway, before and after they paid.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::lab::{GATEWAY_V4, Lab, SERVER_V4, Subscriber};
use bitmesh_tests::udp::{Pace, Receiver, Sender};
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

#[test]
fn the_captive_state_and_every_probe_follow_each_change_of_the_account() -> Result<()> {
    let lab = Lab::new()?;
    let more = "[portal]\nvenue_info_url = \"https://cafe.example/\"\n";
    let agent = Agent::start(&lab, &Settings::new(TARIFF).with(more))?;
    let bob = lab.subscriber();
    serve(&lab)?;

    let state = captive(bob)?;
    ensure!(state["captive"] == true && state["user-portal-url"] == PORTAL, "{state}");
    ensure!(state["can-extend-session"] == true, "{state}");
    ensure!(state["venue-info-url"] == "https://cafe.example/", "{state}");
    ensure!(state.get("bytes-remaining").is_none(), "{state}");
    are_led(bob)?;

    agent.grant(bob, 500_000)?;
    let state = captive(bob)?;
    ensure!(state["captive"] == false, "{state}");
    // Half a MiB at the dearer price.
    ensure!(state["bytes-remaining"] == 524_288, "{state}");
    ensure!(state.get("seconds-remaining").is_none(), "{state}");
    reach_the_internet(bob)?;

    agent.ask(&["stop", &bob.mac_text()])?;
    ensure!(captive(bob)?["captive"] == true, "stopped");
    are_led(bob)?;

    agent.grant(bob, 1_000)?;
    ensure!(captive(bob)?["captive"] == false, "granted again");
    reach_the_internet(bob)?;
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
    let (_, rest) = page.split_once("name=\"pass\" value=\"").context("no token")?;
    let form = format!("pass={}", rest.split_once('"').context("no end")?.0);
    let request = format!(
        "POST /stop HTTP/1.1\r\nHost: 10.77.0.1:2121\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let said = ask(bob, (GATEWAY_V4, 2121).into(), &request)?;
    ensure!(said.starts_with("HTTP/1.1 303 "), "{said}");
    ensure!(agent.account(bob)?["state"] == "closed", "the gate is open");
    ensure!(own(bob, "/")?.contains("You are offline."), "the page says otherwise");
    Ok(())
}
