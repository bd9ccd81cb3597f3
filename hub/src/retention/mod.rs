//! Retention is law: what is past its term is destroyed, whether anybody asks or not.
//!
//! Belongs here: the round that destroys hour keys, drops derived rows and days, coverage and opened footage.
//! Does not belong here: what the term of something is (`proto::time::kept_until`), boxes' disks.
//! Invariant: a round takes no input; it looks at what is there and at the time.

use crate::access::Door;
use crate::catalog::{Catalog, Derived};
use crate::fleet::Fleet;
use crate::media::{Alarm, Keeper, Maintained, Playback, RingKeeper};
use crate::search::Search;
use campanile_proto::kind::Chain;
use campanile_proto::time::{Clock, MICROS_PER_HOUR, MICROS_PER_SECOND};
use campanile_proto::types::v1::Act;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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
    pub search: Search,
    pub playback: Playback,
    pub fleet: Fleet,
    pub door: Door,
    pub clock: Arc<dyn Clock>,
    pub retention_days: u32,
    /// Hour of the last round that forgot coverage; 0 at the start.
    pub forgotten: AtomicI64,
    /// Minute of the monotonic clock at which doubts about the wall clock were last logged; 0: none.
    pub said: AtomicI64,
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
        // A clock that jumped must not delete what is within its term: hiding it is enough until somebody looked.
        if !self.keeper.may_destroy() {
            return;
        }
        self.search.expire(self.clock.utc());
        match self.derived.expire(self.retention_days).await {
            Ok((0, 0)) => {}
            Ok((rows, days)) => info!(rows, days, "events, motion and thumbnails past their term dropped"),
            Err(failure) => error!(error = %Chain(&failure), "derived rows not dropped"),
        }
        let now = self.clock.utc();
        // Terms end at full hours, and the table of coverage is the largest.
        if self.forgotten.load(Ordering::Relaxed) != now.hour() {
            let before = now.plus_micros(-i64::from(self.retention_days) * 24 * MICROS_PER_HOUR);
            match self.catalog.forget_before(before).await {
                Ok(_) => self.forgotten.store(now.hour(), Ordering::Relaxed),
                Err(failure) => error!(error = %Chain(&failure), "coverage not forgotten"),
            }
        }
    }

    async fn maintained(&self, done: Maintained) {
        // An hour is as often as anybody reads the same line.
        let minute = self.clock.mono().0 / (60 * MICROS_PER_SECOND);
        let said = self.said.load(Ordering::Relaxed);
        if done.clock_doubted && (said == 0 || minute - said >= 60) {
            error!("{}", Alarm::Clock);
            self.said.store(minute.max(1), Ordering::Relaxed);
        }
        if !done.clock_doubted {
            self.said.store(0, Ordering::Relaxed);
        }
        for hour in &done.destroyed {
            info!(hour, "hour key destroyed");
            self.door.note(Act::KeyDestroyed, &format!("hour {hour}"), "").await;
        }
        for edge in &done.reserves_destroyed {
            info!(%edge, "reserve key destroyed");
            self.door.note(Act::KeyDestroyed, &format!("reserve key of edge {edge}"), "").await;
        }
        for hold in &done.holds_destroyed {
            info!(%hold, "key of a hold destroyed at its end");
            self.door.note(Act::KeyDestroyed, &format!("hold {hold}"), "").await;
        }
        if done.extended {
            self.fleet.keys_changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::conformance::Bench;
    use crate::fleet::{Authority, Identity, Parts, SessionTerms};
    use crate::register::Register;

    async fn retention(bench: &Bench) -> (Retention, Register) {
        let (dir, identity) = (bench.dir.path(), Arc::new(Identity::for_tests()));
        std::fs::create_dir_all(dir.join("keys")).unwrap();
        let clock: Arc<dyn Clock> = bench.clock.clone();
        let register =
            Register::open(&dir.join("register.sqlite"), identity.id, identity.register.clone(), clock.clone());
        let register = register.unwrap();
        let door = Door::new(identity.id, 7, register.clone(), clock.clone());
        let parts = Parts {
            identity: identity.clone(),
            authority: Arc::new(Authority::open(dir, &identity, clock.utc()).unwrap()),
            catalog: bench.catalog.clone(),
            keeper: bench.keeper.clone(),
            clock: clock.clone(),
            advertise: Vec::new(),
            retention_days: 7,
            terms: SessionTerms::default(),
        };
        let fleet = Fleet::open(dir, parts).await.unwrap();
        let catalog = bench.catalog.clone();
        let playback = Playback::new(
            identity.id,
            fleet.clone(),
            catalog.clone(),
            bench.keeper.clone(),
            door.clone(),
            clock.clone(),
            7,
        );
        let (keeper, derived) = (bench.keeper.clone(), bench.derived.clone());
        let index = dir.join("derived/tantivy");
        let (search, follower) = Search::open(&index, derived.clone(), catalog.clone(), clock.clone()).await.unwrap();
        tokio::spawn(follower.run(CancellationToken::new()));
        let (forgotten, said) = (AtomicI64::new(0), AtomicI64::new(0));
        let retention_days = 7;
        let retention = Retention {
            keeper,
            derived,
            catalog,
            search,
            playback,
            fleet,
            door,
            clock,
            retention_days,
            forgotten,
            said,
        };
        (retention, register)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_clock_that_jumped_deletes_nothing_and_one_that_went_on_does() {
        let bench = Bench::new();
        let event = bench.record(1).await;
        let ((retention, _), now) = (retention(&bench).await, bench.clock.utc());
        bench.clock.step_utc(now.plus_micros(10 * 24 * MICROS_PER_HOUR));
        retention.round().await;
        bench.clock.step_utc(now);
        assert!(bench.derived.event(event).await.unwrap().is_some());
        assert_eq!(bench.coverage().await, 1);
        bench.clock.advance_micros(10 * 24 * MICROS_PER_HOUR);
        retention.round().await;
        assert!(bench.derived.event(event).await.unwrap().is_none());
        assert_eq!(bench.coverage().await, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_destroyed_hour_stands_in_the_register_once() {
        let bench = Bench::new();
        let (retention, register) = retention(&bench).await;
        retention.round().await;
        assert_eq!(register.root().await.unwrap().size, 0);
        // The hour before the first is made too, for a box whose clock is behind.
        bench.clock.advance_micros(169 * MICROS_PER_HOUR);
        for _ in 0..2 {
            retention.round().await;
            assert_eq!(register.root().await.unwrap().size, 3);
        }
    }
}
