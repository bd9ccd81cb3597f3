//! TLS to the hub, believed by the pinned authority alone.
//!
//! The usual checks of WebPKI run against that one authority and the fixed name `hub.campanile`: a hub may
//! move to another address without a visit to its boxes. A box whose clock nobody vouches for believes a certificate
//! that seems of the future or of the past, because the signature of the pinned authority is what counts: a clock
//! that was set years ahead would otherwise keep the box from the one who can set it right.

use super::{Identity, IdentityError};
use crate::clock::Reckoned;
use campanile_proto::time::WallTime;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

/// The name in every hub's certificate.
const HUB_NAME: &str = "hub.campanile";
/// For one address, with its TLS handshake: a dead one leaves time for the others.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(4);
/// For all of them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A ping each 5 s and 8 s for its answer: a dead link is noticed within 13 s.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(8);

/// SHA-256 of a certificate's SubjectPublicKeyInfo, DER (RFC 7469 section 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpkiPin([u8; 32]);

impl SpkiPin {
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::decode(text).ok()?.try_into().ok().map(Self)
    }

    /// The pin of a certificate; none when it cannot be read.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(Self(Sha256::digest(parsed.public_key().raw).into()))
    }
}

/// Where the hub answers, `host:port`, tried in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubAddresses(Vec<String>);

impl HubAddresses {
    pub fn parse(addresses: Vec<String>) -> Result<Self, IdentityError> {
        let sound = |address: &String| {
            let (host, port) = address.rsplit_once(':').unwrap_or_default();
            !host.is_empty() && address.len() <= 260 && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        if addresses.iter().all(sound) {
            Ok(Self(addresses))
        } else {
            Err(IdentityError::BadToken("an address of the hub is not host:port"))
        }
    }

    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl std::fmt::Display for HubAddresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Opens a connection to the hub, with this box's certificate once it has one.
pub async fn connect(
    hub: &HubAddresses,
    pin: SpkiPin,
    identity: Option<&Identity>,
    now: Reckoned,
) -> Result<Channel, IdentityError> {
    let config = Arc::new(client_config(pin, identity, now)?);
    let addresses = hub.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let (config, addresses) = (config.clone(), addresses.clone());
        async move { dial(&addresses, config).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://hub.campanile")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    endpoint.connect_with_connector(connector).await.map_err(|error| why_unreachable(hub, &error))
}

/// The layers of a connection each repeat the one below: the innermost cause is the one to show.
fn why_unreachable(hub: &HubAddresses, error: &tonic::transport::Error) -> IdentityError {
    let addresses = hub.to_string();
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let cause = innermost.to_string();
    if cause.contains(&OtherAuthority.to_string()) {
        return IdentityError::NotOurHub { addresses };
    }
    IdentityError::Unreachable { addresses, cause }
}

async fn dial(
    hub: &HubAddresses,
    config: Arc<ClientConfig>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, std::io::Error> {
    let name = ServerName::try_from(HUB_NAME).expect("a DNS name, because it is a constant of letters and a dot");
    let mut last = std::io::Error::other("no address of the hub is known");
    for address in hub.as_slice() {
        let attempt = async {
            let tcp = TcpStream::connect(address.as_str()).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(config.clone()).connect(name.clone(), tcp).await
        };
        match tokio::time::timeout(ADDRESS_TIMEOUT, attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{address} does not answer")),
        }
    }
    Err(last)
}

fn client_config(pin: SpkiPin, identity: Option<&Identity>, now: Reckoned) -> Result<ClientConfig, IdentityError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = PinnedHub { pin, authority: identity.map(|i| i.authority.clone()), now, provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(IdentityError::SetUpTls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
            let chain = vec![identity.certificate.clone(), identity.authority.clone()];
            builder.with_client_auth_cert(chain, key).map_err(IdentityError::SetUpTls)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The chain does not lead to the authority this box was told to believe.
#[derive(Debug, thiserror::Error)]
#[error("the hub's certificate is not of the authority this box was enrolled with")]
struct OtherAuthority;

#[derive(Debug)]
struct PinnedHub {
    pin: SpkiPin,
    /// Known after enrolment; before, it is found in the hub's chain by its pin.
    authority: Option<CertificateDer<'static>>,
    now: Reckoned,
    provider: Arc<CryptoProvider>,
}

impl PinnedHub {
    fn webpki(&self, intermediates: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let refuse = || Error::Other(rustls::OtherError(Arc::new(OtherAuthority)));
        let candidates = self.authority.iter().chain(intermediates);
        let anchor = candidates.into_iter().find(|c| SpkiPin::of(c) == Some(self.pin)).ok_or_else(refuse)?;
        let mut roots = RootCertStore::empty();
        roots.add(anchor.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))
    }
}

impl ServerCertVerifier for PinnedHub {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let webpki = self.webpki(intermediates)?;
        let seconds = |at: WallTime| u64::try_from(at.0 / 1_000_000).unwrap_or(0);
        let now = if self.now.vouched { seconds(self.now.at) } else { seconds(self.now.at).max(now.as_secs()) };
        let mut at = UnixTime::since_unix_epoch(Duration::from_secs(now));
        // One step for each certificate of a chain that a dead clock believes to be of another time.
        for _ in 0..3 {
            match webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at) {
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
                    at = not_before;
                }
                Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }))
                    if !self.now.vouched =>
                {
                    at = not_after;
                }
                other => return other,
            }
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidYet))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
