//! What was done so far, a line a fault, so that an interrupted campaign goes on where it was.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub struct Notes {
    path: PathBuf,
    /// Left out of what is written: where a campaign ran is nobody's business.
    folder: String,
    file: Mutex<File>,
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    kind: String,
    outcome: T,
}

impl Notes {
    /// In `folder`, of this seed.
    pub fn open(folder: &Path, seed: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("notes-{seed}.jsonl"));
        let file = File::options().create(true).append(true).open(&path);
        let file = Mutex::new(file.with_context(|| format!("cannot open {}", path.display()))?);
        let folder = std::fs::canonicalize(folder).context("a folder has a path")?;
        Ok(Self { path, folder: folder.to_string_lossy().into_owned(), file })
    }

    pub fn add(&self, kind: &str, outcome: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(&Line { kind: kind.to_owned(), outcome })?.replace(&self.folder, "");
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{text}\n").as_bytes()).context("cannot note what was done")
    }

    /// Every outcome of a kind; a last line that was cut is left out.
    pub fn read<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>> {
        let text = std::fs::read_to_string(&self.path).context("cannot read what was done")?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().filter(|line| line.contains(&format!("\"kind\":\"{kind}\"")));
        let read = |line| serde_json::from_str::<Line<T>>(line).map(|line| line.outcome);
        lines.map(read).collect::<Result<_, _>>().context("what was done is not as agreed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_that_was_interrupted_knows_what_it_did() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::open(folder.path(), 3).unwrap();
        notes.add("kill", &1u64).unwrap();
        notes.add("power", &2u64).unwrap();
        drop(notes);
        let path = folder.path().join("notes-3.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"kind\":\"ki")).unwrap();
        let notes = Notes::open(folder.path(), 3).unwrap();
        assert_eq!(notes.read::<u64>("kill").unwrap(), [1]);
        assert_eq!(notes.read::<u64>("power").unwrap(), [2]);
    }
}
