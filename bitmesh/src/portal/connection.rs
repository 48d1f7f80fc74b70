//! One connection, from its first byte to its last.

use std::convert::Infallible;

use axum::Router;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::caller::Caller;
use super::explain::Explained;
use super::patient::Patient;
use super::places::Place;
use super::{HANDSHAKE_TIMEOUT, HEAD_TIMEOUT, MAX_HEAD_BYTES, MAX_HEADERS};

/// Serves it until it ends, over TLS if there is something to shake hands with.
pub(super) async fn serve(
    stream: TcpStream,
    place: Place,
    tls: Option<TlsAcceptor>,
    routes: Router<Caller>,
    caller: Caller,
) {
    // It holds its place from here on, so half a handshake counts like a whole one.
    let stream = Patient::new(stream, place);
    let Some(tls) = tls else { return serve_on(stream, routes, caller).await };
    match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_on(stream, routes, caller).await,
        Ok(Err(error)) => tracing::debug!(%error, "a handshake with the portal failed"),
        Err(_) => tracing::debug!("a handshake with the portal did not end"),
    }
}

async fn serve_on<S>(stream: S, routes: Router<Caller>, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(routes.with_state(caller.clone()));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = match caller.admit(&request) {
            Ok(()) => Ok(routes.call(request)),
            Err(answer) => Err(*answer),
        };
        async {
            match answer {
                Ok(answer) => answer.await,
                Err(refused) => Ok::<Response, Infallible>(refused),
            }
        }
    });
    let io = TokioIo::new(Explained::new(stream));
    let outcome = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        // An answer is one piece: `Explained` reads it.
        .writev(false)
        .serve_connection(io, service)
        .with_upgrades()
        .await;
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection to the portal broke");
    }
}
