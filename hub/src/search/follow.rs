//! Keeps the projection at the events: catches up at the start, follows what comes in, drops what expires.

use super::SearchError;
use super::index::{Projection, Writer};
use crate::catalog::{Derived, EventRow};
use campanile_proto::kind::Chain;
use campanile_proto::time::{Clock, MAX_RETENTION_HOURS, MICROS_PER_HOUR};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info};

/// From an event's arrival until it is found; a commit costs some milliseconds whatever is in it.
const COMMIT_EVERY: Duration = Duration::from_millis(250);
/// An event may be new at the hub and end in the near future of the hub's clock.
const SLACK_US: i64 = MICROS_PER_HOUR;
const EXPIRE_EVERY: Duration = Duration::from_secs(600);

pub(super) struct Follower {
    pub writer: Writer,
    pub projection: Projection,
    pub derived: Arc<Derived>,
    pub clock: Arc<dyn Clock>,
    /// True once the projection holds everything there was at the start.
    pub caught_up: watch::Sender<bool>,
}

impl Follower {
    /// Ends when the events' sender does.
    pub async fn run(mut self, mut events: broadcast::Receiver<EventRow>) {
        self.catch_up().await;
        let mut expire = tokio::time::interval(EXPIRE_EVERY);
        let mut commit_at: Option<Instant> = None;
        loop {
            let due = commit_at.unwrap_or_else(|| Instant::now() + EXPIRE_EVERY);
            tokio::select! {
                event = events.recv() => match event {
                    Ok(row) => {
                        self.note(|this| this.writer.put(&row));
                        commit_at.get_or_insert_with(|| Instant::now() + COMMIT_EVERY);
                    }
                    Err(RecvError::Lagged(missed)) => {
                        info!(missed, "search index fell behind, reading the events again");
                        events = events.resubscribe();
                        self.catch_up().await;
                    }
                    Err(RecvError::Closed) => break,
                },
                () = tokio::time::sleep_until(due), if commit_at.is_some() => {
                    commit_at = None;
                    self.commit();
                }
                _ = expire.tick() => {
                    let now = self.clock.utc();
                    self.note(|this| this.writer.drop_expired(now));
                    self.commit();
                }
            }
        }
        self.commit();
    }

    /// Compares the index with the events, hour by hour, newest first, and puts what differs.
    async fn catch_up(&mut self) {
        let newest = self.clock.utc().plus_micros(SLACK_US).hour();
        let mut added = 0_u64;
        for hour in (newest - MAX_RETENTION_HOURS - 2..=newest).rev() {
            match self.catch_up_hour(hour).await {
                Ok(count) => added += count,
                Err(e) => error!(error = %Chain(&e), hour, "search index not complete"),
            }
        }
        if added > 0 {
            info!(added, "search index caught up");
        }
        self.caught_up.send_replace(true);
    }

    async fn catch_up_hour(&mut self, hour: i64) -> Result<u64, SearchError> {
        let from = campanile_proto::time::WallTime::from_hour(hour);
        let to = from.plus_micros(MICROS_PER_HOUR);
        let rows = self.derived.events_between(from, to, &[]).await.map_err(SearchError::Catalog)?;
        if rows.is_empty() {
            return Ok(0);
        }
        let held = self.projection.revisions(from, to)?;
        let mut added = 0;
        for row in rows.iter().filter(|row| (from..to).contains(&row.start)) {
            if held.get(&row.id) != Some(&row.revision) {
                self.writer.put(row)?;
                added += 1;
            }
        }
        if added > 0 {
            tokio::task::block_in_place(|| self.writer.commit())?;
        }
        Ok(added)
    }

    fn commit(&mut self) {
        self.note(|this| tokio::task::block_in_place(|| this.writer.commit()));
    }

    fn note(&mut self, attempt: impl FnOnce(&mut Self) -> Result<(), SearchError>) {
        if let Err(e) = attempt(self) {
            error!(error = %Chain(&e), "search index not written");
        }
    }
}
