//! As much of HTTP/1.1 as a load generator needs: requests are bytes, and answers are read whole.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::crowd::PORTAL;

/// Bytes of an answer, at most.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// A request with a body of JSON.
///
/// # Errors
///
/// Fails if that can't be JSON.
pub(super) fn post(path: &str, body: &impl Serialize) -> Result<Vec<u8>> {
    let body = serde_json::to_string(body)?;
    let length = body.len();
    let head = format!(
        "POST /api/v1{path} HTTP/1.1\r\nHost: {PORTAL}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    Ok((head + &body).into_bytes())
}

/// A request without a body.
pub(super) fn get(path: &str) -> Vec<u8> {
    format!("GET /api/v1{path} HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n").into_bytes()
}

/// What came of an answer so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    bytes: Vec<u8>,
    /// Where the body begins and ends, once the head is there.
    body: Option<(usize, usize)>,
}

impl Answer {
    /// Takes what came. True when the answer is whole.
    ///
    /// # Errors
    ///
    /// Fails if it is no answer.
    pub(super) fn take(&mut self, part: &[u8]) -> Result<bool> {
        self.bytes.extend_from_slice(part);
        ensure!(self.bytes.len() <= MAX_ANSWER_BYTES, "a long answer");
        if self.body.is_none()
            && let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")
        {
            self.body = Some((end + 4, end + 4 + self.length(end)?));
        }
        Ok(self.body.is_some_and(|(_, end)| self.bytes.len() >= end))
    }

    fn length(&self, head: usize) -> Result<usize> {
        let head = str::from_utf8(&self.bytes[..head])?;
        let fields = head.lines().filter_map(|line| line.split_once(':'));
        let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let (_, length) = lengths.next().with_context(|| format!("no length: {head}"))?;
        Ok(length.trim().parse()?)
    }

    /// Whether what was asked for was done.
    pub(super) fn is_good(&self) -> bool {
        self.bytes.starts_with(b"HTTP/1.1 200 ")
    }

    /// All of it, for people.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// For the next answer.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.body = None;
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let (start, end) = self.body.context("no answer")?;
        serde_json::from_slice(&self.bytes[start..end]).with_context(|| self.text())
    }
}

/// Sends a request, and waits for the answer.
///
/// # Errors
///
/// Fails if there is none, or a refusal.
pub(super) fn ask<T: DeserializeOwned>(stream: &mut TcpStream, request: &[u8]) -> Result<T> {
    stream.write_all(request)?;
    let (mut answer, mut part) = (Answer::default(), [0; 8_192]);
    loop {
        let length = stream.read(&mut part)?;
        ensure!(length > 0, "the connection ended: {}", answer.text());
        if answer.take(&part[..length])? {
            break;
        }
    }
    if !answer.is_good() {
        bail!("refused: {}", answer.text());
    }
    answer.json()
}
