//! What is deleted, and why: the plan is pure, the loop around it thin.
//!
//! By age only when the hub or NTP vouches for the time in this boot and did so in the boot of the capture; by space
//! whatever the clock says. Only this box's own segments, by its index or, while that cannot be used, by their headers;
//! never one that is being written, never one that a hold pins, never a foreign file.

mod folder;
mod plan;

pub use folder::Folder;
pub use plan::{CameraRule, Kept, Place, Rule, Rules, plan};

use crate::clock::Anchors;
use crate::hardware::{self, Disk};
use crate::index::{Index, IndexError, SegmentRow};
use crate::record::forecast::{self, Forecast, Growth};
use crate::record::home::{Found, Home};
use crate::record::pinned::{self, Lying};
use campanile_proto::ids::{BootId, CameraId, SegmentId};
use campanile_proto::kind::Chain;
use campanile_proto::time::{MonoTime, WallTime};
use campanile_proto::types::v1::Instant;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often what will be kept is foreseen.
const FORESEE: Duration = Duration::from_secs(3_600);
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
    pub folder: Folder,
    pub index: Index,
    /// None until there is one.
    pub foreseen: watch::Sender<Option<Foreseen>>,
}

/// Days of footage that will be kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Foreseen {
    pub forecast: Forecast,
    /// Whose own bound it is; none: the disk's.
    pub camera: Option<CameraId>,
}

impl Retain {
    pub async fn run(self, stop: CancellationToken) {
        let mut foresee_at = tokio::time::Instant::now();
        loop {
            if let Err(error) = self.once().await {
                tracing::error!(error = %Chain(&error), "retention could not act by the index");
                if self.folder.once().await > 0 {
                    // With place again it may take what went.
                    continue;
                }
            }
            if tokio::time::Instant::now() >= foresee_at && self.tell_foreseen().await {
                foresee_at = tokio::time::Instant::now() + FORESEE;
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = self.folder.full.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// False while nothing can be foreseen.
    async fn tell_foreseen(&self) -> bool {
        let foreseen = match self.foresee().await {
            Ok(foreseen) => foreseen,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "days kept not foreseen");
                return false;
            }
        };
        self.foreseen.send_replace(foreseen);
        let Some(Foreseen { forecast, camera }) = foreseen else { return false };
        let (days, agreed, camera) = (forecast.days, forecast.agreed, camera.map(|camera| camera.to_string()));
        if forecast.is_short() {
            tracing::error!(days, agreed, camera, "fewer days than agreed will be kept");
        } else {
            tracing::info!(days, agreed, "days that will be kept");
        }
        true
    }

    /// Days of footage that will be kept, by what the last day took; none: within the first hour of a boot, when
    /// nothing is recorded, and while the disk is away.
    pub async fn foresee(&self) -> Result<Option<Foreseen>, IndexError> {
        let (boot, mono) = self.folder.timekeeper.boot();
        let mut rows = self.index.all_segments().await?;
        rows.retain(|row| row.deleted_by.is_none());
        let used = rows.iter().map(|row| row.size_bytes).sum();
        let Some(room) = room(&self.folder.media_dir, &self.folder.home, used).await else { return Ok(None) };
        let rules = self.folder.rules.within(self.folder.wishes.borrow().retention_days, room);
        let taken = forecast::bytes_per_day(rows.iter(), boot, mono);
        let growth = |(camera, bytes_per_day): (&CameraId, &f64)| {
            let max_bytes = rules.cameras.get(camera).and_then(|rule| rule.max_bytes);
            Growth { bytes_per_day: *bytes_per_day, max_bytes, days: rules.days_of(*camera) }
        };
        let growths: Vec<Growth> = taken.iter().map(growth).collect();
        let forecast = forecast::forecast(rules.max_bytes.unwrap_or(room), &growths);
        Ok(forecast.map(|forecast| {
            let camera = forecast.bound_of.and_then(|at| taken.keys().nth(at).copied());
            Foreseen { forecast, camera }
        }))
    }

    /// What the folder deleted while the index took nothing.
    async fn note_what_went(&self) -> Result<(), IndexError> {
        let unnoted = || self.folder.unnoted.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some((id, rule)) = unnoted().last().copied() else { return Ok(()) };
            self.index.delete_segment(id, rule.id()).await?;
            unnoted().retain(|(other, _)| *other != id);
        }
    }

    /// One look; returns how many segments went.
    pub async fn once(&self) -> Result<usize, IndexError> {
        self.note_what_went().await?;
        let now = self.folder.timekeeper.proven();
        let anchors = Anchors::new(self.index.anchors().await?);
        let (boot, mono) = self.folder.timekeeper.boot();
        let rows = self.index.all_segments().await?;
        let rows: HashMap<SegmentId, SegmentRow> =
            rows.into_iter().filter(|row| row.deleted_by.is_none()).map(|row| (row.id, row)).collect();
        let booted = now.map(|now| now.plus_micros(-mono.0));
        let kept: Vec<Kept> = rows.values().map(|row| kept(row, &anchors, boot, booted)).collect();
        let pins = self.folder.wishes.borrow().pins.clone();
        let is_pinned = |row: &SegmentRow| {
            let lying = Lying { camera: row.camera, stream: row.stream, start: &row.start, end: Some(&row.end) };
            pinned::covers(&pins, lying, &anchors, now)
        };
        let held: HashSet<SegmentId> = rows.values().filter(|row| is_pinned(row)).map(|row| row.id).collect();
        let mut pinned = held.clone();
        pinned.extend(rows.values().filter(|row| !is_whole(row, boot, mono)).map(|row| row.id));
        let used = kept.iter().map(|segment| segment.size_bytes).sum();
        let room = room(&self.folder.media_dir, &self.folder.home, used).await;
        let rules = self.folder.rules.within(self.folder.wishes.borrow().retention_days, room.unwrap_or(u64::MAX));
        let held_bytes: u64 =
            kept.iter().filter(|segment| held.contains(&segment.id)).map(|segment| segment.size_bytes).sum();
        if rules.max_bytes.is_some_and(|max_bytes| max_bytes < held_bytes) {
            tracing::error!(held_bytes, "held footage that the hub has not copied fills the place for recordings");
        }
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
    let (captured, place) = dated(&row.start, anchors, boot, booted);
    Kept { id: row.id, camera: row.camera, captured, place, days, size_bytes: row.size_bytes }
}

/// The latest that a segment can have begun, and its place among the others.
fn dated(start: &Instant, anchors: &Anchors, boot: BootId, booted: Option<WallTime>) -> (Option<WallTime>, Place) {
    let of_this_boot = start.boot_id == boot.as_bytes().as_slice();
    let latest =
        |(at, uncertainty_us): (WallTime, u64)| at.plus_micros(i64::try_from(uncertainty_us).unwrap_or(i64::MAX));
    let vouched = anchors.vouched(start).map(latest);
    let place = match vouched {
        Some(captured) => Place::Known(captured),
        None if of_this_boot => Place::Now(start.mono_us),
        None => Place::Unknown(anchors.present(start).0),
    };
    let after_boot = if of_this_boot { start.mono_us } else { 0 };
    (vouched.or(booted.map(|booted| booted.plus_micros(after_boot))), place)
}

/// What may be kept on this disk: what is kept now, and what is free beyond the reserve. None while the disk is away:
/// what the system's card has free says nothing about it.
async fn room(media_dir: &Path, home: &Home, used: u64) -> Option<u64> {
    let (media_dir, home) = (media_dir.to_owned(), home.clone());
    let disk = tokio::task::spawn_blocking(move || match home.look() {
        Ok(Found::First | Found::Same) => hardware::disk(&media_dir),
        Ok(Found::Other) | Err(_) => None,
    });
    disk.await.ok().flatten().map(|disk| room_bytes(used, disk))
}

/// The reserve is at most a twentieth of a small disk.
pub fn room_bytes(used: u64, disk: Disk) -> u64 {
    used.saturating_add(disk.free_bytes).saturating_sub(RESERVE_BYTES.min(disk.total_bytes / 20))
}

/// Whether it is gone.
async fn unlink(path: &Path) -> bool {
    let gone = match tokio::fs::remove_file(path).await {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "segment not deleted");
            false
        }
    };
    if let Some(hour) = path.parent() {
        // Fails while other segments lie in it, as it should.
        let _ = tokio::fs::remove_dir(hour).await;
    }
    gone
}

#[cfg(test)]
mod tests;
