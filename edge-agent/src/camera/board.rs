//! What is said of a camera, told whenever it changes.

use crate::config::CameraConfig;
use crate::facts::{Fact, Facts};
use crate::media::StreamFormat;
use campanile_proto::edge::v1::{CameraCondition, CameraState, StreamState};
use campanile_proto::ids::CameraId;
use campanile_proto::types::v1::{Codec, Instant, Stream};
use std::sync::{Arc, Mutex, PoisonError};

/// Longest sentence that is passed on.
const MAX_DETAIL: usize = 300;

/// Cheap to clone; shared by a camera's streams.
#[derive(Clone)]
pub struct Board {
    state: Arc<Mutex<CameraState>>,
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
        Self { state: Arc::new(Mutex::new(state)), facts }
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

    fn change(&self, stream: Stream, change: impl FnOnce(&mut StreamState) -> bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let at = state.streams.iter().position(|s| s.stream() == stream).unwrap_or_else(|| {
            state.streams.push(StreamState { stream: stream.into(), ..Default::default() });
            state.streams.len() - 1
        });
        if change(&mut state.streams[at]) {
            self.facts.tell(Fact::Camera(state.clone()));
        }
    }
}
