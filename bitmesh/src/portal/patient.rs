//! A connection that does not wait for ever, and lets the other side read its answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::places::Place;
use super::{LINGER_TIMEOUT, MAX_LINGER_BYTES, WRITE_TIMEOUT};

/// Bytes that are thrown away at once.
const WASTE_BYTES: usize = 16 * 1_024;

/// A stream that fails when its other side takes nothing for [`WRITE_TIMEOUT`].
///
/// A socket that is closed while there is something to read in it sends a reset, and the other
/// side may lose the answer. So its end is announced first, and what still comes is thrown away,
/// for [`LINGER_TIMEOUT`] and [`MAX_LINGER_BYTES`] at most.
#[derive(Debug)]
pub(super) struct Patient {
    stream: TcpStream,
    _place: Place,
    timer: Pin<Box<Sleep>>,
    stuck: bool,
    /// Bytes that may still be thrown away, once the end was announced.
    linger: Option<usize>,
}

impl Patient {
    pub(super) fn new(stream: TcpStream, place: Place) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        Self { stream, _place: place, timer, stuck: false, linger: None }
    }

    /// Passes on whether something was taken, or that nothing was for too long.
    fn hurry<T>(
        &mut self,
        cx: &mut Context<'_>,
        taken: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if taken.is_ready() {
            self.stuck = false;
            return taken;
        }
        if !self.stuck {
            self.stuck = true;
            self.timer.as_mut().reset(Instant::now() + WRITE_TIMEOUT);
        }
        self.timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Throws away what comes.
    fn waste(&mut self, cx: &mut Context<'_>, mut left: usize) -> Poll<()> {
        let mut waste = [0; WASTE_BYTES];
        while left > 0 {
            let mut buffer = ReadBuf::new(&mut waste);
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut buffer) else {
                self.linger = Some(left);
                return self.timer.as_mut().poll(cx);
            };
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            left = left.saturating_sub(buffer.filled().len());
            if self.timer.is_elapsed() {
                break;
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.hurry(cx, taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.hurry(cx, taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let left = match self.linger {
            Some(left) => left,
            None => {
                ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
                self.timer.as_mut().reset(Instant::now() + LINGER_TIMEOUT);
                MAX_LINGER_BYTES
            }
        };
        self.waste(cx, left).map(Ok)
    }
}
