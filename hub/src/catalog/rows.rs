//! What the catalogue answers with.

use campanile_proto::edge::v1::{CameraCondition, StreamState};
use campanile_proto::grid::CellSet;
use campanile_proto::ids::{CameraId, EdgeId, EventId, RunId, SegmentId};
use campanile_proto::time::{MICROS_PER_SECOND, WallTime};
use campanile_proto::types::v1::{Box as PictureBox, Label, Stream};

/// A camera as its box last described it.
#[derive(Debug, Clone, PartialEq)]
pub struct Camera {
    pub id: CameraId,
    pub edge: EdgeId,
    pub name: String,
    pub site: String,
    pub address: String,
    /// WGS 84, degrees; both 0 when unknown.
    pub latitude: f64,
    pub longitude: f64,
    pub streams: Vec<StreamState>,
    pub removed: bool,
}

/// Coverage: one segment at a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRow {
    pub id: SegmentId,
    pub camera: CameraId,
    pub stream: Stream,
    pub run: RunId,
    pub start: WallTime,
    pub end: WallTime,
    pub fragment_count: u64,
    pub size_bytes: u64,
    pub closed: bool,
    /// Rule that deleted it at the box; empty while it is there.
    pub deleted_by: String,
    /// `SegmentHeader` and wrapped key, verbatim.
    pub header: bytes::Bytes,
    pub wrapped_key: bytes::Bytes,
    pub newest_link: bytes::Bytes,
}

/// A time without bytes, with its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRow {
    pub camera: CameraId,
    pub stream: Stream,
    pub start: WallTime,
    /// While it goes on: the end of the interval that was asked for.
    pub end: WallTime,
    pub ongoing: bool,
    pub cause: CameraCondition,
}

/// An event lasts at most 120 s and its end is reported: when nothing is heard of one for this long after the end
/// last reported, its box was killed in the middle of it.
const SILENT_US: i64 = 180 * MICROS_PER_SECOND;

/// A motion episode, its highest revision.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    pub id: EventId,
    pub camera: CameraId,
    pub revision: u64,
    pub start: WallTime,
    pub end: WallTime,
    pub ongoing: bool,
    pub union: PictureBox,
    /// Every cell that moved in it.
    pub moved: CellSet,
    pub peak_cells: u32,
    pub labels: Vec<Label>,
    pub has_thumbnail: bool,
    pub uncertainty_us: u64,
    pub kept_until: WallTime,
}

impl EventRow {
    /// As it is to be shown at `now`: over, once its box has been silent about it for too long.
    pub(super) fn at(self, now: WallTime) -> Self {
        Self { ongoing: self.ongoing && now - self.end <= SILENT_US, ..self }
    }
}

/// One second of one camera's grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MotionRow {
    /// Its start.
    pub second: WallTime,
    pub moved: CellSet,
    /// "Nothing moved" is only said of these.
    pub looked: CellSet,
}

/// A camera of which nothing is recorded for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    pub camera: CameraId,
    pub since: WallTime,
    /// Of the authority or the town that says so.
    pub act: String,
    pub author: String,
}

/// A one-time token, as the hub keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// SHA-256 of the 32 secret bytes.
    pub secret_hash: [u8; 32],
    pub site_name: String,
    pub made: WallTime,
    pub expires: WallTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// With the site name its token was made for.
    Enrolled(EdgeRow),
    Refused(TokenRefused),
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRefused {
    Unknown,
    Used,
    Expired,
}

/// A box in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeRow {
    pub id: EdgeId,
    pub name: String,
    pub site_name: String,
    pub enrolled: WallTime,
    pub standing: EdgeStanding,
}

/// Whether a box is listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EdgeStanding {
    Good,
    /// Until a person decides: two boxes with one identity, or one that went back in time.
    Quarantined {
        since: WallTime,
        reason: String,
    },
    Revoked {
        since: WallTime,
    },
}
