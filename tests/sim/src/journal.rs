//! The log of every access unit sent.
//!
//! Belongs here: one line's shape, appending, reading back.
//! Does not belong here: judging a recording by it (`audit`).
//! Invariant: a line is in the file before its access unit can reach a client.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why the log could not be written or read.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The log file cannot be opened.
    #[error("cannot open log {path}")]
    Open {
        /// The log.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line cannot be appended.
    #[error("cannot append to log {path}")]
    Append {
        /// The log.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line is not what [`LogLine`] says.
    #[error("cannot understand line {line} of log {path}")]
    Parse {
        /// The log.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The parser's reason.
        source: serde_json::Error,
    },
}

/// One access unit sent to one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Counts this client's access units from 0.
    pub seq: u64,
    /// Camera name.
    pub camera: String,
    /// `main` or `sub`.
    pub stream: String,
    /// Number of the RTSP session's media, unique within a log file.
    pub client: u64,
    /// Fingerprint, see [`crate::units::hash_nals`].
    pub sha256: String,
    /// RTP time on the wire, 90 kHz, wrapping.
    pub rtp_time: u32,
    /// Time on the camera's time line since its start, unwrapped.
    pub pts_90k: u64,
    /// UTC when it was handed to the RTSP server, microseconds.
    pub wall_us: i64,
    /// Sync sample.
    pub key: bool,
    /// Access unit's index in the loop, in decoding order (the strip's counter in generated scenes).
    pub frame: u64,
    /// Bytes with 4-byte lengths.
    pub size: u64,
}

/// An open log, shared by the threads of a stream's clients.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// Opens a log for appending. The second value is the first client number not used in it.
    pub fn open(path: &Path) -> Result<(Journal, u64), JournalError> {
        let next_client =
            if path.exists() { read_log(path)?.iter().map(|line| line.client + 1).max().unwrap_or(0) } else { 0 };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|source| JournalError::Open { path: path.to_owned(), source })?;
        Ok((Journal { path: path.to_owned(), file: Mutex::new(file) }, next_client))
    }

    /// Appends a line with a single write, so that a killed process leaves whole lines.
    pub fn append(&self, line: &LogLine) -> Result<(), JournalError> {
        let append = |source| JournalError::Append { path: self.path.clone(), source };
        let mut text = serde_json::to_vec(line).map_err(|error| append(error.into()))?;
        text.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text).map_err(append)
    }
}

/// All lines of a log in order. A last line without its newline is left out: it is being written.
pub fn read_log(path: &Path) -> Result<Vec<LogLine>, JournalError> {
    let open = |source| JournalError::Open { path: path.to_owned(), source };
    let mut reader = BufReader::new(File::open(path).map_err(open)?);
    let mut lines = Vec::new();
    let mut text = String::new();
    loop {
        text.clear();
        if reader.read_line(&mut text).map_err(open)? == 0 || !text.ends_with('\n') {
            return Ok(lines);
        }
        let line = serde_json::from_str(&text).map_err(|source| JournalError::Parse {
            path: path.to_owned(),
            line: lines.len() + 1,
            source,
        })?;
        lines.push(line);
    }
}
