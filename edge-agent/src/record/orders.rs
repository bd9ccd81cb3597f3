//! What a recorder is told, and why it could not do it.

use super::fmp4::BoxError;
use super::fragment::Fragment;
use super::segment::{Disk, SegmentError, Signer};
use super::store::Store;
use crate::facts::Facts;
use crate::keys::KeysWatch;
use crate::media::StreamFormat;
use crate::media::stamp::Stamper;
use bytes::Bytes;
use campanile_proto::edge::v1::CameraCondition;
use campanile_proto::ids::{CameraId, EdgeId, ObjectId, OrganisationId, RunId};
use campanile_proto::kind::Kind;
use campanile_proto::types::v1::{Instant, Stream};
use std::sync::Arc;
use tokio::sync::Notify;

/// What a box is, once enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeIdentity {
    pub organisation: OrganisationId,
    pub edge: EdgeId,
}

/// What every stream of a camera is written with.
#[derive(Clone)]
pub struct Setting {
    pub camera: CameraId,
    pub store: Store,
    pub disk: Arc<dyn Disk>,
    pub stamper: Stamper,
    pub keys: KeysWatch,
    pub identity: Option<EdgeIdentity>,
    pub record_in_clear: bool,
    /// Used while there are no keys to say it.
    pub retention_days: u32,
    pub signer: Option<Signer>,
    pub facts: Facts,
    /// Told when the disk was found full.
    pub full: Arc<Notify>,
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("there are no sealing keys: the box is not enrolled")]
    NoSealingKeys,
    #[error("the disk is not tried again yet")]
    Resting,
    #[error("a fragment cannot be boxed")]
    Box(#[from] BoxError),
    #[error("a segment cannot be written")]
    Segment(#[from] SegmentError),
}

impl RecordError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoSealingKeys => Kind::Unauthenticated,
            Self::Resting => Kind::Unavailable,
            Self::Box(error) => error.kind(),
            Self::Segment(error) => error.kind(),
        }
    }

    pub fn condition(&self) -> CameraCondition {
        match self {
            Self::NoSealingKeys => CameraCondition::NoSealingKeys,
            Self::Box(_) => CameraCondition::UnsupportedCodec,
            Self::Segment(error) if error.kind() == Kind::Exhausted => CameraCondition::DiskFull,
            Self::Resting | Self::Segment(_) => CameraCondition::DiskError,
        }
    }
}

/// A fragment and where it belongs.
#[derive(Debug, Clone)]
pub struct MediaOrder {
    pub stream: Stream,
    pub format: Arc<StreamFormat>,
    pub run: RunId,
    /// In the run.
    pub index: u64,
    pub fragment: Fragment,
}

/// An index record, to be sealed.
#[derive(Debug, Clone)]
pub struct IndexOrder {
    pub object: ObjectId,
    pub revision: u64,
    pub arrival: Instant,
    /// `IndexRecord`, encoded.
    pub record: Bytes,
}
