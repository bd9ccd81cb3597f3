//! One day's database: events, thumbnails, motion. Reached through `Derived` only.

use super::motion::{self, Second};
use super::sqlite::{failed, open_database};
use super::{CatalogError, EventRow, MotionRow};
use campanile_proto::grid::CellSet;
use campanile_proto::ids::{CameraId, EventId, ObjectId, OrganisationId};
use campanile_proto::time::{MICROS_PER_HOUR, MICROS_PER_SECOND, WallTime};
use campanile_proto::types::v1::Event;
use prost::Message;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::path::Path;

/// Version in a partition's `user_version`.
const PARTITION: i64 = 1;
/// Events of one answer.
const MAX_EVENTS: i64 = 100_000;

pub(super) struct Partition {
    db: Connection,
    organisation: Vec<u8>,
}

/// An event on its way in.
pub(super) struct NewEvent {
    pub event: EventId,
    pub camera: CameraId,
    pub revision: u64,
    pub start: WallTime,
    pub end: WallTime,
    pub uncertainty_us: u64,
    pub until: WallTime,
    pub content: Event,
}

const EVENT_COLUMNS: &str = "event, camera, revision, start_us, end_us, uncertainty_us, until_us, content, \
    EXISTS (SELECT 1 FROM thumbnail t WHERE t.organisation = e.organisation AND t.event = e.event)";

impl Partition {
    pub fn open(folder: &Path, organisation: OrganisationId) -> Result<Self, CatalogError> {
        std::fs::create_dir_all(folder).map_err(|source| CatalogError::Folder { path: folder.to_owned(), source })?;
        let db =
            open_database(&folder.join("events.sqlite"), include_str!("derived_schema.sql"), PARTITION, |_, _| Ok(()))?;
        Ok(Self { db, organisation: organisation.to_vec() })
    }

    pub fn begin(&self) -> Result<(), CatalogError> {
        self.db.execute_batch("BEGIN IMMEDIATE").map_err(failed("begin a day's batch"))
    }

    pub fn commit(&self) -> Result<(), CatalogError> {
        self.db.execute_batch("COMMIT").map_err(failed("keep a day's batch"))
    }

    /// Leaves a batch that failed.
    pub fn roll_back(&self) {
        if let Err(error) = self.db.execute_batch("ROLLBACK") {
            tracing::error!(%error, "a day's batch cannot be rolled back");
        }
    }

    pub fn revision(&self, event: EventId) -> Result<Option<u64>, CatalogError> {
        let sql = "SELECT revision FROM event WHERE organisation = ?1 AND event = ?2";
        let revision: Option<i64> = self
            .db
            .prepare_cached(sql)
            .and_then(|mut s| s.query_row(params![self.organisation, event.as_bytes()], |row| row.get(0)).optional())
            .map_err(failed("read an event's revision"))?;
        Ok(revision.map(|r| r as u64))
    }

    pub fn put_event(&self, event: &NewEvent) -> Result<(), CatalogError> {
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO event (organisation, event, camera, revision, start_us, end_us, \
                 uncertainty_us, until_us, content) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    self.organisation,
                    event.event.as_bytes(),
                    event.camera.as_bytes(),
                    event.revision as i64,
                    event.start.0,
                    event.end.0,
                    i64::try_from(event.uncertainty_us).unwrap_or(i64::MAX),
                    event.until.0,
                    event.content.encode_to_vec()
                ])
            })
            .map_err(failed("keep an event"))?;
        Ok(())
    }

    pub fn remove_event(&self, event: EventId) -> Result<(), CatalogError> {
        let values = params![self.organisation, event.as_bytes()];
        self.db
            .execute("DELETE FROM event WHERE organisation = ?1 AND event = ?2", values)
            .map_err(failed("move an event to another day"))?;
        Ok(())
    }

    pub fn put_thumbnail(
        &self,
        event: EventId,
        camera: CameraId,
        revision: u64,
        (at, until): (WallTime, WallTime),
        jpeg: &[u8],
    ) -> Result<(), CatalogError> {
        self.db
            .prepare_cached(
                "INSERT INTO thumbnail (organisation, event, camera, revision, start_us, until_us, jpeg) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (organisation, event) DO UPDATE SET \
                 revision = excluded.revision, start_us = excluded.start_us, until_us = excluded.until_us, jpeg = excluded.jpeg \
                 WHERE excluded.revision > revision",
            )
            .and_then(|mut statement| {
                let key = (event.as_bytes(), camera.as_bytes());
                statement.execute(params![self.organisation, key.0, key.1, revision as i64, at.0, until.0, jpeg])
            })
            .map_err(failed("keep a thumbnail"))?;
        Ok(())
    }

    /// One hour's part of a motion report.
    pub fn put_motion(
        &self,
        camera: CameraId,
        object: ObjectId,
        revision: u64,
        start: WallTime,
        until: WallTime,
        seconds: &[Second],
    ) -> Result<(), CatalogError> {
        let hour = start.hour();
        self.db
            .prepare_cached(
                "INSERT INTO motion (organisation, camera, hour, object, revision, start_us, until_us, seconds) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (organisation, camera, hour, object) DO UPDATE \
                 SET revision = excluded.revision, start_us = excluded.start_us, until_us = excluded.until_us, \
                 seconds = excluded.seconds WHERE excluded.revision > revision",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    self.organisation,
                    camera.as_bytes(),
                    hour,
                    object.as_bytes(),
                    revision as i64,
                    start.0,
                    until.0,
                    motion::pack(seconds)
                ])
            })
            .map_err(failed("keep motion"))?;
        let mut ever = self.ever(camera, hour)?.unwrap_or(CellSet::EMPTY);
        seconds.iter().for_each(|second| ever.union(&second.moved));
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO motion_hour (organisation, camera, hour, ever) VALUES (?1, ?2, ?3, ?4)",
            )
            .and_then(|mut s| s.execute(params![self.organisation, camera.as_bytes(), hour, ever.to_bytes()]))
            .map_err(failed("keep motion"))?;
        Ok(())
    }

    fn ever(&self, camera: CameraId, hour: i64) -> Result<Option<CellSet>, CatalogError> {
        let sql = "SELECT ever FROM motion_hour WHERE organisation = ?1 AND camera = ?2 AND hour = ?3";
        let bytes: Option<Vec<u8>> = self
            .db
            .prepare_cached(sql)
            .and_then(|mut s| {
                s.query_row(params![self.organisation, camera.as_bytes(), hour], |row| row.get(0)).optional()
            })
            .map_err(failed("read an hour's motion"))?;
        Ok(bytes.and_then(|bytes| CellSet::from_bytes(&bytes).ok()))
    }

    pub fn event(&self, event: EventId) -> Result<Option<EventRow>, CatalogError> {
        let sql = format!("SELECT {EVENT_COLUMNS} FROM event e WHERE organisation = ?1 AND event = ?2");
        let found = self
            .db
            .prepare_cached(&sql)
            .and_then(|mut s| s.query_row(params![self.organisation, event.as_bytes()], event_row).optional())
            .map_err(failed("read an event"))?;
        Ok(found.flatten())
    }

    pub fn has_thumbnail(&self, event: EventId, now: WallTime) -> Result<bool, CatalogError> {
        let sql = "SELECT 1 FROM thumbnail WHERE organisation = ?1 AND event = ?2 AND until_us > ?3";
        self.db
            .prepare_cached(sql)
            .and_then(|mut s| s.exists(params![self.organisation, event.as_bytes(), now.0]))
            .map_err(failed("look for a thumbnail"))
    }

    pub fn thumbnail(&self, event: EventId, now: WallTime) -> Result<Option<Vec<u8>>, CatalogError> {
        let sql = "SELECT jpeg FROM thumbnail WHERE organisation = ?1 AND event = ?2 AND until_us > ?3";
        self.db
            .prepare_cached(sql)
            .and_then(|mut s| {
                s.query_row(params![self.organisation, event.as_bytes(), now.0], |row| row.get(0)).optional()
            })
            .map_err(failed("read a thumbnail"))
    }

    /// Events that start before `to` and end at or after `from`, newest first.
    pub fn events(&self, from: WallTime, to: WallTime, now: WallTime) -> Result<Vec<EventRow>, CatalogError> {
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM event e WHERE organisation = ?1 AND start_us < ?2 AND end_us >= ?3 \
             AND until_us > ?4 ORDER BY start_us DESC LIMIT ?5"
        );
        let mut statement = self.db.prepare_cached(&sql).map_err(failed("read events"))?;
        let found = statement
            .query_map(params![self.organisation, to.0, from.0, now.0, MAX_EVENTS], event_row)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(failed("read events"))?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Seconds of one camera that start in `from`..`to`, in hours in which `region` ever moved (all hours
    /// when it is `None`).
    pub fn motion(
        &self,
        camera: CameraId,
        (from, to): (WallTime, WallTime),
        now: WallTime,
        region: Option<&CellSet>,
    ) -> Result<Vec<MotionRow>, CatalogError> {
        let attempt = failed("read motion");
        let hours: Vec<(i64, Vec<u8>)> = self
            .db
            .prepare_cached(
                "SELECT hour, ever FROM motion_hour WHERE organisation = ?1 AND camera = ?2 AND hour BETWEEN ?3 AND ?4",
            )
            .and_then(|mut s| {
                s.query_map(params![self.organisation, camera.as_bytes(), from.hour(), to.hour()], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .collect()
            })
            .map_err(&attempt)?;
        let mut rows = Vec::new();
        for (hour, ever) in hours {
            let ever = CellSet::from_bytes(&ever).unwrap_or(CellSet::FULL);
            if region.is_some_and(|region| !ever.intersects(region)) {
                continue;
            }
            let reports: Vec<(i64, Vec<u8>)> = self
                .db
                .prepare_cached(
                    "SELECT start_us, seconds FROM motion WHERE organisation = ?1 AND camera = ?2 AND hour = ?3 \
                     AND until_us > ?4",
                )
                .and_then(|mut s| {
                    s.query_map(params![self.organisation, camera.as_bytes(), hour, now.0], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })?
                    .collect()
                })
                .map_err(&attempt)?;
            for (start, packed) in reports {
                for (n, Second { moved, looked }) in motion::unpack(&packed).into_iter().enumerate() {
                    let second = WallTime(start).plus_micros(n as i64 * MICROS_PER_SECOND);
                    if second >= from && second < to && region.is_none_or(|region| moved.intersects(region)) {
                        rows.push(MotionRow { second, moved, looked });
                    }
                }
            }
        }
        rows.sort_by_key(|row| row.second);
        Ok(rows)
    }

    /// A shorter rule acts at once on what is held already; a longer one never backwards.
    pub fn shorten(&self, retention_days: u32) -> Result<(), CatalogError> {
        let hours = i64::from(retention_days) * 24;
        for table in ["event", "thumbnail", "motion"] {
            // The term ends at the start of the hour of capture plus retention (`kept_until`).
            let sql = format!(
                "UPDATE {table} SET until_us = (start_us / ?1 + ?2) * ?1 WHERE until_us > (start_us / ?1 + ?2) * ?1"
            );
            self.db.execute(&sql, [MICROS_PER_HOUR, hours]).map_err(failed("shorten a day's term"))?;
        }
        Ok(())
    }

    /// Deletes what is past its term; the pages are overwritten (secure_delete) and leave the log.
    pub fn expire(&self, now: WallTime) -> Result<u64, CatalogError> {
        let mut gone = 0;
        for table in ["event", "thumbnail", "motion"] {
            gone += self
                .db
                .execute(&format!("DELETE FROM {table} WHERE until_us <= ?1"), [now.0])
                .map_err(failed("expire a day's rows"))?;
        }
        self.db
            .execute(
                "DELETE FROM motion_hour WHERE NOT EXISTS (SELECT 1 FROM motion m WHERE m.organisation = \
                 motion_hour.organisation AND m.camera = motion_hour.camera AND m.hour = motion_hour.hour)",
                [],
            )
            .map_err(failed("expire a day's rows"))?;
        if gone > 0 {
            self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").map_err(failed("expire a day's log"))?;
        }
        Ok(gone as u64)
    }
}

fn event_row(row: &Row<'_>) -> rusqlite::Result<Option<EventRow>> {
    let (id, camera, content): (Vec<u8>, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(7)?);
    let (Ok(id), Ok(camera), Ok(event)) = (
        EventId::try_from(id.as_slice()),
        CameraId::try_from(camera.as_slice()),
        Event::decode(bytes::Bytes::from(content)),
    ) else {
        return Ok(None);
    };
    Ok(Some(EventRow {
        id,
        camera,
        revision: row.get::<_, i64>(2)? as u64,
        start: WallTime(row.get(3)?),
        end: WallTime(row.get(4)?),
        ongoing: event.ongoing,
        union: event.union.unwrap_or_default(),
        moved: CellSet::from_bytes(&event.moved).unwrap_or(CellSet::EMPTY),
        peak_cells: event.peak_cells,
        labels: event.labels,
        has_thumbnail: row.get(8)?,
        uncertainty_us: row.get::<_, i64>(5)? as u64,
        kept_until: WallTime(row.get(6)?),
    }))
}
