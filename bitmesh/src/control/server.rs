//! Listening to operators.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::process::umask;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{
    ANSWER_TIMEOUT, IDLE_TIMEOUT, MAX_CONNECTIONS, MAX_REQUEST_BYTES, MAX_REQUESTS_PER_CONNECTION,
    Request, Response,
};

/// Everybody may reach the socket's directory; the socket itself is root's.
const DIRECTORY_MODE: u32 = 0o755;

/// A request, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// Takes the answer. The asker may be gone.
    pub answer: oneshot::Sender<Response>,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another agent listens there.
    #[error("another agent listens at {0}: stop it first, or choose another `socket`")]
    Taken(PathBuf),
    /// Something else is there.
    #[error("{0} is there already and is no socket: choose another `socket`")]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("{path}: {error}: run as root, or choose another `socket` in the configuration")]
    Bind {
        /// Where.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// The socket, and the task that listens at it. Dropping it removes the socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens at `path`, which only the owner can open, and sends what is asked to `asked`. The
    /// socket of a dead agent is replaced.
    ///
    /// # Errors
    ///
    /// Fails if another agent listens there, and if the system refuses.
    pub fn start(path: &Path, asked: mpsc::Sender<Asked>) -> Result<Self, ControlError> {
        let failed = |error| ControlError::Bind { path: path.to_owned(), error };
        if let Some(directory) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(directory)
                .map_err(failed)?;
        }
        remove_stale(path)?;
        let listener = bind_private(path).map_err(failed)?;
        let task = tokio::spawn(listen(listener, asked));
        Ok(Self { path: path.to_owned(), task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the socket stays behind");
        }
    }
}

/// Removes the socket of an agent that is dead.
fn remove_stale(path: &Path) -> Result<(), ControlError> {
    let failed = |error| ControlError::Bind { path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ControlError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match StdStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Ok(_) => Err(ControlError::Taken(path.to_owned())),
        Err(error) => Err(failed(error)),
    }
}

/// The mask makes the socket private from its first moment.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

async fn listen(listener: UnixListener, asked: mpsc::Sender<Asked>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No descriptor left, most likely: that passes.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(IDLE_TIMEOUT / 100).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(serve(stream, asked.clone(), place));
            }
            Err(_) => turn_away(&stream),
        }
    }
}

/// Says that there is no place, if the socket takes it at once.
fn turn_away(stream: &UnixStream) {
    let why = format!("{MAX_CONNECTIONS} others ask already: try again");
    if let Ok(line) = line_of(&Response::refused(why)) {
        let _ = stream.try_write(&line);
    }
}

async fn serve(stream: UnixStream, asked: mpsc::Sender<Asked>, place: OwnedSemaphorePermit) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    for _ in 0..MAX_REQUESTS_PER_CONNECTION {
        let response = match next_request(&mut read).await {
            Ok(Some(request)) => ask_agent(&asked, request).await,
            Ok(None) => break,
            Err(why) => {
                let _ = respond(&mut write, &Response::refused(why)).await;
                break;
            }
        };
        if let Err(error) = respond(&mut write, &response).await {
            tracing::debug!(%error, "an answer was not taken");
            break;
        }
    }
    drop(place);
}

/// `None` at the end of the connection; `Err` if what came is no request.
async fn next_request(read: &mut BufReader<OwnedReadHalf>) -> Result<Option<Request>, String> {
    let mut line = Vec::new();
    let mut bounded = read.take(MAX_REQUEST_BYTES as u64);
    match timeout(IDLE_TIMEOUT, bounded.read_until(b'\n', &mut line)).await {
        Err(_) | Ok(Err(_) | Ok(0)) => return Ok(None),
        Ok(Ok(_)) => {}
    }
    if line.last() != Some(&b'\n') {
        let why = format!("a request is one line of at most {MAX_REQUEST_BYTES} bytes: shorten it");
        return if line.len() == MAX_REQUEST_BYTES { Err(why) } else { Ok(None) };
    }
    serde_json::from_slice(&line)
        .map(Some)
        .map_err(|error| format!("not a request ({error}): use the agent's version of bitmesh"))
}

async fn ask_agent(asked: &mpsc::Sender<Asked>, request: Request) -> Response {
    let (answer, answered) = oneshot::channel();
    let exchange = async {
        asked.send(Asked { request, answer }).await.ok()?;
        answered.await.ok()
    };
    match timeout(ANSWER_TIMEOUT, exchange).await {
        Ok(Some(response)) => response,
        Ok(None) => {
            Response::unanswered("the agent is ending: start it again and repeat the command")
        }
        Err(_) => {
            Response::unanswered("the agent is too busy to answer: see its log, and try again")
        }
    }
}

async fn respond(write: &mut OwnedWriteHalf, response: &Response) -> io::Result<()> {
    let line = line_of(response)?;
    timeout(IDLE_TIMEOUT, write.write_all(&line)).await?
}

fn line_of(response: &Response) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    Ok(line)
}
