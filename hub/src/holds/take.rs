//! Taking in what boxes reported: the fragments' keys are wrapped to the hold's key from the catalogue's rows alone, so
//! that no box need be there.
//!
//! A row does not say which fragments of its segment lie in the interval. Until the box has shown their headers, the
//! keys of the whole segment are wrapped; then they are narrowed to the covered ones.

use super::store::HeldSegment;
use super::{Hold, Holds, HoldsError, blocking};
use crate::catalog::SegmentRow;
use crate::media::{KeeperError, RingKeeper};
use campanile_proto::ids::{CameraId, HoldId, SegmentId};
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::time::MICROS_PER_SECOND;
use campanile_proto::types::v1::{SegmentHeader, Stream, Suite};
use prost::Message;
use std::collections::HashMap;

pub(super) const STREAMS: [Stream; 2] = [Stream::Main, Stream::Sub];
/// The longest group that is played, and what a report's times may be off.
pub(super) const LEAD_US: i64 = 125 * MICROS_PER_SECOND;
/// Sealings beyond the reported fragments: those recorded since, and numbers that a failed write used up.
pub(super) const AHEAD: u32 = 128;
const MAX_RULE_CHARACTERS: usize = 40;

impl Holds {
    /// Every camera of a hold.
    pub(super) async fn take_in(&self, hold: &Hold) -> Result<(), HoldsError> {
        for camera in &hold.terms.cameras {
            self.take_in_camera(hold, *camera).await?;
        }
        Ok(())
    }

    /// What is newly reported of a camera; the rows as they are now.
    pub(super) async fn take_in_camera(&self, hold: &Hold, camera: CameraId) -> Result<Vec<SegmentRow>, HoldsError> {
        let _one_at_a_time = self.0.taking.lock().await;
        let segments = self.0.store.segments(hold.id, camera).await?;
        let known: HashMap<SegmentId, HeldSegment> = segments.into_iter().map(|held| (held.id, held)).collect();
        let mut rows = Vec::new();
        let (from, to) = (hold.terms.from.plus_micros(-LEAD_US), hold.terms.to);
        for stream in STREAMS {
            rows.extend(self.0.parts.catalog.segments(camera, stream, from, to).await.map_err(HoldsError::Catalog)?);
        }
        let news: Vec<(SegmentRow, Option<HeldSegment>)> =
            rows.iter().map(|row| (row.clone(), known.get(&row.id).cloned())).collect();
        let (keeper, id) = (self.0.parts.keeper.clone(), hold.id);
        let taken = blocking(move || {
            let one = |(row, known): (SegmentRow, Option<HeldSegment>)| taken(&keeper, id, &row, known.as_ref());
            news.into_iter().filter_map(|news| one(news).transpose()).collect::<Result<Vec<_>, KeeperError>>()
        });
        for segment in taken.await?.map_err(HoldsError::Keeper)? {
            if !segment.lost.is_empty() {
                tracing::warn!(hold = %id, %camera, segment = %segment.id, cause = segment.lost, "held footage is lost");
            }
            self.0.store.put_segment(id, segment).await?;
        }
        Ok(rows)
    }
}

/// What is new of a segment, if anything. An error is the ring's own; a key that is gone is a loss.
fn taken(
    keeper: &RingKeeper,
    hold: HoldId,
    row: &SegmentRow,
    known: Option<&HeldSegment>,
) -> Result<Option<HeldSegment>, KeeperError> {
    let fresh = HeldSegment {
        id: row.id,
        camera: row.camera,
        stream: row.stream,
        start: row.start,
        end: row.end,
        header: row.header.clone(),
        keys: bytes::Bytes::new(),
        keyed: 0,
        narrowed: false,
        lost: String::new(),
        file_bytes: 0,
        init_at: None,
    };
    let segment = HeldSegment { start: row.start, end: row.end, ..known.cloned().unwrap_or(fresh) };
    let count = u32::try_from(row.fragment_count).unwrap_or(u32::MAX);
    if known.is_some_and(|known| known.narrowed || !known.lost.is_empty() || known.header != row.header) {
        return Ok(None);
    }
    let lost = |lost: String| Ok(Some(HeldSegment { lost, ..segment.clone() }));
    if !row.deleted_by.is_empty() {
        let rule: String = row.deleted_by.chars().filter(|c| !c.is_control()).take(MAX_RULE_CHARACTERS).collect();
        return lost(format!("deleted at the box: {rule}"));
    }
    if known.is_some_and(|known| known.keyed > count && known.end == row.end) {
        return Ok(None);
    }
    if known.is_some_and(|known| known.keyed > count.saturating_add(1)) {
        return Ok(Some(segment));
    }
    let Ok(header) = SegmentHeader::decode(row.header.clone()) else { return lost("its header is damaged".into()) };
    if header.suite() == Suite::Clear {
        return lost("recorded in clear, which no hub keeps".into());
    }
    let keyed = count.saturating_add(AHEAD).min(MAX_SEALINGS);
    match keeper.wrap_for_hold(hold, (&header, &row.header), &row.wrapped_key, 0..keyed) {
        Ok(keys) => Ok(Some(HeldSegment { keys: keys.into(), keyed, ..segment })),
        Err(error) if error.kind() == Kind::Internal || matches!(error, KeeperError::NoHold(_)) => Err(error),
        // What was wrapped before opens as much as it did.
        Err(_) if known.is_some() => Ok(None),
        Err(error) => lost(Chain(&error).to_string()),
    }
}

/// Ten minutes of a camera that sends key frames only, at 60 a second.
const MAX_SEALINGS: u32 = 36_000;
