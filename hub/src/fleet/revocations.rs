//! Revoked boxes, in a file of their own: a restored catalogue must not bring one back.

use super::identity::{IdentityError, write_private};
use campanile_proto::ids::EdgeId;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// `keys/revoked.list`, an id a line.
pub(super) struct Revocations {
    path: PathBuf,
    revoked: Mutex<BTreeSet<EdgeId>>,
}

impl Revocations {
    pub fn open(data_dir: &Path) -> Result<Self, IdentityError> {
        let path = data_dir.join("keys/revoked.list");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(IdentityError::File { attempt: "read", path, source }),
        };
        let ids: Result<BTreeSet<EdgeId>, _> = text.lines().map(|line| line.trim().parse()).collect();
        let revoked = Mutex::new(ids.map_err(|_| IdentityError::Damaged(path.clone()))?);
        Ok(Self { path, revoked })
    }

    pub fn contains(&self, edge: EdgeId) -> bool {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner).contains(&edge)
    }

    pub fn all(&self) -> Vec<EdgeId> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Durable when it returns.
    pub fn add(&self, edge: EdgeId) -> Result<(), IdentityError> {
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        revoked.insert(edge);
        let text: String = revoked.iter().map(|id| format!("{id}\n")).collect();
        write_private(&self.path, text.as_bytes())
    }
}
