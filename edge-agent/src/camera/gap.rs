//! Times without recording, each told from its start to its end under one id.

use campanile_proto::edge::v1::{CameraCondition, Gap};
use campanile_proto::ids::{CameraId, ObjectId};
use campanile_proto::types::v1::{Instant, Stream};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Fragments of one run are less than this apart.
const FOLLOWS_US: i64 = 2_000_000;

/// Every stream's gaps, kept while its reader dies and is started again: what it left open goes on.
#[derive(Debug, Clone, Default)]
pub struct KeptGaps(Arc<Mutex<HashMap<(CameraId, i32), OneReaders>>>);

/// One stream's, held by its reader as long as it lives.
type OneReaders = Arc<tokio::sync::Mutex<Gaps>>;

impl KeptGaps {
    /// Of this stream, as soon as no other reader has them.
    pub async fn of(&self, camera: CameraId, stream: Stream, now: Instant) -> tokio::sync::OwnedMutexGuard<Gaps> {
        let gaps = {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let first = || Arc::new(tokio::sync::Mutex::new(Gaps::new(camera, stream, now)));
            kept.entry((camera, stream.into())).or_insert_with(first).clone()
        };
        gaps.lock_owned().await
    }
}

/// One stream's gaps.
#[derive(Debug)]
pub struct Gaps {
    camera: CameraId,
    stream: Stream,
    /// Until when there is footage, or since when there could be.
    covered: Instant,
    open: Option<(ObjectId, Gap)>,
    /// Footage that found no place, while more of it follows.
    dropped: Option<(ObjectId, Gap)>,
}

impl Gaps {
    pub fn new(camera: CameraId, stream: Stream, now: Instant) -> Self {
        Self { camera, stream, covered: now, open: None, dropped: None }
    }

    /// Nothing is recorded, for this cause. Told when it begins and when its cause changes.
    pub fn missing(&mut self, now: &Instant, cause: CameraCondition) -> Option<(ObjectId, Gap)> {
        let (object, mut gap) = match self.open.take() {
            Some((object, gap)) if gap.cause() == cause => {
                self.open = Some((object, gap));
                return None;
            }
            Some(other) => other,
            None => (ObjectId::random(), self.begin()),
        };
        gap.cause = cause.into();
        gap.end = Some(now.clone());
        self.open = Some((object, gap.clone()));
        Some((object, gap))
    }

    /// A reader begins, perhaps where another died: nothing is recorded until it connects, whatever kept the other
    /// from that before.
    pub fn begun(&mut self, now: &Instant) -> Option<(ObjectId, Gap)> {
        if self.open.is_some() { None } else { self.missing(now, CameraCondition::Connecting) }
    }

    /// Footage from `start` to `end` was recorded. Tells the gap that ends with it.
    pub fn recorded(&mut self, start: &Instant, end: &Instant) -> Option<(ObjectId, Gap)> {
        self.covered = end.clone();
        let (object, mut gap) = self.open.take()?;
        gap.end = Some(start.clone());
        gap.ongoing = false;
        Some((object, gap))
    }

    /// A hole within what is recorded, over already.
    pub fn between(&self, start: Instant, end: Instant, cause: CameraCondition) -> (ObjectId, Gap) {
        let gap = Gap { start: Some(start), end: Some(end), ongoing: false, cause: cause.into(), ..self.begin() };
        (ObjectId::random(), gap)
    }

    /// Footage of this time found no place in the queue; what waits there is written yet, so that this is a hole of
    /// its own. Holes that follow on each other are one.
    pub fn dropped(&mut self, start: Instant, end: Instant) -> (ObjectId, Gap) {
        let follows = |gap: &Gap| {
            gap.end.as_ref().is_some_and(|last| {
                last.boot_id == start.boot_id && (0..FOLLOWS_US).contains(&(start.mono_us - last.mono_us))
            })
        };
        let (object, gap) = match self.dropped.take() {
            Some((object, gap)) if follows(&gap) => (object, Gap { end: Some(end), ..gap }),
            _ => self.between(start, end, CameraCondition::DiskError),
        };
        self.dropped = Some((object, gap.clone()));
        (object, gap)
    }

    /// The agent stops.
    pub fn finish(&mut self, now: &Instant) -> Option<(ObjectId, Gap)> {
        self.open.take().map(|(object, gap)| (object, Gap { end: Some(now.clone()), ongoing: false, ..gap }))
    }

    fn begin(&self) -> Gap {
        Gap {
            camera_id: self.camera.into(),
            stream: self.stream.into(),
            start: Some(self.covered.clone()),
            end: None,
            ongoing: true,
            cause: CameraCondition::Unspecified.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Instant {
        Instant { mono_us: seconds * 1_000_000, ..Default::default() }
    }

    #[test]
    fn fragments_dropped_in_a_row_are_one_hole_whatever_is_still_written_before_it() {
        let mut gaps = Gaps::new(CameraId::random(), Stream::Main, at(0));
        gaps.recorded(&at(1), &at(2));
        let (first, _) = gaps.dropped(at(60), at(61));
        assert_eq!(gaps.recorded(&at(2), &at(3)), None, "the hole is not before what waited");
        let (second, hole) = gaps.dropped(at(61), at(62));
        assert_eq!((first, hole.start, hole.end, hole.ongoing), (second, Some(at(60)), Some(at(62)), false));
        assert_ne!(gaps.dropped(at(90), at(91)).0, first);
    }

    #[test]
    fn a_gap_is_one_object_from_the_last_footage_to_the_next() {
        let mut gaps = Gaps::new(CameraId::random(), Stream::Main, at(0));
        assert_eq!(gaps.recorded(&at(1), &at(2)), None);
        let (id, begun) = gaps.missing(&at(7), CameraCondition::NoBytes).unwrap();
        assert_eq!((begun.start, begun.ongoing), (Some(at(2)), true));
        assert_eq!(gaps.missing(&at(8), CameraCondition::NoBytes), None);
        let (same, changed) = gaps.missing(&at(9), CameraCondition::Unreachable).unwrap();
        assert_eq!((same, changed.cause()), (id, CameraCondition::Unreachable));
        let (same, ended) = gaps.recorded(&at(20), &at(21)).unwrap();
        assert_eq!((same, ended.end, ended.ongoing), (id, Some(at(20)), false));
        assert_ne!(gaps.missing(&at(30), CameraCondition::NoBytes).unwrap().0, id);
    }
}
