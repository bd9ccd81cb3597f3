//! Sockets: TLS or declared plain HTTP for browsers, a Unix socket for the machine's own administrators.

use super::problem::Problem;
use super::routes::Visitor;
use super::same_origin::Hosts;
use super::tls::{Tls, WebError};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use campanile_proto::kind::Kind;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

/// A control room has some dozens of screens, each with a handful of connections.
const MAX_CONNECTIONS: usize = 1_024;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
const MAX_HEADER_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_STREAMS: u32 = 64;
/// Open answers after this many seconds of stopping are cut.
const DRAIN_WITHIN: Duration = Duration::from_secs(3);

/// Binds the socket, 0600. A socket nobody answers on is a leftover of a killed process.
pub(super) fn bind_administration(path: &Path) -> Result<UnixListener, WebError> {
    let failed = |source| WebError::Socket { path: path.to_owned(), source };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(failed(std::io::ErrorKind::AddrInUse.into()));
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

pub(super) async fn operators(listener: TcpListener, tls: Tls, router: Router, hosts: Hosts, stop: CancellationToken) {
    let acceptor = tls.acceptor();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors: others must close first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (acceptor, router, hosts, stop) = (acceptor.clone(), router.clone(), hosts.clone(), stop.clone());
        connections.spawn(async move {
            let visitor = Visitor::Network(peer.ip());
            match acceptor {
                None => serve(stream, router, visitor, Some(hosts), stop).await,
                Some(acceptor) => match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => serve(stream, router, visitor, Some(hosts), stop).await,
                    Ok(Err(e)) => debug!(error = %e, "tls handshake failed"),
                    Err(_) => debug!("tls handshake took too long"),
                },
            }
            drop(permit);
        });
    }
    drain(connections).await;
}

pub(super) async fn administrators(listener: UnixListener, router: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        match administrator(&stream) {
            Some(uid) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(serve(stream, router, Visitor::Local { uid }, None, stop));
            }
            None => warn!("somebody else's process on the administration socket"),
        }
    }
    drain(connections).await;
}

/// The peer's user, if it is root or the hub's own.
fn administrator(stream: &UnixStream) -> Option<u32> {
    let uid = getsockopt(stream, PeerCredentials).ok()?.uid();
    (uid == 0 || uid == nix::unistd::geteuid().as_raw()).then_some(uid)
}

async fn drain(mut connections: JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_WITHIN, all).await.is_err() {
        connections.shutdown().await;
    }
}

async fn serve<S>(stream: S, router: Router, visitor: Visitor, hosts: Option<Hosts>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = tower::service_fn(move |request: hyper::Request<Incoming>| {
        let (router, hosts) = (router.clone(), hosts.clone());
        async move { Ok::<_, Infallible>(answer(request.map(Body::new), router, visitor, hosts).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Some(Duration::from_secs(20)));
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(e) = ended {
                debug!(error = %e, "connection broke");
            }
        }
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn answer(mut request: Request, router: Router, visitor: Visitor, hosts: Option<Hosts>) -> Response {
    if let Some(hosts) = hosts {
        let named = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
        let host = request.uri().authority().map(|a| a.as_str()).or(named).unwrap_or_default();
        if !hosts.knows(host) {
            let sentence = "this hub does not answer to that name; add it to web.public_names";
            return Problem::new(Kind::Denied, "UNKNOWN_HOST", sentence).into_response();
        }
    }
    request.extensions_mut().insert(visitor);
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
