//! Tables into answers.

use super::CatalogError;
use super::object::{GOES_ON, Sort};
use super::rows::{Camera, GapRow, SegmentRow};
use super::sqlite::{Owners, failed};
use campanile_proto::edge::v1::{CameraState, EdgeHealth, Gap, SegmentState};
use campanile_proto::ids::{CameraId, EdgeId, OrganisationId, RunId, SegmentId};
use campanile_proto::time::{MICROS_PER_SECOND, WallTime};
use campanile_proto::types::v1::{Anchor, SegmentHeader, Stream};
use prost::Message;
use rusqlite::{Connection, Params, Row, params};
use std::collections::{HashMap, HashSet};

/// Rows of one answer: a week of one stream is about a thousand segments.
const MAX_ROWS: i64 = 50_000;
/// A segment's span; an open one may be reported 10 s late.
const LONGEST_US: i64 = (campanile_proto::segment::MAX_SEGMENT_SECONDS + 60) * MICROS_PER_SECOND;

fn rows<T>(
    db: &Connection,
    attempt: &'static str,
    sql: &str,
    values: impl Params,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, CatalogError> {
    let mut statement = db.prepare_cached(sql).map_err(failed(attempt))?;
    statement.query_map(values, row).map_err(failed(attempt))?.collect::<Result<_, _>>().map_err(failed(attempt))
}

/// Whose each camera is, and was.
pub(super) fn owners(db: &Connection, organisation: OrganisationId) -> Result<HashMap<CameraId, Owners>, CatalogError> {
    let read = |table: &str| {
        let sql = format!("SELECT camera, edge FROM {table} WHERE organisation = ?1");
        rows(db, "read who owns which camera", &sql, [organisation.as_bytes()], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
    };
    let mut owners = HashMap::new();
    for (camera, edge) in read("camera_owner")? {
        owners.insert(id::<CameraId>(&camera)?, Owners { edge: id(&edge)?, former: Vec::new() });
    }
    for (camera, edge) in read("camera_former_owner")? {
        if let Some(owners) = owners.get_mut(&id::<CameraId>(&camera)?) {
            owners.former.push(id(&edge)?);
        }
    }
    Ok(owners)
}

/// (edge, state) of every object of one kind.
fn states<M: Message + Default>(
    db: &Connection,
    organisation: OrganisationId,
    sort: Sort,
) -> Result<Vec<(EdgeId, M)>, CatalogError> {
    let sql = "SELECT edge, state FROM object WHERE organisation = ?1 AND kind = ?2 LIMIT ?3";
    let found = rows(db, "read objects", sql, params![organisation.as_bytes(), sort as i64, MAX_ROWS], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    found.into_iter().map(|(edge, state)| Ok((id(&edge)?, message(state)?))).collect()
}

fn id<'a, T: TryFrom<&'a [u8]>>(bytes: &'a [u8]) -> Result<T, CatalogError> {
    T::try_from(bytes).map_err(|_| CatalogError::Damaged { what: "id" })
}

fn message<M: Message + Default>(bytes: Vec<u8>) -> Result<M, CatalogError> {
    M::decode(bytes::Bytes::from(bytes)).map_err(|_| CatalogError::Damaged { what: "object" })
}

pub(super) fn cameras(db: &Connection, organisation: OrganisationId) -> Result<Vec<Camera>, CatalogError> {
    let mut cameras = Vec::new();
    let owners = owners(db, organisation)?;
    for (edge, state) in states::<CameraState>(db, organisation, Sort::Camera)? {
        let camera = id(&state.camera_id)?;
        // Its former box described it too.
        if owners.get(&camera).is_some_and(|owners| owners.edge != edge) {
            continue;
        }
        cameras.push(Camera {
            id: camera,
            edge,
            name: state.name,
            site: state.site,
            address: state.address,
            latitude: state.latitude,
            longitude: state.longitude,
            streams: state.streams,
            removed: state.removed,
        });
    }
    cameras.sort_by(|a, b| (&a.site, &a.name, a.id).cmp(&(&b.site, &b.name, b.id)));
    Ok(cameras)
}

pub(super) fn anchors(db: &Connection, organisation: OrganisationId) -> Result<Vec<(EdgeId, Anchor)>, CatalogError> {
    states(db, organisation, Sort::Anchor)
}

pub(super) fn health(db: &Connection, organisation: OrganisationId) -> Result<Vec<(EdgeId, EdgeHealth)>, CatalogError> {
    states(db, organisation, Sort::Health)
}

pub(super) fn segments(
    db: &Connection,
    organisation: OrganisationId,
    camera: CameraId,
    stream: Stream,
    from: WallTime,
    to: WallTime,
) -> Result<Vec<SegmentRow>, CatalogError> {
    let sql = "SELECT start_us, end_us, state FROM object WHERE organisation = ?1 AND kind = ?2 AND camera = ?3 \
               AND stream = ?4 AND start_us < ?5 AND start_us > ?6 AND end_us >= ?7 ORDER BY start_us LIMIT ?8";
    let values = params![
        organisation.as_bytes(),
        Sort::Segment as i64,
        camera.as_bytes(),
        stream as i32,
        to.0,
        from.0.saturating_sub(LONGEST_US),
        from.0,
        MAX_ROWS
    ];
    let found = rows(db, "read coverage", sql, values, |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?))
    })?;
    let row = |(start, end, state): (i64, i64, Vec<u8>)| {
        let state: SegmentState = message(state)?;
        let header =
            SegmentHeader::decode(state.header.clone()).map_err(|_| CatalogError::Damaged { what: "header" })?;
        Ok(SegmentRow {
            id: id::<SegmentId>(&header.segment_id)?,
            camera,
            stream,
            run: id::<RunId>(&header.run_id)?,
            start: WallTime(start),
            end: WallTime(end),
            fragment_count: state.fragment_count,
            size_bytes: state.size_bytes,
            closed: state.closed,
            deleted_by: state.deleted_by,
            header: state.header,
            wrapped_key: state.wrapped_key,
            newest_link: state.newest_link,
        })
    };
    let mut segments: Vec<SegmentRow> = found.into_iter().map(row).collect::<Result<_, _>>()?;
    // A box that was enrolled anew reports what it reported before under its former name.
    let mut seen = HashSet::new();
    segments.retain(|segment| seen.insert(segment.id));
    Ok(segments)
}

pub(super) fn gaps(
    db: &Connection,
    organisation: OrganisationId,
    camera: CameraId,
    from: WallTime,
    to: WallTime,
) -> Result<Vec<GapRow>, CatalogError> {
    let sql = "SELECT start_us, end_us, state FROM object WHERE organisation = ?1 AND kind = ?2 AND camera = ?3 \
               AND start_us < ?4 AND end_us >= ?5 ORDER BY start_us LIMIT ?6";
    let values = params![organisation.as_bytes(), Sort::Gap as i64, camera.as_bytes(), to.0, from.0, MAX_ROWS];
    let found = rows(db, "read gaps", sql, values, |row| {
        Ok((WallTime(row.get(0)?), WallTime(row.get(1)?), row.get::<_, Vec<u8>>(2)?))
    })?;
    let mut gaps = Vec::new();
    for (start, end, state) in found {
        let gap: Gap = message(state)?;
        let (stream, cause, ongoing) = (gap.stream(), gap.cause(), end == GOES_ON);
        gaps.push(GapRow { camera, stream, start, end: if ongoing { to } else { end }, ongoing, cause });
    }
    Ok(gaps)
}
