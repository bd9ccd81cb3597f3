//! Where films lie while they are scored.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// A folder that is emptied film by film.
#[derive(Debug)]
pub struct Workshop {
    folder: PathBuf,
    keep: bool,
}

impl Workshop {
    pub fn open(folder: &Path, keep: bool) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), keep })
    }

    /// Names of the pictures and of our masks of a film.
    pub fn of(&self, name: &str) -> (PathBuf, PathBuf) {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        (self.folder.join(format!("{name}.grey")), self.folder.join(format!("{name}.mask")))
    }

    /// Done with it.
    pub fn clear(&self, name: &str) {
        if !self.keep {
            let (grey, mask) = self.of(name);
            // What is left behind is overwritten next time.
            let _ = (std::fs::remove_file(grey), std::fs::remove_file(mask));
        }
    }
}
