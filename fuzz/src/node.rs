//! A server that answers with the lines of the input.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request's body, and the line that is to answer it: the body of the answer.
type Answer = fn(&[u8], &[u8]) -> Vec<u8>;

/// What is said next, the last first.
type Lines = Arc<Mutex<Vec<Vec<u8>>>>;

/// A server that says what the input says, on a port of its own. One line answers one request:
/// a line that starts with `!` is the whole response, with `\r` for each end of a line, and the
/// connection ends with it; any other becomes a body with status 200. When no line is left, each
/// is empty.
pub struct Node {
    url: String,
    lines: Lines,
}

impl Node {
    /// Starts it; `answer` makes the bodies.
    #[must_use]
    pub fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let lines = Lines::default();
        let said = lines.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever asks may be gone.
                let _ = serve(&stream, &said, answer);
            }
        });
        Self { url, lines }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it says from now on.
    pub fn say(&self, input: &[u8]) {
        let lines = input.split(|byte| *byte == b'\n').rev().map(<[u8]>::to_vec).collect();
        *self.lines.lock().expect("no panic") = lines;
    }
}

/// Answers until the other side, or a line, ends the connection.
fn serve(stream: &TcpStream, lines: &Lines, answer: Answer) -> std::io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    while let Some(request) = Request::read(&mut reader)? {
        let next = lines.lock().expect("no panic").pop().unwrap_or_default();
        if let Some(raw) = next.strip_prefix(b"!") {
            return writer.write_all(&with_line_ends(raw));
        }
        let body = answer(&request.body, &next);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        writer.write_all(&[head.into_bytes(), body].concat())?;
        if request.is_last {
            break;
        }
    }
    Ok(())
}

/// A line of the input holds many of a response: each ends in it with a carriage return alone.
fn with_line_ends(raw: &[u8]) -> Vec<u8> {
    let end = |byte: &u8| if *byte == b'\r' { b"\r\n".to_vec() } else { vec![*byte] };
    raw.iter().flat_map(end).collect()
}

struct Request {
    body: Vec<u8>,
    /// The connection is for it alone.
    is_last: bool,
}

impl Request {
    fn read(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Self>> {
        let (mut line, mut length, mut is_last) = (String::new(), 0, false);
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        line.clear();
        while reader.read_line(&mut line)? > 2 {
            let lower = line.to_ascii_lowercase();
            if let Some(number) = lower.strip_prefix("content-length:") {
                length = number.trim().parse().unwrap_or(0);
            }
            is_last |= lower.trim() == "connection: close";
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Some(Self { body, is_last }))
    }
}
