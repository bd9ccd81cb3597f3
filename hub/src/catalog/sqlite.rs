//! The catalogue in SQLite (WAL, synchronous = FULL), its one connection on its own thread.

use super::held::HeldCache;
use super::ingest::{self, Sealed};
use super::owner::Owner;
use super::{Anchors, Answer, Camera, Catalog, CatalogError, Derived, EdgeRow, EdgeStanding, GapRow, Held, Mask};
use super::{NewToken, Redeemed, SegmentRow, masks, reading, registry, upgrade};
use campanile_proto::edge::v1::{Ack, EdgeHealth, Report, report::Body};
use campanile_proto::ids::{CameraId, EdgeId, Epoch, Incarnation, OrganisationId};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{Anchor, Stream};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

/// Version in the database's `user_version`.
pub(super) const SCHEMA: i64 = 3;

pub(super) struct SqliteCatalog {
    state: Owner<State>,
    incarnation: Incarnation,
    derived: Arc<Derived>,
    anchors: Arc<Anchors>,
    mirror: Arc<RwLock<Mirror>>,
}

/// Whose a camera is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owners {
    pub edge: EdgeId,
    pub former: Vec<EdgeId>,
}

/// Of the tables, what every record is held against.
struct Mirror {
    owners: HashMap<CameraId, Owners>,
    revoked: HashSet<EdgeId>,
}

impl Mirror {
    /// Whether `edge` may report a record of `camera` that `sealed_by` sealed: its own, or one of the box whose
    /// place it took or can take.
    fn belongs(&self, edge: EdgeId, camera: CameraId, sealed_by: EdgeId) -> bool {
        match self.owners.get(&camera) {
            None => sealed_by == edge,
            Some(owners) if owners.edge == edge => sealed_by == edge || owners.former.contains(&sealed_by),
            Some(owners) if self.revoked.contains(&owners.edge) => {
                sealed_by == edge || sealed_by == owners.edge || owners.former.contains(&sealed_by)
            }
            Some(_) => false,
        }
    }

    fn give(&mut self, camera: CameraId, to: EdgeId, before: Option<EdgeId>) {
        let owners = self.owners.entry(camera).or_insert_with(|| Owners { edge: to, former: Vec::new() });
        owners.edge = to;
        owners.former.retain(|edge| *edge != to);
        owners.former.extend(before.filter(|edge| *edge != to));
    }

    fn stands(&mut self, row: &EdgeRow) {
        match row.standing {
            EdgeStanding::Revoked { .. } => self.revoked.insert(row.id),
            _ => self.revoked.remove(&row.id),
        };
    }
}

/// What the derived store says of the life it belongs to.
pub(super) enum DerivedLife {
    Of(Incarnation),
    /// Made by a version that wrote nothing down.
    Unmarked,
    Lost,
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
pub(crate) fn open_database(
    path: &Path,
    schema: &str,
    version: i64,
    upgrade: impl FnOnce(&Transaction<'_>, i64) -> rusqlite::Result<()>,
) -> Result<Connection, CatalogError> {
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
        found if (1..version).contains(&found) => {
            let upgrading = db.transaction().map_err(opening)?;
            upgrade(&upgrading, found).map_err(opening)?;
            upgrading.pragma_update(None, "user_version", version).map_err(opening)?;
            upgrading.commit().map_err(opening)?;
            tracing::info!(path = %path.display(), found, version, "database upgraded");
        }
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
        derived_life: &DerivedLife,
    ) -> Result<Self, CatalogError> {
        let mut db = open_database(path, include_str!("schema.sql"), SCHEMA, upgrade::catalogue)?;
        let mut incarnation = life(&db, organisation)?;
        let lost = match derived_life {
            DerivedLife::Of(other) => *other != incarnation,
            DerivedLife::Unmarked => false,
            DerivedLife::Lost => true,
        };
        if lost && holds_any(&db, organisation)? {
            tracing::warn!("events and motion are not those of this catalogue: every box is asked to report again");
            incarnation = ingest::begin_anew(&mut db, organisation)?;
        }
        let mut mirror = Mirror { owners: reading::owners(&db, organisation)?, revoked: HashSet::new() };
        registry::edges(&db, organisation.as_bytes())?.iter().for_each(|row| mirror.stands(row));
        for (edge, anchor) in reading::anchors(&db, organisation)? {
            anchors.add(edge, &anchor);
        }
        let state = Owner::spawn("catalog", State { db, organisation, held: HeldCache::default() })
            .map_err(|_| CatalogError::Gone)?;
        Ok(Self { state, incarnation, derived, anchors, mirror: Arc::new(RwLock::new(mirror)) })
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
        let mirror = self.mirror.clone();
        let belongs = move |camera, sealed_by| {
            mirror.read().unwrap_or_else(PoisonError::into_inner).belongs(edge, camera, sealed_by)
        };
        self.derived.keep(edge, sealed, belongs).await
    }

    async fn take_in(&self, edge: EdgeId, reports: Vec<Report>) -> Result<Ack, CatalogError> {
        let (sequenced, reports) = self.call(move |state| ingest::fresh(state, edge, reports)).await?;
        for report in &reports {
            if let Some(Body::Anchor(anchor)) = &report.body {
                self.anchors.add(edge, anchor);
            }
        }
        let sealed = self.keep_sealed(edge, &reports).await?;
        let anchors = self.anchors.clone();
        let (ack, claimed) =
            self.call(move |state| ingest::store(state, edge, sequenced, &reports, &sealed, &anchors)).await?;
        let mut mirror = self.change_mirror();
        claimed.into_iter().for_each(|(camera, before)| mirror.give(camera, edge, before));
        Ok(ack)
    }

    fn change_mirror(&self) -> RwLockWriteGuard<'_, Mirror> {
        self.mirror.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn owners(&self, camera: CameraId) -> Option<Owners> {
        self.mirror.read().unwrap_or_else(PoisonError::into_inner).owners.get(&camera).cloned()
    }
}

/// Whether boxes reported anything that is counted as held.
fn holds_any(db: &Connection, organisation: OrganisationId) -> Result<bool, CatalogError> {
    let sql = "SELECT 1 FROM held WHERE organisation = ?1";
    db.prepare(sql)
        .and_then(|mut select| select.exists([organisation.as_bytes()]))
        .map_err(failed("read whether anything is held"))
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
        self.owners(camera).map(|owners| owners.edge)
    }

    fn former_owners(&self, camera: CameraId) -> Vec<EdgeId> {
        self.owners(camera).map(|owners| owners.former).unwrap_or_default()
    }

    fn move_camera(&self, camera: CameraId, to: EdgeId) -> Answer<'_, bool> {
        Box::pin(async move {
            let moved = self.call(move |state| ingest::move_camera(state, camera, to)).await?;
            if moved.is_some() {
                self.change_mirror().give(camera, to, moved);
            }
            Ok(moved.is_some())
        })
    }

    fn masks(&self) -> Answer<'_, Vec<Mask>> {
        self.call(|state| masks::all(&state.db, state.organisation.as_bytes()))
    }

    fn mask(&self, mask: Mask) -> Answer<'_, bool> {
        self.call(move |state| masks::put(&state.db, state.organisation.as_bytes(), &mask))
    }

    fn unmask(&self, camera: CameraId) -> Answer<'_, bool> {
        self.call(move |state| masks::remove(&state.db, state.organisation.as_bytes(), camera))
    }

    fn segments(&self, camera: CameraId, stream: Stream, from: WallTime, to: WallTime) -> Answer<'_, Vec<SegmentRow>> {
        self.call(move |state| reading::segments(&state.db, state.organisation, camera, stream, from, to))
    }

    fn gaps(&self, camera: CameraId, from: WallTime, to: WallTime) -> Answer<'_, Vec<GapRow>> {
        self.call(move |state| reading::gaps(&state.db, state.organisation, camera, from, to))
    }

    fn anchors(&self) -> Answer<'_, Vec<Anchor>> {
        self.call(|state| {
            let anchors = reading::anchors(&state.db, state.organisation)?;
            Ok(anchors.into_iter().map(|(_, anchor)| anchor).collect())
        })
    }

    fn health(&self) -> Answer<'_, Vec<(EdgeId, EdgeHealth)>> {
        self.call(|state| reading::health(&state.db, state.organisation))
    }

    fn add_token(&self, token: NewToken) -> Answer<'_, ()> {
        self.call(move |state| registry::add_token(state, &token))
    }

    fn token_known(&self, secret_hash: [u8; 32]) -> Answer<'_, bool> {
        self.call(move |state| registry::token_known(state, secret_hash))
    }

    fn redeem(&self, secret_hash: [u8; 32], key_hash: [u8; 32], edge: EdgeRow, now: WallTime) -> Answer<'_, Redeemed> {
        self.call(move |state| registry::redeem(state, secret_hash, key_hash, edge, now))
    }

    fn edges(&self) -> Answer<'_, Vec<EdgeRow>> {
        self.call(|state| registry::edges(&state.db, state.organisation.as_bytes()))
    }

    fn put_edge(&self, edge: EdgeRow) -> Answer<'_, ()> {
        Box::pin(async move {
            let row = edge.clone();
            self.call(move |state| registry::put_edge(state, &row)).await?;
            self.change_mirror().stands(&edge);
            Ok(())
        })
    }

    fn forget_before(&self, before: WallTime) -> Answer<'_, u64> {
        self.anchors.forget_before(before);
        self.call(move |state| ingest::forget_before(state, before))
    }
}
