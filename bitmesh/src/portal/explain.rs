//! Refusals that never reach a route: what is no HTTP.
//!
//! The server answers such a request itself, with a status and nothing else, and can't be told
//! otherwise. So its answers are told by their form on the way out, and say why in their place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::problem::Problem;

/// Bytes of the server's own answers, at most: a status, a date, a length.
const MAX_BARE_BYTES: usize = 256;

/// A stream whose bare refusals get a reason.
#[derive(Debug)]
pub(super) struct Explained<S> {
    stream: S,
    /// What is still to be written in the place of a refusal.
    owed: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> Explained<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, owed: Vec::new() }
    }

    fn pay(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.owed.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.owed))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => drop(self.owed.drain(..taken)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Where the server's own refusal begins, if these bytes end with one, and why it refuses.
///
/// Our own refusals have a body. So these bytes can't be ours, and a body of ours does not have
/// line ends in it that a request chose: JSON escapes them.
fn bare_refusal(bytes: &[u8]) -> Option<(usize, Problem)> {
    let tail = bytes.len().saturating_sub(MAX_BARE_BYTES);
    let found = bytes[tail..].windows(START.len()).rposition(|window| window == START)?;
    let at = tail + found;
    let head = std::str::from_utf8(&bytes[at..]).ok()?.strip_suffix("\r\n\r\n")?;
    if head.contains("\r\n\r\n") || !head.contains("\r\ncontent-length: 0") {
        return None;
    }
    let problem = match head.get(START.len()..START.len() + 4)? {
        "400 " => Problem::malformed("this is no request of HTTP/1.1 (RFC 9112)").last(),
        "414 " => Problem::long_target(),
        "431 " => Problem::long_head(),
        _ => return None,
    };
    Some((at, problem))
}

const START: &[u8] = b"HTTP/1.1 ";

impl<S: AsyncRead + Unpin> AsyncRead for Explained<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Explained<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.pay(cx))?;
        match bare_refusal(bytes) {
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
            Some((0, problem)) => {
                self.owed = problem.raw();
                Poll::Ready(Ok(bytes.len()))
            }
            // An answer before it goes first.
            Some((at, _)) => Pin::new(&mut self.stream).poll_write(cx, &bytes[..at]),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.pay(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.pay(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const BARE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\
                        date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";

    /// What arrives of what is written, over a stream that takes few bytes at once.
    async fn arrives(written: &str) -> String {
        let (near, mut far) = duplex(7);
        let written = written.to_owned();
        let writing = tokio::spawn(async move {
            let mut stream = Explained::new(near);
            stream.write_all(written.as_bytes()).await.expect("written");
            stream.shutdown().await.expect("shut down");
        });
        let mut said = String::new();
        far.read_to_string(&mut said).await.expect("read");
        writing.await.expect("it ends");
        said
    }

    #[tokio::test]
    async fn a_bare_refusal_gets_a_reason_behind_what_was_answered_before() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let said = arrives(&format!("{answer}{BARE}")).await;
        let rest = said.strip_prefix(answer).expect("the answer before it is whole");
        assert!(rest.starts_with("HTTP/1.1 400 ") && rest.contains("\"malformed\""), "{said}");
        assert!(!said.contains("content-length: 0"), "{said}");
    }

    #[tokio::test]
    async fn what_has_a_body_or_another_status_is_not_touched() {
        let with_body = BARE.replace("length: 0", "length: 2") + "{}";
        let redirect = BARE.replace("400 Bad Request", "302 Found");
        for text in [with_body, redirect, "{\"sentence\":\"HTTP/1.1 400 \"}".to_owned()] {
            assert_eq!(arrives(&text).await, text);
        }
    }
}
