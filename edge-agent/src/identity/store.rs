//! The identity folder, `state_dir/identity`, 0700:
//! `key.pem` 0600 · `certificate.der` · `authority.der` · `keys.bin` (SignedKeys) · `enrolment.json`, written
//! last: without it the folder holds no identity. Until then `enrolling-<hash of the token>.pem`, the key that the
//! token is spent with. A new identity is made in a folder beside it that takes its place
//! as a whole: a key is never found with another one's certificate.

use super::{HubAddresses, IdentityError, SpkiPin, Token};
use crate::keys::KeySet;
use crate::record::segment::Signer;
use bytes::Bytes;
use campanile_proto::edge::v1::SignedKeys;
use campanile_proto::ids::{EdgeId, OrganisationId};
use campanile_proto::signed;
use ed25519_dalek::VerifyingKey;
use prost::Message;
use rcgen::{KeyPair, SigningKey};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Extensions of the folder that takes the identity's place, and of the one that left it.
const NEW: &str = "new";
const OLD: &str = "old";
/// Before the key of an enrolment that is not over.
const ENROLLING: &str = "enrolling-";

/// An enrolled box.
#[derive(Clone)]
pub struct Identity {
    pub edge: EdgeId,
    pub organisation: OrganisationId,
    pub organisation_name: String,
    pub organisation_key: VerifyingKey,
    pub hub: HubAddresses,
    pub certificate: CertificateDer<'static>,
    pub authority: CertificateDer<'static>,
    pub(super) key: Arc<KeyPair>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Enrolment {
    version: u32,
    edge: EdgeId,
    organisation: OrganisationId,
    organisation_name: String,
    organisation_key: String,
    hub: Vec<String>,
}

impl Identity {
    /// The pin of the authority believed since enrolment.
    pub fn pin(&self) -> Result<SpkiPin, IdentityError> {
        SpkiPin::of(&self.authority).ok_or(IdentityError::Unbelievable("the stored authority cannot be read"))
    }

    /// Signs with the box's key: ECDSA P-256 over SHA-256, ASN.1 (RFC 3279). Empty when the key fails.
    pub fn signer(&self) -> Signer {
        let key = self.key.clone();
        Arc::new(move |message| key.sign(message).unwrap_or_default())
    }

    /// Not before and not after of the certificate, seconds since 1970.
    pub fn validity(&self) -> Result<(i64, i64), IdentityError> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.certificate)
            .map_err(|_| IdentityError::Unbelievable("the stored certificate cannot be read"))?;
        Ok((parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp()))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("edge", &self.edge)
            .field("organisation", &self.organisation_name)
            .finish_non_exhaustive()
    }
}

/// Reads and writes the folder.
#[derive(Debug, Clone)]
pub struct IdentityFolder(PathBuf);

impl IdentityFolder {
    /// Makes the folder if it is missing, readable to its owner only.
    pub fn open(state_dir: &Path) -> Result<Self, IdentityError> {
        let path = state_dir.join("identity");
        // A replacement was interrupted between its two steps: the old identity holds.
        let old = path.with_extension(OLD);
        if !path.exists() && old.exists() {
            std::fs::rename(&old, &path).map_err(|source| IdentityError::Write { path: path.clone(), source })?;
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| IdentityError::Write { path: path.clone(), source })?;
        Ok(Self(path))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The identity; none before enrolment.
    pub fn load(&self) -> Result<Option<Identity>, IdentityError> {
        let path = self.file("enrolment.json");
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Read { path, source }),
            Ok(text) => text,
        };
        let damaged = |path: &Path, reason: String| IdentityError::Damaged { path: path.to_owned(), reason };
        let enrolment: Enrolment = serde_json::from_slice(&text).map_err(|error| damaged(&path, error.to_string()))?;
        let organisation_key = hex::decode(&enrolment.organisation_key)
            .ok()
            .and_then(|bytes| signed::verifying_key(&bytes).ok())
            .ok_or_else(|| damaged(&path, "organisation_key".into()))?;
        let pem = String::from_utf8_lossy(&self.read("key.pem")?).into_owned();
        let key = KeyPair::from_pem(&pem).map_err(|_| damaged(&self.file("key.pem"), "not a private key".into()))?;
        Ok(Some(Identity {
            edge: enrolment.edge,
            organisation: enrolment.organisation,
            organisation_name: enrolment.organisation_name,
            organisation_key,
            hub: HubAddresses::parse(enrolment.hub).map_err(|_| damaged(&path, "hub".into()))?,
            certificate: CertificateDer::from(self.read("certificate.der")?),
            authority: CertificateDer::from(self.read("authority.der")?),
            key: Arc::new(key),
        }))
    }

    /// Puts a whole identity in the place of the one before, if there was one. What is not of the identity, such as
    /// the cameras' ids, stays.
    pub(super) fn store(&self, identity: &Identity, keys: &SignedKeys) -> Result<(), IdentityError> {
        if !self.file("enrolment.json").exists() {
            self.fill(identity, keys)?;
            // It is key.pem now.
            return self.forget_enrolling();
        }
        let fresh = Self(self.0.with_extension(NEW));
        let old = self.0.with_extension(OLD);
        let step = |path: &Path, done: std::io::Result<()>| {
            done.map_err(|source| IdentityError::Write { path: path.to_owned(), source })
        };
        for leftover in [&fresh.0, &old] {
            if leftover.exists() {
                step(leftover, std::fs::remove_dir_all(leftover))?;
            }
        }
        step(&fresh.0, DirBuilder::new().mode(0o700).create(&fresh.0))?;
        fresh.fill(identity, keys)?;
        let cameras = self.file("cameras.json");
        if cameras.exists() {
            fresh.write("cameras.json", &self.read("cameras.json")?)?;
        }
        step(&old, std::fs::rename(&self.0, &old))?;
        step(&self.0, std::fs::rename(&fresh.0, &self.0))?;
        if let Some(parent) = self.0.parent() {
            step(parent, File::open(parent).and_then(|parent| parent.sync_all()))?;
        }
        step(&old, std::fs::remove_dir_all(&old))
    }

    /// The key to spend this token with, on disk before the hub sees it and the same however often it is tried. Another
    /// token's is forgotten: a key is one box's.
    pub(super) fn key_for(&self, token: &Token) -> Result<KeyPair, IdentityError> {
        let name = format!("{ENROLLING}{}.pem", hex::encode(&Sha256::digest(token.secret())[..8]));
        let known = std::fs::read_to_string(self.file(&name)).ok();
        if let Some(key) = known.and_then(|pem| KeyPair::from_pem(&pem).ok()) {
            return Ok(key);
        }
        self.forget_enrolling()?;
        let key = KeyPair::generate().map_err(IdentityError::MakeKey)?;
        self.write(&name, key.serialize_pem().as_bytes())?;
        Ok(key)
    }

    fn forget_enrolling(&self) -> Result<(), IdentityError> {
        let read = |source| IdentityError::Read { path: self.0.clone(), source };
        for entry in std::fs::read_dir(&self.0).map_err(read)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(ENROLLING) {
                let path = entry.path();
                std::fs::remove_file(&path).map_err(|source| IdentityError::Write { path, source })?;
            }
        }
        Ok(())
    }

    /// Writes a whole identity; the file that makes it valid comes last.
    fn fill(&self, identity: &Identity, keys: &SignedKeys) -> Result<(), IdentityError> {
        self.write("key.pem", identity.key.serialize_pem().as_bytes())?;
        self.write("certificate.der", &identity.certificate)?;
        self.write("authority.der", &identity.authority)?;
        self.write("keys.bin", &keys.encode_to_vec())?;
        let enrolment = Enrolment {
            version: 1,
            edge: identity.edge,
            organisation: identity.organisation,
            organisation_name: identity.organisation_name.clone(),
            organisation_key: hex::encode(identity.organisation_key.as_bytes()),
            hub: identity.hub.as_slice().to_vec(),
        };
        let text = serde_json::to_vec_pretty(&enrolment).expect("strings and ids encode, because no map has odd keys");
        self.write("enrolment.json", &text)
    }

    pub(super) fn store_certificate(&self, certificate: &[u8]) -> Result<(), IdentityError> {
        self.write("certificate.der", certificate)
    }

    /// The newest sealing keys that were delivered, checked again.
    pub fn load_keys(&self, identity: &Identity) -> Result<Arc<KeySet>, IdentityError> {
        let path = self.file("keys.bin");
        let signed = SignedKeys::decode(Bytes::from(self.read("keys.bin")?))
            .map_err(|error| IdentityError::Damaged { path, reason: error.to_string() })?;
        Ok(Arc::new(KeySet::verify(&signed, &identity.organisation_key, identity.edge)?))
    }

    /// Keeps keys that were checked.
    pub fn store_keys(&self, keys: &SignedKeys) -> Result<(), IdentityError> {
        self.write("keys.bin", &keys.encode_to_vec())
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, IdentityError> {
        let path = self.file(name);
        std::fs::read(&path).map_err(|source| IdentityError::Read { path, source })
    }

    /// Replaces a file in one step that survives a power cut.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
        let path = self.file(name);
        replace_file(&path, bytes).map_err(|source| IdentityError::Write { path, source })
    }
}

/// Writes beside, flushes, renames, flushes the folder; 0600.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
