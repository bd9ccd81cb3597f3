//! Rows of `object`: what is reported whole.

use super::offers::{self, Source};
use super::unsigned::Unsigned;
use super::{IndexError, failed};
use campanile_proto::edge::v1::report::Body;
use campanile_proto::edge::v1::{CameraState, EdgeHealth, Gap};
use campanile_proto::ids::{CameraId, ObjectId};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{Anchor, Instant};
use prost::Message;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

// Field numbers of the bodies in campanile.edge.v1.Report.
const CAMERA: i64 = 5;
const HEALTH: i64 = 8;
const ANCHOR: i64 = 9;
const GAP: i64 = 10;

pub(super) struct Object {
    body: i64,
    content: Vec<u8>,
}

impl Object {
    pub fn health(health: &EdgeHealth) -> Self {
        Self { body: HEALTH, content: health.encode_to_vec() }
    }
}

/// Keeps an object's newest state and offers it. Its revision goes on from the one before, and after a lost
/// database from the clock: hours of microseconds are ahead of any count.
pub(super) fn put(c: &Connection, object: ObjectId, state: &Object, now: WallTime) -> Result<(), IndexError> {
    let failed = failed("keep an object");
    let known: Option<(Unsigned, Vec<u8>)> = c
        .query_row("SELECT revision, content FROM object WHERE object_id = ?1", [object.as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
        .map_err(&failed)?;
    if known.as_ref().is_some_and(|(_, content)| *content == state.content) {
        return Ok(());
    }
    let revision = known.map_or(1, |(revision, _)| revision.0 + 1).max(u64::try_from(now.0).unwrap_or(0));
    store(c, object, state, revision, now.0)
}

fn store(c: &Connection, object: ObjectId, state: &Object, revision: u64, at: i64) -> Result<(), IndexError> {
    let insert = "INSERT INTO object (object_id, body, revision, captured_us, content) VALUES (?1, ?2, ?3, ?4, ?5)
                  ON CONFLICT (object_id) DO UPDATE SET revision = excluded.revision,
                  captured_us = excluded.captured_us, content = excluded.content";
    c.execute(insert, params![object.as_bytes(), state.body, Unsigned(revision), at, state.content])
        .map_err(failed("keep an object"))?;
    offers::offer(c, object, revision, &Source::Object, at)
}

pub(super) fn put_camera(c: &Connection, state: &CameraState, now: WallTime) -> Result<(), IndexError> {
    let id = CameraId::try_from(&state.camera_id).map_err(|_| IndexError::Damaged { what: "camera id" })?;
    let object = ObjectId::from_u128(u128::from_be_bytes(*id.as_bytes()));
    put(c, object, &Object { body: CAMERA, content: state.encode_to_vec() }, now)
}

pub(super) fn put_gap(c: &Connection, object: ObjectId, gap: &Gap, now: WallTime) -> Result<(), IndexError> {
    put(c, object, &Object { body: GAP, content: gap.encode_to_vec() }, now)
}

/// Ends every gap that goes on, at `alive` or where it was last told, whichever is later.
pub(super) fn end_gaps(c: &Connection, alive: Option<&Instant>, now: WallTime) -> Result<usize, IndexError> {
    let failed = failed("read gaps");
    let mut statement = c.prepare("SELECT object_id, content FROM object WHERE body = ?1").map_err(&failed)?;
    let rows = statement
        .query_map([GAP], |row| Ok((ObjectId::from_u128(u128::from_be_bytes(row.get(0)?)), row.get::<_, Vec<u8>>(1)?)))
        .map_err(&failed)?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>().map_err(&failed)?;
    let mut ended = 0;
    for (object, content) in rows {
        let Ok(mut gap) = Gap::decode(content.as_slice()) else { continue };
        if !gap.ongoing {
            continue;
        }
        let told = gap.end.clone().or(gap.start.clone());
        let later = |alive: &&Instant| match &told {
            Some(told) if told.boot_id == alive.boot_id => alive.mono_us > told.mono_us,
            Some(told) => alive.utc_us > told.utc_us,
            None => true,
        };
        gap.end = alive.filter(later).cloned().or(told.clone());
        gap.ongoing = false;
        put_gap(c, object, &gap, now)?;
        ended += 1;
    }
    Ok(ended)
}

/// An anchor never changes: its id is the hash of what it says.
pub(super) fn put_anchor(c: &Connection, anchor: &Anchor) -> Result<(), IndexError> {
    let content = anchor.encode_to_vec();
    let hash: [u8; 32] = Sha256::digest(&content).into();
    let object = ObjectId::try_from(&hash[..16]).map_err(|_| IndexError::Damaged { what: "anchor" })?;
    if body(c, object)?.is_some() {
        return Ok(());
    }
    store(c, object, &Object { body: ANCHOR, content }, 1, anchor.utc_us)
}

pub(super) fn body(c: &Connection, object: ObjectId) -> Result<Option<Body>, IndexError> {
    let row: Option<(i64, Vec<u8>)> = c
        .query_row("SELECT body, content FROM object WHERE object_id = ?1", [object.as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
        .map_err(failed("read an object"))?;
    let Some((body, content)) = row else { return Ok(None) };
    let content = content.as_slice();
    let decoded = match body {
        CAMERA => CameraState::decode(content).map(Body::Camera),
        HEALTH => EdgeHealth::decode(content).map(Body::Health),
        ANCHOR => Anchor::decode(content).map(Body::Anchor),
        GAP => Gap::decode(content).map(Body::Gap),
        _ => return Ok(None),
    };
    decoded.map(Some).map_err(|_| IndexError::Damaged { what: "object" })
}

pub(super) fn anchors(c: &Connection) -> Result<Vec<Anchor>, IndexError> {
    let failed = failed("read anchors");
    let mut statement = c.prepare_cached("SELECT content FROM object WHERE body = ?1").map_err(&failed)?;
    let rows = statement.query_map([ANCHOR], |row| row.get::<_, Vec<u8>>(0)).map_err(&failed)?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>().map_err(&failed)?;
    let decode = |content: &Vec<u8>| Anchor::decode(content.as_slice());
    rows.iter().map(decode).collect::<Result<_, _>>().map_err(|_| IndexError::Damaged { what: "anchor" })
}

pub(super) fn forget(c: &Connection, before: WallTime) -> Result<(), IndexError> {
    let gone = "DELETE FROM object WHERE body IN (?1, ?2) AND captured_us < ?3
                AND object_id NOT IN (SELECT object_id FROM outbox)";
    c.execute(gone, params![ANCHOR, GAP, before.0]).map(|_| ()).map_err(failed("forget old objects"))
}

/// Cameras whatever their age, the rest since then.
pub(super) fn offer_again(c: &Connection, since: WallTime) -> Result<(), IndexError> {
    let failed = failed("offer objects again");
    let query = "SELECT object_id, revision, captured_us FROM object WHERE captured_us >= ?1 OR body IN (?2, ?3)";
    let mut statement = c.prepare(query).map_err(&failed)?;
    let rows = statement
        .query_map([since.0, CAMERA, ANCHOR], |row| {
            let id = ObjectId::from_u128(u128::from_be_bytes(row.get(0)?));
            Ok((id, row.get::<_, Unsigned>(1)?.0, row.get::<_, i64>(2)?))
        })
        .map_err(&failed)?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>().map_err(&failed)?;
    rows.into_iter().try_for_each(|(object, revision, at)| offers::offer(c, object, revision, &Source::Object, at))
}
