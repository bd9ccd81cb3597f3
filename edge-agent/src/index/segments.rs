//! Rows of `segment`.

use super::offers::{self, Source};
use super::rescan::FILE_MISSING;
use super::unsigned::Unsigned;
use super::walk::Walk;
use super::{IndexError, failed};
use crate::record::segment::Signed;
use bytes::Bytes;
use campanile_proto::edge::v1::SegmentState;
use campanile_proto::ids::{CameraId, ObjectId, SegmentId};
use campanile_proto::time::{MonoTime, WallTime};
use campanile_proto::types::v1::{Instant, SegmentHeader, Stream};
use prost::Message;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// An open segment's growth is written and reported this often; the hub is promised 10 s.
const GROWTH_INTERVAL_US: i64 = 5_000_000;
/// Revisions of deleted segments start here: above any count of fragments.
pub const REVISION_DELETED: u64 = 1 << 40;

/// One segment as the index knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentRow {
    pub id: SegmentId,
    pub camera: CameraId,
    pub stream: Stream,
    pub path: PathBuf,
    pub header: Bytes,
    pub wrapped_key: Bytes,
    pub captured: WallTime,
    pub start: Instant,
    pub end: Instant,
    pub fragments: u64,
    pub size_bytes: u64,
    pub link: Bytes,
    pub closed: bool,
    pub deleted_by: Option<String>,
    pub offered: u64,
    pub settled: bool,
    /// What its footer vouches for.
    pub signed: Option<Signed>,
    /// What the disk answered when a write or a flush of it failed.
    pub suspect: Option<String>,
}

impl SegmentRow {
    pub fn state(&self) -> SegmentState {
        SegmentState {
            header: self.header.clone(),
            wrapped_key: self.wrapped_key.clone(),
            start: Some(self.start.clone()),
            end: Some(self.end.clone()),
            fragment_count: self.fragments,
            size_bytes: self.size_bytes,
            newest_link: self.link.clone(),
            closed: self.closed,
            deleted_by: self.deleted_by.clone().unwrap_or_default(),
            last_link: self.signed.as_ref().map(|signed| signed.last_link.clone()).unwrap_or_default(),
            edge_signature: self.signed.as_ref().map(|signed| signed.edge_signature.clone()).unwrap_or_default(),
            suspect: self.suspect.clone().unwrap_or_default(),
        }
    }

    pub fn decode_header(&self) -> Result<SegmentHeader, IndexError> {
        SegmentHeader::decode(self.header.clone()).map_err(|_| IndexError::Damaged { what: "segment header" })
    }
}

/// Revision of a segment's state: grows with its fragments, then with its closing, then with its deletion, and
/// comes out the same when a lost database is made again.
pub fn revision(fragments: u64, closed: bool, deleted: bool) -> u64 {
    let grown = fragments.saturating_mul(2).saturating_add(u64::from(closed));
    if deleted { REVISION_DELETED.saturating_add(grown) } else { grown }
}

/// Lets an open segment's growth pass every few seconds only.
#[derive(Default)]
pub(super) struct Throttle(HashMap<SegmentId, MonoTime>);

impl Throttle {
    pub fn passes(&mut self, segment: SegmentId, now: MonoTime, closed: bool) -> bool {
        if closed {
            self.0.remove(&segment);
            return true;
        }
        let last = self.0.get(&segment);
        let passes = last.is_none_or(|last| now - *last >= GROWTH_INTERVAL_US);
        if passes {
            self.0.insert(segment, now);
        }
        passes
    }
}

const COLUMNS: &str = "id, camera, stream, path, header, wrapped_key, captured_us, start, end, fragments, \
                       size_bytes, link, closed, deleted_by, offered, settled, last_link, signature, suspect";

fn read(row: &Row<'_>) -> rusqlite::Result<SegmentRow> {
    let bytes = |at| row.get::<_, Vec<u8>>(at).map(Bytes::from);
    let instant = |at| bytes(at).map(|bytes| Instant::decode(bytes).unwrap_or_default());
    Ok(SegmentRow {
        id: SegmentId::from_u128(u128::from_be_bytes(row.get(0)?)),
        camera: CameraId::from_u128(u128::from_be_bytes(row.get(1)?)),
        stream: Stream::try_from(row.get::<_, i32>(2)?).unwrap_or_default(),
        path: PathBuf::from(row.get::<_, String>(3)?),
        header: bytes(4)?,
        wrapped_key: bytes(5)?,
        captured: WallTime(row.get(6)?),
        start: instant(7)?,
        end: instant(8)?,
        fragments: row.get::<_, Unsigned>(9)?.0,
        size_bytes: row.get::<_, Unsigned>(10)?.0,
        link: bytes(11)?,
        closed: row.get(12)?,
        deleted_by: row.get(13)?,
        offered: row.get::<_, Unsigned>(14)?.0,
        settled: row.get(15)?,
        signed: match (row.get::<_, Option<Vec<u8>>>(16)?, row.get::<_, Option<Vec<u8>>>(17)?) {
            (Some(last_link), signature) => {
                Some(Signed { last_link: last_link.into(), edge_signature: signature.unwrap_or_default().into() })
            }
            (None, _) => None,
        },
        suspect: row.get(18)?,
    })
}

fn select(c: &Connection, rest: &str, with: impl rusqlite::Params) -> Result<Vec<SegmentRow>, IndexError> {
    let failed = failed("read segments");
    let mut statement = c.prepare_cached(&format!("SELECT {COLUMNS} FROM segment {rest}")).map_err(&failed)?;
    let rows = statement.query_map(with, read).map_err(&failed)?;
    rows.collect::<Result<_, _>>().map_err(&failed)
}

pub(super) fn one(c: &Connection, id: SegmentId) -> Result<Option<SegmentRow>, IndexError> {
    Ok(select(c, "WHERE id = ?1", [id.as_bytes()])?.pop())
}

pub(super) fn of_stream(c: &Connection, camera: CameraId, stream: Stream) -> Result<Vec<SegmentRow>, IndexError> {
    let rest = "WHERE camera = ?1 AND stream = ?2 AND deleted_by IS NULL ORDER BY captured_us";
    select(c, rest, params![camera.as_bytes(), stream as i32])
}

/// The segment that is written now, else the last one.
pub(super) fn newest(c: &Connection, camera: CameraId, stream: Stream) -> Result<Option<SegmentRow>, IndexError> {
    let rest = "WHERE camera = ?1 AND stream = ?2 AND deleted_by IS NULL ORDER BY closed, captured_us DESC LIMIT 1";
    Ok(select(c, rest, params![camera.as_bytes(), stream as i32])?.pop())
}

pub(super) fn all(c: &Connection) -> Result<Vec<SegmentRow>, IndexError> {
    select(c, "ORDER BY captured_us", [])
}

pub(super) fn opened(
    c: &Connection,
    id: SegmentId,
    camera: CameraId,
    stream: Stream,
    path: &Path,
    header: &Bytes,
    wrapped_key: &Bytes,
) -> Result<(), IndexError> {
    let decoded = SegmentHeader::decode(header.clone()).map_err(|_| IndexError::Damaged { what: "segment header" })?;
    let instant = decoded.opened.unwrap_or_default();
    let encoded = instant.encode_to_vec();
    let insert = "INSERT INTO segment (id, camera, stream, path, header, wrapped_key, captured_us, start, end, link)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9)
                  ON CONFLICT (id) DO UPDATE SET path = excluded.path";
    let link = campanile_proto::segment::first_link(&decoded.previous_link);
    let mut statement = c.prepare_cached(insert).map_err(failed("add a segment"))?;
    statement
        .execute(params![
            id.as_bytes(),
            camera.as_bytes(),
            stream as i32,
            path.to_string_lossy(),
            header.as_ref(),
            wrapped_key.as_ref(),
            instant.utc_us,
            encoded,
            link
        ])
        .map_err(failed("add a segment"))?;
    Ok(())
}

/// How far a segment has grown.
pub(super) struct Grown<'a> {
    pub start: &'a Instant,
    pub end: &'a Instant,
    pub fragments: u64,
    pub size_bytes: u64,
    pub link: &'a [u8],
    pub closed: bool,
    pub signed: Option<&'a Signed>,
}

/// What was closed is never open again, whatever is told late.
pub(super) fn grew(c: &Connection, id: SegmentId, grown: &Grown<'_>) -> Result<(), IndexError> {
    let update = "UPDATE segment SET start = ?2, end = ?3, fragments = ?4, size_bytes = ?5, link = ?6,
                  closed = max(closed, ?7), last_link = coalesce(?8, last_link), signature = coalesce(?9, signature)
                  WHERE id = ?1 AND deleted_by IS NULL";
    let mut statement = c.prepare_cached(update).map_err(failed("update a segment"))?;
    statement
        .execute(params![
            id.as_bytes(),
            grown.start.encode_to_vec(),
            grown.end.encode_to_vec(),
            Unsigned(grown.fragments),
            Unsigned(grown.size_bytes),
            grown.link,
            grown.closed,
            grown.signed.map(|signed| signed.last_link.as_ref()),
            grown.signed.map(|signed| signed.edge_signature.as_ref()),
        ])
        .map_err(failed("update a segment"))?;
    offer(c, id)
}

/// What a recorder could not bring to disk; told once, when it has closed the segment.
pub(super) fn doubt(c: &Connection, id: SegmentId, cause: &str) -> Result<(), IndexError> {
    let failed = failed("mark a segment as suspect");
    let mark = "UPDATE segment SET suspect = ?2, settled = 0, closed = 1 WHERE id = ?1 AND deleted_by IS NULL";
    let marked = c.execute(mark, params![id.as_bytes(), cause]).map_err(&failed)?;
    if marked > 0 { offer_anew(c, id) } else { Ok(()) }
}

/// Segments of which a write or a flush failed and that are there, oldest first.
pub(super) fn suspect(c: &Connection) -> Result<Vec<SegmentRow>, IndexError> {
    select(c, "WHERE suspect IS NOT NULL AND deleted_by IS NULL ORDER BY captured_us", [])
}

/// Puts a segment's present state into the outbox, if it is not there or known already.
fn offer(c: &Connection, id: SegmentId) -> Result<(), IndexError> {
    let Some(row) = one(c, id)? else { return Ok(()) };
    let natural = revision(row.fragments, row.closed, row.deleted_by.is_some());
    if natural == row.offered { Ok(()) } else { offer_revision(c, &row, natural) }
}

/// As [`offer`], for what changed without growing.
fn offer_anew(c: &Connection, id: SegmentId) -> Result<(), IndexError> {
    let Some(row) = one(c, id)? else { return Ok(()) };
    offer_revision(c, &row, revision(row.fragments, row.closed, row.deleted_by.is_some()))
}

/// A torn tail that was cut off leaves fewer fragments than were reported, and a mark none more.
fn offer_revision(c: &Connection, row: &SegmentRow, natural: u64) -> Result<(), IndexError> {
    let (id, revision) = (row.id, if natural <= row.offered { row.offered + 1 } else { natural });
    let object = ObjectId::from_u128(u128::from_be_bytes(*id.as_bytes()));
    offers::offer(c, object, revision, &Source::Segment(id), row.captured.0)?;
    c.prepare_cached("UPDATE segment SET offered = ?2 WHERE id = ?1")
        .and_then(|mut statement| statement.execute(params![id.as_bytes(), Unsigned(revision)]))
        .map_err(failed("offer a segment"))?;
    Ok(())
}

pub(super) fn found(c: &Connection, path: &Path, walk: &Walk, whole: bool) -> Result<(), IndexError> {
    let known = one(c, walk.id)?;
    if known.as_ref().is_some_and(|row| row.deleted_by.is_some()) {
        return Ok(());
    }
    opened(c, walk.id, walk.camera, walk.stream, path, &walk.header_bytes, &walk.wrapped_key)?;
    let closed = walk.footer || whole;
    let is_suspect = known.as_ref().is_some_and(|row| row.suspect.is_some());
    // Facts that arrived while the walk went on know more.
    if known.is_none_or(|row| row.fragments <= walk.fragments || whole) {
        let grown = Grown {
            start: &walk.start,
            end: &walk.end,
            fragments: walk.fragments,
            size_bytes: walk.good_bytes,
            link: &walk.link,
            closed,
            signed: walk.signed.as_ref(),
        };
        grew(c, walk.id, &grown)?;
    }
    for record in &walk.index {
        offers::offer_record(c, walk.id, record.offset, record.object, record.revision, record.utc_us)?;
    }
    if closed && (walk.stream == Stream::Index || is_suspect) {
        settle(c, walk.id)?;
    }
    Ok(())
}

fn settle(c: &Connection, id: SegmentId) -> Result<(), IndexError> {
    c.execute("UPDATE segment SET settled = 1 WHERE id = ?1", [id.as_bytes()]).map_err(failed("settle a segment"))?;
    c.execute("DELETE FROM index_record WHERE segment = ?1", [id.as_bytes()]).map_err(failed("settle a segment"))?;
    Ok(())
}

pub(super) fn delete(c: &Connection, id: SegmentId, rule: &str) -> Result<(), IndexError> {
    let failed = failed("mark a segment as deleted");
    // A rule that deleted it while nothing could be noted is known better than that its file is missing.
    let mark = "UPDATE segment SET deleted_by = ?2, closed = 1
                WHERE id = ?1 AND (deleted_by IS NULL OR deleted_by = ?3 AND ?2 <> ?3)";
    let was_missing = one(c, id)?.is_some_and(|row| row.deleted_by.is_some());
    let marked = c.execute(mark, params![id.as_bytes(), rule, FILE_MISSING]).map_err(&failed)?;
    // Its records can be read no more: what waits for them is over.
    let over = "DELETE FROM outbox WHERE segment = ?1 AND source = 3";
    c.execute(over, [id.as_bytes()]).map_err(&failed)?;
    c.execute("DELETE FROM index_record WHERE segment = ?1", [id.as_bytes()]).map_err(&failed)?;
    if marked > 0 && was_missing { offer_anew(c, id) } else { offer(c, id) }
}

pub(super) fn revive(c: &Connection, id: SegmentId) -> Result<(), IndexError> {
    let back = "UPDATE segment SET deleted_by = NULL, settled = 0 WHERE id = ?1 AND deleted_by = ?2";
    c.execute(back, params![id.as_bytes(), FILE_MISSING]).map(|_| ()).map_err(failed("take a segment back"))
}

pub(super) fn drop_recorded(c: &Connection) -> Result<(), IndexError> {
    let failed = failed("drop segments");
    let there = "SELECT id FROM segment WHERE deleted_by IS NULL";
    c.execute(&format!("DELETE FROM outbox WHERE segment IN ({there})"), []).map_err(&failed)?;
    c.execute("DELETE FROM index_record", []).map_err(&failed)?;
    c.execute("DELETE FROM segment WHERE deleted_by IS NULL AND suspect IS NULL", []).map_err(&failed)?;
    // No segment tells that its disk failed.
    for row in suspect(c)? {
        c.execute("UPDATE segment SET settled = 0 WHERE id = ?1", [row.id.as_bytes()]).map_err(&failed)?;
        offer_anew(c, row.id)?;
    }
    Ok(())
}

/// A missing file may come back for as long as its kind is kept; only its row knows the revision to go on from.
pub(super) fn forget(c: &Connection, before: WallTime) -> Result<(), IndexError> {
    let gone = "DELETE FROM segment WHERE deleted_by IS NOT NULL AND (deleted_by <> ?1 OR captured_us < ?2)
                AND id NOT IN (SELECT object_id FROM outbox)";
    c.execute(gone, params![FILE_MISSING, before.0]).map(|_| ()).map_err(failed("forget deleted segments"))
}

pub(super) fn offer_again(c: &Connection, since: WallTime) -> Result<(), IndexError> {
    let failed = failed("offer segments again");
    let from = since.plus_micros(-campanile_proto::segment::MAX_SEGMENT_SECONDS * 1_000_000).0;
    let mut statement = c.prepare("SELECT id FROM segment WHERE captured_us >= ?1").map_err(&failed)?;
    let ids = statement.query_map([from], |row| row.get::<_, [u8; 16]>(0)).map_err(&failed)?;
    let ids: Vec<_> = ids.collect::<Result<_, _>>().map_err(&failed)?;
    for id in ids {
        c.execute("UPDATE segment SET offered = 0, settled = 0 WHERE id = ?1", [id]).map_err(&failed)?;
        c.execute("DELETE FROM index_record WHERE segment = ?1", [id]).map_err(&failed)?;
        offer(c, SegmentId::from_u128(u128::from_be_bytes(id)))?;
    }
    Ok(())
}

/// Where a record's segment is, and whether it is still there.
pub(super) fn locate(c: &Connection, id: SegmentId) -> Result<Option<(PathBuf, Bytes, Bytes)>, IndexError> {
    let query = "SELECT path, header, wrapped_key FROM segment WHERE id = ?1 AND deleted_by IS NULL";
    let read = |row: &Row<'_>| {
        let path = PathBuf::from(row.get::<_, String>(0)?);
        Ok((path, Bytes::from(row.get::<_, Vec<u8>>(1)?), Bytes::from(row.get::<_, Vec<u8>>(2)?)))
    };
    let mut statement = c.prepare_cached(query).map_err(failed("find a segment"))?;
    statement.query_row([id.as_bytes()], read).optional().map_err(failed("find a segment"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_later_state_has_a_higher_revision(a in 0u64..1 << 30, b in 0u64..1 << 30, closed: bool) {
            if a < b {
                prop_assert!(revision(a, true, false) < revision(b, closed, false));
            }
            prop_assert!(revision(a, false, false) < revision(a, true, false));
            prop_assert!(revision(a, true, false) < revision(b, closed, true));
        }
    }
}
