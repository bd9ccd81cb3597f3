//! Rows of `outbox` and `index_record`.

use super::unsigned::Unsigned;
use super::worker::Progress;
use super::{IndexError, failed, objects, segments};
use bytes::Bytes;
use campanile_proto::edge::v1::report::Body;
use campanile_proto::ids::{Epoch, ObjectId, SegmentId};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashSet;
use std::path::PathBuf;

/// Where an object's newest state rests.
pub(super) enum Source {
    Segment(SegmentId),
    Object,
    Record(SegmentId, u64),
}

/// A report that the hub has not acknowledged.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub sequence: u64,
    pub object: ObjectId,
    pub revision: u64,
    pub content: Content,
}

/// What a report says, or where to read it.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a few dozen at a time, and most are bodies")]
pub enum Content {
    Body(Body),
    /// The record at `offset` of the file.
    Record {
        path: PathBuf,
        offset: u64,
        segment_header: Bytes,
        wrapped_key: Bytes,
    },
    /// Its object or segment is gone.
    Gone,
}

/// Takes the place of an older revision of the same object, under a new sequence.
pub(super) fn offer(
    c: &Connection,
    object: ObjectId,
    revision: u64,
    source: &Source,
    captured_us: i64,
) -> Result<(), IndexError> {
    let (number, segment, offset) = match source {
        Source::Segment(segment) => (1, Some(*segment), None),
        Source::Object => (2, None, None),
        Source::Record(segment, offset) => (3, Some(*segment), Some(*offset)),
    };
    let failed = failed("offer a report");
    let delete = "DELETE FROM outbox WHERE object_id = ?1 AND revision <= ?2";
    c.prepare_cached(delete)
        .and_then(|mut statement| statement.execute(params![object.as_bytes(), Unsigned(revision)]))
        .map_err(&failed)?;
    // A higher revision that already waits stays.
    let insert = "INSERT INTO outbox (object_id, revision, source, segment, offset, urgent, captured_us)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (object_id) DO NOTHING";
    c.prepare_cached(insert)
        .and_then(|mut statement| {
            statement.execute(params![
                object.as_bytes(),
                Unsigned(revision),
                number,
                segment.map(|id| *id.as_bytes()),
                offset.map(Unsigned),
                number == 2,
                captured_us
            ])
        })
        .map_err(&failed)?;
    Ok(())
}

/// Offers a record of the index stream, once a revision.
pub(super) fn offer_record(
    c: &Connection,
    segment: SegmentId,
    offset: u64,
    object: ObjectId,
    revision: u64,
    captured_us: i64,
) -> Result<(), IndexError> {
    let failed = failed("offer a record");
    let known: Option<Unsigned> = c
        .prepare_cached("SELECT revision FROM index_record WHERE object_id = ?1")
        .and_then(|mut statement| statement.query_row([object.as_bytes()], |row| row.get(0)).optional())
        .map_err(&failed)?;
    if known.is_some_and(|known| known.0 >= revision) {
        return Ok(());
    }
    let keep = "INSERT INTO index_record (object_id, revision, segment) VALUES (?1, ?2, ?3)
                ON CONFLICT (object_id) DO UPDATE SET revision = excluded.revision, segment = excluded.segment";
    c.prepare_cached(keep)
        .and_then(|mut statement| statement.execute(params![object.as_bytes(), Unsigned(revision), segment.as_bytes()]))
        .map_err(&failed)?;
    offer(c, object, revision, &Source::Record(segment, offset), captured_us)
}

/// Rows of the outbox, urgent ones first, then newest first.
pub(super) fn waiting(c: &Connection, limit: usize, except: &HashSet<u64>) -> Result<Vec<Waiting>, IndexError> {
    let failed = failed("read the outbox");
    let query = "SELECT sequence, object_id, revision, source, segment, offset FROM outbox
                 ORDER BY urgent DESC, captured_us DESC, sequence DESC LIMIT ?1";
    let mut statement = c.prepare_cached(query).map_err(&failed)?;
    let mut rows = statement.query([Unsigned(limit.saturating_add(except.len()) as u64)]).map_err(&failed)?;
    let mut waiting = Vec::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        let sequence = row.get::<_, Unsigned>(0).map_err(&failed)?.0;
        if except.contains(&sequence) || waiting.len() == limit {
            continue;
        }
        let object = ObjectId::from_u128(u128::from_be_bytes(row.get(1).map_err(&failed)?));
        let segment = row.get::<_, Option<[u8; 16]>>(4).map_err(&failed)?;
        let segment = segment.map(|bytes| SegmentId::from_u128(u128::from_be_bytes(bytes)));
        let mut revision = row.get::<_, Unsigned>(2).map_err(&failed)?.0;
        let content = match (row.get::<_, i64>(3).map_err(&failed)?, segment) {
            (1, Some(id)) => segments::one(c, id)?.map_or(Content::Gone, |row| {
                revision = revision.max(row.offered);
                Content::Body(Body::Segment(row.state()))
            }),
            (3, Some(id)) => match (segments::locate(c, id)?, row.get::<_, Option<Unsigned>>(5).map_err(&failed)?) {
                (Some((path, segment_header, wrapped_key)), Some(offset)) => {
                    Content::Record { path, offset: offset.0, segment_header, wrapped_key }
                }
                _ => Content::Gone,
            },
            _ => objects::body(c, object)?.map_or(Content::Gone, Content::Body),
        };
        waiting.push(Waiting { sequence, object, revision, content });
    }
    Ok(waiting)
}

/// Takes out what will never be sent: nobody acknowledged it, so it is not counted.
pub(super) fn withdraw(c: &Connection, sequence: u64) -> Result<(), IndexError> {
    c.prepare_cached("DELETE FROM outbox WHERE sequence = ?1")
        .and_then(|mut statement| statement.execute([Unsigned(sequence)]))
        .map_err(failed("withdraw a report"))?;
    Ok(())
}

pub(super) fn acknowledge(c: &Connection, first: u64, last: u64) -> Result<usize, IndexError> {
    c.prepare_cached("DELETE FROM outbox WHERE sequence BETWEEN ?1 AND ?2")
        .and_then(|mut statement| statement.execute([Unsigned(first), Unsigned(last)]))
        .map_err(failed("acknowledge reports"))
}

/// Counts acknowledged reports, in the transaction that takes them out.
pub(super) fn count(c: &Connection, reports: u64) -> Result<(), IndexError> {
    c.prepare_cached("UPDATE epoch SET acknowledged = acknowledged + ?1")
        .and_then(|mut statement| statement.execute([Unsigned(reports)]))
        .map_err(failed("count acknowledged reports"))?;
    Ok(())
}

pub(super) fn progress(c: &Connection, epoch: Epoch) -> Result<Progress, IndexError> {
    let failed = failed("read how far the outbox is");
    let used: Option<Unsigned> = c
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'", [], |row| row.get(0))
        .optional()
        .map_err(&failed)?;
    let next = used.map_or(0, |used| used.0) + 1;
    let (oldest, count): (Option<Unsigned>, Unsigned) = c
        .query_row("SELECT min(sequence), count(*) FROM outbox", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(&failed)?;
    let acknowledged: Unsigned =
        c.query_row("SELECT acknowledged FROM epoch", [], |row| row.get(0)).map_err(&failed)?;
    Ok(Progress {
        epoch,
        next_sequence: next,
        acknowledged_through: oldest.map_or(next, |oldest| oldest.0) - 1,
        acknowledged_count: acknowledged.0,
        waiting: count.0,
    })
}
