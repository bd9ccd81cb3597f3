//! TLS of the web side: the hub's own certificate or files, read again when they change.

use crate::config::{Config, Problem, WebTls};
use campanile_proto::kind::{Chain, Kind};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Apple's limit for certificates of private authorities is 825 days.
const VALID_DAYS: i64 = 800;
const RENEW_BEFORE_DAYS: i64 = 60;
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the hub's own certificate is held against its end: a look costs a parse.
const AGE_EVERY: Duration = Duration::from_secs(3_600);

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

/// Told the fingerprint of a certificate that took another's place.
pub type Announce = Box<dyn Fn(String) + Send + Sync>;

/// How the web side is reached; cheap to clone.
#[derive(Clone)]
pub struct Tls {
    served: Option<Arc<Served>>,
    /// Whose word is taken for where a request came from; empty unless a proxy is declared.
    proxies: Arc<[IpAddr]>,
}

struct Served {
    cert: PathBuf,
    key: PathBuf,
    /// Set when the certificate is the hub's own, and renewed by it.
    own: Option<Box<Config>>,
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
            WebTls::PlainLoopback | WebTls::PlainBehindProxy { .. } => {
                return Ok(Self { served: None, proxies: config.web.proxies().to_vec().into() });
            }
            WebTls::Files { cert, key } => (cert.clone(), key.clone()),
            WebTls::Own => own(config, jiff::Timestamp::now())?,
        };
        let own = (config.web.tls == WebTls::Own).then(|| Box::new(config.clone()));
        let changed = RwLock::new([modified(&cert), modified(&key)]);
        let current = RwLock::new(Arc::new(read(&cert, &key)?));
        Ok(Self { served: Some(Arc::new(Served { cert, key, own, current, changed })), proxies: Arc::default() })
    }

    /// Whether the files that the configuration names can be served; before anything is opened.
    pub fn check(config: &Config) -> Result<(), Problem> {
        let WebTls::Files { cert, key } = &config.web.tls else { return Ok(()) };
        read(cert, key).map(drop).map_err(|error| {
            let at = if matches!(error, WebError::Certificate { .. }) { "web.certificate" } else { "web.key" };
            let problem = Chain(&error).to_string();
            Problem {
                key: at.to_owned(),
                problem,
                remedy: "name a PEM certificate and its key, readable by the hub".into(),
            }
        })
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
        self.served.is_some() || !self.proxies.is_empty()
    }

    pub(super) fn proxies(&self) -> Arc<[IpAddr]> {
        self.proxies.clone()
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

    /// Reads the files again whenever they change, and renews the hub's own in time; a pair that does not fit
    /// leaves the old one in place. `announce` is told the fingerprint of every new certificate.
    pub(super) async fn reload(self, announce: Announce, stop: CancellationToken) {
        let Some(served) = &self.served else { return };
        let (mut look, mut age) = (tokio::time::interval(LOOK_EVERY), tokio::time::interval(AGE_EVERY));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {}
                _ = age.tick() => served.renew_if_due(jiff::Timestamp::now()),
            }
            if served.read_if_changed() {
                announce(self.fingerprint().unwrap_or_default());
            }
        }
    }
}

impl Served {
    /// Makes the hub's own certificate anew when it is about to expire; it is read as any changed file.
    fn renew_if_due(&self, now: jiff::Timestamp) {
        if let Some(config) = &self.own
            && let Err(e) = own(config, now)
        {
            error!(error = %Chain(&e), "the hub's own web certificate cannot be renewed");
        }
    }

    /// Whether another certificate is served now.
    fn read_if_changed(&self) -> bool {
        let now = [modified(&self.cert), modified(&self.key)];
        if now == *self.changed.read().unwrap_or_else(PoisonError::into_inner) {
            return false;
        }
        *self.changed.write().unwrap_or_else(PoisonError::into_inner) = now;
        match read(&self.cert, &self.key) {
            Ok(fresh) => {
                let before = std::mem::replace(
                    &mut *self.current.write().unwrap_or_else(PoisonError::into_inner),
                    Arc::new(fresh),
                );
                info!(path = %self.cert.display(), "web certificate read again");
                before.cert != self.current().cert
            }
            Err(e) => {
                warn!(error = %Chain(&e), "web certificate not changed");
                false
            }
        }
    }

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
fn own(config: &Config, now: jiff::Timestamp) -> Result<(PathBuf, PathBuf), WebError> {
    let keys = config.data_dir.join("keys");
    std::fs::create_dir_all(&keys).map_err(|source| WebError::Write { path: keys.clone(), source })?;
    let (cert, key) = (keys.join("web.crt"), keys.join("web.key"));
    let names = names(config);
    let wanted = names.join("\n");
    let noted = keys.join("web.names");
    let fits = std::fs::read_to_string(&noted).is_ok_and(|text| text == wanted);
    if fits && read(&cert, &key).is_ok_and(|pair| !expires_soon(&pair, now)) {
        return Ok((cert, key));
    }
    let (cert_pem, key_pem) = make(config, names, now).map_err(WebError::Make)?;
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

fn make(config: &Config, names: Vec<String>, now: jiff::Timestamp) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, config.organisation.name.as_str());
    params.distinguished_name.push(DnType::CommonName, "Campanile");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let at = |days: i64| {
        let date = today.saturating_add(jiff::Span::new().days(days));
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (params.not_before, params.not_after) = (at(-1), at(VALID_DAYS));
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn expires_soon(pair: &CertifiedKey, now: jiff::Timestamp) -> bool {
    let Some(Ok((_, parsed))) = pair.cert.first().map(|der| x509_parser::parse_x509_certificate(der)) else {
        return true;
    };
    let left = parsed.validity().not_after.timestamp() - now.as_second();
    left < RENEW_BEFORE_DAYS * 86_400
}

fn write_private(path: &Path, text: &str) -> Result<(), WebError> {
    use std::io::Write;
    let failed = |source| WebError::Write { path: path.to_owned(), source };
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(folder: &Path, web: &str) -> Config {
        let text = format!(
            "config_version = 1\ndata_dir = '{}'\n[organisation]\nname = 'Prova'\n[web]\n{web}",
            folder.display()
        );
        config::parse(&text).unwrap()
    }

    /// A pair of files, as a person puts them there; dated so that each is newer than the last.
    fn put(folder: &Path, pair: &(String, String), age: u64) {
        for (name, text) in [("a.crt", &pair.0), ("a.key", &pair.1)] {
            std::fs::write(folder.join(name), text).unwrap();
            let file = std::fs::File::options().write(true).open(folder.join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(age)).unwrap();
        }
    }

    fn pair(folder: &Path) -> (String, String) {
        make(&config(folder, ""), vec!["localhost".into()], jiff::Timestamp::now()).unwrap()
    }

    #[test]
    fn changed_files_are_served_without_a_restart_and_a_pair_that_does_not_fit_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (pair(folder.path()), pair(folder.path()));
        put(folder.path(), &first, 1_000);
        let [cert, key] = ["a.crt", "a.key"].map(|name| folder.path().join(name).display().to_string());
        let config = config(folder.path(), &format!("tls = 'files'\ncertificate = '{cert}'\nkey = '{key}'"));
        let tls = Tls::prepare(&config).unwrap();
        let served = tls.served.clone().unwrap();
        let before = tls.fingerprint().unwrap();
        assert!(!served.read_if_changed(), "nothing has changed");

        put(folder.path(), &(second.0.clone(), first.1.clone()), 2_000);
        assert!(!served.read_if_changed());
        assert_eq!(tls.fingerprint().unwrap(), before, "the old pair goes on");
        assert_eq!(Tls::check(&config).unwrap_err().key, "web.key");
        put(folder.path(), &("rubbish".into(), second.1.clone()), 3_000);
        assert!(!served.read_if_changed());
        assert_eq!(tls.fingerprint().unwrap(), before);
        assert_eq!(Tls::check(&config).unwrap_err().key, "web.certificate");

        put(folder.path(), &second, 4_000);
        assert!(served.read_if_changed());
        assert_ne!(tls.fingerprint().unwrap(), before);
        assert_eq!(Tls::check(&config), Ok(()));
    }

    #[test]
    fn the_hubs_own_certificate_is_renewed_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let tls = Tls::prepare(&config(folder.path(), "")).unwrap();
        let (served, before) = (tls.served.clone().unwrap(), tls.fingerprint().unwrap());
        let in_days = |days: i64| jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        served.renew_if_due(in_days(VALID_DAYS - RENEW_BEFORE_DAYS - 2));
        assert!(!served.read_if_changed(), "it is not due yet");
        served.renew_if_due(in_days(VALID_DAYS - RENEW_BEFORE_DAYS + 2));
        assert!(served.read_if_changed());
        assert_ne!(tls.fingerprint().unwrap(), before);
    }
}
