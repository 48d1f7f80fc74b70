//! The limits of the portal, over real sockets, with an agent that is made up.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitmesh_core::wire::{ApiError, MAX_BODY_BYTES, SessionView};
use bitmesh_core::{Mac, MilliSat, Tariff};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::caller::{Caller, Hall};
use super::connection::serve;
use super::host::Own;
use super::places::Places;
use super::routes::routes;
use super::*;

/// A portal for one station, and where its questions go.
pub(super) struct Rig {
    pub(super) address: SocketAddr,
    pub(super) asked: mpsc::Receiver<Asked>,
}

impl Rig {
    async fn new(mac: Option<Mac>) -> Self {
        Self::with_room(mac, MAX_WAITING).await
    }

    async fn with_room(mac: Option<Mac>, room: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (ask, asked) = mpsc::channel(room);
        let hall = Arc::new(Hall::new(ask, None).expect("a hall"));
        let (addresses, port) = (vec![address.ip()], address.port());
        let own =
            Own { addresses, names: Vec::new(), plain_port: port, tls_port: None, secure: false };
        let own = Arc::new(Mutex::new(own));
        let caller = Caller { mac, hall, own, local: address.ip() };
        tokio::spawn(async move {
            let places = Places::new(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_STATION);
            while let Ok((stream, _)) = listener.accept().await {
                let place = places.take(mac).expect("a place");
                tokio::spawn(serve(stream, place, None, routes(), caller.clone()));
            }
        });
        Self { address, asked }
    }

    pub(super) async fn of_bob() -> Self {
        Self::new(Some(Mac::new([2, 0, 0, 0, 0, 0x0b]))).await
    }

    /// The head of a request for `line` up to its last header.
    pub(super) fn head(&self, line: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: {}\r\n", self.address)
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// Sends this and reads until the other side closes.
    pub(super) async fn exchange(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.expect("sent");
        read(&mut stream).await
    }

    async fn get(&self, path: &str) -> String {
        let head = self.head(&format!("GET {path}"));
        self.exchange(&format!("{head}Connection: close\r\n\r\n")).await
    }

    /// An agent that knows one session.
    fn answer_all(self) {
        let mut asked = self.asked;
        tokio::spawn(async move {
            while let Some(Asked { answer, .. }) = asked.recv().await {
                let _ = answer.send(Ok(Told::Session(session())));
            }
        });
    }
}

fn session() -> SessionView {
    SessionView {
        open: true,
        tariff: Tariff::default(),
        uplink_bytes: 1,
        downlink_bytes: 2,
        charged_for_bytes_msat: MilliSat(3),
        charged_for_time_msat: MilliSat(4),
        balance_msat: MilliSat(5),
    }
}

pub(super) async fn read(stream: &mut TcpStream) -> String {
    let mut said = String::new();
    let whole = timeout(Duration::from_secs(60), stream.read_to_string(&mut said)).await;
    whole.expect("the other side closes").expect("read");
    said
}

#[track_caller]
fn refused(said: &str, status: u16, reason: &str) {
    assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
    let body = said.split_once("\r\n\r\n").expect("a body").1;
    let error: ApiError = serde_json::from_str(body).expect("an error as JSON");
    assert_eq!(error.reason, reason);
    assert!(!error.message.is_empty() && said.contains("application/json"), "{said}");
}

#[tokio::test]
async fn a_station_is_answered_and_nothing_is_kept_by_caches() {
    let rig = Rig::of_bob().await;
    let head = rig.head("GET /api/v1/session");
    let mut stream = rig.connect().await;
    rig.answer_all();
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await.expect("sent");
    let said = read(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("no-store"), "{said}");
    assert!(said.ends_with("\"balance_msat\":5}"), "{said}");
}

#[tokio::test]
async fn who_is_no_station_is_refused_whatever_its_headers_say() {
    let rig = Rig::new(None).await;
    let forwarded = "X-Forwarded-For: 10.77.0.10\r\nX-Real-IP: 10.77.0.10\r\n";
    let head = rig.head("GET /api/v1/session");
    refused(&rig.exchange(&format!("{head}{forwarded}\r\n")).await, 403, "no_station");
}

#[tokio::test]
async fn what_is_not_there_or_has_another_method_is_refused_as_json() {
    let rig = Rig::of_bob().await;
    refused(&rig.get("/nothing").await, 404, "not_found");
    refused(&rig.get("/api/v2/offer").await, 404, "not_found");
    refused(&rig.get("/api/v1/channels").await, 405, "wrong_method");
    refused(&rig.get("/api/v1/channels/ff").await, 404, "no_channel");
    refused(&rig.get("/api/v1/offer").await, 400, "malformed");
    let more = format!("/api/v1/offer?challenge={}&more=1", "00".repeat(32));
    refused(&rig.get(&more).await, 400, "malformed");
}

#[tokio::test]
async fn another_host_is_refused() {
    let rig = Rig::of_bob().await;
    let said =
        rig.exchange("GET /api/v1/session HTTP/1.1\r\nHost: evil.example:2121\r\n\r\n").await;
    refused(&said, 421, "wrong_host");
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_from_its_head_alone() {
    let rig = Rig::of_bob().await;
    let head = rig.head("POST /api/v1/channels");
    let length = MAX_BODY_BYTES + 1;
    let kind = "Content-Type: application/json\r\n";
    let request = format!("{head}{kind}Content-Length: {length}\r\n\r\n");
    let mut stream = rig.connect().await;
    stream.write_all(request.as_bytes()).await.expect("sent");
    let began = Instant::now();
    stream.shutdown().await.expect("shut down");
    refused(&read(&mut stream).await, 413, "too_long");
    assert!(began.elapsed() < BODY_TIMEOUT / 2);
}

#[tokio::test]
async fn a_body_of_another_type_is_refused_before_it_is_read() {
    let rig = Rig::of_bob().await;
    let head = rig.head("POST /api/v1/channels");
    let kind = "Content-Type: text/plain\r\nConnection: close\r\n";
    let said = rig.exchange(&format!("{head}{kind}Content-Length: 2\r\n\r\n{{}}")).await;
    refused(&said, 415, "not_json");
}

#[tokio::test]
async fn a_head_that_is_too_long_or_has_too_many_headers_is_refused() {
    let rig = Rig::of_bob().await;
    let head = rig.head("GET /api/v1/session");
    let long = format!("{head}X: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES));
    refused(&rig.exchange(&long).await, 431, "too_long");
    let many = format!("{head}{}\r\n", "X: x\r\n".repeat(MAX_HEADERS));
    refused(&rig.exchange(&many).await, 431, "too_long");
}

#[tokio::test]
async fn what_is_no_http_is_refused_as_json() {
    let rig = Rig::of_bob().await;
    let head = rig.head("GET /api/v1/session");
    for text in [
        "\r\n\r\n\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02",
        &format!("{head}no header\r\n\r\n"),
        &format!("{head}Content-Length: some\r\n\r\n"),
        &format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        &format!("{head}Transfer-Encoding: gzip\r\n\r\n"),
    ] {
        refused(&rig.exchange(text).await, 400, "malformed");
    }
    // Longer than a target may be, and that is longer than a head may be.
    let target = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 16));
    let said = rig.exchange(&target).await;
    assert!(said.starts_with("HTTP/1.1 414 ") || said.starts_with("HTTP/1.1 431 "), "{said}");
    assert!(said.contains("\"too_long\""), "{said}");
    // An answer that was on its way before is whole.
    let said = rig.exchange(&format!("{}\r\nno request\r\n\r\n", rig.head("GET /nothing"))).await;
    assert!(said.contains("\"not_found\"") && said.ends_with('}'), "{said}");
    assert_eq!(said.matches("\"malformed\"").count(), 1, "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_ends_the_connection() {
    let rig = Rig::of_bob().await;
    let began = Instant::now();
    let said = rig.exchange(&rig.head("GET /api/v1/session")).await;
    assert_eq!(said, "", "there is nothing to answer");
    assert!(began.elapsed() < HEAD_TIMEOUT * 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_refused_in_time() {
    let rig = Rig::of_bob().await;
    let head = rig.head("POST /api/v1/channels");
    let request = format!("{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{");
    let began = Instant::now();
    refused(&rig.exchange(&request).await, 408, "slow_body");
    assert!(began.elapsed() < BODY_TIMEOUT * 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_is_not_waited_for_for_ever() {
    let rig = Rig::of_bob().await;
    refused(&rig.get("/api/v1/session").await, 503, "unavailable");
}

#[tokio::test]
async fn an_agent_with_too_much_to_do_says_so_at_once() {
    let rig = Rig::with_room(Some(Mac::new([2, 0, 0, 0, 0, 1])), 1).await;
    let mut first = rig.connect().await;
    let head = rig.head("GET /api/v1/session");
    first.write_all(format!("{head}\r\n").as_bytes()).await.expect("sent");
    // Until the first question waits.
    while rig.asked.is_empty() {
        tokio::task::yield_now().await;
    }
    refused(&rig.get("/api/v1/session").await, 503, "overloaded");
}

#[tokio::test]
async fn a_station_that_asks_too_fast_is_told_to_wait() {
    let rig = Rig::of_bob().await;
    let one = rig.head("GET /nothing") + "\r\n";
    let last = rig.head("GET /nothing") + "Connection: close\r\n\r\n";
    let burst = MAX_BURST as usize;
    let said = rig.exchange(&(one.repeat(burst * 2) + &last)).await;
    let let_in = said.matches("\"not_found\"").count();
    assert!((burst..burst + 20).contains(&let_in), "{let_in}");
    assert_eq!(said.matches("\"too_fast\"").count() + let_in, burst * 2 + 1);
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_answer_is_hung_up_on() {
    let rig = Rig::of_bob().await;
    let address = rig.address;
    let one = rig.head("GET /api/v1/session") + "\r\n";
    rig.answer_all();
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let ended = timeout(Duration::from_secs(600), async {
        // Answers fill the buffers of both sides, and nobody reads them.
        while stream.write_all(one.repeat(1_000).as_bytes()).await.is_ok() {}
    });
    assert!(ended.await.is_ok(), "the gateway waits for ever");
}
