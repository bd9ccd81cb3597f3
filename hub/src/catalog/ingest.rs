//! Reports into tables: one transaction a batch.

use super::ranges::Ranges;
use super::sqlite::{State, failed};
use super::{Anchors, CatalogError, reading};
use campanile_proto::edge::v1::{Ack, Report, report::Body};
use campanile_proto::ids::{CameraId, EdgeId, Epoch, ObjectId};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{Instant, SegmentHeader, Stream};
use prost::Message;
use rusqlite::{Transaction, params};
use std::collections::{HashMap, HashSet};

pub(super) const CAMERA: i64 = 1;
pub(super) const SEGMENT: i64 = 2;
pub(super) const GAP: i64 = 3;
pub(super) const HEALTH: i64 = 4;
pub(super) const ANCHOR: i64 = 5;
/// Refusals kept of one box; older ones make room.
const MAX_REFUSED_ROWS: i64 = 1_000;
/// SQLite's integers are signed.
const MAX_SEQUENCE: u64 = i64::MAX as u64;

/// What became of a sealed record: index in the batch, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub at: usize,
    /// Of a record that was kept.
    pub camera: Option<CameraId>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Kept,
    /// Arrived after its term.
    Expired,
    Refused(String),
}

/// Every (epoch, sequence) of the batch, to be acknowledged.
pub(super) type Sequenced = (Option<Epoch>, Vec<u64>);

/// The batch without what is held already. A batch is of one epoch; what is of another is left to the
/// box to send again.
pub(super) fn fresh(
    state: &mut State,
    edge: EdgeId,
    reports: Vec<Report>,
) -> Result<(Sequenced, Vec<Report>), CatalogError> {
    let epoch = reports.first().and_then(|report| Epoch::try_from(&report.epoch).ok());
    let Some(epoch) = epoch else { return Ok(((None, Vec::new()), Vec::new())) };
    let held = reading::held(&state.db, state.organisation, edge, epoch)?;
    let mut seen = HashSet::new();
    let (mut sequences, mut fresh) = (Vec::new(), Vec::new());
    for report in reports {
        if report.epoch != epoch.as_bytes().as_slice() || report.sequence > MAX_SEQUENCE {
            continue;
        }
        sequences.push(report.sequence);
        if !held.contains(report.sequence) && seen.insert(report.sequence) {
            fresh.push(report);
        }
    }
    Ok(((Some(epoch), sequences), fresh))
}

/// Stores a fresh batch; the answer is durable. Also answers which cameras the box has claimed.
pub(super) fn store(
    state: &mut State,
    edge: EdgeId,
    (epoch, sequences): Sequenced,
    reports: &[Report],
    sealed: &[Sealed],
    anchors: &Anchors,
) -> Result<(Ack, HashMap<CameraId, EdgeId>), CatalogError> {
    let Some(epoch) = epoch else { return Ok((Ack::default(), HashMap::new())) };
    let mut ack =
        Ack { epoch: epoch.into(), ranges: sequences.iter().copied().collect::<Ranges>().wire(), ..Ack::default() };
    if reports.is_empty() {
        return Ok((ack, HashMap::new()));
    }
    let organisation = state.organisation;
    let transaction = state.db.transaction().map_err(failed("begin a batch"))?;
    let outcomes: HashMap<usize, &Outcome> = sealed.iter().map(|s| (s.at, &s.outcome)).collect();
    let mut batch =
        Batch { db: &transaction, organisation: organisation.to_vec(), edge, epoch, claimed: HashMap::new() };
    for (at, report) in reports.iter().enumerate() {
        let refusal = match outcomes.get(&at) {
            Some(Outcome::Kept) => None,
            Some(Outcome::Expired) => {
                ack.expired += 1;
                None
            }
            Some(Outcome::Refused(reason)) => Some(reason.clone()),
            None => batch.keep(report, anchors)?.err(),
        };
        if let Some(reason) = refusal {
            ack.refused += 1;
            batch.refuse(report.sequence, &reason)?;
        }
    }
    for camera in sealed.iter().filter_map(|record| record.camera) {
        batch.claim(camera)?;
    }
    let claimed = std::mem::take(&mut batch.claimed);
    let mut held = reading::held(&transaction, organisation, edge, epoch)?;
    reports.iter().for_each(|report| held.insert(report.sequence, report.sequence));
    write_held(&transaction, organisation.as_bytes(), edge, epoch, &held)?;
    transaction.commit().map_err(failed("keep a batch"))?;
    Ok((ack, claimed))
}

pub(super) fn settle(state: &mut State, edge: EdgeId, epoch: Epoch, through: u64) -> Result<(), CatalogError> {
    let organisation = state.organisation;
    let transaction = state.db.transaction().map_err(failed("settle a replay"))?;
    let mut held = reading::held(&transaction, organisation, edge, epoch)?;
    held.insert(0, through.min(MAX_SEQUENCE));
    write_held(&transaction, organisation.as_bytes(), edge, epoch, &held)?;
    transaction.commit().map_err(failed("settle a replay"))
}

pub(super) fn forget_before(state: &mut State, before: WallTime) -> Result<u64, CatalogError> {
    let gone = state
        .db
        .execute(
            "DELETE FROM object WHERE organisation = ?1 AND kind IN (?2, ?3) AND end_us < ?4",
            params![state.organisation.as_bytes(), SEGMENT, GAP, before.0],
        )
        .map_err(failed("forget old coverage"))?;
    state
        .db
        .execute(
            "DELETE FROM token WHERE organisation = ?1 AND expires_us < ?2",
            params![state.organisation.as_bytes(), before.0],
        )
        .map_err(failed("forget old tokens"))?;
    Ok(gone as u64)
}

fn write_held(
    db: &Transaction<'_>,
    organisation: &[u8],
    edge: EdgeId,
    epoch: Epoch,
    held: &Ranges,
) -> Result<(), CatalogError> {
    let key = params![organisation, edge.as_bytes(), epoch.as_bytes()];
    db.execute("DELETE FROM held WHERE organisation = ?1 AND edge = ?2 AND epoch = ?3", key)
        .map_err(failed("keep what is held"))?;
    let mut insert = db
        .prepare_cached("INSERT INTO held (organisation, edge, epoch, first, last) VALUES (?1, ?2, ?3, ?4, ?5)")
        .map_err(failed("keep what is held"))?;
    for (first, last) in held.iter() {
        insert
            .execute(params![organisation, edge.as_bytes(), epoch.as_bytes(), first as i64, last as i64])
            .map_err(failed("keep what is held"))?;
    }
    Ok(())
}

/// One batch on its way in.
struct Batch<'a> {
    db: &'a Transaction<'a>,
    organisation: Vec<u8>,
    edge: EdgeId,
    epoch: Epoch,
    claimed: HashMap<CameraId, EdgeId>,
}

/// Where and when an object is, for those that have a place in time.
type Place = (CameraId, Stream, WallTime, WallTime);

impl Batch<'_> {
    /// `Ok(Err(reason))`: the report is not one this version can read.
    fn keep(&mut self, report: &Report, anchors: &Anchors) -> Result<Result<(), String>, CatalogError> {
        let Ok(object) = ObjectId::try_from(&report.object_id) else {
            return Ok(Err("the object id is not 16 bytes".to_owned()));
        };
        if report.revision > MAX_SEQUENCE {
            return Ok(Err("the revision is out of range".to_owned()));
        }
        let (kind, object, place, state) = match &report.body {
            Some(Body::Camera(camera)) => match CameraId::try_from(&camera.camera_id) {
                Ok(id) => (
                    CAMERA,
                    ObjectId::try_from(&camera.camera_id).unwrap_or(object),
                    Some((id, None)),
                    camera.encode_to_vec(),
                ),
                Err(error) => return Ok(Err(error.to_string())),
            },
            Some(Body::Segment(segment)) => match segment_place(segment, anchors) {
                Ok((camera, stream, start, end)) => {
                    (SEGMENT, object, Some((camera, Some((stream, start, end)))), segment.encode_to_vec())
                }
                Err(reason) => return Ok(Err(reason)),
            },
            Some(Body::Gap(gap)) => match gap_place(gap, anchors) {
                Ok((camera, stream, start, end)) => {
                    (GAP, object, Some((camera, Some((stream, start, end)))), gap.encode_to_vec())
                }
                Err(reason) => return Ok(Err(reason)),
            },
            // One row a box, whatever object the box files it under.
            Some(Body::Health(health)) => (HEALTH, ObjectId::from_u128(0), None, health.encode_to_vec()),
            Some(Body::Anchor(anchor)) => (ANCHOR, object, None, anchor.encode_to_vec()),
            Some(Body::Sealed(_)) => return Ok(Err("the sealed record was not looked at".to_owned())),
            None => return Ok(Err("the report says nothing this version knows".to_owned())),
        };
        if let Some((camera, _)) = place
            && !self.claim(camera)?
        {
            return Ok(Err(format!("camera {camera} belongs to another box")));
        }
        let (camera, at) = match place {
            Some((camera, at)) => (Some(camera), at),
            None => (None, None),
        };
        self.upsert(kind, object, report.revision, camera, at, &state)?;
        Ok(Ok(()))
    }

    fn upsert(
        &self,
        kind: i64,
        object: ObjectId,
        revision: u64,
        camera: Option<CameraId>,
        at: Option<(Stream, WallTime, WallTime)>,
        state: &[u8],
    ) -> Result<(), CatalogError> {
        let mut statement = self
            .db
            .prepare_cached(
                "INSERT INTO object (organisation, edge, kind, object, epoch, revision, camera, stream, start_us, \
                 end_us, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
                 ON CONFLICT (organisation, edge, kind, object) DO UPDATE SET epoch = excluded.epoch, \
                 revision = excluded.revision, camera = excluded.camera, stream = excluded.stream, \
                 start_us = excluded.start_us, end_us = excluded.end_us, state = excluded.state \
                 WHERE excluded.revision > revision OR excluded.epoch <> epoch",
            )
            .map_err(failed("keep an object"))?;
        statement
            .execute(params![
                self.organisation,
                self.edge.as_bytes(),
                kind,
                object.as_bytes(),
                self.epoch.as_bytes(),
                revision as i64,
                camera.map(|id| id.to_vec()),
                at.map(|(stream, _, _)| stream as i32),
                at.map(|(_, start, _)| start.0),
                at.map(|(_, _, end)| end.0),
                state
            ])
            .map_err(failed("keep an object"))?;
        Ok(())
    }

    /// Whether the camera is this box's, which it becomes when it is nobody's.
    fn claim(&mut self, camera: CameraId) -> Result<bool, CatalogError> {
        if self.claimed.get(&camera) == Some(&self.edge) {
            return Ok(true);
        }
        let mut insert = self
            .db
            .prepare_cached("INSERT OR IGNORE INTO camera_owner (organisation, camera, edge) VALUES (?1, ?2, ?3)")
            .map_err(failed("claim a camera"))?;
        insert
            .execute(params![self.organisation, camera.as_bytes(), self.edge.as_bytes()])
            .map_err(failed("claim a camera"))?;
        let mut select = self
            .db
            .prepare_cached("SELECT edge FROM camera_owner WHERE organisation = ?1 AND camera = ?2")
            .map_err(failed("claim a camera"))?;
        let owner: Vec<u8> = select
            .query_row(params![self.organisation, camera.as_bytes()], |row| row.get(0))
            .map_err(failed("claim a camera"))?;
        let mine = owner == self.edge.as_bytes();
        if mine {
            self.claimed.insert(camera, self.edge);
        }
        Ok(mine)
    }

    fn refuse(&self, sequence: u64, reason: &str) -> Result<(), CatalogError> {
        tracing::warn!(edge = %self.edge, sequence, reason, "report set aside");
        self.db
            .execute(
                "INSERT OR REPLACE INTO refused (organisation, edge, epoch, sequence, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![self.organisation, self.edge.as_bytes(), self.epoch.as_bytes(), sequence as i64, reason],
            )
            .map_err(failed("set a report aside"))?;
        self.db
            .execute(
                "DELETE FROM refused WHERE organisation = ?1 AND edge = ?2 AND epoch = ?3 AND sequence <= ?4",
                params![
                    self.organisation,
                    self.edge.as_bytes(),
                    self.epoch.as_bytes(),
                    sequence as i64 - MAX_REFUSED_ROWS
                ],
            )
            .map_err(failed("set a report aside"))?;
        Ok(())
    }
}

fn instant(instant: Option<&Instant>, anchors: &Anchors) -> Result<WallTime, String> {
    Ok(anchors.present(instant.ok_or("an instant is missing")?).0)
}

fn segment_place(segment: &campanile_proto::edge::v1::SegmentState, anchors: &Anchors) -> Result<Place, String> {
    let header = SegmentHeader::decode(segment.header.clone()).map_err(|_| "the segment header is not a message")?;
    let camera = CameraId::try_from(&header.camera_id).map_err(|e| e.to_string())?;
    let start = instant(segment.start.as_ref(), anchors)?;
    Ok((camera, header.stream(), start, instant(segment.end.as_ref(), anchors)?.max(start)))
}

fn gap_place(gap: &campanile_proto::edge::v1::Gap, anchors: &Anchors) -> Result<Place, String> {
    let camera = CameraId::try_from(&gap.camera_id).map_err(|e| e.to_string())?;
    let start = instant(gap.start.as_ref(), anchors)?;
    let end = if gap.end.is_some() { instant(gap.end.as_ref(), anchors)? } else { start };
    Ok((camera, gap.stream(), start, end.max(start)))
}
