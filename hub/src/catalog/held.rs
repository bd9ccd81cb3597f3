//! Which sequences of a box's epoch are held, and how many were accepted.

use super::sqlite::failed;
use super::{CatalogError, Ranges};
use campanile_proto::ids::{EdgeId, Epoch, OrganisationId};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

/// Epochs kept in memory: those of every box of a large hub.
const MAX_CACHED: usize = 4_096;

/// What the hub holds of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Accepted, or never to be sent: a newer revision took their place.
    pub ranges: Ranges,
    /// Accepted, each sequence once.
    pub accepted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EpochKey {
    pub organisation: OrganisationId,
    pub edge: EdgeId,
    pub epoch: Epoch,
}

/// Read once, then kept beside the table. Whoever changes one takes it out and brings it back once the
/// change is durable.
#[derive(Default)]
pub(super) struct HeldCache(HashMap<EpochKey, Held>);

impl HeldCache {
    pub fn take(&mut self, db: &Connection, key: &EpochKey) -> Result<Held, CatalogError> {
        match self.0.remove(key) {
            Some(held) => Ok(held),
            None => read(db, key),
        }
    }

    pub fn bring_back(&mut self, key: EpochKey, held: Held) {
        if self.0.len() >= MAX_CACHED {
            self.0.clear();
        }
        self.0.insert(key, held);
    }
}

fn read(db: &Connection, key: &EpochKey) -> Result<Held, CatalogError> {
    let attempt = failed("read what is held");
    let values = || (key.organisation.to_vec(), key.edge.to_vec(), key.epoch.to_vec());
    let mut ranges = Ranges::default();
    let mut select = db
        .prepare_cached("SELECT first, last FROM held WHERE organisation = ?1 AND edge = ?2 AND epoch = ?3")
        .map_err(&attempt)?;
    let mut rows = select.query(values()).map_err(&attempt)?;
    while let Some(row) = rows.next().map_err(&attempt)? {
        let (first, last): (i64, i64) = (row.get(0).map_err(&attempt)?, row.get(1).map_err(&attempt)?);
        ranges.insert(first as u64, last as u64);
    }
    let accepted: Option<i64> = db
        .prepare_cached("SELECT accepted FROM epoch WHERE organisation = ?1 AND edge = ?2 AND epoch = ?3")
        .and_then(|mut statement| statement.query_row(values(), |row| row.get(0)).optional())
        .map_err(&attempt)?;
    Ok(Held { ranges, accepted: accepted.unwrap_or(0) as u64 })
}

impl Held {
    /// Adds ranges to the set and to the table; only rows that change are written.
    pub(super) fn add(
        &mut self,
        db: &Connection,
        key: &EpochKey,
        ranges: impl IntoIterator<Item = (u64, u64)>,
    ) -> Result<(), CatalogError> {
        let attempt = failed("keep what is held");
        let (organisation, edge, epoch) = (key.organisation.to_vec(), key.edge.to_vec(), key.epoch.to_vec());
        let mut delete = db
            .prepare_cached("DELETE FROM held WHERE organisation = ?1 AND edge = ?2 AND epoch = ?3 AND first = ?4")
            .map_err(&attempt)?;
        let mut insert = db
            .prepare_cached(
                "INSERT OR REPLACE INTO held (organisation, edge, epoch, first, last) VALUES (?1, ?2, ?3, ?4, ?5)",
            )
            .map_err(&attempt)?;
        for (first, last) in ranges {
            let (joined, (first, last)) = self.ranges.insert(first, last);
            for start in joined.into_iter().filter(|start| *start != first) {
                delete.execute(params![organisation, edge, epoch, start as i64]).map_err(&attempt)?;
            }
            insert.execute(params![organisation, edge, epoch, first as i64, last as i64]).map_err(&attempt)?;
        }
        Ok(())
    }

    /// The count goes up, in the set and in the table.
    pub(super) fn count(&mut self, db: &Connection, key: &EpochKey, accepted: u64) -> Result<(), CatalogError> {
        self.accepted = accepted;
        db.prepare_cached("INSERT OR REPLACE INTO epoch (organisation, edge, epoch, accepted) VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut statement| {
                let (organisation, edge, epoch) = (key.organisation.to_vec(), key.edge.to_vec(), key.epoch.to_vec());
                statement.execute(params![organisation, edge, epoch, accepted as i64])
            })
            .map_err(failed("count reports"))?;
        Ok(())
    }
}
