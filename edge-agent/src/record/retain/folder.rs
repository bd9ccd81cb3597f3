//! Making place without the index: a disk that is full keeps SQLite from opening and from writing, and footage would
//! fill it for ever.
//!
//! All there is are the headers of the segments. By them the same plan is made; what nobody can date without the
//! index's anchors is as old as this boot.

use super::{Kept, Rule, Rules, dated, plan, room, unlink};
use crate::clock::{Anchors, Timekeeper};
use crate::index::{rescan, walk};
use crate::record::home::{Found, Home};
use crate::record::pinned::{self, Lying};
use campanile_proto::ids::SegmentId;
use campanile_proto::segment::MAX_SEGMENT_SECONDS;
use campanile_proto::time::MICROS_PER_SECOND;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// An index opens at once, or not for a while.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(60);
/// One of this boot that began within this may still be written.
const YOUNG_US: i64 = 2 * MAX_SEGMENT_SECONDS * MICROS_PER_SECOND;

/// The media folder, and what may be kept in it; cheap to clone.
#[derive(Clone)]
pub struct Folder {
    pub home: Home,
    pub media_dir: PathBuf,
    pub timekeeper: Arc<Timekeeper>,
    /// As configured.
    pub rules: Rules,
    /// What the hub wishes: days, and what its holds pin.
    pub wishes: watch::Receiver<crate::uplink::Wishes>,
    /// Told when a disk was found full.
    pub full: Arc<Notify>,
    /// Deleted, and not in the index's rows yet.
    pub unnoted: Arc<Mutex<Vec<(SegmentId, Rule)>>>,
}

impl Folder {
    /// Looks now and then, and whenever the disk is found full, for as long as there is no index.
    pub async fn keep_free(&self) -> Infallible {
        let mut rest = FIRST_LOOK;
        loop {
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.full.notified() => {}
            }
            rest = INTERVAL;
            self.once().await;
        }
    }

    /// One look; returns how many segments went.
    pub async fn once(&self) -> usize {
        let (media_dir, home) = (self.media_dir.clone(), self.home.clone());
        let looking = tokio::task::spawn_blocking(move || match home.look() {
            Ok(Found::First | Found::Same) => survey(&media_dir),
            Ok(Found::Other) | Err(_) => Vec::new(),
        });
        let found = match looking.await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "the media folder could not be looked through");
                return 0;
            }
        };
        let (boot, mono) = self.timekeeper.boot();
        let now = self.timekeeper.proven();
        let booted = now.map(|now| now.plus_micros(-mono.0));
        let (anchors, pins) = (Anchors::new(Vec::new()), self.wishes.borrow().pins.clone());
        let kept = |head: &walk::Walk| {
            let (captured, place) = dated(&head.start, &anchors, boot, booted);
            let days = head.header.retention_days.clamp(1, 7);
            Kept { id: head.id, camera: head.camera, captured, place, days, size_bytes: head.file_bytes }
        };
        let all: Vec<Kept> = found.iter().map(|(head, _)| kept(head)).collect();
        let is_young = |head: &walk::Walk| head.opened_boot == Some(boot) && mono.0 - head.start.mono_us <= YOUNG_US;
        let is_pinned = |head: &walk::Walk| {
            let lying = Lying { camera: head.camera, stream: head.stream, start: &head.start, end: None };
            pinned::covers(&pins, lying, &anchors, now)
        };
        let stays = found.iter().filter(|(head, _)| is_young(head) || is_pinned(head));
        let pinned: HashSet<SegmentId> = stays.map(|(head, _)| head.id).collect();
        let room = room(&self.media_dir, &self.home, all.iter().map(|segment| segment.size_bytes).sum()).await;
        let rules = self.rules.within(self.wishes.borrow().retention_days, room.unwrap_or(u64::MAX));
        let paths: HashMap<SegmentId, &PathBuf> = found.iter().map(|(head, path)| (head.id, path)).collect();
        let mut gone = 0;
        for (id, rule) in plan(&all, now, &rules, &pinned) {
            if unlink(paths[&id]).await {
                self.unnoted.lock().unwrap_or_else(PoisonError::into_inner).push((id, rule));
                gone += 1;
            }
        }
        if gone > 0 {
            tracing::error!(gone, "segments deleted by their headers alone: the index cannot be used");
        }
        gone
    }
}

/// This box's segments, and where they lie: a file that does not say of itself what its place says is foreign.
fn survey(media_dir: &Path) -> Vec<(walk::Walk, PathBuf)> {
    let own = |path: PathBuf| {
        let head = walk::head(&path).ok()?;
        head.lies_at(&path).then_some((head, path))
    };
    rescan::list(media_dir).into_iter().filter_map(own).collect()
}
