//! What the simulated cameras say they sent.

use anyhow::{Context, Result};
use campanile_sim::journal::LogLine;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

/// Older lines are of no life that is looked at.
const KEPT_US: i64 = 240_000_000;

/// Logs of the streams of a box, by camera and stream.
#[derive(Default)]
pub struct Journals(BTreeMap<(String, String), Journal>);

struct Journal {
    path: PathBuf,
    read: u64,
    lines: Vec<LogLine>,
}

impl Journals {
    pub fn add(&mut self, camera: String, stream: &str, path: PathBuf) {
        self.0.insert((camera, stream.to_owned()), Journal { path, read: 0, lines: Vec::new() });
    }

    /// Reads what was appended since the last time.
    pub fn refresh(&mut self) -> Result<()> {
        self.0.values_mut().try_for_each(Journal::refresh)
    }

    pub fn lines(&self, camera: &str, stream: &str) -> &[LogLine] {
        self.0.get(&(camera.to_owned(), stream.to_owned())).map_or(&[], |journal| &journal.lines)
    }
}

impl Journal {
    fn refresh(&mut self) -> Result<()> {
        let Ok(mut file) = std::fs::File::open(&self.path) else { return Ok(()) };
        file.seek(SeekFrom::Start(self.read)).context("cannot go on in a camera's log")?;
        let mut text = String::new();
        file.read_to_string(&mut text).context("cannot read a camera's log")?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        for line in text[..whole].lines() {
            self.lines.push(serde_json::from_str(line).context("a camera's log is not as agreed")?);
        }
        if let Some(newest) = self.lines.last().map(|line| line.wall_us) {
            self.lines.retain(|line| line.wall_us > newest - KEPT_US);
        }
        Ok(())
    }
}

/// The line of this fingerprint that was sent nearest to a time.
pub fn nearest<'a>(lines: &'a [LogLine], sha256: &str, near_us: i64) -> Option<&'a LogLine> {
    lines.iter().filter(|line| line.sha256 == sha256).min_by_key(|line| line.wall_us.abs_diff(near_us))
}
