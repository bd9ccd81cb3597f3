//! The index: what this box recorded, and what of it the hub does not know yet.
//!
//! Belongs here: one row a segment, objects reported whole, the outbox; the walk through segment files that can
//! make it all again.
//! Does not belong here: writing segments (`record`), talking to the hub (`uplink`).
//! Invariant: media is the truth. The database may be deleted at any time: nothing recorded is lost, and the hub
//! counts nothing twice. Only `worker` holds its connection.

mod objects;
mod offers;
mod open;
pub mod rescan;
mod segments;
#[cfg(test)]
mod tests;
mod unsigned;
pub mod walk;
mod worker;

pub use offers::{Content, Waiting};
pub use segments::{REVISION_DELETED, SegmentRow, revision};
pub use worker::Index;

use campanile_proto::kind::Kind;
use std::path::PathBuf;

/// Why the index cannot answer. Recording goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("cannot open the index {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("the index {path} has schema {found}, this version knows up to {known}; install the newer version again")]
    TooNew { path: PathBuf, found: i64, known: i64 },
    #[error("cannot set a damaged index aside at {path}")]
    SetAside { path: PathBuf, source: std::io::Error },
    #[error("cannot {attempt} in the index")]
    Statement { attempt: &'static str, source: rusqlite::Error },
    #[error("the index holds a {what} that cannot be read")]
    Damaged { what: &'static str },
    #[error("cannot start the thread of the index")]
    Spawn(#[source] std::io::Error),
    #[error("the index is closed")]
    Closed,
}

impl IndexError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Closed => Kind::Unavailable,
            Self::TooNew { .. } => Kind::Unsupported,
            _ => Kind::Internal,
        }
    }
}

/// Names the attempt behind a failed statement.
pub(crate) fn failed(attempt: &'static str) -> impl Fn(rusqlite::Error) -> IndexError {
    move |source| IndexError::Statement { attempt, source }
}
