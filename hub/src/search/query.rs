//! What is searched for, and what is found.

use campanile_proto::grid::CellSet;
use campanile_proto::ids::CameraId;
use campanile_proto::time::WallTime;

/// One hit, as a partner would get it too.
pub type Hit = campanile_proto::federation::v1::SearchHit;

/// More than anybody reads; a longer list is narrowed by time.
pub const MAX_LIMIT: usize = 1_000;
pub(super) const MAX_WORDS: usize = 16;
pub(super) const MAX_WORDS_BYTES: usize = 512;

#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Half-open; an event is found when it overlaps.
    pub from: WallTime,
    pub to: WallTime,
    /// Empty: all.
    pub cameras: Vec<CameraId>,
    /// Words of the place; empty or absent: anywhere.
    pub site: Option<String>,
    /// Every word must be there: in the camera's name, its place or address, or a label. The last one may be
    /// unfinished.
    pub words: String,
    /// Cells of which one must have moved within `from`..`to`.
    pub region: Option<CellSet>,
    /// At most [`MAX_LIMIT`].
    pub limit: usize,
}
