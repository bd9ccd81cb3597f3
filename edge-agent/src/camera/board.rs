//! What is said of a camera, told whenever it changes.

use crate::config::CameraConfig;
use crate::facts::{Fact, Facts};
use crate::media::StreamFormat;
use campanile_proto::edge::v1::{CameraCondition, CameraState, StreamState};
use campanile_proto::ids::CameraId;
use campanile_proto::time::MonoTime;
use campanile_proto::types::v1::{Codec, Instant, Stream};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Longest sentence that is passed on.
const MAX_DETAIL: usize = 300;
/// Growing counts of losses are told at most this often.
const LOSSES_EVERY_US: i64 = 60_000_000;

/// Cheap to clone; shared by a camera's streams.
#[derive(Clone)]
pub struct Board {
    state: Arc<Mutex<CameraState>>,
    losses_told: Arc<Mutex<HashMap<i32, MonoTime>>>,
    facts: Facts,
}

impl Board {
    pub fn new(config: &CameraConfig, id: CameraId, facts: Facts) -> Self {
        let state = CameraState {
            camera_id: id.into(),
            name: config.name.clone(),
            site: config.site.clone(),
            address: config.address.clone(),
            latitude: config.latitude,
            longitude: config.longitude,
            streams: Vec::new(),
            removed: false,
        };
        Self { state: Arc::new(Mutex::new(state)), losses_told: Arc::default(), facts }
    }

    /// Tells the camera when the condition or its reason is new.
    pub fn set(&self, stream: Stream, condition: CameraCondition, detail: &str, now: Instant) {
        let detail: String = detail.chars().take(MAX_DETAIL).collect();
        self.change(stream, |state| {
            if state.condition() == condition && state.detail == detail {
                return false;
            }
            if state.condition() != condition {
                state.since = Some(now);
            }
            state.set_condition(condition);
            state.detail = detail;
            true
        });
    }

    pub fn format(&self, stream: Stream, format: &StreamFormat) {
        self.change(stream, |state| {
            let codec = Codec::from(format.codec);
            let same = (state.codec(), state.width, state.height) == (codec, format.width, format.height);
            state.set_codec(codec);
            (state.width, state.height) = (format.width, format.height);
            !same
        });
    }

    /// Counts since the agent's start; a lossy network is told now and then only.
    pub fn losses(&self, stream: Stream, packets: u64, pictures: u64, now: MonoTime) {
        let mut told = self.losses_told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&(stream as i32)).is_some_and(|last| now - *last < LOSSES_EVERY_US) {
            return;
        }
        let changed = self.change(stream, |state| {
            let changed = (state.lost_packets, state.lost_pictures) != (packets, pictures);
            (state.lost_packets, state.lost_pictures) = (packets, pictures);
            changed
        });
        if changed {
            told.insert(stream as i32, now);
            tracing::warn!(?stream, packets, pictures, "parts of the stream were lost");
        }
    }

    fn change(&self, stream: Stream, change: impl FnOnce(&mut StreamState) -> bool) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let at = state.streams.iter().position(|s| s.stream() == stream).unwrap_or_else(|| {
            state.streams.push(StreamState { stream: stream.into(), ..Default::default() });
            state.streams.len() - 1
        });
        let changed = change(&mut state.streams[at]);
        if changed {
            self.facts.tell(Fact::Camera(state.clone()));
        }
        changed
    }
}
