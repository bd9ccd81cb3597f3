//! What can go wrong with holds.

use super::store::StoreError;
use super::terms::BadTerm;
use super::vault::VaultError;
use crate::catalog::CatalogError;
use crate::fleet::FetchError;
use crate::media::codecs::CodecsError;
use crate::media::{KeeperError, PlaybackError};
use campanile_proto::ids::{CameraId, HoldId};
use campanile_proto::kind::Kind;
use campanile_proto::segment::SealError;

/// Why something is not done with a hold.
#[derive(Debug, thiserror::Error)]
pub enum HoldsError {
    #[error(transparent)]
    Bad(#[from] BadTerm),
    #[error("camera {0} is none of this town's; what a partner's camera recorded is held by the partner's own hub")]
    UnknownCamera(CameraId),
    #[error("there is no hold {0}")]
    Unknown(HoldId),
    #[error("hold {0} is over")]
    Over(HoldId),
    #[error("the hold does not cover this camera")]
    NotItsCamera,
    #[error("nothing of this interval is held")]
    NothingHeld,
    #[error("the access has no open entry in the register")]
    NotRegistered,
    #[error("the hub is stopping")]
    Stopping,
    #[error("the store of holds failed")]
    Store(#[from] StoreError),
    #[error("the copies of holds failed")]
    Vault(#[from] VaultError),
    #[error("the keys of the hold")]
    Keeper(#[source] KeeperError),
    #[error("the catalogue failed")]
    Catalog(#[source] CatalogError),
    #[error("a held fragment does not open")]
    Seal(#[source] SealError),
    #[error("the stream cannot be described")]
    Codecs(#[source] CodecsError),
    #[error("a held group cannot be packaged")]
    Package(#[source] PlaybackError),
}

impl HoldsError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Bad(_) => Kind::Invalid,
            Self::UnknownCamera(_) | Self::Unknown(_) | Self::NotItsCamera | Self::NothingHeld => Kind::NotFound,
            Self::Over(_) => Kind::Expired,
            Self::NotRegistered => Kind::Denied,
            Self::Stopping => Kind::Unavailable,
            Self::Keeper(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::Codecs(error) => error.kind(),
            Self::Package(error) => error.kind(),
            Self::Store(_) | Self::Vault(_) | Self::Seal(_) => Kind::Internal,
        }
    }
}

/// Why a copy does not go on; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("the footage could not be fetched")]
    Fetch(#[source] FetchError),
    #[error("a record of the box is not what was announced, or does not follow from the one before")]
    Chain,
    #[error("a record of the box is of another camera, stream, box or segment")]
    Foreign,
    #[error("a record of the box is malformed: {0}")]
    Malformed(&'static str),
    #[error("the copy cannot be kept")]
    Holds(#[from] HoldsError),
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        Self::Holds(error.into())
    }
}
