//! What the hub knows of its boxes and cameras, and what it concluded from what they reported.
//!
//! Belongs here: cameras, coverage, gaps, the fleet's registry, which reports are held (`Catalog`); events,
//! motion and thumbnails opened from sealed records, a partition a day (`Derived`).
//! Does not belong here: footage, the full-text index (`search`), who may ask (`access`).
//! Invariant: an acknowledged report is durable, and reported twice it counts once.

mod anchors;
#[cfg(test)]
pub(crate) mod conformance;
mod derived;
mod held;
mod ingest;
mod masks;
mod motion;
mod object;
mod open;
mod opening;
mod owner;
mod partition;
mod ranges;
mod reading;
mod registry;
mod rows;
mod sqlite;
mod upgrade;

pub use anchors::Anchors;
pub use derived::Derived;
pub use held::Held;
pub use open::open;
pub(crate) use owner::Owner;
pub use ranges::Ranges;
pub use rows::{
    Camera, EdgeRow, EdgeStanding, EventRow, GapRow, Mask, MotionRow, NewToken, Redeemed, SegmentRow, TokenRefused,
};
pub(crate) use sqlite::open_database;

use campanile_proto::edge::v1::{Ack, EdgeHealth, Report};
use campanile_proto::ids::{CameraId, EdgeId, Epoch, Incarnation};
use campanile_proto::kind::Kind;
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{Anchor, Stream};
use futures::future::BoxFuture;

pub type Answer<'a, T> = BoxFuture<'a, Result<T, CatalogError>>;

/// Whole operations; no transaction and no row number crosses it. Every back end passes `conformance`.
pub trait Catalog: Send + Sync {
    /// UUID of this life of the catalogue: another one after it was made anew.
    fn incarnation(&self) -> Incarnation;

    /// Durable before the answer. Reports already held, and revisions not above the held one, change
    /// nothing and are acknowledged. Sealed records are opened and kept first.
    fn ingest(&self, edge: EdgeId, reports: Vec<Report>) -> Answer<'_, Ack>;
    /// Sequences of `epoch` that are held, and how many were accepted.
    fn held(&self, edge: EdgeId, epoch: Epoch) -> Answer<'_, Held>;
    /// Takes everything up to `through` for held, and counts `more_accepted`: what the box will not send any
    /// more, or, after a restore, reports again under new numbers.
    fn settle(&self, edge: EdgeId, epoch: Epoch, through: u64, more_accepted: u64) -> Answer<'_, ()>;

    fn cameras(&self) -> Answer<'_, Vec<Camera>>;
    /// The box a camera belongs to: the one that reported it first, until it is moved or that box is revoked.
    fn owner(&self, camera: CameraId) -> Option<EdgeId>;
    /// Boxes it belonged to before.
    fn former_owners(&self, camera: CameraId) -> Vec<EdgeId>;
    /// Gives a camera to another box. False: no such camera.
    fn move_camera(&self, camera: CameraId, to: EdgeId) -> Answer<'_, bool>;
    /// Cameras of which nothing is recorded for now.
    fn masks(&self) -> Answer<'_, Vec<Mask>>;
    /// False: no such camera. One that is masked already stays so by its first act.
    fn mask(&self, mask: Mask) -> Answer<'_, bool>;
    /// False: it is not masked.
    fn unmask(&self, camera: CameraId) -> Answer<'_, bool>;
    /// Segments that overlap `from`..`to`, oldest first.
    fn segments(&self, camera: CameraId, stream: Stream, from: WallTime, to: WallTime) -> Answer<'_, Vec<SegmentRow>>;
    fn gaps(&self, camera: CameraId, from: WallTime, to: WallTime) -> Answer<'_, Vec<GapRow>>;
    fn anchors(&self) -> Answer<'_, Vec<Anchor>>;
    /// Newest health of each box.
    fn health(&self) -> Answer<'_, Vec<(EdgeId, EdgeHealth)>>;

    fn add_token(&self, token: NewToken) -> Answer<'_, ()>;
    /// Whether there is such a token, used, expired or neither.
    fn token_known(&self, secret_hash: [u8; 32]) -> Answer<'_, bool>;
    /// Uses a token up and registers the box, in one step. The key that used it gets the same box again.
    fn redeem(&self, secret_hash: [u8; 32], key_hash: [u8; 32], edge: EdgeRow, now: WallTime) -> Answer<'_, Redeemed>;
    fn edges(&self) -> Answer<'_, Vec<EdgeRow>>;
    /// Adds or changes the registry's row of a box.
    fn put_edge(&self, edge: EdgeRow) -> Answer<'_, ()>;

    /// Forgets coverage and gaps that ended before `before`.
    fn forget_before(&self, before: WallTime) -> Answer<'_, u64>;
}

/// Why the catalogue did not do it.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("cannot open the catalogue at {path}")]
    Open { path: std::path::PathBuf, source: rusqlite::Error },
    #[error("the catalogue at {path} has schema {found}, this version knows {known}")]
    Schema { path: std::path::PathBuf, found: i64, known: i64 },
    #[error("cannot make folder {path}")]
    Folder { path: std::path::PathBuf, source: std::io::Error },
    #[error("cannot {attempt} in the catalogue")]
    Statement { attempt: &'static str, source: rusqlite::Error },
    #[error("cannot mark the derived store as this catalogue's")]
    Mark(#[source] crate::fleet::IdentityError),
    #[error("the catalogue's thread is gone")]
    Gone,
    #[error("a stored {what} cannot be read")]
    Damaged { what: &'static str },
}

impl CatalogError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Gone => Kind::Unavailable,
            Self::Schema { .. } => Kind::Unsupported,
            _ => Kind::Internal,
        }
    }
}
