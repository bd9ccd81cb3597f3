//! Where packets of one connection become units for the recorder. Never blocks and never panics: it runs in
//! the threads that receive.

use super::depay::{Depayloader, RawUnit};
use super::parameters::ParameterSets;
use super::rtp::{Packet, TimeLine};
use super::stamp::Stamper;
use super::{AccessUnit, Codec, Item, SourceError, StreamFormat, TICKS_PER_SECOND};
use base64::Engine;
use campanile_proto::types::v1::Instant;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Longest `sprop-…` text of a session description that is read.
const MAX_SPROP: usize = 64 << 10;

/// One connection's way out.
pub struct Outlet {
    stamper: Stamper,
    state: Mutex<State>,
}

struct State {
    sender: Option<mpsc::Sender<Result<Item, SourceError>>>,
    stream: Option<Stream>,
    /// Name of a video format that is not recorded.
    found: Option<String>,
}

struct Stream {
    depay: Depayloader<Tag>,
    sets: ParameterSets,
    told: Option<Arc<StreamFormat>>,
    line: TimeLine,
    clock_rate: u32,
    /// From the first key frame on; again after units were lost here.
    started: bool,
    finished: Vec<RawUnit<Tag>>,
}

struct Tag {
    arrival: Instant,
    camera_ntp_us: i64,
}

impl Outlet {
    pub fn new(sender: mpsc::Sender<Result<Item, SourceError>>, stamper: Stamper) -> Self {
        let state = State { sender: Some(sender), stream: None, found: None };
        Self { stamper, state: Mutex::new(state) }
    }

    /// The stream is there; `sprops` are the parameter sets of its description, base64, comma-separated.
    pub fn begin(&self, codec: Codec, clock_rate: u32, sprops: &[&str]) {
        let mut sets = ParameterSets::new(codec);
        for set in sprops.iter().filter(|text| text.len() <= MAX_SPROP).flat_map(|text| text.split(',')) {
            if let Ok(nal) = base64::engine::general_purpose::STANDARD.decode(set.trim()) {
                sets.offer(&nal);
            }
        }
        let stream = Stream {
            depay: Depayloader::new(codec),
            sets,
            told: None,
            line: TimeLine::default(),
            clock_rate: clock_rate.max(1),
            started: false,
            finished: Vec::new(),
        };
        self.lock().stream.get_or_insert(stream);
    }

    /// One RTP packet, in order, with the camera's NTP time where known (UTC, microseconds).
    pub fn packet(&self, bytes: &[u8], camera_ntp_us: Option<i64>) {
        let Some(packet) = Packet::parse(bytes) else { return };
        let mut state = self.lock();
        let State { sender: Some(sender), stream: Some(stream), .. } = &mut *state else { return };
        let tag = || Tag { arrival: self.stamper.now(), camera_ntp_us: camera_ntp_us.unwrap_or(0) };
        let mut finished = std::mem::take(&mut stream.finished);
        stream.depay.push(&packet, tag, &mut finished);
        for unit in finished.drain(..) {
            stream.deliver(unit, sender);
        }
        stream.finished = finished;
    }

    /// A video format that is not recorded.
    pub fn found(&self, format: &str) {
        let clean = format.chars().filter(|c| c.is_ascii_graphic()).take(32).collect();
        self.lock().found = Some(clean);
    }

    /// Every stream was offered.
    pub fn no_more_streams(&self) {
        if self.lock().stream.is_none() {
            self.end(SourceError::UnsupportedCodec("no video".into()));
        }
    }

    /// The connection is over. Only the first reason is told.
    pub fn end(&self, error: SourceError) {
        let mut state = self.lock();
        let error = match &state.found {
            Some(format) if state.stream.is_none() => SourceError::UnsupportedCodec(format.clone()),
            _ => error,
        };
        if let Some(sender) = state.sender.take() {
            let _ = sender.try_send(Err(error));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    fn deliver(&mut self, unit: RawUnit<Tag>, sender: &mpsc::Sender<Result<Item, SourceError>>) {
        let changed = self.sets.collect(&unit.data);
        // Parameter sets take effect where decoding can start.
        if (changed || !self.started) && unit.key {
            let Some(format) = self.sets.format().map(Arc::new) else { return };
            if self.told.as_ref() != Some(&format) {
                if sender.try_send(Ok(Item::Format(format.clone()))).is_err() {
                    self.started = false;
                    return;
                }
                self.told = Some(format);
            }
            self.started = true;
        }
        let pts = self.line.place(unit.timestamp, unit.tag.arrival.mono_us, self.clock_rate);
        if !self.started {
            return;
        }
        let unit = AccessUnit {
            data: unit.data,
            pts_90k: pts,
            rtp_time: unit.timestamp,
            camera_ntp_us: unit.tag.camera_ntp_us,
            key: unit.key,
            arrival: unit.tag.arrival,
        };
        if sender.try_send(Ok(Item::Unit(unit))).is_err() {
            self.started = false;
        }
    }
}

/// RTP clocks other than 90 kHz, for completeness: both formats demand 90 kHz.
pub(super) fn to_90k(ticks: i64, clock_rate: u32) -> i64 {
    if i64::from(clock_rate) == TICKS_PER_SECOND {
        ticks
    } else {
        ticks.saturating_mul(TICKS_PER_SECOND) / i64::from(clock_rate.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::stamp::Belief;
    use campanile_proto::time::{SimClock, WallTime};

    fn packet(sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80, 0xe0];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    fn outlet() -> (Outlet, mpsc::Receiver<Result<Item, SourceError>>) {
        let clock = Arc::new(SimClock::starting_at(WallTime(1)));
        let stamper = Stamper::new(clock, Arc::new(|| Belief { trusted: true, uncertainty_us: 7 }));
        let (sender, items) = mpsc::channel(16);
        (Outlet::new(sender, stamper), items)
    }

    const SPROP: &str = "Z01AHtkAwDempsDAyAAAAwAIAAADAZB4sXJA,aOvBssg=";

    #[tokio::test]
    async fn units_begin_at_a_key_frame_behind_their_format() {
        let (outlet, mut items) = outlet();
        outlet.begin(Codec::H264, 90_000, &[SPROP]);
        outlet.packet(&packet(1, 100, &[0x41, 1]), None);
        outlet.packet(&packet(2, 3_700, &[0x65, 2]), Some(5));
        outlet.packet(&packet(3, 7_300, &[0x41, 3]), None);
        outlet.end(SourceError::Ended("over".into()));
        outlet.packet(&packet(4, 10_900, &[0x41, 4]), None);
        let mut seen = Vec::new();
        while let Some(item) = items.recv().await {
            seen.push(item);
        }
        assert!(matches!(&seen[0], Ok(Item::Format(format)) if format.width == 768));
        let Ok(Item::Unit(first)) = &seen[1] else { panic!("{seen:?}") };
        assert_eq!((first.key, first.rtp_time, first.pts_90k, first.camera_ntp_us), (true, 3_700, 3_600, 5));
        assert_eq!(first.arrival.uncertainty_us, 7);
        assert!(matches!(&seen[2], Ok(Item::Unit(unit)) if !unit.key));
        assert_eq!(seen[3], Err(SourceError::Ended("over".into())));
        assert_eq!(seen.len(), 4);
    }

    #[tokio::test]
    async fn names_the_format_it_cannot_record() {
        let (outlet, mut items) = outlet();
        outlet.found("JPEG");
        outlet.end(SourceError::Unreachable("no stream".into()));
        assert_eq!(items.recv().await, Some(Err(SourceError::UnsupportedCodec("JPEG".into()))));
    }
}
