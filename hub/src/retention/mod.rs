//! Retention is law: what is past its term is destroyed, whether anybody asks or not.
//!
//! Belongs here: the round that destroys hour keys, drops derived rows and days, coverage and opened footage.
//! Does not belong here: what the term of something is (`proto::time::kept_until`), boxes' disks.
//! Invariant: a round takes no input; it looks at what is there and at the time.

use crate::access::Door;
use crate::catalog::{Catalog, Derived};
use crate::fleet::Fleet;
use crate::media::{Maintained, Playback, RingKeeper};
use campanile_proto::kind::Chain;
use campanile_proto::time::{Clock, MICROS_PER_HOUR};
use campanile_proto::types::v1::Act;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Keys end at full hours: a minute late is the most.
const ROUND: Duration = Duration::from_secs(30);

/// Wakes, looks, acts.
pub struct Retention {
    pub keeper: Arc<RingKeeper>,
    pub derived: Arc<Derived>,
    pub catalog: Arc<dyn Catalog>,
    pub playback: Playback,
    pub fleet: Fleet,
    pub door: Door,
    pub clock: Arc<dyn Clock>,
    pub retention_days: u32,
}

impl Retention {
    pub async fn run(self, stop: CancellationToken) {
        let mut round = tokio::time::interval(ROUND);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = round.tick() => self.round().await,
            }
        }
    }

    /// Each part is tried whatever became of the others.
    pub async fn round(&self) {
        let keeper = self.keeper.clone();
        match tokio::task::spawn_blocking(move || keeper.maintain()).await {
            Ok(Ok(maintained)) => self.maintained(maintained).await,
            Ok(Err(failure)) => error!(error = %Chain(&failure), "key ring not maintained"),
            Err(failure) => error!(error = %failure, "key ring not maintained"),
        }
        self.playback.expire();
        match self.derived.expire(self.retention_days).await {
            Ok((0, 0)) => {}
            Ok((rows, days)) => info!(rows, days, "events, motion and thumbnails past their term dropped"),
            Err(failure) => error!(error = %Chain(&failure), "derived rows not dropped"),
        }
        let before = self.clock.utc().plus_micros(-i64::from(self.retention_days) * 24 * MICROS_PER_HOUR);
        if let Err(failure) = self.catalog.forget_before(before).await {
            error!(error = %Chain(&failure), "coverage not forgotten");
        }
    }

    async fn maintained(&self, done: Maintained) {
        if done.clock_jumped {
            error!("the wall clock jumped against the monotonic one: no key is destroyed until somebody has looked");
        }
        for hour in &done.destroyed {
            info!(hour, "hour key destroyed");
            self.door.note(Act::KeyDestroyed, &format!("hour {hour}"), "").await;
        }
        if done.extended {
            self.fleet.keys_changed();
        }
    }
}
