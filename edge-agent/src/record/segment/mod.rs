//! Segment files: written once from front to back, read also while they grow.

mod disk;
mod writer;

pub use disk::{Disk, OwnDisk, SegmentFile};
pub use writer::{Appended, Closed, SegmentWriter};

use campanile_proto::kind::Kind;
use campanile_proto::segment::SealError;
use std::path::PathBuf;

/// Signs what a footer carries with the box's key (ECDSA P-256, ASN.1).
pub type Signer = std::sync::Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// What a box vouches for when it closes a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signed {
    /// Link before the footer.
    pub last_link: bytes::Bytes,
    /// Over `footer_signature_input`; empty: the box had no key.
    pub edge_signature: bytes::Bytes,
}

/// Why a segment could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error("cannot make the segment {path}")]
    Create { path: PathBuf, source: std::io::Error },
    #[error(
        "the disk of {media_dir} is not the one recorded to before: it is not mounted, or another one; if another one is meant to take its place, remove {known}"
    )]
    OtherDisk { media_dir: PathBuf, known: PathBuf },
    #[error("cannot read or write the mark of the disk at {path}")]
    Mark { path: PathBuf, source: std::io::Error },
    #[error("cannot write to the segment {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot bring the segment {path} to disk")]
    Sync { path: PathBuf, source: std::io::Error },
    #[error("cannot seal for the segment {path}")]
    Seal { path: PathBuf, source: SealError },
}

impl SegmentError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Write { source, .. }
            | Self::Create { source, .. }
            | Self::Sync { source, .. }
            | Self::Mark { source, .. }
                if matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) =>
            {
                Kind::Exhausted
            }
            _ => Kind::Internal,
        }
    }

    /// Why a segment that met this is suspect; none: what was written of it stands. A full disk that takes no more
    /// has what it took; one that is found full while flushing has lost some of it.
    pub fn doubt(&self) -> Option<String> {
        match self {
            Self::Write { source, .. } if self.kind() != Kind::Exhausted => Some(format!("a write failed: {source}")),
            Self::Sync { source, .. } => Some(format!("a flush failed: {source}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
