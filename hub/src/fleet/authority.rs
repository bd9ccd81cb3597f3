//! The organisation's own certificate authority: ECDSA P-256, trusted by its boxes and pinned by partners.

use super::identity::{Identity, IdentityError, write_private};
use campanile_proto::ids::EdgeId;
use campanile_proto::kind::Kind;
use campanile_proto::time::WallTime;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// Name that boxes and partners ask for, whatever address they dial.
pub const SERVER_NAME: &str = "hub.campanile";
const DAY: u64 = 86_400;
/// Certificates of boxes and of the hub itself; renewed at half of it.
const CERTIFICATE_DAYS: u64 = 730;
const AUTHORITY_DAYS: u64 = 30 * 365;
/// Certificates begin this much before they are made: a box's clock may be behind.
const BEHIND: u64 = DAY;
const MAX_CSR_BYTES: usize = 8 * 1024;

/// Issues certificates; holds the authority's key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    fingerprint: [u8; 32],
}

/// A certificate with its key, for a listener.
pub struct ServerCertificate {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
    /// When another one must have taken its place.
    pub renew_at: WallTime,
}

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("the certificate authority's files cannot be kept")]
    Keep(#[source] IdentityError),
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0} is not what this hub wrote: put it back from its backup")]
    Damaged(PathBuf),
    #[error("{0} is missing beside its certificate: put it back from its backup, because no box would trust another")]
    Missing(PathBuf),
    #[error("{0} is not the key of the certificate beside it: put the right one back from its backup")]
    OtherKey(PathBuf),
    #[error("cannot make a {what}")]
    Make { what: &'static str, source: rcgen::Error },
    #[error("the certificate request is larger than {MAX_CSR_BYTES} bytes, not PKCS#10, or not signed by its key")]
    BadRequest,
    #[error("the certificate request's key is not ECDSA on P-256")]
    WrongKey,
}

impl AuthorityError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::BadRequest | Self::WrongKey => Kind::Invalid,
            _ => Kind::Internal,
        }
    }
}

/// A certificate request that was read, signed by its own key.
pub struct Request(CertificateSigningRequestParams);

impl Request {
    /// PKCS#10, DER.
    pub fn read(csr: &[u8]) -> Result<Self, AuthorityError> {
        if csr.len() > MAX_CSR_BYTES {
            return Err(AuthorityError::BadRequest);
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
            .map_err(|_| AuthorityError::BadRequest)?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(AuthorityError::WrongKey);
        }
        Ok(Self(request))
    }

    /// SHA-256 of its public key.
    pub fn key_hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.public_key.der_bytes()).into()
    }
}

/// A CommonName is at most 64 characters (RFC 5280, ub-common-name).
fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text.chars().take(64).collect::<String>());
    name
}

fn valid(params: &mut CertificateParams, now: WallTime, days: u64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = u64::try_from(now.0 / 1_000_000).unwrap_or(0);
    params.not_before = epoch + Duration::from_secs(seconds.saturating_sub(BEHIND));
    params.not_after = epoch + Duration::from_secs(seconds + days * DAY);
}

impl Authority {
    /// Reads `keys/ca.key` and `keys/ca.crt`, or makes them.
    pub fn open(data_dir: &Path, identity: &Identity, now: WallTime) -> Result<Self, AuthorityError> {
        let (key_path, path) = (data_dir.join("keys/ca.key"), data_dir.join("keys/ca.crt"));
        let key = match fs::read(&key_path) {
            Ok(der) => key_pair(Zeroizing::new(der), &key_path)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.exists() => {
                return Err(AuthorityError::Missing(key_path));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = new_key("authority key")?;
                write_private(&key_path, &Zeroizing::new(key.serialize_der())).map_err(AuthorityError::Keep)?;
                key
            }
            Err(source) => return Err(AuthorityError::Read { path: key_path, source }),
        };
        let certificate = match fs::read(&path) {
            Ok(der) => CertificateDer::from(der),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let certificate = self_signed(identity, &key, now)?;
                write_private(&path, &certificate).map_err(AuthorityError::Keep)?;
                certificate
            }
            Err(source) => return Err(AuthorityError::Read { path, source }),
        };
        let fingerprint = spki_fingerprint(&certificate).ok_or_else(|| AuthorityError::Damaged(path.clone()))?;
        if fingerprint != <[u8; 32]>::from(Sha256::digest(key.subject_public_key_info())) {
            return Err(AuthorityError::OtherKey(key_path));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| AuthorityError::Damaged(path))?;
        Ok(Self { issuer, certificate, fingerprint })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its SubjectPublicKeyInfo, what boxes and partners pin.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// A client certificate for the key of a request. Everything but the key is the hub's word.
    pub fn issue(
        &self,
        edge: EdgeId,
        request: &Request,
        now: WallTime,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&edge.to_string());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now, CERTIFICATE_DAYS);
        let made = params.signed_by(&request.0.public_key, &self.issuer);
        Ok(made.map_err(|source| AuthorityError::Make { what: "box certificate", source })?.der().clone())
    }

    /// A fresh certificate and key for the hub's own listener; the key stays in memory.
    pub fn server(&self, names: &[String], now: WallTime) -> Result<ServerCertificate, AuthorityError> {
        let make = |source| AuthorityError::Make { what: "server certificate", source };
        let key = new_key("server key")?;
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).map_err(make)?;
        for name in names {
            let host = name.rsplit_once(':').map_or(name.as_str(), |(host, _)| host).trim_matches(['[', ']']);
            match host.parse() {
                Ok(address) => params.subject_alt_names.push(SanType::IpAddress(address)),
                Err(_) => params.subject_alt_names.push(SanType::DnsName(host.try_into().map_err(make)?)),
            }
        }
        params.distinguished_name = common_name(SERVER_NAME);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now, CERTIFICATE_DAYS);
        let certificate = params.signed_by(&key, &self.issuer).map_err(make)?.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(ServerCertificate {
            certificate,
            key,
            renew_at: now.plus_micros((CERTIFICATE_DAYS / 2 * DAY * 1_000_000) as i64),
        })
    }
}

fn new_key(what: &'static str) -> Result<KeyPair, AuthorityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| AuthorityError::Make { what, source })
}

fn key_pair(der: Zeroizing<Vec<u8>>, path: &Path) -> Result<KeyPair, AuthorityError> {
    let damaged = |_| AuthorityError::Damaged(path.to_owned());
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der.as_slice()), &PKCS_ECDSA_P256_SHA256)
        .map_err(damaged)
}

fn self_signed(identity: &Identity, key: &KeyPair, now: WallTime) -> Result<CertificateDer<'static>, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&identity.name);
    params.distinguished_name.push(DnType::OrganizationName, identity.name.chars().take(64).collect::<String>());
    params.distinguished_name.push(DnType::OrganizationalUnitName, identity.id.to_string());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, AUTHORITY_DAYS);
    let made = params.self_signed(key).map_err(|source| AuthorityError::Make { what: "authority", source })?;
    Ok(made.der().clone())
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo.
pub fn spki_fingerprint(certificate: &[u8]) -> Option<[u8; 32]> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(Sha256::digest(parsed.public_key().raw).into())
}

/// Whose certificate it is, and until when (UTC).
pub fn subject(certificate: &[u8]) -> Option<(EdgeId, WallTime)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    let until = parsed.validity().not_after.timestamp().checked_mul(1_000_000)?;
    Some((name.parse().ok()?, WallTime(until)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::time::Clock;

    #[test]
    fn a_missing_or_foreign_key_never_makes_another_authority() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::open(dir.path(), "Comune di Prato", "").unwrap();
        let open = || Authority::open(dir.path(), &identity, WallTime::from_hour(490_000));
        let first = open().unwrap().fingerprint();
        let (key, certificate) = (dir.path().join("keys/ca.key"), dir.path().join("keys/ca.crt"));
        let (kept, kept_certificate) = (fs::read(&key).unwrap(), fs::read(&certificate).unwrap());
        fs::remove_file(&key).unwrap();
        assert!(matches!(open(), Err(AuthorityError::Missing(_))));
        fs::remove_file(&certificate).unwrap();
        assert_ne!(open().unwrap().fingerprint(), first, "with neither, this is a new authority");
        fs::write(&certificate, kept_certificate).unwrap();
        assert!(matches!(open(), Err(AuthorityError::OtherKey(_))));
        fs::write(&key, kept).unwrap();
        assert_eq!(open().unwrap().fingerprint(), first);
    }

    #[test]
    fn issues_what_the_hub_says_not_what_the_request_says() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::open(dir.path(), "Comune di Prato", "").unwrap();
        let now = campanile_proto::time::SystemClock::new().utc();
        let authority = Authority::open(dir.path(), &identity, now).unwrap();
        let again = Authority::open(dir.path(), &identity, now).unwrap();
        assert_eq!(authority.fingerprint(), again.fingerprint());

        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        params.distinguished_name = common_name("somebody else");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let csr = params.serialize_request(&key).unwrap();
        let request = Request::read(csr.der()).unwrap();
        let certificate = authority.issue(EdgeId::from_u128(7), &request, now).unwrap();
        let (edge, until) = subject(&certificate).unwrap();
        assert_eq!(edge, EdgeId::from_u128(7));
        assert!((until - now) / 1_000_000 / 86_400 >= 729);
        let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
        assert!(parsed.subject_alternative_name().unwrap().is_none() && !parsed.is_ca());
        parsed
            .verify_signature(Some(X509Certificate::from_der(authority.certificate()).unwrap().1.public_key()))
            .unwrap();

        assert!(matches!(Request::read(b"not a request"), Err(AuthorityError::BadRequest)));
        assert!(authority.server(&["127.0.0.1:7843".to_owned(), "hub.example.it:1".to_owned()], now).is_ok());
    }
}
