//! What the recording side tells the rest of the agent, without ever waiting for it.

use bytes::Bytes;
use campanile_proto::edge::v1::{CameraState, Gap};
use campanile_proto::ids::{CameraId, ObjectId, SegmentId};
use campanile_proto::segment::Link;
use campanile_proto::types::v1::{Anchor, Instant, Stream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Facts waiting before new ones are dropped: about a minute of eight cameras.
const CAPACITY: usize = 4096;

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

/// What did not fit: the receiver walks the segments again, because media is the truth.
#[derive(Debug, Default)]
pub struct Lost {
    count: AtomicU64,
    rescan_needed: AtomicBool,
}

pub fn channel() -> (Facts, mpsc::Receiver<Fact>, Arc<Lost>) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let lost = Arc::new(Lost::default());
    (Facts { sender, lost: lost.clone() }, receiver, lost)
}

impl Facts {
    /// Never waits and never fails: recording goes on whatever the index does.
    pub fn tell(&self, fact: Fact) {
        if self.sender.try_send(fact).is_err() {
            self.lost.count.fetch_add(1, Ordering::Relaxed);
            self.lost.rescan_needed.store(true, Ordering::Release);
        }
    }
}

impl Lost {
    /// Facts dropped since the start.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether to walk the segments; asking resets it.
    pub fn take_rescan_needed(&self) -> bool {
        self.rescan_needed.swap(false, Ordering::AcqRel)
    }
}
