//! HTTP/1.1 as a client: one question, one answer, bounded in time and size. Blocks.
//!
//! For a gateway on the LAN and a node beside the agent: no TLS, no redirects, no proxies, a
//! connection for each question. Who keeps a connection takes its parts: [`Url`], [`connect`],
//! [`client`] and [`read`].

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::runtime;
use tokio::time::timeout;

/// Bytes of the head of an answer, at most.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Headers of an answer, at most.
const MAX_HEADERS: usize = 64;

/// Addresses of one name that are tried, at most.
const MAX_ADDRESSES: usize = 4;

/// Bytes of a host, at most: a name (RFC 1035, 2.3.4) or an address with its zone.
const MAX_HOST_BYTES: usize = 255;

/// A host and a port: what follows `http://`, up to the path.
///
/// An IPv6 address stands in brackets, and a link-local one needs its zone, the interface that
/// leads to it: `[fe80::1%eth0]:2121` (RFC 6874; `%25` is read as `%`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// A name or an address, without brackets.
    host: String,
    port: u16,
}

/// It is no host with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no host with a port")]
pub(crate) struct NoAuthority;

impl Authority {
    /// Reads it; `port` is for one that names none.
    pub(crate) fn parse(text: &str, port: u16) -> Result<Self, NoAuthority> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(inside) => {
                let (address, rest) = inside.split_once(']').ok_or(NoAuthority)?;
                (v6(address)?, rest)
            }
            None => {
                let end = text.find(':').unwrap_or(text.len());
                (name(&text[..end])?, &text[end..])
            }
        };
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => port,
            None => return Err(NoAuthority),
            Some(digits) => digits.parse().map_err(|_| NoAuthority)?,
        };
        if port == 0 { Err(NoAuthority) } else { Ok(Self { host, port }) }
    }

    /// The name or address, without brackets, with its zone.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// What the other side is told: a zone means something on this side alone (RFC 6874, 3).
    pub(crate) fn header(&self) -> String {
        let host = self.host.split('%').next().unwrap_or_default().to_owned();
        Self { host, port: self.port }.to_string()
    }
}

fn v6(text: &str) -> Result<String, NoAuthority> {
    let (address, zone) = match text.split_once('%') {
        None => (text, None),
        Some((address, zone)) => {
            let bare = zone.strip_prefix("25").filter(|bare| !bare.is_empty());
            (address, Some(bare.unwrap_or(zone)))
        }
    };
    address.parse::<std::net::Ipv6Addr>().map_err(|_| NoAuthority)?;
    match zone {
        None => Ok(address.to_owned()),
        Some(zone) => Ok(format!("{address}%{}", name(zone)?)),
    }
}

fn name(text: &str) -> Result<String, NoAuthority> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let good = (1..=MAX_HOST_BYTES).contains(&text.len()) && text.bytes().all(fits);
    if good { Ok(text.to_owned()) } else { Err(NoAuthority) }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Where to ask: `http://HOST:PORT`, and perhaps a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    authority: Authority,
    /// It begins with `/`, if there is one.
    path: String,
}

impl FromStr for Url {
    type Err = NoAuthority;

    fn from_str(text: &str) -> Result<Self, NoAuthority> {
        Self::after_scheme(text.strip_prefix("http://").ok_or(NoAuthority)?, 80)
    }
}

impl Url {
    /// Reads what follows the scheme; `port` is for one that names none.
    pub(crate) fn after_scheme(rest: &str, port: u16) -> Result<Self, NoAuthority> {
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NoAuthority);
        }
        Ok(Self { authority: Authority::parse(authority, port)?, path: path.to_owned() })
    }

    /// Who is asked.
    pub(crate) const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The path, which begins with `/`, if there is one.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// A question.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    /// Who is asked.
    pub(crate) authority: &'a Authority,
    /// The path, and perhaps a query.
    pub(crate) path: &'a str,
    /// A body of JSON to post; it is a GET without one.
    pub(crate) json: Option<Vec<u8>>,
    /// The value of an `Authorization` header. A secret.
    pub(crate) authorization: Option<String>,
    /// How long all of it may take.
    pub(crate) within: Duration,
    /// Bytes of the answer's body, at most.
    pub(crate) max_bytes: usize,
}

impl<'a> Ask<'a> {
    /// Posts JSON to a URL.
    pub(crate) fn post(url: &'a Url, json: Vec<u8>, within: Duration, max_bytes: usize) -> Self {
        Self {
            authority: &url.authority,
            path: if url.path.is_empty() { "/" } else { &url.path },
            json: Some(json),
            authorization: None,
            within,
            max_bytes,
        }
    }

    /// Asks, and waits for the answer.
    pub(crate) fn send(self) -> Result<Answer, NoAnswer> {
        let within = self.within;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(async { timeout(within, self.exchange()).await });
        // A resolver that hangs is not waited for.
        runtime.shutdown_background();
        answer.unwrap_or(Err(NoAnswer::Late))
    }

    async fn exchange(self) -> Result<Answer, NoAnswer> {
        let io = TokioIo::new(connect(self.authority).await?);
        let (mut sender, connection) = client().handshake(io).await?;
        // It ends with the runtime.
        drop(tokio::spawn(connection));
        let max_bytes = self.max_bytes;
        let answer = sender.send_request(self.request()?).await?;
        read(answer, max_bytes).await
    }

    fn request(self) -> Result<Request<Full<Bytes>>, NoAnswer> {
        let method = if self.json.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::builder().method(method).uri(self.path);
        if let Some(headers) = request.headers_mut() {
            let mut put = |name: HeaderName, text: &str, secret: bool| {
                let mut value = HeaderValue::from_str(text).map_err(|_| NoAnswer::Question)?;
                value.set_sensitive(secret);
                headers.insert(name, value);
                Ok::<_, NoAnswer>(())
            };
            put(HOST, &self.authority.header(), false)?;
            put(CONNECTION, "close", false)?;
            if self.json.is_some() {
                put(CONTENT_TYPE, "application/json", false)?;
            }
            if let Some(authorization) = &self.authorization {
                put(hyper::header::AUTHORIZATION, authorization, true)?;
            }
        }
        let body = Full::new(Bytes::from(self.json.unwrap_or_default()));
        request.body(body).map_err(|_| NoAnswer::Question)
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status (RFC 9110, 15).
    pub(crate) status: u16,
    /// The body, whole.
    pub(crate) body: Bytes,
}

/// Why nothing came back that can be read.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// Nobody could be reached.
    Unreachable(io::Error),
    /// The connection ended before the answer did.
    BrokenOff,
    /// It took too long.
    Late,
    /// It is longer than allowed.
    Long,
    /// It is no HTTP.
    Nonsense(String),
    /// The question can't be written as HTTP.
    Question,
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

impl From<hyper::Error> for NoAnswer {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() { Self::Nonsense(error.to_string()) } else { Self::BrokenOff }
    }
}

/// The client's side of a connection, with the limits on what comes.
pub(crate) fn client() -> http1::Builder {
    let mut client = http1::Builder::new();
    client.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
    client
}

/// Reads the whole of an answer.
pub(crate) async fn read(answer: Response<Incoming>, max_bytes: usize) -> Result<Answer, NoAnswer> {
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), max_bytes).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => NoAnswer::from(*error),
        Err(error) if error.is::<LengthLimitError>() => NoAnswer::Long,
        Err(error) => NoAnswer::Nonsense(error.to_string()),
    })?;
    Ok(Answer { status, body: body.to_bytes() })
}

/// The first address that answers.
pub(crate) async fn connect(to: &Authority) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in lookup_host((to.host.as_str(), to.port)).await?.take(MAX_ADDRESSES) {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn shown(text: &str) -> Option<String> {
        Authority::parse(text, 7).ok().map(|authority| authority.to_string())
    }

    #[test]
    fn a_host_may_be_a_name_or_an_address_of_either_kind_with_a_zone() {
        for (text, canonical) in [
            ("192.0.2.1", "192.0.2.1:7"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("router.test", "router.test:7"),
            ("[fd00::1]", "[fd00::1]:7"),
            ("[fd00::1]:99", "[fd00::1]:99"),
            ("[fe80::1%eth0]:99", "[fe80::1%eth0]:99"),
            ("[fe80::1%25eth0]:99", "[fe80::1%eth0]:99"),
            ("[fe80::1%25]", "[fe80::1%25]:7"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(canonical), "{text}");
        }
        let others = [
            "",
            ":1",
            "a:0",
            "a:99999",
            "a:1:2",
            "fd00::1",
            "[fd00::1",
            "[a]",
            "[fe80::1%]",
            "a b",
        ];
        for text in others {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn the_other_side_is_not_told_the_zone() {
        let authority = Authority::parse("[fe80::1%eth0]:99", 7).unwrap();
        assert_eq!(authority.header(), "[fe80::1]:99");
        assert_eq!(authority.host(), "fe80::1%eth0");
    }

    /// What comes of a question if this is what the other side says, at `host`.
    fn answer(host: &str, said: &'static [u8]) -> (Result<Answer, NoAnswer>, String) {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = vec![0; 4_096];
            let got = stream.read(&mut head).unwrap();
            // It may hang up before it has taken all.
            let _ = stream.write_all(said);
            String::from_utf8_lossy(&head[..got]).into_owned()
        });
        let authority = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url: Url = format!("http://{authority}:{port}/a").parse().unwrap();
        let answer = Ask::post(&url, b"{}".to_vec(), Duration::from_secs(5), 8).send();
        (answer, server.join().unwrap())
    }

    #[test]
    fn an_answer_comes_over_either_protocol() {
        for (host, name) in [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")] {
            let (answer, asked) = answer(host, b"HTTP/1.1 404 No\r\ncontent-length: 2\r\n\r\n{}");
            let answer = answer.unwrap();
            assert_eq!((answer.status, &answer.body[..]), (404, &b"{}"[..]));
            assert!(asked.starts_with("POST /a HTTP/1.1\r\n"), "{asked}");
            assert!(asked.contains(&format!("host: {name}:")), "{asked}");
        }
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        let broken = answer("127.0.0.1", b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{").0;
        assert!(matches!(broken, Err(NoAnswer::BrokenOff)), "{broken:?}");
        let nothing = answer("127.0.0.1", b"").0;
        assert!(matches!(nothing, Err(NoAnswer::BrokenOff)), "{nothing:?}");
        let long = answer("127.0.0.1", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789").0;
        assert!(matches!(long, Err(NoAnswer::Long)), "{long:?}");
        let other = answer("127.0.0.1", b"220 mail.test\r\n\r\n").0;
        assert!(matches!(other, Err(NoAnswer::Nonsense(_))), "{other:?}");
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let late = Ask::post(&url, Vec::new(), Duration::from_millis(50), 8).send();
        assert!(matches!(late, Err(NoAnswer::Late)), "{late:?}");
        drop(listener);
        let nobody = Ask::post(&url, Vec::new(), Duration::from_secs(5), 8).send();
        assert!(matches!(nobody, Err(NoAnswer::Unreachable(_))), "{nobody:?}");
    }
}
