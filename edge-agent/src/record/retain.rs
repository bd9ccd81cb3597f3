//! What is deleted, and why: the plan is pure, the loop around it thin.
//!
//! By age on a trusted clock only; by space whatever the clock says. Only segments this box's index knows, never
//! one that is being written, never a foreign file.

use crate::clock::{Anchors, Timekeeper};
use crate::index::{Index, IndexError, SegmentRow};
use campanile_proto::ids::SegmentId;
use campanile_proto::kind::Chain;
use campanile_proto::time::{WallTime, kept_until};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_secs(60);
/// Kept free on the disk when no `max_bytes` is given: a minute of eight cameras at 8 Mbit/s, and what a file
/// system needs to stay fast.
const RESERVE_BYTES: u64 = 2 << 30;
/// Rows of anchors and gaps outlive the longest retention by a day.
const ROWS_KEPT_US: i64 = 8 * 86_400 * 1_000_000;

/// One segment that could be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: SegmentId,
    /// Present UTC of its first byte.
    pub captured: WallTime,
    /// Retention class, whole days, fixed at capture.
    pub days: u32,
    pub size_bytes: u64,
}

/// Why a segment goes; its text is what the hub is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Its hour and retention are over: its key is destroyed by now.
    Age,
    /// The oldest footage makes place for the newest.
    Space,
}

impl Rule {
    pub fn id(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Space => "space",
        }
    }
}

/// Chooses what goes. `now` is none when the clock is not trusted; `days` is what holds today: a shorter rule acts
/// at once, a longer one never backwards.
pub fn plan(kept: &[Kept], now: Option<WallTime>, days: u32, max_bytes: u64) -> Vec<(SegmentId, Rule)> {
    let mut oldest_first: Vec<&Kept> = kept.iter().collect();
    oldest_first.sort_by_key(|segment| (segment.captured, segment.id));
    let is_over = |segment: &Kept| now.is_some_and(|now| kept_until(segment.captured, segment.days.min(days)) <= now);
    let mut total: u64 = kept.iter().filter(|segment| !is_over(segment)).map(|segment| segment.size_bytes).sum();
    let mut gone = Vec::new();
    for segment in oldest_first {
        if is_over(segment) {
            gone.push((segment.id, Rule::Age));
        } else if total > max_bytes {
            total -= segment.size_bytes;
            gone.push((segment.id, Rule::Space));
        }
    }
    gone
}

/// Wakes each minute, looks, deletes, tells the index.
#[derive(Clone)]
pub struct Retain {
    pub index: Index,
    pub timekeeper: Arc<Timekeeper>,
    pub media_dir: PathBuf,
    pub days: u32,
    pub max_bytes: Option<u64>,
    /// What the hub wishes; 0: nothing said.
    pub wished_days: watch::Receiver<crate::uplink::Wishes>,
}

impl Retain {
    pub async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.once().await {
                tracing::error!(error = %Chain(&error), "retention could not act");
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One look; returns how many segments went.
    pub async fn once(&self) -> Result<usize, IndexError> {
        let now = self.timekeeper.trusted().then(|| self.timekeeper.latest());
        let wished = self.wished_days.borrow().retention_days;
        let days = if wished > 0 { self.days.min(wished) } else { self.days };
        let anchors = Anchors::new(self.index.anchors().await?);
        let rows = self.index.all_segments().await?;
        let rows: HashMap<SegmentId, SegmentRow> =
            rows.into_iter().filter(|row| row.closed && row.deleted_by.is_none()).map(|row| (row.id, row)).collect();
        let kept: Vec<Kept> = rows.values().map(|row| kept(row, &anchors)).collect();
        let max_bytes = self.max_bytes.unwrap_or_else(|| room(&self.media_dir, &kept));
        let gone = plan(&kept, now, days, max_bytes);
        for (id, rule) in &gone {
            // Noted first: a crash in between leaves a file that the next start unlinks.
            self.index.delete_segment(*id, rule.id()).await?;
            if let Some(row) = rows.get(id) {
                unlink(&row.path).await;
            }
        }
        if let Some(now) = now {
            self.index.forget(now.plus_micros(-ROWS_KEPT_US)).await?;
        }
        if !gone.is_empty() {
            let by_age = gone.iter().filter(|(_, rule)| *rule == Rule::Age).count();
            tracing::info!(by_age, by_space = gone.len() - by_age, "segments deleted");
        }
        Ok(gone.len())
    }
}

fn kept(row: &SegmentRow, anchors: &Anchors) -> Kept {
    let days = row.decode_header().map_or(7, |header| header.retention_days.clamp(1, 7));
    Kept { id: row.id, captured: anchors.present(&row.start).0, days, size_bytes: row.size_bytes }
}

/// What may be kept on this disk: what is kept now, and what is free beyond the reserve.
fn room(media_dir: &Path, kept: &[Kept]) -> u64 {
    let used: u64 = kept.iter().map(|segment| segment.size_bytes).sum();
    match crate::hardware::disk(media_dir) {
        Some(disk) => (used + disk.free_bytes).saturating_sub(RESERVE_BYTES.min(disk.total_bytes / 20)),
        None => u64::MAX,
    }
}

async fn unlink(path: &Path) {
    match tokio::fs::remove_file(path).await {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(path = %path.display(), %error, "segment not deleted"),
    }
    if let Some(hour) = path.parent() {
        // Fails while other segments lie in it, as it should.
        let _ = tokio::fs::remove_dir(hour).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(n: u128, hour: i64, days: u32, size_bytes: u64) -> Kept {
        Kept { id: SegmentId::from_u128(n), captured: WallTime::from_hour(hour), days, size_bytes }
    }

    fn segments() -> impl Strategy<Value = Vec<Kept>> {
        let one = (0i64..400, 1u32..8, 1u64..100);
        proptest::collection::vec(one, 0..40).prop_map(|all| {
            all.into_iter().enumerate().map(|(n, (hour, days, size))| segment(n as u128, hour, days, size)).collect()
        })
    }

    #[test]
    fn without_a_clock_nothing_is_old() {
        assert!(plan(&[segment(1, 0, 7, 10)], None, 7, 10).is_empty());
    }

    #[test]
    fn the_hour_and_the_days_are_the_term() {
        let at = |hour| plan(&[segment(1, 100, 7, 10)], Some(WallTime::from_hour(hour)), 7, 100);
        assert!(at(100 + 167).is_empty());
        assert_eq!(at(100 + 168), [(SegmentId::from_u128(1), Rule::Age)]);
    }

    proptest! {
        #[test]
        fn keeps_the_newest_that_fit_and_nothing_over_its_term(
            kept in segments(), now in 0i64..500, days in 1u32..8, max in 0u64..1_500,
        ) {
            let now = WallTime::from_hour(now);
            let gone: HashMap<_, _> = plan(&kept, Some(now), days, max).into_iter().collect();
            let (left, went): (Vec<_>, Vec<_>) = kept.iter().partition(|s| !gone.contains_key(&s.id));
            prop_assert!(left.iter().all(|s| kept_until(s.captured, s.days.min(days)) > now));
            prop_assert!(left.iter().map(|s| s.size_bytes).sum::<u64>() <= max);
            for segment in went.iter().filter(|s| gone[&s.id] == Rule::Space) {
                prop_assert!(left.iter().all(|other| other.captured >= segment.captured));
            }
        }

        #[test]
        fn a_longer_rule_never_acts_backwards(kept in segments(), now in 0i64..500) {
            let now = Some(WallTime::from_hour(now));
            let count = |days| plan(&kept, now, days, u64::MAX).len();
            prop_assert!(count(7) <= count(3) && count(3) <= count(1));
        }
    }
}
