use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;

/// An agent that answers `Stop` with the balance 7 and nothing else.
async fn agent(directory: &TempDir) -> (Server, PathBuf) {
    let path = directory.path().join("socket");
    let (asked, mut requests) = mpsc::channel::<Asked>(MAX_CONNECTIONS);
    let server = Server::start(&path, asked).expect("listens");
    tokio::spawn(async move {
        while let Some(Asked { request, answer }) = requests.recv().await {
            let response = match request {
                Request::Stop { mac } => Response::Stopped { mac, balance_msat: 7 },
                _ => Response::refused("only stop"),
            };
            let _ = answer.send(response);
        }
    });
    (server, path)
}

fn stop() -> Request {
    Request::Stop { mac: "02:00:00:00:00:01".parse().expect("valid") }
}

/// Runs what blocks beside the agent.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

fn exchange(path: &Path, sent: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).expect("connected");
    let _ = stream.write_all(sent);
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    line
}

#[tokio::test]
async fn a_request_gets_its_response() {
    let directory = TempDir::new().expect("a directory");
    let (_server, path) = agent(&directory).await;
    let response = beside(move || ask(&path, &stop())).await.expect("answered");
    let mac = "02:00:00:00:00:01".parse().expect("valid");
    assert_eq!(response, Response::Stopped { mac, balance_msat: 7 });
}

#[tokio::test]
async fn one_connection_carries_several_requests_in_order() {
    let directory = TempDir::new().expect("a directory");
    let (_server, path) = agent(&directory).await;
    let lines = beside(move || {
        let mut stream = UnixStream::connect(path).expect("connected");
        let stop = "{\"request\":\"stop\",\"mac\":\"02:00:00:00:00:01\"}\n";
        stream.write_all(format!("{stop}{{\"request\":\"status\"}}\n").as_bytes()).expect("sent");
        BufReader::new(stream).lines().take(2).collect::<Result<Vec<_>, _>>().expect("answers")
    })
    .await;
    assert!(lines[0].contains("\"response\":\"stopped\""), "{lines:?}");
    assert!(lines[1].contains("only stop"), "{lines:?}");
}

#[tokio::test]
async fn only_the_owner_can_open_the_socket() {
    let directory = TempDir::new().expect("a directory");
    let (_server, path) = agent(&directory).await;
    let mode = fs::metadata(path).expect("stat").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[tokio::test]
async fn a_second_agent_at_the_same_socket_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let (server, path) = agent(&directory).await;
    let second = Server::start(&path, mpsc::channel(1).0).expect_err("refused");
    assert!(matches!(second, ControlError::Taken(_)), "{second}");
    drop(server);
    assert!(!path.exists(), "the socket goes with its agent");
}

#[tokio::test]
async fn the_socket_of_a_dead_agent_is_replaced() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("socket");
    drop(UnixListener::bind(&path).expect("bound"));
    assert!(path.exists(), "a dead agent leaves its socket");
    let (_server, path) = agent(&directory).await;
    assert!(beside(move || ask(&path, &stop())).await.is_ok());
}

#[tokio::test]
async fn a_file_in_the_place_of_the_socket_is_left_alone() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("socket");
    fs::write(&path, "precious").expect("written");
    let refused = Server::start(&path, mpsc::channel(1).0).expect_err("refused");
    assert!(matches!(refused, ControlError::NoSocket(_)), "{refused}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "precious");
}

#[tokio::test]
async fn a_request_without_end_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let (_server, path) = agent(&directory).await;
    let line = beside(move || exchange(&path, &[b'x'; MAX_REQUEST_BYTES])).await;
    assert!(line.contains("at most 4096 bytes"), "{line}");
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let (_server, path) = agent(&directory).await;
    for wrong in [
        "\n",
        "[]\n",
        "{\"request\":\"stop\"}\n",
        "{\"request\":\"stop\",\"mac\":\"x\"}\n",
        "{\"request\":\"stop\",\"mac\":\"02:00:00:00:00:01\",\"extra\":1}\n",
        "\u{0}\n",
    ] {
        let path = path.clone();
        let line = beside(move || exchange(&path, wrong.as_bytes())).await;
        assert!(line.contains("not a request"), "{wrong}: {line}");
    }
}

#[tokio::test]
async fn one_connection_too_many_is_turned_away_and_the_others_served() {
    let directory = TempDir::new().expect("a directory");
    let (_server, path) = agent(&directory).await;
    beside(move || {
        let held: Vec<_> =
            (0..MAX_CONNECTIONS).map(|_| UnixStream::connect(&path).expect("connected")).collect();
        let mut line = String::new();
        UnixStream::connect(&path).expect("connected").read_to_string(&mut line).expect("told why");
        assert!(line.contains("32 others ask already"), "{line}");
        let mut first = &held[0];
        first.write_all(b"{\"request\":\"status\"}\n").expect("sent");
        let mut line = String::new();
        BufReader::new(first).read_line(&mut line).expect("answered");
        assert!(line.contains("only stop"), "{line}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed() {
    let directory = TempDir::new().expect("a directory");
    let (_server, path) = agent(&directory).await;
    let stream = tokio::net::UnixStream::connect(&path).await.expect("connected");
    let started = tokio::time::Instant::now();
    stream.readable().await.expect("closed");
    assert_eq!(stream.try_read(&mut [0; 1]).expect("the end"), 0);
    assert!(started.elapsed() >= IDLE_TIMEOUT);
}

#[tokio::test]
async fn an_agent_that_ends_says_so() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("socket");
    let (asked, requests) = mpsc::channel(1);
    let _server = Server::start(&path, asked).expect("listens");
    drop(requests);
    let response = beside(move || ask(&path, &stop())).await.expect("answered");
    let Response::Unanswered { why } = response else { panic!("{response:?}") };
    assert!(why.starts_with("the agent is ending"), "{why}");
}

#[test]
fn without_an_agent_the_error_says_how_to_start_one() {
    let error = ask(Path::new("/no/such/socket"), &stop()).expect_err("nobody there");
    assert_eq!(
        error.to_string(),
        "no agent answers at /no/such/socket: start `bitmesh gateway --config FILE`, or give its \
         socket with --socket"
    );
}
