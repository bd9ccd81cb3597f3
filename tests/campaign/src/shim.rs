//! What `campanile-disk-shim` is told.

use anyhow::{Context, Result};
use campanile_tests::process::binary;
use std::path::{Path, PathBuf};
use std::process::Command;

const LIBRARY: &str = "libcampanile_disk_shim.so";

/// See the table in `tests/shim/src/lib.rs`.
#[derive(Debug, Clone, Default)]
pub struct Shim {
    pub roots: Vec<PathBuf>,
    pub trace: Option<PathBuf>,
    pub rules: Vec<String>,
    pub gate: Option<PathBuf>,
    pub mark: Option<PathBuf>,
    pub disk_bytes: Option<u64>,
}

impl Shim {
    pub fn set(&self, command: &mut Command) -> Result<()> {
        let roots: Vec<&str> =
            self.roots.iter().map(|root| root.to_str().context("a path is text")).collect::<Result<_>>()?;
        command.env("LD_PRELOAD", binary(LIBRARY)?).env("CAMPANILE_DISK_ROOTS", roots.join(":"));
        let files = [
            ("CAMPANILE_DISK_TRACE", &self.trace),
            ("CAMPANILE_DISK_GATE", &self.gate),
            ("CAMPANILE_DISK_MARK", &self.mark),
        ];
        for (name, file) in files {
            command.envs(file.iter().map(|file| (name, file)));
        }
        if !self.rules.is_empty() {
            command.env("CAMPANILE_DISK_RULES", self.rules.join(";"));
        }
        command.envs(self.disk_bytes.map(|bytes| ("CAMPANILE_DISK_BYTES", bytes.to_string())));
        Ok(())
    }
}

/// A rule that acted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acted {
    pub utc_us: i64,
    /// With commas for its spaces.
    pub rule: String,
    pub path: String,
}

/// Every line of a mark.
pub fn acted(mark: &Path) -> Vec<Acted> {
    let text = std::fs::read_to_string(mark).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let utc_us = words.next()?.parse().ok()?;
        Some(Acted { utc_us, rule: words.next()?.to_owned(), path: words.next()?.to_owned() })
    };
    text.lines().filter_map(line).collect()
}
