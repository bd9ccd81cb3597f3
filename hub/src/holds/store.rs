//! holds.sqlite: holds, the segments they touch, the fragments they cover and what of these is copied. One thread owns
//! the connection; what returns is durable.

use super::account::{Part, Sort, Span};
use super::known::StreamAccount;
use super::terms::{Hold, Over, Terms};
use crate::catalog::{CatalogError, Owner, open_database};
use crate::media::groups::Fragment;
use bytes::Bytes;
use campanile_proto::ids::{CameraId, HoldId, OrganisationId, RunId, SegmentId};
use campanile_proto::segment::{LINK_BYTES, Link};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{SegmentHeader, Stream};
use prost::Message;
use rusqlite::{Connection, Row, params};
use std::path::Path;

/// Version in the database's `user_version`.
const SCHEMA: i64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store of holds cannot be opened")]
    Open(#[source] CatalogError),
    #[error("cannot {attempt} in the store of holds")]
    Statement { attempt: &'static str, source: rusqlite::Error },
    #[error("the thread of the store of holds is gone")]
    Gone,
    #[error("a stored {0} of a hold cannot be read")]
    Damaged(&'static str),
}

/// A segment that a hold touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSegment {
    pub id: SegmentId,
    pub camera: CameraId,
    pub stream: Stream,
    pub start: WallTime,
    pub end: WallTime,
    pub header: Bytes,
    pub keys: Bytes,
    /// Sealings below this are in `keys`, unless it is narrowed.
    pub keyed: u32,
    pub narrowed: bool,
    pub lost: String,
    pub file_bytes: u64,
    pub init_at: Option<u64>,
}

impl HeldSegment {
    pub fn decoded(&self) -> Result<SegmentHeader, StoreError> {
        SegmentHeader::decode(self.header.clone()).map_err(|_| StoreError::Damaged("segment header"))
    }
}

/// A fragment that a hold covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldFragment {
    pub segment: SegmentId,
    pub sealing: u32,
    pub fragment: Fragment,
    pub link: Link,
    pub before: Option<Link>,
    /// Where in the segment's file; none: not copied yet.
    pub at: Option<u64>,
}

struct State {
    db: Connection,
    organisation: [u8; 16],
}

pub struct Store {
    state: Owner<State>,
}

fn failed(attempt: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Statement { attempt, source }
}

impl Store {
    pub fn open(path: &Path, organisation: OrganisationId) -> Result<Self, StoreError> {
        let schema = include_str!("schema.sql");
        let db = open_database(path, schema, SCHEMA, |_, _| Ok(())).map_err(StoreError::Open)?;
        let state = State { db, organisation: *organisation.as_bytes() };
        Ok(Self { state: Owner::spawn("holds", state).map_err(|_| StoreError::Gone)? })
    }

    async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut State) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        self.state.call(job).await.ok_or(StoreError::Gone)?
    }

    pub async fn place(&self, hold: Hold) -> Result<(), StoreError> {
        self.call(move |state| state.place(&hold).map_err(failed("place a hold"))).await
    }

    /// All there ever were, newest first.
    pub async fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        self.call(State::holds).await
    }

    pub async fn complete(&self, hold: HoldId, at: WallTime) -> Result<(), StoreError> {
        let sql = "UPDATE hold SET complete_us = ?3 WHERE organisation = ?1 AND hold = ?2 AND over_us IS NULL";
        self.call(move |state| {
            state.db.execute(sql, params![state.organisation, hold.as_bytes(), at.0]).map_err(failed("complete a hold"))
        })
        .await
        .map(drop)
    }

    pub async fn end(&self, hold: HoldId, over: Over) -> Result<(), StoreError> {
        self.call(move |state| state.end(hold, &over).map_err(failed("end a hold"))).await
    }

    /// What a hold covered; that it was there stays.
    pub async fn forget(&self, hold: HoldId) -> Result<(), StoreError> {
        self.call(move |state| {
            for table in ["held_fragment", "held_segment"] {
                let sql = format!("DELETE FROM {table} WHERE organisation = ?1 AND hold = ?2");
                let values = params![state.organisation, hold.as_bytes()];
                state.db.execute(&sql, values).map_err(failed("forget what a hold covered"))?;
            }
            Ok(())
        })
        .await
    }

    /// Of one camera, by their start.
    pub async fn segments(&self, hold: HoldId, camera: CameraId) -> Result<Vec<HeldSegment>, StoreError> {
        self.call(move |state| state.segments(hold, camera)).await
    }

    /// What became of every second, as it was last reckoned; in place of what was there.
    pub async fn put_account(&self, hold: HoldId, accounts: Vec<StreamAccount>) -> Result<(), StoreError> {
        self.call(move |state| state.put_account(hold, &accounts).map_err(failed("keep the account of a hold"))).await
    }

    pub async fn account(&self, hold: HoldId) -> Result<Vec<StreamAccount>, StoreError> {
        self.call(move |state| state.account(hold).map_err(failed("read the account of a hold"))).await
    }

    /// Adds a segment, or what is newer of it.
    pub async fn put_segment(&self, hold: HoldId, segment: HeldSegment) -> Result<(), StoreError> {
        self.call(move |state| state.put_segment(hold, &segment).map_err(failed("keep a segment of a hold"))).await
    }

    /// Adds fragments; those that are there already stay as they are.
    pub async fn cover(&self, hold: HoldId, fragments: Vec<HeldFragment>) -> Result<(), StoreError> {
        self.call(move |state| state.cover(hold, &fragments).map_err(failed("keep fragments of a hold"))).await
    }

    /// By segment and sealing.
    pub async fn fragments(
        &self,
        hold: HoldId,
        camera: CameraId,
        stream: Stream,
    ) -> Result<Vec<HeldFragment>, StoreError> {
        self.call(move |state| state.fragments(hold, camera, stream)).await
    }

    /// What was copied lies in the segment's file, which is durable up to `file_bytes`.
    pub async fn copied(
        &self,
        hold: HoldId,
        segment: SegmentId,
        (file_bytes, init_at): (u64, Option<u64>),
        places: Vec<(u32, u64)>,
    ) -> Result<(), StoreError> {
        self.call(move |state| {
            state.copied(hold, segment, (file_bytes, init_at), &places).map_err(failed("note what was copied"))
        })
        .await
    }

    /// The segment's file is not what was noted: it is copied again.
    pub async fn forget_copy(&self, hold: HoldId, segment: SegmentId) -> Result<(), StoreError> {
        self.call(move |state| {
            let values = params![state.organisation, hold.as_bytes(), segment.as_bytes()];
            for sql in [
                "UPDATE held_segment SET file_bytes = 0, init_at = NULL \
                 WHERE organisation = ?1 AND hold = ?2 AND segment = ?3",
                "UPDATE held_fragment SET at = NULL WHERE organisation = ?1 AND hold = ?2 AND segment = ?3",
            ] {
                state.db.execute(sql, values).map_err(failed("forget a copy"))?;
            }
            Ok(())
        })
        .await
    }
}

impl State {
    fn place(&mut self, hold: &Hold) -> rusqlite::Result<()> {
        let (id, terms) = (hold.id.as_bytes(), &hold.terms);
        let placing = self.db.transaction()?;
        placing.execute(
            "INSERT INTO hold (organisation, hold, act, author, approver, reason, from_us, to_us, until_us, placed_us) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                self.organisation,
                id,
                terms.act,
                terms.author,
                terms.approver,
                terms.reason,
                terms.from.0,
                terms.to.0,
                terms.until.0,
                hold.placed.0
            ],
        )?;
        for camera in &terms.cameras {
            let sql = "INSERT OR IGNORE INTO hold_camera (organisation, hold, camera) VALUES (?1, ?2, ?3)";
            placing.execute(sql, params![self.organisation, id, camera.as_bytes()])?;
        }
        placing.commit()
    }

    fn holds(&mut self) -> Result<Vec<Hold>, StoreError> {
        let attempt = failed("read holds");
        let mut cameras = self
            .db
            .prepare_cached("SELECT camera FROM hold_camera WHERE organisation = ?1 AND hold = ?2")
            .map_err(&attempt)?;
        let sql = "SELECT hold, act, author, approver, reason, from_us, to_us, until_us, placed_us, complete_us, \
                   over_us, released_by, over_why FROM hold WHERE organisation = ?1 ORDER BY placed_us DESC, hold";
        let mut select = self.db.prepare_cached(sql).map_err(&attempt)?;
        let rows = select.query_map([self.organisation], read_hold).map_err(&attempt)?;
        let mut holds = rows.collect::<Result<Vec<Hold>, _>>().map_err(&attempt)?;
        for hold in &mut holds {
            let found = cameras
                .query_map(params![self.organisation, hold.id.as_bytes()], |row| row.get::<_, [u8; 16]>(0))
                .map_err(&attempt)?;
            let found = found.collect::<Result<Vec<_>, _>>().map_err(&attempt)?;
            hold.terms.cameras = found.into_iter().map(camera).collect();
        }
        Ok(holds)
    }

    fn end(&mut self, hold: HoldId, over: &Over) -> rusqlite::Result<()> {
        self.db.execute(
            "UPDATE hold SET over_us = ?3, released_by = ?4, over_why = ?5 \
             WHERE organisation = ?1 AND hold = ?2 AND over_us IS NULL",
            params![self.organisation, hold.as_bytes(), over.at.0, over.released_by, over.why],
        )?;
        Ok(())
    }

    fn put_account(&mut self, hold: HoldId, accounts: &[StreamAccount]) -> rusqlite::Result<()> {
        let putting = self.db.transaction()?;
        let gone = "DELETE FROM hold_account WHERE organisation = ?1 AND hold = ?2";
        putting.execute(gone, params![self.organisation, hold.as_bytes()])?;
        {
            let sql = "INSERT INTO hold_account (organisation, hold, camera, stream, from_us, to_us, sort, cause) \
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            let mut insert = putting.prepare_cached(sql)?;
            for StreamAccount { camera, stream, parts } in accounts {
                for Part { span, sort, cause } in parts {
                    insert.execute(params![
                        self.organisation,
                        hold.as_bytes(),
                        camera.as_bytes(),
                        *stream as i32,
                        span.from.0,
                        span.to.0,
                        sort.name(),
                        cause
                    ])?;
                }
            }
        }
        putting.commit()
    }

    fn account(&mut self, hold: HoldId) -> rusqlite::Result<Vec<StreamAccount>> {
        let sql = "SELECT camera, stream, from_us, to_us, sort, cause FROM hold_account \
                   WHERE organisation = ?1 AND hold = ?2 ORDER BY camera, stream, from_us";
        let mut select = self.db.prepare_cached(sql)?;
        let mut rows = select.query(params![self.organisation, hold.as_bytes()])?;
        let mut accounts: Vec<StreamAccount> = Vec::new();
        while let Some(row) = rows.next()? {
            let camera = camera(row.get(0)?);
            let stream = Stream::try_from(row.get::<_, i32>(1)?).unwrap_or_default();
            let span = Span::new(WallTime(row.get(2)?), WallTime(row.get(3)?));
            let part = Part { span, sort: Sort::named(&row.get::<_, String>(4)?), cause: row.get(5)? };
            match accounts.last_mut().filter(|last| (last.camera, last.stream) == (camera, stream)) {
                Some(last) => last.parts.push(part),
                None => accounts.push(StreamAccount { camera, stream, parts: vec![part] }),
            }
        }
        Ok(accounts)
    }

    fn segments(&mut self, hold: HoldId, camera: CameraId) -> Result<Vec<HeldSegment>, StoreError> {
        let attempt = failed("read segments of a hold");
        let sql = "SELECT segment, camera, stream, start_us, end_us, header, keys, keyed, narrowed, lost, file_bytes, \
                   init_at FROM held_segment WHERE organisation = ?1 AND hold = ?2 AND camera = ?3 ORDER BY start_us, segment";
        let mut select = self.db.prepare_cached(sql).map_err(&attempt)?;
        let of = params![self.organisation, hold.as_bytes(), camera.as_bytes()];
        let rows = select.query_map(of, read_segment).map_err(&attempt)?;
        rows.collect::<Result<_, _>>().map_err(&attempt)
    }

    fn put_segment(&mut self, hold: HoldId, segment: &HeldSegment) -> rusqlite::Result<()> {
        let sql = "INSERT INTO held_segment (organisation, hold, segment, camera, stream, start_us, end_us, header, \
                   keys, keyed, narrowed, lost) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
                   ON CONFLICT (organisation, hold, segment) DO UPDATE SET start_us = excluded.start_us, \
                   end_us = excluded.end_us, keys = excluded.keys, keyed = excluded.keyed, \
                   narrowed = excluded.narrowed, lost = excluded.lost";
        self.db.prepare_cached(sql)?.execute(params![
            self.organisation,
            hold.as_bytes(),
            segment.id.as_bytes(),
            segment.camera.as_bytes(),
            segment.stream as i32,
            segment.start.0,
            segment.end.0,
            segment.header.as_ref(),
            segment.keys.as_ref(),
            segment.keyed,
            segment.narrowed,
            segment.lost
        ])?;
        Ok(())
    }

    fn cover(&mut self, hold: HoldId, fragments: &[HeldFragment]) -> rusqlite::Result<()> {
        let covering = self.db.transaction()?;
        {
            let sql = "INSERT OR IGNORE INTO held_fragment (organisation, hold, segment, sealing, fragment_index, \
                       starts_with_key, decode_90k, duration_90k, arrival_us, plain_size, link, link_before) \
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
            let mut insert = covering.prepare_cached(sql)?;
            for HeldFragment { segment, sealing, fragment, link, before, .. } in fragments {
                insert.execute(params![
                    self.organisation,
                    hold.as_bytes(),
                    segment.as_bytes(),
                    sealing,
                    fragment.index as i64,
                    fragment.starts_with_key,
                    fragment.decode_90k as i64,
                    fragment.duration_90k as i64,
                    fragment.arrival.0,
                    fragment.plain_size,
                    link,
                    before
                ])?;
            }
        }
        covering.commit()
    }

    fn fragments(&mut self, hold: HoldId, camera: CameraId, stream: Stream) -> Result<Vec<HeldFragment>, StoreError> {
        let attempt = failed("read fragments of a hold");
        let of = params![self.organisation, hold.as_bytes(), camera.as_bytes(), stream as i32];
        let sql = "SELECT f.segment, f.sealing, f.fragment_index, f.starts_with_key, f.decode_90k, f.duration_90k, \
                   f.arrival_us, f.plain_size, f.link, f.link_before, f.at, s.header \
                   FROM held_segment AS s JOIN held_fragment AS f USING (organisation, hold, segment) \
                   WHERE s.organisation = ?1 AND s.hold = ?2 AND s.camera = ?3 AND s.stream = ?4 \
                   ORDER BY s.start_us, s.segment, f.sealing";
        let mut select = self.db.prepare_cached(sql).map_err(&attempt)?;
        let mut rows = select.query(of).map_err(&attempt)?;
        let mut found: Vec<HeldFragment> = Vec::new();
        while let Some(row) = rows.next().map_err(&attempt)? {
            let segment = SegmentId::from_u128(u128::from_be_bytes(row.get(0).map_err(&attempt)?));
            let run = match found.last().filter(|last| last.segment == segment) {
                Some(last) => last.fragment.run,
                None => run_of(row.get(11).map_err(&attempt)?)?,
            };
            found.push(read_fragment(row, segment, run).map_err(&attempt)?);
        }
        Ok(found)
    }

    fn copied(
        &mut self,
        hold: HoldId,
        segment: SegmentId,
        (file_bytes, init_at): (u64, Option<u64>),
        places: &[(u32, u64)],
    ) -> rusqlite::Result<()> {
        let noting = self.db.transaction()?;
        noting.execute(
            "UPDATE held_segment SET file_bytes = ?4, init_at = ?5 WHERE organisation = ?1 AND hold = ?2 AND segment = ?3",
            params![self.organisation, hold.as_bytes(), segment.as_bytes(), file_bytes as i64, init_at.map(|at| at as i64)],
        )?;
        for (sealing, at) in places {
            noting.execute(
                "UPDATE held_fragment SET at = ?5 WHERE organisation = ?1 AND hold = ?2 AND segment = ?3 AND sealing = ?4",
                params![self.organisation, hold.as_bytes(), segment.as_bytes(), sealing, *at as i64],
            )?;
        }
        noting.commit()
    }
}

fn camera(bytes: [u8; 16]) -> CameraId {
    CameraId::from_u128(u128::from_be_bytes(bytes))
}

fn run_of(header: Vec<u8>) -> Result<RunId, StoreError> {
    let header = SegmentHeader::decode(Bytes::from(header)).map_err(|_| StoreError::Damaged("segment header"))?;
    RunId::try_from(&header.run_id).map_err(|_| StoreError::Damaged("run id"))
}

fn read_hold(row: &Row<'_>) -> rusqlite::Result<Hold> {
    let instant = |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(WallTime));
    let over = match instant(10)? {
        Some(at) => {
            Some(Over { at, released_by: row.get(11)?, why: row.get::<_, Option<String>>(12)?.unwrap_or_default() })
        }
        None => None,
    };
    Ok(Hold {
        id: HoldId::from_u128(u128::from_be_bytes(row.get(0)?)),
        terms: Terms {
            act: row.get(1)?,
            author: row.get(2)?,
            approver: row.get(3)?,
            reason: row.get(4)?,
            cameras: Vec::new(),
            from: WallTime(row.get(5)?),
            to: WallTime(row.get(6)?),
            until: WallTime(row.get(7)?),
        },
        placed: WallTime(row.get(8)?),
        complete: instant(9)?,
        over,
    })
}

fn read_segment(row: &Row<'_>) -> rusqlite::Result<HeldSegment> {
    Ok(HeldSegment {
        id: SegmentId::from_u128(u128::from_be_bytes(row.get(0)?)),
        camera: camera(row.get(1)?),
        stream: Stream::try_from(row.get::<_, i32>(2)?).unwrap_or_default(),
        start: WallTime(row.get(3)?),
        end: WallTime(row.get(4)?),
        header: row.get::<_, Vec<u8>>(5)?.into(),
        keys: row.get::<_, Vec<u8>>(6)?.into(),
        keyed: row.get(7)?,
        narrowed: row.get(8)?,
        lost: row.get(9)?,
        file_bytes: row.get::<_, i64>(10)? as u64,
        init_at: row.get::<_, Option<i64>>(11)?.map(|at| at as u64),
    })
}

fn read_fragment(row: &Row<'_>, segment: SegmentId, run: RunId) -> rusqlite::Result<HeldFragment> {
    let fragment = Fragment {
        run,
        index: row.get::<_, i64>(2)? as u64,
        starts_with_key: row.get(3)?,
        decode_90k: row.get::<_, i64>(4)? as u64,
        duration_90k: row.get::<_, i64>(5)? as u64,
        arrival: WallTime(row.get(6)?),
        plain_size: row.get(7)?,
    };
    let at = row.get::<_, Option<i64>>(10)?.map(|at| at as u64);
    let (link, before) = (row.get::<_, [u8; LINK_BYTES]>(8)?, row.get::<_, Option<[u8; LINK_BYTES]>>(9)?);
    Ok(HeldFragment { segment, sealing: row.get(1)?, fragment, link, before, at })
}
