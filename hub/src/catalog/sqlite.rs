//! The catalogue in SQLite (WAL, synchronous = FULL), its one connection on its own thread.

use super::held::HeldCache;
use super::ingest::{self, Sealed};
use super::owner::Owner;
use super::{Anchors, Answer, Camera, Catalog, CatalogError, Derived, EdgeRow, GapRow, Held, NewToken, Redeemed};
use super::{SegmentRow, reading, registry};
use campanile_proto::edge::v1::{Ack, EdgeHealth, Report, report::Body};
use campanile_proto::ids::{CameraId, EdgeId, Epoch, Incarnation, OrganisationId};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{Anchor, Stream};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// Version in the database's `user_version`.
pub(super) const SCHEMA: i64 = 1;

pub(super) struct SqliteCatalog {
    state: Owner<State>,
    incarnation: Incarnation,
    derived: Arc<Derived>,
    anchors: Arc<Anchors>,
    /// Mirror of `camera_owner`.
    owners: Arc<RwLock<HashMap<CameraId, EdgeId>>>,
}

/// What lives on the thread.
pub(super) struct State {
    pub db: Connection,
    pub organisation: OrganisationId,
    pub held: HeldCache,
}

pub(super) fn failed(attempt: &'static str) -> impl Fn(rusqlite::Error) -> CatalogError {
    move |source| CatalogError::Statement { attempt, source }
}

/// Opens or makes a database with `schema`, set up for durability, at `path`.
pub(super) fn open_database(path: &Path, schema: &str, version: i64) -> Result<Connection, CatalogError> {
    let opening = |source| CatalogError::Open { path: path.to_owned(), source };
    let mut db = Connection::open(path).map_err(opening)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(opening)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(opening)?;
    // What is deleted at the end of its term is overwritten, not only unlinked.
    db.pragma_update(None, "secure_delete", "ON").map_err(opening)?;
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(opening)?;
    match found {
        0 => {
            let making = db.transaction().map_err(opening)?;
            making.execute_batch(schema).map_err(opening)?;
            making.pragma_update(None, "user_version", version).map_err(opening)?;
            making.commit().map_err(opening)?;
        }
        found if found == version => {}
        found => return Err(CatalogError::Schema { path: path.to_owned(), found, known: version }),
    }
    Ok(db)
}

impl SqliteCatalog {
    pub fn open(
        path: &Path,
        organisation: OrganisationId,
        derived: Arc<Derived>,
        anchors: Arc<Anchors>,
    ) -> Result<Self, CatalogError> {
        let db = open_database(path, include_str!("schema.sql"), SCHEMA)?;
        let incarnation = life(&db, organisation)?;
        let owners = reading::owners(&db, organisation)?;
        for anchor in reading::anchors(&db, organisation)? {
            anchors.add(&anchor);
        }
        let state = Owner::spawn("catalog", State { db, organisation, held: HeldCache::default() })
            .map_err(|_| CatalogError::Gone)?;
        Ok(Self { state, incarnation, derived, anchors, owners: Arc::new(RwLock::new(owners)) })
    }

    fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut State) -> Result<R, CatalogError> + Send + 'static,
    ) -> Answer<'_, R> {
        Box::pin(async move { self.state.call(job).await.ok_or(CatalogError::Gone)? })
    }

    /// Sealed records first: a report is acknowledged when what it points at is kept. Those whose camera
    /// is another box's, or that are held already, are not opened.
    async fn keep_sealed(&self, edge: EdgeId, reports: &[Report]) -> Result<Vec<Sealed>, CatalogError> {
        let sealed: Vec<_> = reports
            .iter()
            .enumerate()
            .filter_map(|(at, report)| match &report.body {
                Some(Body::Sealed(record)) => Some((at, report.object_id.clone(), report.revision, record.clone())),
                _ => None,
            })
            .collect();
        if sealed.is_empty() {
            return Ok(Vec::new());
        }
        let owners = self.owners.clone();
        let belongs = move |camera: CameraId| {
            let owners = owners.read().unwrap_or_else(PoisonError::into_inner);
            owners.get(&camera).is_none_or(|owner| *owner == edge)
        };
        self.derived.keep(edge, sealed, belongs).await
    }

    async fn take_in(&self, edge: EdgeId, reports: Vec<Report>) -> Result<Ack, CatalogError> {
        let (sequenced, reports) = self.call(move |state| ingest::fresh(state, edge, reports)).await?;
        for report in &reports {
            if let Some(Body::Anchor(anchor)) = &report.body {
                self.anchors.add(anchor);
            }
        }
        let sealed = self.keep_sealed(edge, &reports).await?;
        let anchors = self.anchors.clone();
        let (ack, claimed) =
            self.call(move |state| ingest::store(state, edge, sequenced, &reports, &sealed, &anchors)).await?;
        if !claimed.is_empty() {
            self.owners.write().unwrap_or_else(PoisonError::into_inner).extend(claimed);
        }
        Ok(ack)
    }
}

fn life(db: &Connection, organisation: OrganisationId) -> Result<Incarnation, CatalogError> {
    let fresh = Incarnation::ordered();
    db.execute(
        "INSERT OR IGNORE INTO life (organisation, incarnation) VALUES (?1, ?2)",
        params![organisation.as_bytes(), fresh.as_bytes()],
    )
    .map_err(failed("begin a life"))?;
    let bytes: Option<Vec<u8>> = db
        .query_row("SELECT incarnation FROM life WHERE organisation = ?1", [organisation.as_bytes()], |row| row.get(0))
        .optional()
        .map_err(failed("read its life"))?;
    Incarnation::try_from(bytes.unwrap_or_default().as_slice())
        .map_err(|_| CatalogError::Damaged { what: "incarnation" })
}

impl Catalog for SqliteCatalog {
    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn ingest(&self, edge: EdgeId, reports: Vec<Report>) -> Answer<'_, Ack> {
        Box::pin(self.take_in(edge, reports))
    }

    fn held(&self, edge: EdgeId, epoch: Epoch) -> Answer<'_, Held> {
        self.call(move |state| ingest::held(state, edge, epoch))
    }

    fn settle(&self, edge: EdgeId, epoch: Epoch, through: u64, more_accepted: u64) -> Answer<'_, ()> {
        self.call(move |state| ingest::settle(state, edge, epoch, through, more_accepted))
    }

    fn cameras(&self) -> Answer<'_, Vec<Camera>> {
        self.call(|state| reading::cameras(&state.db, state.organisation))
    }

    fn owner(&self, camera: CameraId) -> Option<EdgeId> {
        self.owners.read().unwrap_or_else(PoisonError::into_inner).get(&camera).copied()
    }

    fn segments(&self, camera: CameraId, stream: Stream, from: WallTime, to: WallTime) -> Answer<'_, Vec<SegmentRow>> {
        self.call(move |state| reading::segments(&state.db, state.organisation, camera, stream, from, to))
    }

    fn gaps(&self, camera: CameraId, from: WallTime, to: WallTime) -> Answer<'_, Vec<GapRow>> {
        self.call(move |state| reading::gaps(&state.db, state.organisation, camera, from, to))
    }

    fn anchors(&self) -> Answer<'_, Vec<Anchor>> {
        self.call(|state| reading::anchors(&state.db, state.organisation))
    }

    fn health(&self) -> Answer<'_, Vec<(EdgeId, EdgeHealth)>> {
        self.call(|state| reading::health(&state.db, state.organisation))
    }

    fn add_token(&self, token: NewToken) -> Answer<'_, ()> {
        self.call(move |state| registry::add_token(state, &token))
    }

    fn redeem(&self, secret_hash: [u8; 32], edge: EdgeRow, now: WallTime) -> Answer<'_, Redeemed> {
        self.call(move |state| registry::redeem(state, secret_hash, edge, now))
    }

    fn edges(&self) -> Answer<'_, Vec<EdgeRow>> {
        self.call(|state| registry::edges(state))
    }

    fn put_edge(&self, edge: EdgeRow) -> Answer<'_, ()> {
        self.call(move |state| registry::put_edge(state, &edge))
    }

    fn forget_before(&self, before: WallTime) -> Answer<'_, u64> {
        self.call(move |state| ingest::forget_before(state, before))
    }
}
