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
    /// The long-term public key, in hexadecimal; empty in a card of the first release.
    #[serde(default)]
    key: String,
}

/// Why the identity cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot {attempt} {path}")]
    File { attempt: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{0} is not what this hub wrote: put it back from its backup")]
    Damaged(PathBuf),
    #[error(
        "{0} is missing although this organisation was made before: put it back from its backup, because another \
         key would make it another organisation to its boxes and partners"
    )]
    Missing(PathBuf),
    #[error("{0} is not the key of this organisation: put the right one back from its backup")]
    OtherKey(PathBuf),
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
        let known = match fs::read(&path) {
            Ok(bytes) => {
                Some(serde_json::from_slice::<Card>(&bytes).map_err(|_| IdentityError::Damaged(path.clone()))?)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(IdentityError::File { attempt: "read", path, source }),
        };
        let made_now = known.is_none();
        // The card is written last: where it is, every key was.
        let [long_term, hub, register] =
            ["organisation.key", "hub.key", "register.key"].map(|name| signing_key(&keys.join(name), made_now));
        let (long_term, hub, register) = (long_term?, hub?, register?);
        let key = hex::encode(long_term.verifying_key().as_bytes());
        if known.as_ref().is_some_and(|card| !card.key.is_empty() && card.key != key) {
            return Err(IdentityError::OtherKey(keys.join("organisation.key")));
        }
        let id = known.map_or_else(OrganisationId::ordered, |card| card.id);
        let card = Card { id, name: name.to_owned(), ipa: ipa_code.to_owned(), key };
        let text = serde_json::to_vec_pretty(&card).map_err(|_| IdentityError::Damaged(path.clone()))?;
        if fs::read(&path).ok().as_deref() != Some(text.as_slice()) {
            write_private(&path, &text)?;
        }
        Ok(Self { id, name: card.name, ipa_code: card.ipa, long_term, hub, register, made_now })
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

/// 32 bytes in hexadecimal; made when it is missing and may be.
fn signing_key(path: &Path, make: bool) -> Result<SigningKey, IdentityError> {
    let damaged = || IdentityError::Damaged(path.to_owned());
    match fs::read(path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            let mut seed = Zeroizing::new([0; 32]);
            hex::decode_to_slice(text.trim_ascii(), seed.as_mut_slice()).map_err(|_| damaged())?;
            Ok(SigningKey::from_bytes(&seed))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !make => {
            Err(IdentityError::Missing(path.to_owned()))
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
        assert!(first.made_now && !second.made_now);
    }

    #[test]
    fn a_missing_or_foreign_key_never_makes_another_organisation() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Identity::open(dir.path(), "Comune di Prato", "");
        open().unwrap();
        let keys = dir.path().join("keys");
        for key in ["organisation.key", "hub.key", "register.key"] {
            let kept = fs::read(keys.join(key)).unwrap();
            fs::remove_file(keys.join(key)).unwrap();
            assert!(matches!(open(), Err(IdentityError::Missing(_))), "{key}");
            assert!(!keys.join(key).exists());
            fs::write(keys.join(key), kept).unwrap();
        }
        let own = fs::read(keys.join("organisation.key")).unwrap();
        fs::copy(keys.join("hub.key"), keys.join("organisation.key")).unwrap();
        assert!(matches!(open(), Err(IdentityError::OtherKey(_))));
        fs::write(keys.join("organisation.key"), own).unwrap();
        open().unwrap();
    }

    #[test]
    fn a_card_of_the_first_release_learns_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::open(dir.path(), "Comune di Prato", "").unwrap();
        let path = dir.path().join("organisation.json");
        let with_key = fs::read(&path).unwrap();
        let old = format!(r#"{{"id":"{}","name":"Comune di Prato","ipa":""}}"#, first.id);
        fs::write(&path, old).unwrap();
        assert_eq!(Identity::open(dir.path(), "Comune di Prato", "").unwrap().id, first.id);
        assert_eq!(fs::read(&path).unwrap(), with_key);
    }
}
