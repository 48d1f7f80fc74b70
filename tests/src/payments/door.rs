//! The payment API from a subscriber's side: plain HTTP, no client of the product.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bitmesh_core::wire::ApiError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::lab::Subscriber;

/// The host of the portal, for the header and the address.
pub const HOST: &str = "10.77.0.1:2121";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status (RFC 9110, 15).
    pub status: i32,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// What was asked for.
    ///
    /// # Errors
    ///
    /// Fails if it was refused, with the reason, or is something else.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let text = String::from_utf8_lossy(&self.body);
        ensure!(self.status == 200, "status {}: {text}", self.status);
        serde_json::from_slice(&self.body).with_context(|| text.into_owned())
    }

    /// The refusal, for machines and for people.
    ///
    /// # Errors
    ///
    /// Fails if it is none, or says nothing to people.
    pub fn error(&self) -> Result<ApiError> {
        let error: ApiError = serde_json::from_slice(&self.body)
            .with_context(|| String::from_utf8_lossy(&self.body).into_owned())?;
        ensure!(!error.message.is_empty(), "no message");
        Ok(error)
    }

    /// The status and the reason of a refusal.
    ///
    /// # Errors
    ///
    /// As [`Self::error`].
    pub fn refusal(&self) -> Result<(i32, String)> {
        Ok((self.status, self.error()?.reason))
    }
}

/// Asks the portal from where the subscriber is.
///
/// # Errors
///
/// Fails without an answer.
pub fn get(from: &Subscriber, path: &str) -> Result<Answer> {
    send(from, bitreq::get(format!("http://{HOST}/api/v1{path}")))
}

/// Posts JSON.
///
/// # Errors
///
/// Fails without an answer.
pub fn post(from: &Subscriber, path: &str, body: &impl Serialize) -> Result<Answer> {
    post_text(from, path, serde_json::to_string(body)?)
}

/// Posts what is to pass for JSON.
///
/// # Errors
///
/// Fails without an answer.
pub fn post_text(from: &Subscriber, path: &str, body: impl Into<Vec<u8>>) -> Result<Answer> {
    let request = bitreq::post(format!("http://{HOST}/api/v1{path}"));
    send(from, request.with_header("Content-Type", "application/json").with_body(body))
}

/// Sends any request.
///
/// # Errors
///
/// Fails without an answer.
pub fn send(from: &Subscriber, request: bitreq::Request) -> Result<Answer> {
    from.namespace.enter(|| {
        let response = request.with_timeout(PATIENCE).send()?;
        let answer = Answer { status: response.status_code, body: response.into_bytes() };
        // The client makes up a status when the gateway dies before its first byte; the gateway
        // itself never answers without a body.
        ensure!(!answer.body.is_empty(), "no answer");
        Ok(answer)
    })
}

/// Sends bytes as they are, and gives all that comes back.
///
/// # Errors
///
/// Fails if nothing comes back.
pub fn raw(from: &Subscriber, bytes: &[u8]) -> Result<String> {
    raw_at(from, HOST, bytes)
}

/// The same at another address.
///
/// # Errors
///
/// As [`raw`].
pub fn raw_at(from: &Subscriber, address: &str, bytes: &[u8]) -> Result<String> {
    from.namespace.enter(|| {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut writer = stream.try_clone()?;
        let sent = bytes.to_vec();
        let writing = std::thread::spawn(move || writer.write_all(&sent));
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said);
        // The gateway may hang up before it has read all.
        let _ = writing.join();
        if said.is_empty() {
            bail!("no answer: {read:?}");
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    })
}
