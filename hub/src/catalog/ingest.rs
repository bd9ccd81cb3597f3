//! Reports into tables: one transaction a batch.

use super::held::{EpochKey, Held};
use super::object::{self, Object, Sort};
use super::ranges::Ranges;
use super::sqlite::{State, failed};
use super::{Anchors, CatalogError, registry};
use campanile_proto::edge::v1::{Ack, Report, report::Body};
use campanile_proto::ids::{CameraId, EdgeId, Epoch, Incarnation, OrganisationId};
use campanile_proto::time::WallTime;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::{HashMap, HashSet};

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
    let key = EpochKey { organisation: state.organisation, edge, epoch };
    let held = state.held.take(&state.db, &key)?;
    let mut seen = HashSet::new();
    let (mut sequences, mut fresh) = (Vec::new(), Vec::new());
    for report in reports {
        if report.epoch != epoch.as_bytes().as_slice() || report.sequence > MAX_SEQUENCE {
            continue;
        }
        sequences.push(report.sequence);
        if !held.ranges.contains(report.sequence) && seen.insert(report.sequence) {
            fresh.push(report);
        }
    }
    state.held.bring_back(key, held);
    Ok(((Some(epoch), sequences), fresh))
}

/// Cameras that are the box's now, and whose they were before.
pub(super) type Claimed = HashMap<CameraId, Option<EdgeId>>;

/// Stores a fresh batch; the answer is durable. Also answers which cameras the box has claimed.
pub(super) fn store(
    state: &mut State,
    edge: EdgeId,
    (epoch, sequences): Sequenced,
    reports: &[Report],
    sealed: &[Sealed],
    anchors: &Anchors,
) -> Result<(Ack, Claimed), CatalogError> {
    let Some(epoch) = epoch else { return Ok((Ack::default(), HashMap::new())) };
    let mut ack =
        Ack { epoch: epoch.into(), ranges: sequences.iter().copied().collect::<Ranges>().wire(), ..Ack::default() };
    if reports.is_empty() {
        return Ok((ack, HashMap::new()));
    }
    let organisation = state.organisation;
    let key = EpochKey { organisation, edge, epoch };
    let mut held = state.held.take(&state.db, &key)?;
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
    // Another session of the box may have brought some of them meanwhile.
    let new = reports.iter().filter(|report| !held.ranges.contains(report.sequence)).count() as u64;
    let arrived: Ranges = reports.iter().map(|report| report.sequence).collect();
    held.add(&transaction, &key, arrived.iter())?;
    if let Some(through) = reports.iter().filter_map(never_sent_again).max() {
        held.add(&transaction, &key, [(0, through)])?;
    }
    let accepted = held.accepted + new;
    held.count(&transaction, &key, accepted)?;
    transaction.commit().map_err(failed("keep a batch"))?;
    state.held.bring_back(key, held);
    Ok((ack, claimed))
}

/// Up to where, as a health report says, no sequence will be sent any more; never beyond the report's own.
fn never_sent_again(report: &Report) -> Option<u64> {
    match &report.body {
        Some(Body::Health(health)) if health.acknowledged_through > 0 => {
            Some(health.acknowledged_through.min(report.sequence))
        }
        _ => None,
    }
}

pub(super) fn held(state: &mut State, edge: EdgeId, epoch: Epoch) -> Result<Held, CatalogError> {
    let key = EpochKey { organisation: state.organisation, edge, epoch };
    let held = state.held.take(&state.db, &key)?;
    state.held.bring_back(key, held.clone());
    Ok(held)
}

pub(super) fn settle(
    state: &mut State,
    edge: EdgeId,
    epoch: Epoch,
    through: u64,
    more_accepted: u64,
) -> Result<(), CatalogError> {
    let key = EpochKey { organisation: state.organisation, edge, epoch };
    let mut held = state.held.take(&state.db, &key)?;
    let transaction = state.db.transaction().map_err(failed("settle what is held"))?;
    held.add(&transaction, &key, [(0, through.min(MAX_SEQUENCE))])?;
    let accepted = held.accepted.saturating_add(more_accepted).min(MAX_SEQUENCE);
    held.count(&transaction, &key, accepted)?;
    transaction.commit().map_err(failed("settle what is held"))?;
    state.held.bring_back(key, held);
    Ok(())
}

pub(super) fn forget_before(state: &mut State, before: WallTime) -> Result<u64, CatalogError> {
    let gone = state
        .db
        .execute(
            "DELETE FROM object WHERE organisation = ?1 AND kind IN (?2, ?3, ?4) AND end_us < ?5",
            params![
                state.organisation.as_bytes(),
                Sort::Segment as i64,
                Sort::Gap as i64,
                Sort::Anchor as i64,
                before.0
            ],
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

/// Gives a camera to another box. Answers whose it was; none when there is no such camera.
pub(super) fn move_camera(state: &mut State, camera: CameraId, to: EdgeId) -> Result<Option<EdgeId>, CatalogError> {
    let organisation = state.organisation.to_vec();
    let transaction = state.db.transaction().map_err(failed("move a camera"))?;
    let owner: Option<Vec<u8>> = transaction
        .query_row(
            "SELECT edge FROM camera_owner WHERE organisation = ?1 AND camera = ?2",
            params![organisation, camera.as_bytes()],
            |row| row.get(0),
        )
        .optional()
        .map_err(failed("move a camera"))?;
    let Some(owner) = owner else { return Ok(None) };
    let before = EdgeId::try_from(owner.as_slice()).map_err(|_| CatalogError::Damaged { what: "camera owner" })?;
    if before != to {
        give(&transaction, &organisation, camera, (before, to))?;
    }
    transaction.commit().map_err(failed("move a camera"))?;
    Ok(Some(before))
}

fn give(
    db: &Transaction<'_>,
    organisation: &[u8],
    camera: CameraId,
    (before, to): (EdgeId, EdgeId),
) -> Result<(), CatalogError> {
    for (sql, edge) in [
        ("INSERT OR IGNORE INTO camera_former_owner (organisation, camera, edge) VALUES (?1, ?2, ?3)", before),
        ("DELETE FROM camera_former_owner WHERE organisation = ?1 AND camera = ?2 AND edge = ?3", to),
        ("UPDATE camera_owner SET edge = ?3 WHERE organisation = ?1 AND camera = ?2", to),
    ] {
        db.execute(sql, params![organisation, camera.as_bytes(), edge.as_bytes()]).map_err(failed("move a camera"))?;
    }
    Ok(())
}

/// Forgets which reports are held, so that every box is asked for all of them again; the life is another one.
pub(super) fn begin_anew(db: &mut Connection, organisation: OrganisationId) -> Result<Incarnation, CatalogError> {
    let (fresh, attempt) = (Incarnation::ordered(), failed("begin a new life"));
    let transaction = db.transaction().map_err(&attempt)?;
    for table in ["held", "epoch"] {
        let sql = format!("DELETE FROM {table} WHERE organisation = ?1");
        transaction.execute(&sql, [organisation.as_bytes()]).map_err(&attempt)?;
    }
    transaction
        .execute(
            "UPDATE life SET incarnation = ?2 WHERE organisation = ?1",
            params![organisation.as_bytes(), fresh.as_bytes()],
        )
        .map_err(&attempt)?;
    transaction.commit().map_err(&attempt)?;
    Ok(fresh)
}

/// One batch on its way in.
struct Batch<'a> {
    db: &'a Transaction<'a>,
    organisation: Vec<u8>,
    edge: EdgeId,
    epoch: Epoch,
    claimed: Claimed,
}

impl Batch<'_> {
    /// `Ok(Err(reason))`: the report is not one this version can read.
    fn keep(&mut self, report: &Report, anchors: &Anchors) -> Result<Result<(), String>, CatalogError> {
        if report.revision > MAX_SEQUENCE {
            return Ok(Err("the revision is out of range".to_owned()));
        }
        let object = match object::read(self.edge, report, anchors) {
            Ok(object) => object,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Some(camera) = object.camera
            && !self.claim(camera)?
        {
            return Ok(Err(format!("camera {camera} belongs to another box")));
        }
        self.upsert(&object, report.revision)?;
        Ok(Ok(()))
    }

    fn upsert(&self, object: &Object, revision: u64) -> Result<(), CatalogError> {
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
                object.sort as i64,
                object.id.as_bytes(),
                self.epoch.as_bytes(),
                revision as i64,
                object.camera.map(|id| id.to_vec()),
                object.stream.map(|stream| stream as i32),
                object.time.map(|(start, _)| start.0),
                object.time.map(|(_, end)| end.0),
                object.state
            ])
            .map_err(failed("keep an object"))?;
        Ok(())
    }

    /// Whether the camera is this box's, which it becomes when it is nobody's, or a revoked box's: a cabinet whose
    /// box was enrolled anew keeps its cameras.
    fn claim(&mut self, camera: CameraId) -> Result<bool, CatalogError> {
        if self.claimed.contains_key(&camera) {
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
        if owner == self.edge.as_bytes() {
            self.claimed.insert(camera, None);
            return Ok(true);
        }
        let before = EdgeId::try_from(owner.as_slice()).map_err(|_| CatalogError::Damaged { what: "camera owner" })?;
        let revoked = registry::is_revoked(self.db, &self.organisation, before)?;
        if revoked {
            give(self.db, &self.organisation, camera, (before, self.edge))?;
            tracing::info!(%camera, edge = %self.edge, "camera of a revoked box taken over");
            self.claimed.insert(camera, Some(before));
        }
        Ok(revoked)
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
