//! A way out of a namespace to a server on the loopback of this process.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use crate::namespace::Namespace;

/// Bytes that are carried at once.
const CHUNK: usize = 64 << 10;
/// How often it looks whether there is somebody, or it shall end.
const LOOK: Duration = Duration::from_millis(2);

/// Connections to a port of a namespace's loopback end at the same port of our own.
#[derive(Debug)]
pub struct Tunnel {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Carries `port` until it is dropped.
    ///
    /// # Errors
    ///
    /// Fails if the port is taken there.
    pub fn open(from: &Namespace, port: u16) -> Result<Self> {
        let listener = from.enter(|| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A server that is gone closes the connection.
                    Ok((near, _)) => _ = carry(near, port),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        std::thread::sleep(LOOK);
                    }
                    Err(_) => return,
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Both ways, each on a thread that ends with its connection.
fn carry(near: TcpStream, port: u16) -> std::io::Result<()> {
    near.set_nonblocking(false)?;
    let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        std::thread::spawn(move || copy(from, to));
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(bytes @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..bytes]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
