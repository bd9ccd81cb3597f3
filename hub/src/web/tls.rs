//! TLS of the web side: the hub's own certificate or files, read again when they change.

use crate::config::{Config, WebTls};
use campanile_proto::kind::{Chain, Kind};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Apple's limit for certificates of private authorities is 825 days.
const VALID_DAYS: i64 = 800;
const RENEW_BEFORE_DAYS: i64 = 60;
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum WebError {
    #[error("could not make the hub's own web certificate")]
    Make(#[source] rcgen::Error),
    #[error("could not write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("could not read the certificate in {path}: it must be PEM, the hub's own first, then its chain")]
    Certificate { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("could not read the key in {path}: it must be PEM (PKCS#8, SEC1 or PKCS#1), readable by the hub")]
    Key { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("the key in {path} does not fit the certificate")]
    Mismatch { path: PathBuf, source: rustls::Error },
    #[error("could not bind the administration socket {path}; is another hub running on this data directory?")]
    Socket { path: PathBuf, source: std::io::Error },
}

impl WebError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Certificate { .. } | Self::Key { .. } | Self::Mismatch { .. } => Kind::Invalid,
            _ => Kind::Internal,
        }
    }
}

/// How the web side is reached; cheap to clone.
#[derive(Clone)]
pub struct Tls {
    served: Option<Arc<Served>>,
    behind_proxy: bool,
}

struct Served {
    cert: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
    changed: RwLock<[Option<SystemTime>; 2]>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("cert", &self.cert).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the certificate, or makes the hub's own at first start and when it is about to expire.
    pub fn prepare(config: &Config) -> Result<Self, WebError> {
        let (cert, key) = match &config.web.tls {
            WebTls::PlainLoopback => return Ok(Self { served: None, behind_proxy: false }),
            WebTls::PlainBehindProxy => return Ok(Self { served: None, behind_proxy: true }),
            WebTls::Files { cert, key } => (cert.clone(), key.clone()),
            WebTls::Own => own(config)?,
        };
        let changed = RwLock::new([modified(&cert), modified(&key)]);
        let current = RwLock::new(Arc::new(read(&cert, &key)?));
        Ok(Self { served: Some(Arc::new(Served { cert, key, current, changed })), behind_proxy: false })
    }

    /// SHA-256 of the certificate, as browsers show it; none over plain HTTP.
    pub fn fingerprint(&self) -> Option<String> {
        let current = self.served.as_ref()?.current();
        let digest = Sha256::digest(current.cert.first()?);
        let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Some(pairs.join(":"))
    }

    /// `https` or `http`, as this listener speaks it.
    pub fn scheme(&self) -> &'static str {
        if self.served.is_some() { "https" } else { "http" }
    }

    pub(super) fn browser_speaks_tls(&self) -> bool {
        self.served.is_some() || self.behind_proxy
    }

    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        let served = self.served.clone()?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring offers the default versions, because it always has")
            .with_no_client_auth()
            .with_cert_resolver(served);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Some(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files again whenever they change; a pair that does not fit leaves the old one in place.
    pub(super) async fn reload(self, stop: CancellationToken) {
        let Some(served) = self.served else { return };
        let mut tick = tokio::time::interval(LOOK_EVERY);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let now = [modified(&served.cert), modified(&served.key)];
            let before = *served.changed.read().unwrap_or_else(PoisonError::into_inner);
            if now == before {
                continue;
            }
            *served.changed.write().unwrap_or_else(PoisonError::into_inner) = now;
            match read(&served.cert, &served.key) {
                Ok(fresh) => {
                    *served.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                    info!(path = %served.cert.display(), "web certificate read again");
                }
                Err(e) => warn!(error = %Chain(&e), "web certificate not changed"),
            }
        }
    }
}

impl Served {
    fn current(&self) -> Arc<CertifiedKey> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}

fn read(cert: &Path, key: &Path) -> Result<CertifiedKey, WebError> {
    let no_cert = |source| WebError::Certificate { path: cert.to_owned(), source };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(cert).map_err(no_cert)?.collect::<Result<_, _>>().map_err(no_cert)?;
    if chain.is_empty() {
        return Err(no_cert(rustls_pki_types::pem::Error::NoItemsFound));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| WebError::Key { path: key.to_owned(), source })?;
    CertifiedKey::from_der(chain, private, &ring::default_provider())
        .map_err(|source| WebError::Mismatch { path: key.to_owned(), source })
}

/// Paths of the hub's own certificate and key, made when missing, about to expire, or for other names.
fn own(config: &Config) -> Result<(PathBuf, PathBuf), WebError> {
    let keys = config.data_dir.join("keys");
    std::fs::create_dir_all(&keys).map_err(|source| WebError::Write { path: keys.clone(), source })?;
    let (cert, key) = (keys.join("web.crt"), keys.join("web.key"));
    let names = names(config);
    let wanted = names.join("\n");
    let noted = keys.join("web.names");
    let fits = std::fs::read_to_string(&noted).is_ok_and(|text| text == wanted);
    if fits && read(&cert, &key).is_ok_and(|pair| !expires_soon(&pair)) {
        return Ok((cert, key));
    }
    let (cert_pem, key_pem) = make(config, names).map_err(WebError::Make)?;
    write_private(&key, &key_pem)?;
    write_private(&cert, &cert_pem)?;
    write_private(&noted, &wanted)?;
    Ok((cert, key))
}

fn names(config: &Config) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let listen = config.web.listen.ip();
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    names.extend(config.web.public_names.iter().cloned());
    names.sort();
    names.dedup();
    names
}

fn make(config: &Config, names: Vec<String>) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, config.organisation.name.as_str());
    params.distinguished_name.push(DnType::CommonName, "Campanile");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let at = |days: i64| {
        let date = today.saturating_add(jiff::Span::new().days(days));
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (params.not_before, params.not_after) = (at(-1), at(VALID_DAYS));
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn expires_soon(pair: &CertifiedKey) -> bool {
    let Some(Ok((_, parsed))) = pair.cert.first().map(|der| x509_parser::parse_x509_certificate(der)) else {
        return true;
    };
    let left = parsed.validity().not_after.timestamp() - jiff::Timestamp::now().as_second();
    left < RENEW_BEFORE_DAYS * 86_400
}

fn write_private(path: &Path, text: &str) -> Result<(), WebError> {
    use std::io::Write;
    let failed = |source| WebError::Write { path: path.to_owned(), source };
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}
