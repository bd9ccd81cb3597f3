//! The listener: TLS with the hub's own authority, renewed while it runs.

use super::door::Listed;
use super::edge::EdgeService;
use super::limits::Limited;
use super::places::{Places, Seated};
use super::verifier::Lenient;
use super::{PING_EVERY, PING_TIMEOUT};
use crate::federation::Service as FederationService;
use crate::fleet::{Authority, AuthorityError};
use campanile_proto::federation::v1::federation_server::FederationServer;
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::time::{Clock, WallTime};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

/// A handshake over 4G takes a second or two; whoever needs this long holds a place.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HANDSHAKES_AT_ONCE: usize = 256;
/// Streams of one connection: a session, and fetches of a few viewers.
const STREAMS: u32 = 128;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const RENEWAL_CHECK: Duration = Duration::from_secs(3_600);
/// How long calls may go on after the stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Why nobody can connect.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    #[error("cannot make the listener's certificate")]
    Certificate(#[source] AuthorityError),
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    #[error("the gRPC server failed")]
    Serve(#[source] tonic::transport::Error),
}

impl RpcError {
    pub fn kind(&self) -> Kind {
        Kind::Internal
    }
}

/// The certificate in use; another one takes its place before it expires.
struct Renewing {
    current: RwLock<(Arc<CertifiedKey>, WallTime)>,
    authority: Arc<Authority>,
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Renewing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Renewing(redacted)")
    }
}

impl ResolvesServerCert for Renewing {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

impl Renewing {
    fn new(
        authority: Arc<Authority>,
        names: Vec<String>,
        provider: Arc<CryptoProvider>,
        now: WallTime,
    ) -> Result<Self, RpcError> {
        let current = RwLock::new(certified(&authority, &names, &provider, now)?);
        Ok(Self { current, authority, names, provider })
    }

    fn renew_if_due(&self, now: WallTime) -> Result<(), RpcError> {
        if now < self.current.read().unwrap_or_else(PoisonError::into_inner).1 {
            return Ok(());
        }
        let fresh = certified(&self.authority, &self.names, &self.provider, now)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        info!("listener's certificate renewed");
        Ok(())
    }
}

/// The authority stands in the chain, because partners know it by its fingerprint alone.
fn certified(
    authority: &Authority,
    names: &[String],
    provider: &CryptoProvider,
    now: WallTime,
) -> Result<(Arc<CertifiedKey>, WallTime), RpcError> {
    let made = authority.server(names, now).map_err(RpcError::Certificate)?;
    let chain = vec![made.certificate, authority.certificate().clone()];
    let key = CertifiedKey::from_der(chain, made.key, provider).map_err(|error| RpcError::Tls(error.to_string()))?;
    Ok((Arc::new(key), made.renew_at))
}

/// What the listener answers with, and for whom.
pub struct Served {
    pub authority: Arc<Authority>,
    /// In its certificate besides `hub.campanile`.
    pub names: Vec<String>,
    pub clock: Arc<dyn Clock>,
    pub edge: EdgeService,
    pub federation: Option<FederationServer<FederationService>>,
}

/// Serves until `stop`, then lets calls end for some seconds.
pub async fn serve(listener: TcpListener, served: Served, stop: CancellationToken) -> Result<(), RpcError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = |error: String| RpcError::Tls(error);
    let verifier = Lenient::new(served.authority.certificate(), provider.clone()).map_err(tls)?;
    let certificate = Renewing::new(served.authority, served.names, provider.clone(), served.clock.utc())?;
    let certificate = Arc::new(certificate);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RpcError::Tls(error.to_string()))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(certificate.clone());
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tasks = TaskTracker::new();
    tasks.spawn(renew(certificate, served.clock, stop.clone()));
    let (connections, incoming) = mpsc::channel(64);
    tasks.spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), connections, stop.clone()));
    let serving = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .layer(Listed)
        .add_service(Limited::new(served.edge))
        .add_optional_service(served.federation)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop.clone().cancelled_owned());
    let overtime = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    let result = tokio::select! {
        result = serving => result.map_err(RpcError::Serve),
        () = overtime => Ok(()),
    };
    // Either the stop was asked for, or the server failed: what feeds it ends with it.
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    result
}

async fn renew(certificate: Arc<Renewing>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let mut check = tokio::time::interval(RENEWAL_CHECK);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = check.tick() => {}
        }
        if let Err(failure) = certificate.renew_if_due(clock.utc()) {
            error!(error = %Chain(&failure), "listener's certificate not renewed");
        }
    }
}

type Connection = Result<Seated, std::io::Error>;

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections: mpsc::Sender<Connection>,
    stop: CancellationToken,
) {
    let (at_once, places) = (Arc::new(Semaphore::new(HANDSHAKES_AT_ONCE)), Places::new());
    let handshakes = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: connections that end give some back.
                warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(handshake) = at_once.clone().try_acquire_owned() else {
            debug!(%peer, "too many handshakes at once");
            continue;
        };
        let Some(place) = places.take(peer.ip()) else {
            debug!(%peer, "too many connections");
            continue;
        };
        let (acceptor, connections, stop) = (acceptor.clone(), connections.clone(), stop.clone());
        handshakes.spawn(async move {
            let _handshake = handshake;
            // Small messages both ways: an acknowledgement shall not wait for the next.
            let _ = stream.set_nodelay(true);
            tokio::select! {
                () = stop.cancelled() => {}
                done = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => match done {
                    Ok(Ok(tls)) => { let _ = connections.send(Ok(Seated::new(tls, place))).await; }
                    Ok(Err(error)) => debug!(%peer, %error, "handshake failed"),
                    Err(_) => debug!(%peer, "handshake took too long"),
                }
            }
        });
    }
    handshakes.close();
    handshakes.wait().await;
}
