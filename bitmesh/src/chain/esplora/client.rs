//! Questions to a server over one connection, which is kept.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{EsploraConfig, roots};
use crate::chain::ChainError;
use crate::chain::error::one_line;
use crate::http::{self, Answer, NoAnswer, Url};

/// Bytes of a block or a transaction, at most: no valid one is longer (weight 4,000,000).
pub const MAX_BLOCK_BYTES: usize = 4_000_000;

/// Bytes of any other answer, at most. Fifty large transactions in JSON may be longer: then
/// nothing is known of that script until it is in a block.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

/// How often a question is asked, at most: a server closes a kept connection when it likes.
const MAX_TRIES: usize = 2;

/// What stands between the host's name and a connection, if it is HTTPS.
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// A server that is asked. Blocks.
pub(super) struct Client {
    url: Url,
    tls: Option<Tls>,
    timeout: Duration,
    /// Made on the thread that asks.
    runtime: Option<Runtime>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.place()).finish()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A resolver that hangs is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a server says to a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// This.
    Body(Bytes),
    /// There is no such thing (404).
    NotFound,
    /// The question is wrong (400), in its words.
    No(String),
}

impl Client {
    pub(super) fn new(config: &EsploraConfig) -> Result<Self, ChainError> {
        let (secure, rest) = match config.url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(ChainError::Esplora),
        };
        let port = if secure { 443 } else { 80 };
        let url = Url::after_scheme(rest.trim_end_matches('/'), port);
        let url = url.map_err(|_| ChainError::Esplora)?;
        let tls = if secure {
            Some(Tls::new(&url, roots::client(config.ca_file.as_deref())?)?)
        } else {
            None
        };
        Ok(Self { url, tls, timeout: config.timeout, runtime: None, connection: None })
    }

    /// Whether others can't listen, which is so with every public server.
    pub(super) const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Where it is, without the path, which may be a secret.
    pub(super) fn place(&self) -> String {
        let scheme = if self.is_secure() { "https" } else { "http" };
        format!("{scheme}://{}", self.url.authority())
    }

    /// Asks for something in JSON; none if there is no such thing.
    pub(super) fn json<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        path: &impl Display,
    ) -> Result<Option<T>, ChainError> {
        let Some(body) = self.get(method, path, MAX_TEXT_BYTES)? else { return Ok(None) };
        let read = serde_json::from_slice(&body);
        read.map(Some).map_err(|error| nonsense(method, &error.to_string()))
    }

    /// Asks for something; none if there is no such thing.
    pub(super) fn get(
        &mut self,
        method: &'static str,
        path: &impl Display,
        max_bytes: usize,
    ) -> Result<Option<Bytes>, ChainError> {
        match self.ask(method, path, None, max_bytes)? {
            Said::Body(body) => Ok(Some(body)),
            Said::NotFound => Ok(None),
            Said::No(message) => Err(ChainError::Refused { method, code: 400, message }),
        }
    }

    /// Asks, with a body to post or none.
    pub(super) fn ask(
        &mut self,
        method: &'static str,
        path: &impl Display,
        body: Option<String>,
        max_bytes: usize,
    ) -> Result<Said, ChainError> {
        let path = format!("{}{path}", self.url.path());
        let answer = self.send(&path, body.map(Bytes::from), max_bytes);
        let answer = answer.map_err(|error| self.unanswered(method, max_bytes, error))?;
        let (status, url) = (answer.status, self.place());
        match status {
            200 => Ok(Said::Body(answer.body)),
            400 => Ok(Said::No(words(&answer.body))),
            404 if says_not_found(&answer.body) => Ok(Said::NotFound),
            429 => Err(ChainError::Crowded { url }),
            408 | 500..=599 => Err(ChainError::Unwell { url, status }),
            300..=399 => Err(nonsense(method, "it leads elsewhere: give that address")),
            _ => {
                let message = words(&answer.body);
                Err(nonsense(method, &format!("HTTP status {status}: {message}")))
            }
        }
    }

    fn send(&mut self, path: &str, body: Option<Bytes>, max: usize) -> Result<Answer, NoAnswer> {
        let mut failed = NoAnswer::BrokenOff;
        for _ in 0..MAX_TRIES {
            let kept = self.connection.take();
            let was_kept = kept.is_some();
            match self.try_once(kept, path, body.clone(), max) {
                Ok(answer) => return Ok(answer),
                // Every question may be asked twice; one of a new connection is not.
                Err(NoAnswer::BrokenOff) if was_kept => failed = NoAnswer::BrokenOff,
                Err(error) => return Err(error),
            }
        }
        Err(failed)
    }

    fn try_once(
        &mut self,
        kept: Option<SendRequest<Full<Bytes>>>,
        path: &str,
        body: Option<Bytes>,
        max_bytes: usize,
    ) -> Result<Answer, NoAnswer> {
        let request = self.request(path, body)?;
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => runtime::Builder::new_current_thread().enable_all().build()?,
        };
        let exchange = async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => connect(&self.url, self.tls.as_ref()).await?,
            };
            connection.ready().await?;
            let answer = connection.send_request(request).await?;
            let answer = http::read(answer, max_bytes).await?;
            Ok((answer, connection))
        };
        let outcome = runtime.block_on(async { timeout(self.timeout, exchange).await });
        self.runtime = Some(runtime);
        let (answer, connection) = outcome.unwrap_or(Err(NoAnswer::Late))?;
        self.connection = Some(connection);
        Ok(answer)
    }

    fn request(&self, path: &str, body: Option<Bytes>) -> Result<Request<Full<Bytes>>, NoAnswer> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.url.authority().header())
            .header(USER_AGENT, "bitmesh")
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|_| NoAnswer::Question)
    }

    fn unanswered(&self, method: &'static str, limit: usize, error: NoAnswer) -> ChainError {
        let down = |reason: String| ChainError::Down { url: self.place(), reason };
        match error {
            NoAnswer::Unreachable(error) => down(error.to_string()),
            NoAnswer::BrokenOff => down("it broke the connection off".to_owned()),
            NoAnswer::Late => ChainError::Slow { method, after: self.timeout },
            NoAnswer::Long => ChainError::TooLong { method, limit },
            NoAnswer::Nonsense(what) => nonsense(method, &what),
            NoAnswer::Question => ChainError::Esplora,
        }
    }
}

impl Tls {
    fn new(url: &Url, client: Arc<ClientConfig>) -> Result<Self, ChainError> {
        let name = ServerName::try_from(url.authority().host().to_owned());
        let name = name.map_err(|_| ChainError::Esplora)?;
        Ok(Self { connector: TlsConnector::from(client), name })
    }
}

async fn connect(url: &Url, tls: Option<&Tls>) -> Result<SendRequest<Full<Bytes>>, NoAnswer> {
    let stream = http::connect(url.authority()).await?;
    // Each task ends with its connection, or with the runtime.
    if let Some(tls) = tls {
        let stream = tls.connector.connect(tls.name.clone(), stream).await?;
        let (sender, connection) = http::client().handshake(TokioIo::new(stream)).await?;
        drop(tokio::spawn(connection));
        Ok(sender)
    } else {
        let (sender, connection) = http::client().handshake(TokioIo::new(stream)).await?;
        drop(tokio::spawn(connection));
        Ok(sender)
    }
}

/// An answer that can't be used.
pub(super) fn nonsense(method: &'static str, what: &str) -> ChainError {
    ChainError::Nonsense { method, what: one_line(what) }
}

fn words(body: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(body))
}

/// Whether the API says it, and not a server that knows nothing of the API.
fn says_not_found(body: &[u8]) -> bool {
    let said = words(body).to_lowercase();
    said.contains("not found") && !said.starts_with('<')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Result<Client, ChainError> {
        let timeout = Duration::from_secs(1);
        Client::new(&EsploraConfig { url: url.to_owned(), ca_file: None, timeout })
    }

    #[test]
    fn an_address_is_shown_without_its_path_and_one_with_a_password_is_refused() {
        let client = at("http://127.0.0.1:3000/secret/").unwrap();
        assert_eq!(
            (client.place().as_str(), client.url.path()),
            ("http://127.0.0.1:3000", "/secret")
        );
        assert!(!format!("{client:?}").contains("secret"));
        for text in
            ["ftp://a", "a:80", "http://", "http://alice:secret@a", "http://a:b", "http://a b"]
        {
            let error = at(text).unwrap_err();
            assert!(matches!(error, ChainError::Esplora), "{text}: {error}");
        }
    }

    #[test]
    fn a_404_of_the_api_is_told_from_that_of_any_web_server() {
        assert!(says_not_found(b"Block not found"));
        assert!(says_not_found(b"Transaction not found"));
        assert!(!says_not_found(b"endpoint does not exist \"/x\""));
        assert!(!says_not_found(b"<html><h1>404 Not Found</h1>"));
    }
}
