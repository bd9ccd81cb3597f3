//! From facts to durable rows.

use crate::facts::{Fact, Lost};
use crate::index::Index;
use crate::index::rescan::{self, ThisRun};
use bytes::Bytes;
use campanile_proto::ids::{ObjectId, SegmentId};
use campanile_proto::kind::Chain;
use campanile_proto::time::Clock;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Facts are gathered this long into one durable step.
const GATHER: Duration = Duration::from_millis(150);
const MAX_FACTS: usize = 1024;
/// Before facts that the index did not take are offered again; doubles up to the second value.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(10);

/// Takes facts until nobody tells any.
pub(super) struct Taking {
    pub index: Index,
    pub clock: Arc<dyn Clock>,
    pub restarts: Arc<AtomicU64>,
    pub media_dir: PathBuf,
    pub run: ThisRun,
    /// Told when a segment is to be read back.
    pub rescan: Arc<Notify>,
    pub lost: Arc<Lost>,
}

impl Taking {
    pub async fn run(self, mut facts: mpsc::Receiver<Fact>) {
        let mut gathered = Vec::new();
        let mut epochs = self.index.epochs();
        // What no walk through the segments brings back.
        let mut shown = Shown::default();
        loop {
            tokio::select! {
                biased;
                Ok(()) = epochs.changed() => {
                    self.take(shown.all()).await;
                    continue;
                }
                received = facts.recv_many(&mut gathered, MAX_FACTS) => if received == 0 { break },
            }
            tokio::time::sleep(GATHER).await;
            while gathered.len() < MAX_FACTS
                && let Ok(fact) = facts.try_recv()
            {
                gathered.push(fact);
            }
            shown.note(&gathered);
            self.take(std::mem::take(&mut gathered)).await;
            if facts.is_empty() {
                let kept = self.lost.take_kept();
                shown.note(&kept);
                self.take(kept).await;
            }
        }
        self.take(self.lost.take_kept()).await;
    }

    async fn take(&self, facts: Vec<Fact>) {
        if facts.is_empty() {
            return;
        }
        let restarts = facts.iter().filter(|fact| matches!(fact, Fact::AnalyseRestarted(_))).count();
        self.restarts.fetch_add(restarts as u64, Ordering::Relaxed);
        let closed: Vec<SegmentId> = facts.iter().filter_map(closed_segment).collect();
        let suspect = facts.iter().any(|fact| matches!(fact, Fact::SegmentSuspect { .. }));
        self.write_down(facts).await;
        if suspect {
            self.rescan.notify_one();
        }
        for segment in closed {
            if let Err(error) = rescan::settle(&self.index, segment, &self.media_dir, self.run).await {
                tracing::error!(error = %Chain(&error), "closed index segment not settled");
            }
        }
    }

    /// Tries until the index takes them: what no segment tells would be lost for ever.
    async fn write_down(&self, facts: Vec<Fact>) {
        let mut rest = FIRST_REST;
        loop {
            match self.index.take(facts.clone(), self.clock.utc(), self.clock.mono()).await {
                Ok(0) => return,
                Ok(unreadable) => {
                    tracing::error!(unreadable, "facts could not be read and were left out");
                    return self.lost.note();
                }
                Err(error) => tracing::error!(error = %Chain(&error), facts = facts.len(), "facts not written down"),
            }
            tokio::time::sleep(rest).await;
            rest = (rest * 2).min(LONGEST_REST);
        }
    }
}

/// The present state of cameras, and gaps that go on: to be told again when the index was made anew.
#[derive(Default)]
struct Shown {
    cameras: BTreeMap<Bytes, Fact>,
    gaps: BTreeMap<ObjectId, Fact>,
}

impl Shown {
    fn note(&mut self, facts: &[Fact]) {
        for fact in facts {
            match fact {
                Fact::Camera(state) => drop(self.cameras.insert(state.camera_id.clone(), fact.clone())),
                Fact::Gap { object, gap } if gap.ongoing => drop(self.gaps.insert(*object, fact.clone())),
                Fact::Gap { object, .. } => drop(self.gaps.remove(object)),
                _ => {}
            }
        }
    }

    fn all(&self) -> Vec<Fact> {
        self.cameras.values().chain(self.gaps.values()).cloned().collect()
    }
}

fn closed_segment(fact: &Fact) -> Option<SegmentId> {
    match fact {
        Fact::SegmentGrew { segment, closed: true, .. } => Some(*segment),
        _ => None,
    }
}
