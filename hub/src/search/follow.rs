//! Keeps the projection at the events: catches up at the start, follows what comes in, drops what expires.

use super::SearchError;
use super::index::{Projection, Writer};
use crate::catalog::{Derived, EventRow};
use campanile_proto::kind::Chain;
use campanile_proto::time::{Clock, MAX_RETENTION_HOURS, MICROS_PER_HOUR, WallTime};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// From an event's arrival until it is found; a commit costs some milliseconds whatever is in it.
const COMMIT_EVERY: Duration = Duration::from_millis(250);
/// An event may be new at the hub and end in the near future of the hub's clock.
const SLACK_US: i64 = MICROS_PER_HOUR;
/// Wakes a follower that has nothing to commit.
const IDLE: Duration = Duration::from_secs(3_600);

/// The one that writes the index; runs beside the hub's other tasks.
pub struct Follower {
    pub(super) writer: Writer,
    pub(super) projection: Projection,
    pub(super) derived: Arc<Derived>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) events: broadcast::Receiver<EventRow>,
    /// True once the projection holds everything there was at the start.
    pub(super) caught_up: watch::Sender<bool>,
    /// Up to when what ended must be gone; set by the round of retention.
    pub(super) expiry: watch::Receiver<WallTime>,
    /// The hour whose expiry was done.
    pub(super) expired: Option<i64>,
}

impl Follower {
    /// Until `stop`, or until the events' sender goes.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.catch_up() => {}
        }
        let mut commit_at: Option<Instant> = None;
        loop {
            let due = commit_at.unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                () = stop.cancelled() => break,
                event = self.events.recv() => match event {
                    Ok(row) => {
                        self.note(|this| this.writer.put(&row));
                        commit_at.get_or_insert_with(|| Instant::now() + COMMIT_EVERY);
                    }
                    Err(RecvError::Lagged(missed)) => {
                        info!(missed, "search index fell behind, reading the events again");
                        self.events = self.events.resubscribe();
                        self.catch_up().await;
                    }
                    Err(RecvError::Closed) => break,
                },
                () = tokio::time::sleep_until(due), if commit_at.is_some() => {
                    commit_at = None;
                    self.commit();
                }
                Ok(()) = self.expiry.changed() => self.expire(),
            }
        }
        self.commit();
    }

    /// Terms end at full hours; an expiry that failed is tried again at the next round.
    fn expire(&mut self) {
        let now = *self.expiry.borrow_and_update();
        if self.expired == Some(now.hour()) {
            return;
        }
        self.note(|this| {
            tokio::task::block_in_place(|| this.writer.expire(now))?;
            this.expired = Some(now.hour());
            Ok(())
        });
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
        let from = WallTime::from_hour(hour);
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
