//! Sockets: TLS or declared plain HTTP for browsers, a Unix socket for the machine's own administrators.

use super::problem::Problem;
use super::routes::Visitor;
use super::same_origin::Hosts;
use super::tls::{Tls, WebError};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use campanile_proto::kind::Kind;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::convert::Infallible;
use std::net::IpAddr;
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
    let (acceptor, proxies) = (tls.acceptor(), tls.proxies());
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
        let address = peer.ip().to_canonical();
        if !proxies.is_empty() && !proxies.contains(&address) {
            debug!(%peer, "not one of the declared proxies");
            continue;
        }
        let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
        let hosts = Outside { hosts: hosts.clone(), proxies: proxies.clone() };
        connections.spawn(async move {
            let visitor = Visitor::Network(address);
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

/// What is believed of a request that did not come through the administration socket.
#[derive(Clone)]
struct Outside {
    hosts: Hosts,
    proxies: Arc<[IpAddr]>,
}

/// Who asks a proxy: the last address in X-Forwarded-For that none of our proxies wrote of another. What stands
/// left of it the asker may have written himself.
fn asker(peer: IpAddr, headers: &HeaderMap, proxies: &[IpAddr]) -> IpAddr {
    if !proxies.contains(&peer) {
        return peer;
    }
    let lines = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let mut asker = peer;
    for name in named.iter().rev() {
        match name.parse::<IpAddr>() {
            Ok(address) => asker = address.to_canonical(),
            Err(_) => break,
        }
        if !proxies.contains(&asker) {
            break;
        }
    }
    asker
}

async fn serve<S>(stream: S, router: Router, visitor: Visitor, outside: Option<Outside>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = tower::service_fn(move |request: hyper::Request<Incoming>| {
        let (router, outside) = (router.clone(), outside.clone());
        async move { Ok::<_, Infallible>(answer(request.map(Body::new), router, visitor, outside).await) }
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

async fn answer(mut request: Request, router: Router, visitor: Visitor, outside: Option<Outside>) -> Response {
    let mut visitor = visitor;
    if let Some(Outside { hosts, proxies }) = outside {
        if let Visitor::Network(peer) = visitor {
            visitor = Visitor::Network(asker(peer, request.headers(), &proxies));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_proxy_the_asker_is_who_the_proxy_says_and_nobody_says_it_himself() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let proxies = ["10.0.0.1", "10.0.0.2"].map(address);
        let asked = |peer: &str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            asker(address(peer), &headers, &proxies).to_string()
        };
        assert_eq!(asked("10.0.0.1", &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(asked("10.0.0.1", &["203.0.113.9, 192.0.2.7"]), "192.0.2.7", "the left one was sent along");
        assert_eq!(asked("10.0.0.1", &["203.0.113.9", "192.0.2.7, 10.0.0.2"]), "192.0.2.7");
        assert_eq!(asked("10.0.0.1", &["192.0.2.7, rubbish"]), "10.0.0.1");
        assert_eq!(asked("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(asked("10.0.0.1", &["::ffff:192.0.2.7"]), "192.0.2.7");
        assert_eq!(asked("192.0.2.50", &["192.0.2.7"]), "192.0.2.50", "somebody else's word counts for nothing");
    }
}
