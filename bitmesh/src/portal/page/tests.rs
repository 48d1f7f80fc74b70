use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bitmesh_core::{StateWord, Tariff};
use flate2::read::GzDecoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::packed::pack;
use crate::portal::ask::{Answered, Asked, Question, Told};
use crate::portal::tests::{Rig, read};
use crate::portal::visit::Visit;
use crate::portal::visit::tests::{account, visit};

const TARIFF: Tariff = Tariff {
    uplink_msat_per_mib: 20_000,
    downlink_msat_per_mib: 20_000,
    msat_per_minute: 0,
    ..Tariff::FREE
};

/// Bytes of all that a first visit takes, packed, at most.
const MAX_FIRST_PAGE_BYTES: usize = 30_000;

fn open() -> Visit {
    visit(Some(account(StateWord::Open, TARIFF, 5_000)))
}

/// A portal whose agent knows this of its visitor, and how often it was asked to stop.
struct Stall {
    rig: Rig,
    stops: Arc<AtomicUsize>,
}

impl Stall {
    async fn new(visit: Visit) -> Self {
        let mut rig = Rig::of_bob().await;
        let stops = Arc::new(AtomicUsize::new(0));
        let (_, unheard) = tokio::sync::mpsc::channel(1);
        let mut asked = std::mem::replace(&mut rig.asked, unheard);
        let counted = Arc::clone(&stops);
        tokio::spawn(async move {
            while let Some(Asked { question, answer }) = asked.recv().await {
                let told: Answered = match question {
                    Question::Stop { .. } => {
                        counted.fetch_add(1, Ordering::Relaxed);
                        Ok(Told::Stopped)
                    }
                    _ => Ok(Told::Visit(Box::new(visit))),
                };
                let _ = answer.send(told);
            }
        });
        Self { rig, stops }
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        let head = self.rig.head(&format!("GET {path}"));
        self.rig.exchange(&format!("{head}{headers}Connection: close\r\n\r\n")).await
    }

    async fn post(&self, headers: &str, body: &str) -> String {
        let head = self.rig.head("POST /stop");
        let kind = "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n";
        let length = body.len();
        let request = format!("{head}{kind}{headers}Content-Length: {length}\r\n\r\n{body}");
        self.rig.exchange(&request).await
    }

    fn stops(&self) -> usize {
        self.stops.load(Ordering::Relaxed)
    }
}

fn pass_in(page: &str) -> &str {
    let (_, rest) = page.split_once("name=\"pass\" value=\"").expect("a token");
    rest.split_once('"').expect("its end").0
}

#[track_caller]
fn has(said: &str, part: &str) {
    assert!(said.contains(part), "no {part} in {said}");
}

#[tokio::test]
async fn the_page_says_price_state_and_numbers_without_any_script() {
    let said = Stall::new(open()).await.get("/", "").await;
    has(&said, "HTTP/1.1 200 ");
    has(&said, "20 sat per MiB");
    has(&said, "You are online. You pay only for what you use.");
    has(&said, "<data id=\"left\" value=\"5000\">5.000 sat</data>");
    has(&said, "<data id=\"down\" value=\"3145728\">3.00 MiB</data>");
    has(&said, "<data id=\"time\" value=\"61\">1 min 1 s</data>");
    has(&said, "private, no-store");
    has(&said, "<form id=\"stop\" method=\"post\" action=\"/stop\">");
}

#[tokio::test]
async fn each_state_has_its_sentence_and_stop_is_there_while_a_session_is() {
    let of = |state| Some(account(state, TARIFF, 5_000));
    for (account, sentence, stop) in [
        (None, "You are not online yet.", false),
        (of(StateWord::Waiting), "This gateway is full", true),
        (of(StateWord::Exhausted), "Your balance is used up.", true),
        (of(StateWord::Closed), "You are offline.", false),
    ] {
        let said = Stall::new(visit(account)).await.get("/", "").await;
        has(&said, sentence);
        let hidden = said.contains("action=\"/stop\" hidden");
        assert_eq!(hidden, !stop, "{sentence}");
    }
}

#[tokio::test]
async fn nothing_of_the_page_is_inline_or_comes_from_elsewhere() {
    let said = Stall::new(open()).await.get("/", "").await;
    let (head, html) = said.split_once("\r\n\r\n").expect("a body");
    has(head, "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'");
    assert!(!head.contains("unsafe-inline") && !html.contains("<style"));
    assert!(!html.contains(" style=") && !html.contains(" onclick=") && !html.contains("//cdn"));
    let scripts = html.matches("<script").count();
    assert_eq!(scripts, html.matches("src=\"/live.js\"></script>").count());
    for link in html.split("href=\"").skip(1) {
        assert!(link.starts_with('/'), "{link}");
    }
}

#[tokio::test]
async fn the_page_speaks_the_language_of_the_browser_or_of_its_address() {
    let stall = Stall::new(open()).await;
    let german = stall.get("/", "Accept-Language: de-DE,en;q=0.5\r\n").await;
    has(&german, "<html lang=\"de\" dir=\"ltr\">");
    has(&german, "20 sat pro MiB");
    has(&german, "content-language: de");
    let arabic = stall.get("/?lang=ar", "Accept-Language: de\r\n").await;
    has(&arabic, "<html lang=\"ar\" dir=\"rtl\">");
    has(&stall.get("/?lang=%22%3E", "").await, "<html lang=\"en\"");
}

#[tokio::test]
async fn a_first_visit_takes_less_than_30_kb_and_is_packed_for_who_takes_it() {
    let stall = Stall::new(open()).await;
    let mut sum = 0;
    for path in ["/?lang=ar", "/style.css", "/live.js", "/icon.svg"] {
        let plain = stall.get(path, "").await;
        assert!(!plain.contains("content-encoding"), "{plain}");
        let body = plain.split_once("\r\n\r\n").expect("a body").1;
        sum += pack(body.as_bytes()).expect("packed").len();
    }
    assert!(sum < MAX_FIRST_PAGE_BYTES, "{sum} bytes");
    let head = stall.rig.head("GET /");
    let mut stream = stall.rig.connect().await;
    let request = format!("{head}Accept-Encoding: gzip\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.expect("read");
    let cut = said.windows(4).position(|four| four == b"\r\n\r\n").expect("a body");
    has(&String::from_utf8_lossy(&said[..cut]), "content-encoding: gzip");
    let html = std::io::read_to_string(GzDecoder::new(&said[cut + 4..])).expect("gzip");
    has(&html, "</html>");
}

#[tokio::test]
async fn a_file_that_the_browser_has_is_not_sent_again() {
    let stall = Stall::new(open()).await;
    let first = stall.get("/live.js", "").await;
    let tag = first.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
    let again = stall.get("/live.js", &format!("If-None-Match: {tag}\r\n")).await;
    assert!(again.starts_with("HTTP/1.1 304 ") && again.ends_with("\r\n\r\n"), "{again}");
}

#[tokio::test]
async fn stop_needs_the_token_of_the_visitors_own_page() {
    let stall = Stall::new(open()).await;
    let page = stall.get("/", "").await;
    let pass = pass_in(&page);
    for body in ["", "lang=de", "pass=", &format!("pass={}", "0".repeat(64))] {
        let said = stall.post("", body).await;
        has(&said, "HTTP/1.1 403 ");
        has(&said, "role=\"alert\"");
    }
    assert_eq!(stall.stops(), 0);
    let said = stall.post("", &format!("pass={pass}&lang=de")).await;
    has(&said, "HTTP/1.1 303 ");
    has(&said, "location: /?lang=de");
    assert_eq!(stall.stops(), 1);
}

#[tokio::test]
async fn a_form_of_another_site_stops_nothing_even_with_a_token() {
    let stall = Stall::new(open()).await;
    let page = stall.get("/", "").await;
    let body = format!("pass={}", pass_in(&page));
    for origin in ["http://evil.example", "null"] {
        let said = stall.post(&format!("Origin: {origin}\r\n"), &body).await;
        has(&said, "HTTP/1.1 403 ");
    }
    assert_eq!(stall.stops(), 0);
    let own = format!("Origin: http://{}\r\n", stall.rig.address);
    has(&stall.post(&own, &body).await, "HTTP/1.1 303 ");
}

#[tokio::test]
async fn a_form_that_is_too_long_is_refused() {
    let stall = Stall::new(open()).await;
    has(&stall.post("", &"x".repeat(10_000)).await, "HTTP/1.1 413 ");
}

#[tokio::test(start_paused = true)]
async fn an_open_page_hears_of_every_second_and_one_too_many_is_told_to_stop_asking() {
    let stall = Stall::new(open()).await;
    let head = stall.rig.head("GET /live?lang=de");
    let mut streams = Vec::new();
    for _ in 0..crate::portal::MAX_PAGES_PER_STATION {
        let mut stream = stall.rig.connect().await;
        stream.write_all(format!("{head}\r\n").as_bytes()).await.expect("sent");
        let mut said = String::new();
        while said.matches("data: ").count() < 3 {
            let mut part = [0; 4_096];
            let length = stream.read(&mut part).await.expect("read");
            assert!(length > 0, "{said}");
            said += &String::from_utf8_lossy(&part[..length]);
        }
        has(&said, "content-type: text/event-stream");
        has(&said, "\"state\":\"open\",\"sentence\":\"Du bist online.");
        has(&said, "{\"id\":\"left\",\"value\":\"5000\",\"said\":\"5,000 sat\"}");
        streams.push(stream);
    }
    let mut extra = stall.rig.connect().await;
    extra.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await.expect("sent");
    assert!(read(&mut extra).await.starts_with("HTTP/1.1 204 "));
}

#[tokio::test]
async fn the_captive_portal_api_says_where_the_portal_is_and_what_is_left() {
    let stall = Stall::new(open()).await;
    let said = stall.get("/captive", "").await;
    has(&said, "content-type: application/captive+json");
    has(&said, "cache-control: private");
    let page = format!("\"user-portal-url\":\"http://{}/\"", stall.rig.address);
    has(&said, &page);
    has(&said, "\"captive\":false");
    has(&said, "\"bytes-remaining\":262144}");
}

#[tokio::test]
async fn every_systems_probe_is_led_to_the_portal_and_its_connection_ends() {
    let stall = Stall::new(visit(None)).await;
    for (host, path) in [
        ("connectivitycheck.gstatic.example", "/generate_204"),
        ("captive.apple.example", "/hotspot-detect.html"),
        ("www.msftconnecttest.example", "/connecttest.txt"),
        ("www.msftncsi.example", "/ncsi.txt"),
        ("detectportal.firefox.example", "/success.txt?ipv4"),
        ("detectportal.firefox.example", "/canonical.html"),
        ("nmcheck.gnome.example:80", "/check_network_status.txt"),
        ("networkcheck.kde.example", "/"),
    ] {
        let said =
            stall.rig.exchange(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        has(&said, "HTTP/1.1 302 ");
        has(&said, &format!("location: http://{}/\r\n", stall.rig.address));
        has(&said, "connection: close");
        has(&said, "no-store");
        assert!(!said.contains("Success") && !said.contains("Microsoft"), "{said}");
    }
    let post = "POST /api HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n";
    let said = stall.rig.exchange(post).await;
    has(&said, "HTTP/1.1 511 ");
    assert!(!said.contains("location:"), "{said}");
}
