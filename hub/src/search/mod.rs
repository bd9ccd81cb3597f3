//! Finding events: when, where, in which words, in which part of the picture.
//!
//! Belongs here: the full-text projection (tantivy), how words are read, the order and shape of hits.
//! Does not belong here: who may search (`access`), the events themselves (`catalog::Derived`), partners.
//! Invariant: the index is a projection, made again from `Derived` whenever it is missing or of another
//! version; queries are typed, no text of anybody's reaches a query parser.

mod follow;
mod index;
mod query;
#[cfg(test)]
mod tests;
mod words;

pub use follow::Follower;
pub use query::{Hit, MAX_LIMIT, Query};

use crate::catalog::{Camera, Catalog, CatalogError, Derived, EventRow};
use campanile_proto::grid::CellSet;
use campanile_proto::ids::CameraId;
use campanile_proto::kind::Kind;
use campanile_proto::time::{Clock, WallTime};
use index::{Conditions, Found, Projection};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use words::{Words, wanted};

/// Matches looked through at once when a drawn region thins them out.
const BATCH: usize = 2_000;
/// Matches looked through in all for one search.
const MAX_LOOKED_THROUGH: usize = 200_000;

#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error("could not open the search index at {path}")]
    Open { path: PathBuf, source: tantivy::TantivyError },
    #[error("could not make folder {path} for the search index")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("could not write the search index")]
    Write(#[source] tantivy::TantivyError),
    #[error("could not search the index")]
    Read(#[source] tantivy::TantivyError),
    #[error("could not read the catalogue for a search")]
    Catalog(#[source] CatalogError),
    #[error("the search did not end in time")]
    Stopped,
}

impl SearchError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Stopped => Kind::Unavailable,
            Self::Catalog(source) => source.kind(),
            _ => Kind::Internal,
        }
    }
}

/// Cheap to clone; every clone is the same index.
#[derive(Clone)]
pub struct Search {
    projection: Projection,
    derived: Arc<Derived>,
    catalog: Arc<dyn Catalog>,
    clock: Arc<dyn Clock>,
    caught_up: watch::Receiver<bool>,
    expiry: Arc<watch::Sender<WallTime>>,
}

impl Search {
    /// Opens the index in `dir` (or makes it anew). Returns at once; as the follower runs, what the index lacked at
    /// the start comes in newest first, and then what `derived` takes in.
    pub async fn open(
        dir: &Path,
        derived: Arc<Derived>,
        catalog: Arc<dyn Catalog>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Follower), SearchError> {
        let path = dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || index::open(&path)).await;
        let (projection, writer) = opened.map_err(|_| SearchError::Stopped)??;
        let events = derived.subscribe();
        let ((reached, caught_up), (asking, expiry)) = (watch::channel(false), watch::channel(WallTime(0)));
        let follower = Follower {
            writer,
            projection: projection.clone(),
            derived: derived.clone(),
            clock: clock.clone(),
            events,
            caught_up: reached,
            expiry,
            expired: None,
        };
        Ok((Self { projection, derived, catalog, clock, caught_up, expiry: Arc::new(asking) }, follower))
    }

    /// What is past its term at `now` leaves the disk soon.
    pub fn expire(&self, now: WallTime) {
        self.expiry.send_replace(now);
    }

    /// Returns once everything that was there at the start can be found.
    pub async fn caught_up(&self) {
        // A follower that has ended will not catch up any more.
        let _ = self.caught_up.clone().wait_for(|reached| *reached).await;
    }

    /// Newest first.
    pub async fn run(&self, query: Query) -> Result<Vec<Hit>, SearchError> {
        let limit = query.limit.min(MAX_LIMIT + 1);
        let cameras = self.catalog.cameras().await.map_err(SearchError::Catalog)?;
        let Some(conditions) = self.conditions(&query, &cameras) else { return Ok(Vec::new()) };
        let conditions = Arc::new(conditions);
        let batch = if query.region.is_some() { BATCH } else { limit };
        let (mut hits, mut offset) = (Vec::new(), 0);
        while hits.len() < limit && offset < MAX_LOOKED_THROUGH {
            let found = self.find(conditions.clone(), offset, batch).await?;
            let count = found.len();
            for found in found {
                if hits.len() < limit
                    && let Some(row) = self.admit(&found, &query).await?
                {
                    hits.push(hit(row, &cameras));
                }
            }
            offset += count;
            if count < batch {
                break;
            }
        }
        Ok(hits)
    }

    async fn find(&self, conditions: Arc<Conditions>, offset: usize, limit: usize) -> Result<Vec<Found>, SearchError> {
        let projection = self.projection.clone();
        let found = tokio::task::spawn_blocking(move || projection.find(&conditions, offset, limit.max(1)));
        found.await.map_err(|_| SearchError::Stopped)?
    }

    /// What the index is asked; none when no camera is left to look at.
    fn conditions(&self, query: &Query, cameras: &[Camera]) -> Option<Conditions> {
        let place = wanted(query.site.as_deref().unwrap_or_default());
        let mut within = query.cameras.clone();
        if !place.is_empty() {
            let there = |camera: &&Camera| {
                let words = Words::of(&[&camera.site, &camera.address]);
                place.iter().all(|word| words.hold(word))
            };
            let there: Vec<CameraId> = cameras.iter().filter(there).map(|camera| camera.id).collect();
            within = match within.is_empty() {
                true => there,
                false => within.into_iter().filter(|id| there.contains(id)).collect(),
            };
            if within.is_empty() {
                return None;
            }
        }
        let texts: Vec<(CameraId, Words)> =
            cameras.iter().map(|c| (c.id, Words::of(&[&c.name, &c.site, &c.address]))).collect();
        let words = wanted(&query.words).into_iter().map(|word| {
            let named = texts.iter().filter(|(_, text)| text.hold(&word)).map(|(id, _)| *id).collect();
            (word, named)
        });
        let words = words.collect();
        Some(Conditions { from: query.from, to: query.to, now: self.clock.utc(), cameras: within, words })
    }

    /// The event of a match, as it is now, if something moved in the region within the interval.
    async fn admit(&self, found: &Found, query: &Query) -> Result<Option<EventRow>, SearchError> {
        if query.region.is_some_and(|region| !found.moved.intersects(&region)) {
            return Ok(None);
        }
        let row = self.derived.event(found.event).await.map_err(SearchError::Catalog)?;
        let Some(row) = row.filter(|row| row.kept_until > self.clock.utc()) else { return Ok(None) };
        match query.region {
            // An event that reaches over an edge of the interval may have moved there outside of it.
            Some(region) if found.start < query.from || found.end > query.to => {
                Ok(self.moved_within(&row, query, region).await?.then_some(row))
            }
            _ => Ok(Some(row)),
        }
    }

    async fn moved_within(&self, row: &EventRow, query: &Query, region: CellSet) -> Result<bool, SearchError> {
        let (from, to) = (row.start.max(query.from), row.end.min(query.to));
        let seconds = self.derived.motion(row.camera, from, to).await.map_err(SearchError::Catalog)?;
        Ok(seconds.iter().any(|second| second.moved.intersects(&region)))
    }
}

fn hit(row: EventRow, cameras: &[Camera]) -> Hit {
    let camera = cameras.iter().find(|camera| camera.id == row.camera);
    let text = |of: fn(&Camera) -> &String| camera.map(of).cloned().unwrap_or_default();
    Hit {
        event_id: row.id.into(),
        camera_id: row.camera.into(),
        camera_name: text(|c| &c.name),
        site: text(|c| &c.site),
        address: text(|c| &c.address),
        start_us: row.start.0,
        end_us: row.end.0,
        ongoing: row.ongoing,
        union: Some(row.union),
        peak_cells: row.peak_cells,
        has_thumbnail: row.has_thumbnail,
        kept_until_us: row.kept_until.0,
        uncertainty_us: row.uncertainty_us,
        labels: row.labels,
    }
}
