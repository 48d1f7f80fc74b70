//! TCP streams between two namespaces, with their progress.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::namespace::Namespace;

/// Bytes handed to the kernel at once: enough for the largest super-packets.
pub const CHUNK: usize = 256 << 10;

/// A port of the kernel's choice.
const ANY_PORT: u16 = 0;

/// One connection that carries bytes one way.
#[derive(Debug)]
pub struct Stream {
    received: Arc<AtomicU64>,
    sending: TcpStream,
    receiving: TcpStream,
    sender: JoinHandle<Result<()>>,
    receiver: JoinHandle<Result<()>>,
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// How much; no end if `None`.
    pub bytes: Option<u64>,
    /// Pause after each [`CHUNK`].
    pub pause: Duration,
}

impl Load {
    /// Bytes without end, as fast as they go.
    pub const ENDLESS: Self = Self { bytes: None, pause: Duration::ZERO };

    /// So many bytes, as fast as they go.
    #[must_use]
    pub const fn of(bytes: u64) -> Self {
        Self { bytes: Some(bytes), pause: Duration::ZERO }
    }
}

/// Where a stream goes.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// Who connects.
    pub client: &'a Namespace,
    /// Who listens.
    pub server: &'a Namespace,
    /// The listener's address.
    pub address: IpAddr,
}

impl Stream {
    /// The client receives.
    ///
    /// # Errors
    ///
    /// Fails if no connection comes about.
    pub fn download(ends: Ends, load: Load) -> Result<Self> {
        let (client, server) = connect(ends, ANY_PORT)?;
        Self::carry(server, client, load)
    }

    /// The client receives, from a server at this port.
    ///
    /// # Errors
    ///
    /// As [`Self::download`], and if the port is taken.
    pub fn download_at(ends: Ends, port: u16, load: Load) -> Result<Self> {
        let (client, server) = connect(ends, port)?;
        Self::carry(server, client, load)
    }

    /// The client sends.
    ///
    /// # Errors
    ///
    /// Fails if no connection comes about.
    pub fn upload(ends: Ends, load: Load) -> Result<Self> {
        let (client, server) = connect(ends, ANY_PORT)?;
        Self::carry(client, server, load)
    }

    fn carry(sending: TcpStream, receiving: TcpStream, load: Load) -> Result<Self> {
        let received = Arc::new(AtomicU64::new(0));
        let sender = {
            let stream = sending.try_clone()?;
            std::thread::spawn(move || send(&stream, load))
        };
        let receiver = {
            let (stream, received) = (receiving.try_clone()?, Arc::clone(&received));
            std::thread::spawn(move || receive(&stream, &received))
        };
        Ok(Self { received, sending, receiving, sender, receiver })
    }

    /// Bytes that the receiving program has read.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until all bytes are there and the connection is closed in good order.
    ///
    /// # Errors
    ///
    /// Fails if the connection broke.
    pub fn finish(self) -> Result<u64> {
        let panicked = |_| anyhow!("a thread of the stream panicked");
        self.sender.join().map_err(panicked)??;
        self.receiver.join().map_err(panicked)??;
        Ok(self.received.load(Ordering::Relaxed))
    }

    /// Breaks it off at both ends, and says how many bytes were read.
    pub fn abort(self) -> u64 {
        // Whether an end was closed already does not matter.
        let _ = self.sending.shutdown(Shutdown::Both);
        let _ = self.receiving.shutdown(Shutdown::Both);
        let _ = (self.sender.join(), self.receiver.join());
        self.received.load(Ordering::Relaxed)
    }
}

fn connect(ends: Ends, port: u16) -> Result<(TcpStream, TcpStream)> {
    let listener = ends.server.enter(|| Ok(TcpListener::bind((ends.address, port))?))?;
    let address = listener.local_addr()?;
    let client = ends
        .client
        .enter(|| TcpStream::connect(address).with_context(|| format!("no way to {address}")))?;
    let (server, _) = listener.accept()?;
    Ok((client, server))
}

fn send(mut stream: &TcpStream, load: Load) -> Result<()> {
    let chunk = vec![0xaa; CHUNK];
    let mut left = load.bytes.unwrap_or(u64::MAX);
    while left > 0 {
        let now = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        stream.write_all(&chunk[..now])?;
        left -= now as u64;
        std::thread::sleep(load.pause);
    }
    Ok(stream.shutdown(Shutdown::Write)?)
}

fn receive(mut stream: &TcpStream, received: &AtomicU64) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(bytes) => _ = received.fetch_add(bytes as u64, Ordering::Relaxed),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(stream.shutdown(Shutdown::Write)?)
}
