//! The way to a partner's hub: TLS whose certificate authority is pinned by the partner's mandate.

use super::directory::Partner;
use super::error::AskError;
use campanile_proto::federation::v1::federation_client::FederationClient;
use campanile_proto::ids::OrganisationId;
use campanile_proto::time::{MICROS_PER_SECOND, MonoTime};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// Name in every hub's certificate; which hub it is, its authority says.
pub const HUB_NAME: &str = "hub.campanile";
const CONNECT: Duration = Duration::from_secs(2);
/// RFC 8305 section 5: "Connection Attempt Delay".
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// Replies come in chunks of half a MiB at most.
const MAX_REPLY_BYTES: usize = 2 << 20;
/// A hub behind a dead path is noticed by its silence.
const REFRESH_US: i64 = 30 * MICROS_PER_SECOND;
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub type Client = FederationClient<Channel>;

/// Open channels by partner; a channel connects by itself, again and again.
#[derive(Default)]
pub struct Connections {
    channels: Mutex<HashMap<OrganisationId, (Route, Channel)>>,
    refreshed: Mutex<HashMap<OrganisationId, MonoTime>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Route {
    endpoints: Vec<String>,
    authority: Vec<u8>,
}

impl Connections {
    /// The client of a partner's newest mandate.
    pub fn client(&self, partner: &Partner) -> Client {
        let mut endpoints = partner.mandate.endpoints.clone();
        if !endpoints.contains(&partner.address) {
            endpoints.push(partner.address.clone());
        }
        let route = Route { endpoints, authority: partner.mandate.tls_authority.to_vec() };
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let known = channels.get(&partner.id).filter(|(held, _)| *held == route).map(|(_, channel)| channel.clone());
        let channel = known.unwrap_or_else(|| {
            let pin = Arc::new(PinnedAuthority::new(Some(route.authority.clone())));
            let channel = channel(route.endpoints.clone(), pin);
            channels.insert(partner.id, (route, channel.clone()));
            channel
        });
        client(channel)
    }

    /// Whether a partner's mandate may be asked for out of turn.
    pub fn may_refresh(&self, partner: OrganisationId, now: MonoTime) -> bool {
        let mut refreshed = self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
        if refreshed.get(&partner).is_some_and(|at| now - *at < REFRESH_US) {
            return false;
        }
        refreshed.insert(partner, now);
        true
    }
}

/// A client of whoever listens at `address`, and the authority it will have shown.
pub fn first_contact(address: &str) -> (Client, Arc<PinnedAuthority>) {
    let pin = Arc::new(PinnedAuthority::new(None));
    (client(channel(vec![address.to_owned()], pin.clone())), pin)
}

fn client(channel: Channel) -> Client {
    FederationClient::new(channel).max_decoding_message_size(MAX_REPLY_BYTES)
}

fn channel(endpoints: Vec<String>, pin: Arc<PinnedAuthority>) -> Channel {
    let dial = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let (endpoints, pin) = (endpoints.clone(), pin.clone());
        async move { dial(&endpoints, pin).await.map(TokioIo::new) }
    });
    // Encrypted by the connector; with an https address tonic would want to do it itself.
    Endpoint::from_static("http://hub.campanile")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(Duration::from_secs(5))
        .connect_with_connector_lazy(dial)
}

/// The first endpoint that answers; the next one is dialled beside it when it takes its time (RFC 8305).
async fn dial(
    endpoints: &[String],
    pin: Arc<PinnedAuthority>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, std::io::Error> {
    let mut failure = std::io::Error::other("the partner's mandate names no endpoint");
    let dial = |endpoint: &String| {
        let (endpoint, pin) = (endpoint.clone(), pin.clone());
        async move {
            let silent = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{endpoint} does not answer"));
            let dialled = tokio::time::timeout(CONNECT, dial_one(&endpoint, pin)).await;
            dialled.unwrap_or_else(|_| Err(silent()))
        }
    };
    let mut waiting = endpoints.iter().peekable();
    let mut dialling = FuturesUnordered::new();
    loop {
        dialling.extend(waiting.next().map(dial));
        tokio::select! {
            outcome = dialling.next() => match outcome {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = tokio::time::sleep(NEXT_AFTER), if waiting.peek().is_some() => {}
        }
    }
}

async fn dial_one(
    endpoint: &str,
    pin: Arc<PinnedAuthority>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, std::io::Error> {
    let tcp = TcpStream::connect(endpoint).await?;
    tcp.set_nodelay(true)?;
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(pin).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(HUB_NAME).map_err(std::io::Error::other)?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// Believes a chain that ends at one certificate authority: the pinned one, or at first contact any one,
/// which is then compared with the mandate.
#[derive(Debug)]
pub struct PinnedAuthority {
    pinned: Option<Vec<u8>>,
    seen: OnceLock<[u8; 32]>,
}

impl PinnedAuthority {
    fn new(pinned: Option<Vec<u8>>) -> Self {
        Self { pinned, seen: OnceLock::new() }
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the authority of the first connection.
    pub fn seen(&self) -> Option<[u8; 32]> {
        self.seen.get().copied()
    }
}

fn authority_of(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(Sha256::digest(parsed.tbs_certificate.subject_pki.raw).into())
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for certificate in intermediates {
            let Some(authority) = authority_of(certificate) else { continue };
            if self.pinned.as_ref().is_some_and(|pinned| pinned.as_slice() != authority) {
                continue;
            }
            let mut roots = RootCertStore::empty();
            roots.add(certificate.clone().into_owned())?;
            let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|_| unknown())?;
            let verified = chain.verify_server_cert(end_entity, &[], server_name, ocsp, now)?;
            let _ = self.seen.set(authority);
            return Ok(verified);
        }
        Err(unknown())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Runs one call within `seconds`.
pub async fn within<T>(seconds: u64, call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, AskError> {
    match tokio::time::timeout(Duration::from_secs(seconds), call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(AskError::TimedOut(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_endpoint_that_is_silent_does_not_hold_up_the_next() {
        // The backlog takes the connection, and nobody ever shakes hands on it.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [&silent, &listening].map(|l| l.local_addr().unwrap().to_string());
        let pin = Arc::new(PinnedAuthority::new(None));
        let dialling = tokio::spawn(async move { dial(&addresses, pin).await.map(drop) });
        let (mut stream, _) =
            tokio::time::timeout(CONNECT, listening.accept()).await.expect("before the first gave up").unwrap();
        let mut hello = [0; 1];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, [22], "a TLS handshake begins");
        drop(stream);
        assert!(dialling.await.unwrap().is_err());
    }
}
