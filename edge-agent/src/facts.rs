//! What the recording side tells the rest of the agent, without ever waiting for it.

use crate::record::segment::Signed;
use bytes::Bytes;
use campanile_proto::edge::v1::{CameraState, Gap};
use campanile_proto::ids::{CameraId, ObjectId, SegmentId};
use campanile_proto::segment::Link;
use campanile_proto::types::v1::{Anchor, Instant, Stream};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Facts waiting before new ones are dropped: about a minute of eight cameras.
const CAPACITY: usize = 4096;
/// States kept of objects that did not fit: 64 cameras, their gaps and clocks over hours of a blocked index.
const MAX_KEPT: usize = 4096;

#[derive(Debug, Clone)]
pub enum Fact {
    /// Its first record is on disk.
    SegmentOpened {
        segment: SegmentId,
        camera: CameraId,
        stream: Stream,
        path: PathBuf,
        /// `SegmentHeader`, encoded.
        header: Bytes,
        wrapped_key: Bytes,
    },
    /// At most once a second while open, and once when it closed.
    SegmentGrew {
        segment: SegmentId,
        start: Instant,
        end: Instant,
        fragment_count: u64,
        size_bytes: u64,
        newest_link: Link,
        closed: bool,
        /// There when its footer reached the disk.
        signed: Option<Signed>,
    },
    /// A write or a flush of it failed: it is closed, and what it holds is to be read back before it is believed.
    SegmentSuspect {
        segment: SegmentId,
        /// What the disk answered.
        cause: String,
    },
    /// An index record rests at `offset` of the segment's file: to be reported.
    IndexRecord {
        segment: SegmentId,
        path: PathBuf,
        offset: u64,
        object: ObjectId,
        revision: u64,
    },
    Camera(CameraState),
    /// `object` stays the same from the gap's start to its end.
    Gap {
        object: ObjectId,
        gap: Gap,
    },
    Anchor(Anchor),
    AnalyseRestarted(CameraId),
}

/// Sends facts; cheap to clone.
#[derive(Debug, Clone)]
pub struct Facts {
    sender: mpsc::Sender<Fact>,
    lost: Arc<Lost>,
}

/// What did not fit: the receiver walks the segments again, because media is the truth. What no segment tells is
/// kept here, the newest of each object.
#[derive(Debug, Default)]
pub struct Lost {
    count: AtomicU64,
    rescan_needed: AtomicBool,
    kept: Mutex<BTreeMap<Object, Fact>>,
}

/// What a fact is of that can be found in no segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Camera(Bytes),
    Gap(ObjectId),
    Anchor(Bytes, i64),
    Suspect(SegmentId),
}

impl Object {
    fn of(fact: &Fact) -> Option<Self> {
        match fact {
            Fact::Camera(state) => Some(Self::Camera(state.camera_id.clone())),
            Fact::Gap { object, .. } => Some(Self::Gap(*object)),
            Fact::SegmentSuspect { segment, .. } => Some(Self::Suspect(*segment)),
            Fact::Anchor(anchor) => Some(Self::Anchor(anchor.boot_id.clone(), anchor.mono_us)),
            _ => None,
        }
    }
}

pub fn channel() -> (Facts, mpsc::Receiver<Fact>, Arc<Lost>) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let lost = Arc::new(Lost::default());
    (Facts { sender, lost: lost.clone() }, receiver, lost)
}

impl Facts {
    /// Never waits and never fails: recording goes on whatever the index does.
    pub fn tell(&self, fact: Fact) {
        let object = Object::of(&fact);
        // Held while sending, so that no older state of an object is taken up after a newer one.
        let mut kept = self.lost.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = self.sender.try_send(fact).err();
        match (object, refused) {
            (Some(object), None) => {
                kept.remove(&object);
            }
            (None, None) => {}
            (Some(object), Some(TrySendError::Full(fact))) if kept.len() < MAX_KEPT => {
                kept.insert(object, fact);
            }
            (_, Some(_)) => {
                drop(kept);
                self.lost.note();
            }
        }
    }
}

impl Lost {
    /// A fact was lost.
    pub fn note(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.rescan_needed.store(true, Ordering::Release);
    }

    /// What did not fit and is wanted still; to be taken after everything that did fit.
    pub fn take_kept(&self) -> Vec<Fact> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner)).into_values().collect()
    }

    /// Facts dropped since the start.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether to walk the segments; asking resets it.
    pub fn take_rescan_needed(&self) -> bool {
        self.rescan_needed.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(n: u128, cause: i32) -> Fact {
        Fact::Gap { object: ObjectId::from_u128(n), gap: Gap { cause, ..Gap::default() } }
    }

    fn causes(facts: &[Fact]) -> Vec<i32> {
        let cause = |fact: &Fact| match fact {
            Fact::Gap { gap, .. } => gap.cause,
            _ => -1,
        };
        facts.iter().map(cause).collect()
    }

    #[test]
    fn the_newest_state_of_what_did_not_fit_is_told_later_and_never_over_a_newer_one() {
        let (facts, mut received, lost) = channel();
        (0..CAPACITY).for_each(|_| facts.tell(Fact::AnalyseRestarted(CameraId::from_u128(1))));
        facts.tell(gap(1, 1));
        facts.tell(gap(1, 2));
        facts.tell(gap(2, 3));
        assert!(!lost.take_rescan_needed(), "no walk would find it");
        received.try_recv().unwrap();
        facts.tell(gap(2, 4));
        assert_eq!(causes(&lost.take_kept()), [2]);
        assert!(lost.take_kept().is_empty());
        facts.tell(Fact::AnalyseRestarted(CameraId::from_u128(1)));
        assert!(lost.take_rescan_needed(), "what a walk finds is left to the walk");
    }
}
