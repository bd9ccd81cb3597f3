//! The newest sealed records of each stream, so that live needs no disk.

use bytes::Bytes;
use campanile_proto::ids::CameraId;
use campanile_proto::segment::Record;
use campanile_proto::types::v1::Stream;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// Fragments a slow watcher may lag behind before it misses some: half a minute.
const CAPACITY: usize = 32;

/// A record as it was just written, with what opens it.
#[derive(Debug, Clone)]
pub struct LiveRecord {
    /// `SegmentHeader`, encoded.
    pub segment_header: Bytes,
    pub wrapped_key: Bytes,
    pub record: Record,
    /// The init section of its segment, sealed.
    pub init: Option<Record>,
}

/// Cheap to clone; nobody who publishes ever waits.
#[derive(Debug, Clone, Default)]
pub struct Live {
    streams: Arc<Mutex<HashMap<(CameraId, Stream), broadcast::Sender<Arc<LiveRecord>>>>>,
}

impl Live {
    pub fn subscribe(&self, camera: CameraId, stream: Stream) -> broadcast::Receiver<Arc<LiveRecord>> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.entry((camera, stream)).or_insert_with(|| broadcast::channel(CAPACITY).0).subscribe()
    }

    /// Builds the record only when somebody watches.
    pub fn publish(&self, camera: CameraId, stream: Stream, record: impl FnOnce() -> LiveRecord) {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = streams.get(&(camera, stream)).filter(|sender| sender.receiver_count() > 0) {
            let _ = sender.send(Arc::new(record()));
        }
    }
}
