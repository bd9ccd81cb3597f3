//! What a restored federation.sqlite must not undo, in a file of its own (`keys/agreements.list`): how many
//! changes the database has seen, and every agreement that was revoked.

use crate::fleet::identity::write_private;
use campanile_proto::ids::AgreementId;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    #[error("could not read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("could not write {path}")]
    Write { path: PathBuf, source: crate::fleet::IdentityError },
    #[error("{0} is damaged; restore it from a backup, or remove it to have every agreement suspended")]
    Damaged(PathBuf),
}

pub struct Marker {
    path: PathBuf,
    noted: Mutex<Noted>,
    /// There was no file: either nothing was ever noted, or it was removed.
    pub missing: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted {
    pub changes: u64,
    pub revoked: BTreeSet<AgreementId>,
}

impl Noted {
    fn parse(text: &str) -> Option<Self> {
        let mut noted = Self::default();
        let mut lines = text.lines();
        noted.changes = lines.next()?.strip_prefix("changes ")?.parse().ok()?;
        for line in lines {
            noted.revoked.insert(line.strip_prefix("revoked ")?.parse().ok()?);
        }
        Some(noted)
    }

    fn text(&self) -> String {
        let revoked: String = self.revoked.iter().map(|id| format!("revoked {id}\n")).collect();
        format!("changes {}\n{revoked}", self.changes)
    }
}

impl Marker {
    pub fn open(path: PathBuf) -> Result<Self, MarkerError> {
        let (noted, missing) = match std::fs::read_to_string(&path) {
            Ok(text) => (Noted::parse(&text).ok_or_else(|| MarkerError::Damaged(path.clone()))?, false),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (Noted::default(), true),
            Err(source) => return Err(MarkerError::Read { path, source }),
        };
        Ok(Self { path, noted: Mutex::new(noted), missing })
    }

    pub fn noted(&self) -> Noted {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The database has seen this many changes. Durable when it returns.
    pub fn changed(&self, changes: u64) -> Result<(), MarkerError> {
        self.note(|noted| noted.changes = noted.changes.max(changes))
    }

    /// Durable when it returns.
    pub fn revoked(&self, agreements: impl IntoIterator<Item = AgreementId>) -> Result<(), MarkerError> {
        self.note(|noted| noted.revoked.extend(agreements))
    }

    fn note(&self, change: impl FnOnce(&mut Noted)) -> Result<(), MarkerError> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = noted.clone();
        change(&mut next);
        if next == *noted && self.path.exists() {
            return Ok(());
        }
        let failed = |source| MarkerError::Write { path: self.path.clone(), source };
        if let Some(folder) = self.path.parent().filter(|folder| !folder.exists()) {
            crate::fleet::identity::private_folder(folder).map_err(failed)?;
        }
        write_private(&self.path, next.text().as_bytes()).map_err(failed)?;
        *noted = next;
        Ok(())
    }
}

/// `keys/agreements.list` of a data directory.
pub fn marker_path(data_dir: &Path) -> PathBuf {
    data_dir.join("keys").join("agreements.list")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = marker_path(folder.path());
        let marker = Marker::open(path.clone()).unwrap();
        assert_eq!(marker.noted(), Noted::default());
        marker.changed(7).unwrap();
        marker.changed(3).unwrap();
        marker.revoked([AgreementId::from_u128(9)]).unwrap();
        let again = Marker::open(path.clone()).unwrap().noted();
        assert_eq!(again, Noted { changes: 7, revoked: BTreeSet::from([AgreementId::from_u128(9)]) });
        std::fs::write(&path, "changes x").unwrap();
        assert!(matches!(Marker::open(path), Err(MarkerError::Damaged(_))));
    }
}
