//! From facts to durable rows.

use crate::facts::Fact;
use crate::index::Index;
use crate::index::rescan::{self, ThisRun};
use campanile_proto::ids::SegmentId;
use campanile_proto::kind::Chain;
use campanile_proto::time::Clock;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Facts are gathered this long into one durable step.
const GATHER: Duration = Duration::from_millis(150);
const MAX_FACTS: usize = 1024;

/// Takes facts until nobody tells any.
pub(super) struct Taking {
    pub index: Index,
    pub clock: Arc<dyn Clock>,
    pub restarts: Arc<AtomicU64>,
    pub media_dir: PathBuf,
    pub run: ThisRun,
}

impl Taking {
    pub async fn run(self, mut facts: mpsc::Receiver<Fact>) {
        let mut gathered = Vec::new();
        while facts.recv_many(&mut gathered, MAX_FACTS).await > 0 {
            tokio::time::sleep(GATHER).await;
            while gathered.len() < MAX_FACTS
                && let Ok(fact) = facts.try_recv()
            {
                gathered.push(fact);
            }
            let restarts = gathered.iter().filter(|fact| matches!(fact, Fact::AnalyseRestarted(_))).count();
            self.restarts.fetch_add(restarts as u64, Ordering::Relaxed);
            let closed: Vec<SegmentId> = gathered.iter().filter_map(closed_segment).collect();
            let batch = std::mem::take(&mut gathered);
            if let Err(error) = self.index.take(batch, self.clock.utc(), self.clock.mono()).await {
                tracing::error!(error = %Chain(&error), "facts not written down");
            }
            for segment in closed {
                if let Err(error) = rescan::settle(&self.index, segment, &self.media_dir, self.run).await {
                    tracing::error!(error = %Chain(&error), "closed index segment not settled");
                }
            }
        }
    }
}

fn closed_segment(fact: &Fact) -> Option<SegmentId> {
    match fact {
        Fact::SegmentGrew { segment, closed: true, .. } => Some(*segment),
        _ => None,
    }
}
