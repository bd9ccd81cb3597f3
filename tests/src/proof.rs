//! The proof that a file holds what a camera sent: its access units against the camera's own log.

use crate::process::run_to_end;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::Path;

/// What `campanile-simcam audit --json` says.
#[derive(Deserialize)]
struct Answer {
    report: Audit,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Audit {
    /// Access units the log has for the file's interval.
    pub expected: u64,
    /// Access units in the file that the log has.
    pub found: u64,
    pub missing: Vec<serde_json::Value>,
    pub foreign: Vec<serde_json::Value>,
    /// Sent, but not where they stand in the file.
    pub out_of_order: u64,
}

impl Audit {
    /// Nothing missing, nothing foreign, nothing misplaced, and something there.
    pub fn is_exact(&self) -> bool {
        self.found > 0
            && self.found == self.expected
            && self.missing.is_empty()
            && self.foreign.is_empty()
            && self.out_of_order == 0
    }
}

/// Compares `file` with the log of what one client of the camera was sent from `from_us` to `to_us` (UTC).
pub fn audit(log: &Path, file: &Path, from_us: i64, to_us: i64) -> Result<Audit> {
    let (log, file) = (log.to_string_lossy(), file.to_string_lossy());
    let (from, to) = (from_us.to_string(), to_us.to_string());
    let arguments = ["audit", "--log", &log, "--file", &file, "--from-us", &from, "--to-us", &to, "--json"];
    let output = run_to_end("campanile-simcam", &arguments)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let answer: Answer =
        serde_json::from_str(said.trim()).with_context(|| format!("the audit of {file} said: {said}{complaint}"))?;
    Ok(answer.report)
}
