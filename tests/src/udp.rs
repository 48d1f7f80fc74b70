//! Steady UDP: numbered packets at a given pace, and when the kernel saw each arrive.

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};

use crate::namespace::Namespace;

/// Bytes of the sequence number that each packet begins with.
pub const SEQUENCE_BYTES: usize = 8;
/// IPv4 and UDP headers of one packet.
pub const V4_HEADER_BYTES: u64 = 28;
/// IPv6 and UDP headers of one packet.
pub const V6_HEADER_BYTES: u64 = 48;

/// Room in the receiver's socket: seconds of traffic.
const RECEIVE_BUFFER: usize = 32 << 20;
/// How often a thread looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(20);
/// The largest packet that is received.
const MAX_DATAGRAM: usize = 65_536;

/// A sender that keeps its pace until it is stopped or done.
#[derive(Debug)]
pub struct Sender {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Payload of each packet, at least [`SEQUENCE_BYTES`].
    pub payload: usize,
    /// Time from one packet to the next.
    pub every: Duration,
    /// How many; no end if `None`.
    pub packets: Option<u64>,
}

impl Sender {
    /// Starts to send from a namespace.
    ///
    /// # Errors
    ///
    /// Fails if the socket can't be made.
    pub fn start(from: &Namespace, to: SocketAddr, pace: Pace) -> Result<Self> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = from.enter(|| Ok(UdpSocket::bind(any)?))?;
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let thread = {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            std::thread::spawn(move || send(&socket, to, pace, &stop, &sent))
        };
        Ok(Self { stop, sent, thread })
    }

    /// Packets sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until all are sent, and says how many.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refused one.
    pub fn finish(self) -> Result<u64> {
        self.thread.join().map_err(|_| anyhow!("the sender panicked"))??;
        Ok(self.sent.load(Ordering::Relaxed))
    }

    /// Stops, and says how many were sent.
    ///
    /// # Errors
    ///
    /// As [`Self::finish`].
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish()
    }
}

fn send(
    socket: &UdpSocket,
    to: SocketAddr,
    pace: Pace,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Result<()> {
    let started = Instant::now();
    let mut packet = vec![0xaa; pace.payload.max(SEQUENCE_BYTES)];
    let mut number = 0_u64;
    while pace.packets.is_none_or(|packets| number < packets) && !stop.load(Ordering::Relaxed) {
        // Due by the clock from the start: a late one does not delay the rest.
        let due = pace.every.mul_f64(number as f64);
        if let Some(early) = due.checked_sub(started.elapsed()) {
            std::thread::sleep(early.min(LOOK));
            if early > LOOK {
                continue;
            }
        }
        packet[..SEQUENCE_BYTES].copy_from_slice(&number.to_be_bytes());
        socket.send_to(&packet, to).context("cannot send")?;
        number += 1;
        sent.store(number, Ordering::Relaxed);
    }
    Ok(())
}

/// One packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its number, from 0.
    pub sequence: u64,
    /// CLOCK_REALTIME at which the kernel took it from the device, in ns.
    pub realtime_ns: u64,
}

/// Notes every packet that arrives until it is stopped.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    thread: JoinHandle<Result<Vec<Arrival>>>,
}

impl Receiver {
    /// Listens in a namespace, on a port of the kernel's choice.
    ///
    /// # Errors
    ///
    /// Fails if the socket can't be made.
    pub fn start(at: &Namespace, address: std::net::IpAddr) -> Result<Self> {
        let socket = at.enter(|| Ok(UdpSocket::bind((address, 0))?))?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        socket.set_read_timeout(Some(LOOK))?;
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let thread = {
            let (stop, received) = (Arc::clone(&stop), Arc::clone(&received));
            std::thread::spawn(move || receive(&socket, &stop, &received))
        };
        Ok(Self { address, stop, received, thread })
    }

    /// Packets received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Takes what is still queued, and gives all that arrived.
    ///
    /// # Errors
    ///
    /// Fails if the socket did.
    pub fn stop(self) -> Result<Vec<Arrival>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the receiver panicked"))?
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, received: &AtomicU64) -> Result<Vec<Arrival>> {
    let mut arrivals = Vec::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let taken = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        );
        let (bytes, stamp) = match taken {
            Ok(message) => (message.bytes, stamp(message.cmsgs()?)),
            Err(nix::Error::EAGAIN) if stopping => return Ok(arrivals),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => continue,
            Err(error) => return Err(error).context("cannot receive"),
        };
        let Some(sequence) = buffer.first_chunk::<SEQUENCE_BYTES>() else { continue };
        if bytes >= SEQUENCE_BYTES {
            let realtime_ns = stamp.context("the kernel gave no time stamp")?;
            arrivals.push(Arrival { sequence: u64::from_be_bytes(*sequence), realtime_ns });
            received.store(arrivals.len() as u64, Ordering::Relaxed);
        }
    }
}

fn stamp(mut messages: impl Iterator<Item = ControlMessageOwned>) -> Option<u64> {
    messages.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(at) => Some(
            u64::try_from(at.tv_sec()).ok()? * 1_000_000_000 + u64::try_from(at.tv_nsec()).ok()?,
        ),
        _ => None,
    })
}
