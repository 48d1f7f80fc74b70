//! The scripted gateway's socket: one request a connection, read with the least that serves.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitmesh_common::abi::Tally;
use bitmesh_core::channel::message::Challenge;
use bitmesh_core::wire::ApiError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fake::{Book, FIRST, Lie};

/// The gateway, answering on a port of its own until it is dropped.
pub(super) struct Fake {
    pub(super) url: String,
    pub(super) book: Arc<Mutex<Book>>,
    address: std::net::SocketAddr,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fake {
    pub(super) fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let book = Arc::new(Mutex::new(Book {
            lie,
            channels: BTreeMap::new(),
            asked: Vec::new(),
            lose: 0,
            refuse: None,
            confirms: true,
            passed: Tally::default(),
            station: FIRST,
            next_index: 0,
        }));
        let own = Arc::clone(&book);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if !serve(stream.unwrap(), &own) {
                    return;
                }
            }
        });
        Self { url: format!("http://{address}"), book, address, thread: Some(thread) }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // An empty connection ends it.
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

/// One request, one answer. Gives whether there was a request.
fn serve(mut stream: TcpStream, book: &Mutex<Book>) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut chunk = [0; 4_096];
        let got = stream.read(&mut chunk).unwrap_or(0);
        if got == 0 {
            return !bytes.is_empty();
        }
        bytes.extend_from_slice(&chunk[..got]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
        });
        if body.len() >= length.unwrap_or(0_usize) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let mut words = head.split_whitespace();
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut book = book.lock().unwrap();
    book.asked.push(format!("{method} {path}"));
    let answer = match book.refuse.clone() {
        Some(error) => Err(error),
        None => route(&mut book, path, &body),
    };
    if book.lose > 0 {
        book.lose -= 1;
        return true;
    }
    drop(book);
    let (status, json) = match answer {
        Ok(json) => (200, json),
        Err(error) => (error.status(), serde_json::to_string(&error).unwrap()),
    };
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{json}",
        json.len()
    );
    stream.write_all(answer.as_bytes()).unwrap();
    true
}

fn route(book: &mut Book, path: &str, body: &str) -> Result<String, ApiError> {
    let path = path.strip_prefix("/api/v1/").unwrap();
    if let Some(hex) = path.strip_prefix("offer?challenge=") {
        let challenge = Challenge::try_from(hex.to_owned()).unwrap();
        return json(&book.offer(challenge));
    }
    let mut parts = path.split('/');
    assert_eq!(parts.next(), Some("channels"), "{path}");
    let Some(id) = parts.next() else { return json(&book.open(&read(body))) };
    let id = id.parse().unwrap();
    match parts.collect::<Vec<_>>().as_slice() {
        [] => json(&book.view(id)?),
        ["funding"] => {
            book.fund(id, &read(body))?;
            json(&book.view(id)?)
        }
        ["updates"] => json(&book.update(id, &read(body))?),
        ["challenge"] => json(&book.challenge(id)?),
        ["resume"] => {
            book.resume(id, &read(body))?;
            json(&book.view(id)?)
        }
        ["close"] => json(&book.close(id, &read(body))?),
        ["close", "complete"] => json(&book.complete(id, &read(body))?),
        other => panic!("{other:?}"),
    }
}

fn read<T: DeserializeOwned>(body: &str) -> T {
    serde_json::from_str(body).unwrap()
}

#[allow(clippy::unnecessary_wraps, reason = "as the routes that can fail")]
fn json(value: &impl Serialize) -> Result<String, ApiError> {
    Ok(serde_json::to_string(value).unwrap())
}
