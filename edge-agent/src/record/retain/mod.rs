//! What is deleted, and why: the plan is pure, the loop around it thin.
//!
//! By age only when the hub or NTP vouches for the time in this boot and did so in the boot of the capture; by space
//! whatever the clock says. Only segments this box's index knows, never one that is being written, never a foreign
//! file.

use crate::clock::{Anchors, Timekeeper};
use crate::hardware::{self, Disk};
use crate::index::{Index, IndexError, SegmentRow};
use crate::record::home::{Found, Home};
use campanile_proto::ids::{BootId, SegmentId};
use campanile_proto::kind::Chain;
use campanile_proto::time::{MonoTime, WallTime};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

mod plan;

pub use plan::{CameraRule, Kept, Place, Rule, Rules, plan};

const INTERVAL: Duration = Duration::from_secs(60);
/// Kept free on the disk when no `max_bytes` is given: a minute of eight cameras at 8 Mbit/s, and what a file
/// system needs to stay fast.
const RESERVE_BYTES: u64 = 2 << 30;
/// Rows of anchors and gaps outlive the longest retention by a day.
const ROWS_KEPT_US: i64 = 8 * 86_400 * 1_000_000;

/// A segment lasts ten minutes: one of this boot that began so long ago was closed, whatever the index says.
const LONG_CLOSED_US: i64 = 3_600 * 1_000_000;

/// Wakes each minute, looks, deletes, tells the index.
#[derive(Clone)]
pub struct Retain {
    pub home: Home,
    pub index: Index,
    pub timekeeper: Arc<Timekeeper>,
    pub media_dir: PathBuf,
    /// As configured.
    pub rules: Rules,
    /// Segments that a hold pins.
    pub pinned: watch::Receiver<Arc<HashSet<SegmentId>>>,
    /// What the hub wishes; 0: nothing said.
    pub wished_days: watch::Receiver<crate::uplink::Wishes>,
    /// Told when a disk was found full.
    pub full: Arc<Notify>,
}

impl Retain {
    pub async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.once().await {
                tracing::error!(error = %Chain(&error), "retention could not act");
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = self.full.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One look; returns how many segments went.
    pub async fn once(&self) -> Result<usize, IndexError> {
        let now = self.timekeeper.proven();
        let anchors = Anchors::new(self.index.anchors().await?);
        let (boot, mono) = self.timekeeper.boot();
        let rows = self.index.all_segments().await?;
        let rows: HashMap<SegmentId, SegmentRow> =
            rows.into_iter().filter(|row| row.deleted_by.is_none()).map(|row| (row.id, row)).collect();
        let booted = now.map(|now| now.plus_micros(-mono.0));
        let kept: Vec<Kept> = rows.values().map(|row| kept(row, &anchors, boot, booted)).collect();
        let mut pinned = HashSet::clone(&self.pinned.borrow());
        pinned.extend(rows.values().filter(|row| !is_whole(row, boot, mono)).map(|row| row.id));
        let room = room(&self.media_dir, &self.home, &kept).await;
        let rules = self.rules.within(self.wished_days.borrow().retention_days, room);
        let gone = plan(&kept, now, &rules, &pinned);
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

/// Closed, or so old that nobody writes to it any more: its closing was not noted.
fn is_whole(row: &SegmentRow, boot: BootId, mono: MonoTime) -> bool {
    row.closed || row.start.boot_id != boot.as_bytes().as_slice() || mono.0 - row.start.mono_us > LONG_CLOSED_US
}

/// `booted`: UTC of this boot's start, when it is proven.
fn kept(row: &SegmentRow, anchors: &Anchors, boot: BootId, booted: Option<WallTime>) -> Kept {
    let days = row.decode_header().map_or(7, |header| header.retention_days.clamp(1, 7));
    let of_this_boot = row.start.boot_id == boot.as_bytes().as_slice();
    let latest =
        |(at, uncertainty_us): (WallTime, u64)| at.plus_micros(i64::try_from(uncertainty_us).unwrap_or(i64::MAX));
    let vouched = anchors.vouched(&row.start).map(latest);
    let place = match vouched {
        Some(captured) => Place::Known(captured),
        None if of_this_boot => Place::Now(row.start.mono_us),
        None => Place::Unknown(anchors.present(&row.start).0),
    };
    let after_boot = if of_this_boot { row.start.mono_us } else { 0 };
    let captured = vouched.or(booted.map(|booted| booted.plus_micros(after_boot)));
    Kept { id: row.id, camera: row.camera, captured, place, days, size_bytes: row.size_bytes }
}

/// What may be kept on this disk: what is kept now, and what is free beyond the reserve. While the disk is away, what
/// the system's card has free says nothing about it.
async fn room(media_dir: &Path, home: &Home, kept: &[Kept]) -> u64 {
    let used: u64 = kept.iter().map(|segment| segment.size_bytes).sum();
    let (media_dir, home) = (media_dir.to_owned(), home.clone());
    let disk = tokio::task::spawn_blocking(move || match home.look() {
        Ok(Found::First | Found::Same) => hardware::disk(&media_dir),
        Ok(Found::Other) | Err(_) => None,
    });
    let disk = disk.await.ok().flatten();
    disk.map_or(u64::MAX, |disk| room_bytes(used, disk))
}

/// The reserve is at most a twentieth of a small disk.
pub fn room_bytes(used: u64, disk: Disk) -> u64 {
    used.saturating_add(disk.free_bytes).saturating_sub(RESERVE_BYTES.min(disk.total_bytes / 20))
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
mod tests;
