//! `identity/cameras.json`: which name is which camera, so that ids survive a deleted database.

use super::IdentityError;
use super::store::{IdentityFolder, replace_file};
use campanile_proto::ids::CameraId;
use std::collections::{BTreeMap, HashMap};

/// Camera ids by the name in `edge.toml`; a name that is gone keeps its id for when it comes back.
#[derive(Debug, Default)]
pub struct CameraNames(BTreeMap<String, CameraId>);

impl CameraNames {
    /// Reads the file and gives every new name an id, written before it is used.
    pub fn load<'a>(folder: &IdentityFolder, names: impl Iterator<Item = &'a str>) -> Result<Self, IdentityError> {
        let path = folder.file("cameras.json");
        let mut known: BTreeMap<String, CameraId> = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| IdentityError::Damaged { path: path.clone(), reason: error.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(IdentityError::Read { path, source }),
        };
        let before = known.len();
        for name in names {
            known.entry(name.to_owned()).or_insert_with(CameraId::random);
        }
        if known.len() > before {
            let text = serde_json::to_vec_pretty(&known).expect("names and ids encode, because both are text");
            replace_file(&path, &text).map_err(|source| IdentityError::Write { path, source })?;
        }
        Ok(Self(known))
    }

    /// Cameras that were configured once and are not any more.
    pub fn others<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<(String, CameraId)> {
        let present: std::collections::BTreeSet<&str> = names.collect();
        let gone = self.0.iter().filter(|(name, _)| !present.contains(name.as_str()));
        gone.map(|(name, id)| (name.clone(), *id)).collect()
    }

    /// Those that are gone included.
    pub fn by_id(&self) -> HashMap<CameraId, String> {
        self.0.iter().map(|(name, id)| (*id, name.clone())).collect()
    }

    pub fn id(&self, name: &str) -> Option<CameraId> {
        self.0.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_keeps_its_id_for_ever() {
        let state = tempfile::tempdir().unwrap();
        let folder = IdentityFolder::open(state.path()).unwrap();
        let first = CameraNames::load(&folder, ["piazza", "scuola"].into_iter()).unwrap();
        CameraNames::load(&folder, ["scuola"].into_iter()).unwrap();
        let again = CameraNames::load(&folder, ["piazza", "ponte"].into_iter()).unwrap();
        assert_eq!(first.id("piazza"), again.id("piazza"));
        assert_ne!(again.id("ponte"), again.id("piazza"));
    }
}
