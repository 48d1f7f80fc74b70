//! The server itself: HTTP/1.1 with kept connections, a thread for each.

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use bitmesh::chain::bitcoind::RpcConfig;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::answers::{Answer, answer};
use super::index::Index;

/// How long an answer may take, and a connection may be idle.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often it looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(5);

/// Bytes of a question's line or header, and of its body, at most.
const MAX_LINE_BYTES: u64 = 8 << 10;
const MAX_BODY_BYTES: u64 = 1_000_000;

/// How the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should be.
    Well,
    /// It takes questions and says nothing.
    Silent,
    /// It answers every question with this status and these bytes.
    Says(u16, Vec<u8>),
    /// It closes the connection in the middle of an answer.
    BreaksOff,
    /// It closes each connection after one answer, without having said so.
    Forgetful,
    /// It has not read so many of the newest blocks.
    Behind(usize),
    /// It gives this in place of what the path that ends so would give.
    Lies(&'static str, Vec<u8>),
}

#[derive(Debug)]
struct Shared {
    index: Mutex<Index>,
    mood: Mutex<Mood>,
    asked: AtomicUsize,
    ends: AtomicBool,
    tls: Option<Arc<ServerConfig>>,
}

/// A server, ended on drop.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one on the loopback, before the node that is asked so.
    ///
    /// # Errors
    ///
    /// Fails if no port is free, or the node does not answer.
    pub fn start(node: RpcConfig) -> Result<Self> {
        Self::launch(node, None)
    }

    /// One that speaks TLS.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_tls(node: RpcConfig, tls: Arc<ServerConfig>) -> Result<Self> {
        Self::launch(node, Some(tls))
    }

    fn launch(node: RpcConfig, tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        let mut index = Index::new(node)?;
        // The first look at a chain takes longest; nobody is to wait for it.
        index.update()?;
        let shared = Arc::new(Shared {
            index: Mutex::new(index),
            mood: Mutex::new(Mood::Well),
            asked: AtomicUsize::new(0),
            ends: AtomicBool::new(false),
            tls,
        });
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let mut server = Self { address, shared, accepting: None };
        server.accept(listener)?;
        Ok(server)
    }

    /// Starts it at the same address.
    ///
    /// # Errors
    ///
    /// Fails if another has the port now.
    pub fn start_again(&mut self) -> Result<()> {
        self.shared.ends.store(false, Ordering::SeqCst);
        self.accept(TcpListener::bind(self.address).context("the server's port is taken")?)
    }

    fn accept(&mut self, listener: TcpListener) -> Result<()> {
        listener.set_nonblocking(true)?;
        let shared = Arc::clone(&self.shared);
        self.accepting = Some(thread::spawn(move || {
            let mut connections = Vec::new();
            while !shared.ends.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let shared = Arc::clone(&shared);
                        connections.push(thread::spawn(move || {
                            // Whoever asks may go at any time.
                            let _ = serve(stream, &shared);
                        }));
                    }
                    Err(_) => thread::sleep(GLANCE),
                }
            }
            for connection in connections {
                let _ = connection.join();
            }
        }));
        Ok(())
    }

    /// Ends it, and every connection.
    pub fn stop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }

    /// From now on it is like this.
    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// Questions so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/api", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(GLANCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match &shared.tls {
        Some(tls) => Box::new(StreamOwned::new(
            ServerConnection::new(Arc::clone(tls))?,
            Patient { stream, shared },
        )),
        None => Box::new(Patient { stream, shared }),
    };
    let mut stream = BufReader::new(stream);
    while let Some((method, path, body)) = question(&mut stream)? {
        shared.asked.fetch_add(1, Ordering::SeqCst);
        let mood = shared.mood.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !reply(stream.get_mut(), shared, &mood, (&method, &path, &body))? {
            break;
        }
    }
    Ok(())
}

/// Answers, and says whether the connection goes on.
fn reply(
    stream: &mut dyn Stream,
    shared: &Shared,
    mood: &Mood,
    (method, path, body): (&str, &str, &[u8]),
) -> Result<bool> {
    let (lag, said) = match mood {
        Mood::Silent => {
            while !shared.ends.load(Ordering::SeqCst) {
                thread::sleep(GLANCE);
            }
            return Ok(false);
        }
        Mood::Says(status, bytes) => (0, Some(Answer::text(*status, bytes.clone()))),
        Mood::Lies(end, bytes) if path.ends_with(end) => {
            (0, Some(Answer::text(200, bytes.clone())))
        }
        Mood::Behind(lag) => (*lag, None),
        _ => (0, None),
    };
    let said = match (said, path.strip_prefix("/api")) {
        (Some(said), _) => said,
        (None, Some(path)) => {
            let mut index = shared.index.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = index.lag != lag;
            index.lag = lag;
            if changed {
                index.best.clear();
            }
            answer(&mut index, method, path, body)
        }
        (None, None) => Answer::text(404, "<html><h1>404 Not Found</h1></html>"),
    };
    let head = format!(
        "HTTP/1.1 {} Said\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
        said.status,
        said.content_type,
        said.body.len()
    );
    let mut bytes = [head.as_bytes(), &said.body].concat();
    if *mood == Mood::BreaksOff {
        bytes.truncate(bytes.len().saturating_sub(1));
    }
    stream.write_all(&bytes)?;
    stream.flush()?;
    Ok(!matches!(mood, Mood::BreaksOff | Mood::Forgetful))
}

/// Reads a question; none if there will be no more.
fn question(stream: &mut impl BufReadLimited) -> Result<Option<(String, String, Vec<u8>)>> {
    let Some(first) = stream.line()? else { return Ok(None) };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().context("no method")?, words.next().context("no path")?);
    let mut length = 0;
    while let Some(line) = stream.line()?.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').context("no header")?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<u64>()?;
        }
    }
    Ok(Some((method, path, stream.bytes(length.min(MAX_BODY_BYTES))?)))
}

trait BufReadLimited {
    fn line(&mut self) -> Result<Option<String>>;
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>>;
}

impl<T: Read> BufReadLimited for BufReader<T> {
    fn line(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        let got = self.by_ref().take(MAX_LINE_BYTES).read_line(&mut line)?;
        Ok((got > 0).then(|| line.trim_end().to_owned()))
    }

    fn bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.by_ref().take(count).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A connection that ends when the server does.
struct Patient<'a> {
    stream: TcpStream,
    shared: &'a Shared,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if self.shared.ends.load(Ordering::SeqCst) {
                return Ok(0);
            }
            match self.stream.read(buffer) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                got => return got,
            }
        }
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}
