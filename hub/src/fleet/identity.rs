//! Who this organisation is: a UUID and keys, made once at first start.

use campanile_proto::ids::OrganisationId;
use campanile_proto::kind::Kind;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The organisation, and the keys it signs with.
pub struct Identity {
    pub id: OrganisationId,
    pub name: String,
    /// May be empty.
    pub ipa_code: String,
    /// Signs mandates, agreements and what boxes pinned.
    pub long_term: SigningKey,
    /// Signs requests to partners.
    pub hub: SigningKey,
    /// Signs the register's checkpoints.
    pub register: SigningKey,
    /// Made at this start: nothing of it can be missing.
    pub made_now: bool,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({}, keys redacted)", self.id)
    }
}

/// What `organisation.json` holds.
#[derive(Serialize, Deserialize)]
struct Card {
    id: OrganisationId,
    name: String,
    ipa: String,
}

/// Why the identity cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot {attempt} {path}")]
    File { attempt: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{0} is not what this hub wrote: put it back from its backup")]
    Damaged(PathBuf),
    #[error("no random bytes from the kernel")]
    NoRandom,
}

impl IdentityError {
    pub fn kind(&self) -> Kind {
        Kind::Internal
    }
}

impl Identity {
    /// Reads the identity of a data folder, or makes it; name and code follow the configuration.
    pub fn open(data_dir: &Path, name: &str, ipa_code: &str) -> Result<Self, IdentityError> {
        private_folder(data_dir)?;
        let keys = data_dir.join("keys");
        private_folder(&keys)?;
        let path = data_dir.join("organisation.json");
        let made_now = !path.exists();
        let id = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Card>(&bytes).map_err(|_| IdentityError::Damaged(path.clone()))?.id,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => OrganisationId::ordered(),
            Err(source) => return Err(IdentityError::File { attempt: "read", path, source }),
        };
        let card = Card { id, name: name.to_owned(), ipa: ipa_code.to_owned() };
        let text = serde_json::to_vec_pretty(&card).map_err(|_| IdentityError::Damaged(path.clone()))?;
        if fs::read(&path).ok().as_deref() != Some(text.as_slice()) {
            write_private(&path, &text)?;
        }
        Ok(Self {
            id,
            name: card.name,
            ipa_code: card.ipa,
            long_term: signing_key(&keys.join("organisation.key"))?,
            hub: signing_key(&keys.join("hub.key"))?,
            register: signing_key(&keys.join("register.key"))?,
            made_now,
        })
    }

    #[cfg(test)]
    pub fn for_tests() -> Self {
        let key = |seed| SigningKey::from_bytes(&[seed; 32]);
        Self {
            id: OrganisationId::from_u128(42),
            name: "Comune di Prova".to_owned(),
            ipa_code: String::new(),
            long_term: key(1),
            hub: key(2),
            register: key(3),
            made_now: true,
        }
    }
}

/// 32 bytes in hexadecimal.
fn signing_key(path: &Path) -> Result<SigningKey, IdentityError> {
    let damaged = || IdentityError::Damaged(path.to_owned());
    match fs::read(path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            let mut seed = Zeroizing::new([0; 32]);
            hex::decode_to_slice(text.trim_ascii(), seed.as_mut_slice()).map_err(|_| damaged())?;
            Ok(SigningKey::from_bytes(&seed))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(seed.as_mut_slice()).map_err(|_| IdentityError::NoRandom)?;
            write_private(path, Zeroizing::new(hex::encode(*seed)).as_bytes())?;
            Ok(SigningKey::from_bytes(&seed))
        }
        Err(source) => Err(IdentityError::File { attempt: "read", path: path.to_owned(), source }),
    }
}

/// A folder that only its owner enters.
pub fn private_folder(path: &Path) -> Result<(), IdentityError> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
        .map_err(|source| IdentityError::File { attempt: "make", path: path.to_owned(), source })
}

/// Writes a file that only its owner reads: whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let failed = |source| IdentityError::File { attempt: "write", path: path.to_owned(), source };
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organisation_stays_itself() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::open(dir.path(), "Comune di Prato", "").unwrap();
        let second = Identity::open(dir.path(), "Città di Prato", "c_g999").unwrap();
        assert_eq!(first.id, second.id);
        assert_eq!(first.long_term, second.long_term);
        assert_ne!(first.long_term, first.hub);
        assert_eq!(second.name, "Città di Prato");
        for key in ["organisation.key", "hub.key", "register.key"] {
            let mode = fs::metadata(dir.path().join("keys").join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        assert!(!format!("{first:?}").contains(&hex::encode(first.hub.to_bytes())));
    }
}
