//! What is deleted, and why: the plan is pure, the loop around it thin.
//!
//! By age only when the hub or NTP vouches for the time in this boot and did so in the boot of the capture; by space
//! whatever the clock says. Only segments this box's index knows, never one that is being written, never a foreign
//! file, and never one that a hold pins.

use crate::clock::{Anchors, Timekeeper};
use crate::hardware::{self, Disk};
use crate::index::{Index, IndexError, SegmentRow};
use crate::record::home::{Found, Home};
use crate::record::pinned;
use campanile_proto::ids::{BootId, SegmentId};
use campanile_proto::kind::Chain;
use campanile_proto::time::{MonoTime, WallTime, kept_until};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_secs(60);
/// Kept free on the disk when no `max_bytes` is given: a minute of eight cameras at 8 Mbit/s, and what a file
/// system needs to stay fast.
const RESERVE_BYTES: u64 = 2 << 30;
/// Rows of anchors and gaps outlive the longest retention by a day.
const ROWS_KEPT_US: i64 = 8 * 86_400 * 1_000_000;

/// A segment lasts ten minutes: one of this boot that began so long ago was closed, whatever the index says.
const LONG_CLOSED_US: i64 = 3_600 * 1_000_000;

/// One segment that could be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: SegmentId,
    /// Latest UTC its first byte can be of; none: nobody can tell.
    pub captured: Option<WallTime>,
    /// Its place when space is needed, oldest first.
    pub place: Place,
    /// Retention class, whole days, fixed at capture.
    pub days: u32,
    pub size_bytes: u64,
}

/// Order of capture as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// As believed, in a boot that is over and whose clock nobody vouched for.
    Unknown(WallTime),
    Known(WallTime),
    /// Microseconds of this boot, whose clock nobody vouches for: newer than everything else.
    Now(i64),
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

    /// Whether this text is a rule by which this box deletes.
    pub fn is_own(id: &str) -> bool {
        [Self::Age, Self::Space].iter().any(|rule| rule.id() == id)
    }
}

/// Chooses what goes. `now` is none when the time is not proven; `days` is what holds today: a shorter rule acts
/// at once, a longer one never backwards. What is pinned takes its place and does not go.
pub fn plan(
    kept: &[Kept],
    now: Option<WallTime>,
    days: u32,
    max_bytes: u64,
    pinned: &HashSet<SegmentId>,
) -> Vec<(SegmentId, Rule)> {
    let mut oldest_first: Vec<&Kept> = kept.iter().filter(|segment| !pinned.contains(&segment.id)).collect();
    oldest_first.sort_by_key(|segment| (segment.place, segment.id));
    let is_over = |segment: &Kept| match (now, segment.captured) {
        _ if pinned.contains(&segment.id) => false,
        (Some(now), Some(captured)) => kept_until(captured, segment.days.min(days)) <= now,
        _ => false,
    };
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
    pub home: Home,
    pub index: Index,
    pub timekeeper: Arc<Timekeeper>,
    pub media_dir: PathBuf,
    pub days: u32,
    pub max_bytes: Option<u64>,
    /// What the hub wishes.
    pub wishes: watch::Receiver<crate::uplink::Wishes>,
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
        let wished = self.wishes.borrow().retention_days;
        let days = if wished > 0 { self.days.min(wished) } else { self.days };
        let anchors = Anchors::new(self.index.anchors().await?);
        let (boot, mono) = self.timekeeper.boot();
        let rows = self.index.all_segments().await?;
        let rows: HashMap<SegmentId, SegmentRow> = rows
            .into_iter()
            .filter(|row| row.deleted_by.is_none() && is_whole(row, boot, mono))
            .map(|row| (row.id, row))
            .collect();
        let booted = now.map(|now| now.plus_micros(-mono.0));
        let kept: Vec<Kept> = rows.values().map(|row| kept(row, &anchors, boot, booted)).collect();
        let room = room(&self.media_dir, &self.home, &kept).await;
        let max_bytes = self.max_bytes.map_or(room, |max| max.min(room));
        let pins = self.wishes.borrow().pins.clone();
        let pinned = pinned::of(rows.values(), &anchors, &pins, now);
        let gone = plan(&kept, now, days, max_bytes, &pinned);
        let pinned_bytes: u64 = kept.iter().filter(|kept| pinned.contains(&kept.id)).map(|kept| kept.size_bytes).sum();
        if pinned_bytes > max_bytes {
            tracing::error!(
                pinned_bytes,
                max_bytes,
                "held footage that the hub has not copied fills the place for recordings"
            );
        }
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
    Kept { id: row.id, captured, place, days, size_bytes: row.size_bytes }
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
