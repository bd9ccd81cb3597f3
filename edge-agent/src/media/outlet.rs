//! Where packets of one connection become units for the recorder. Never blocks and never panics: it runs in
//! the threads that receive.

use super::budget::Budget;
use super::depay::{Depayloader, RawUnit};
use super::parameters::ParameterSets;
use super::rtp::{Packet, TimeLine};
use super::stamp::Stamper;
use super::{AccessUnit, Codec, Item, Losses, MAX_WAITING_BYTES, SourceError, StreamFormat, TICKS_PER_SECOND};
use base64::Engine;
use campanile_proto::types::v1::Instant;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Longest `sprop-…` text of a session description that is read.
const MAX_SPROP: usize = 64 << 10;
/// A run that is younger than this is not ended for sets that could be added to it.
const SETTLED_US: i64 = 10_000_000;

/// One connection's way out.
pub struct Outlet {
    stamper: Stamper,
    losses: Arc<Losses>,
    waiting: Arc<Budget>,
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
    /// Parameter sets came that are not told yet: they take effect where decoding can start.
    unsettled: bool,
    line: TimeLine,
    clock_rate: u32,
    /// From the first key frame on; again after units were lost here.
    started: bool,
    /// The run is to end at the next key frame: its time line strayed from arrival.
    cut: bool,
    /// When the last unit before those that were lost here arrived.
    lost_since: Option<Instant>,
    last: Option<Instant>,
    told_at_us: i64,
    finished: Vec<RawUnit<Tag>>,
}

struct Tag {
    arrival: Instant,
    camera_ntp_us: i64,
}

impl Outlet {
    pub fn new(sender: mpsc::Sender<Result<Item, SourceError>>, stamper: Stamper) -> Self {
        let state = State { sender: Some(sender), stream: None, found: None };
        let waiting = Arc::new(Budget::new(MAX_WAITING_BYTES));
        Self { stamper, losses: Arc::default(), waiting, state: Mutex::new(state) }
    }

    pub fn waiting(&self) -> Arc<Budget> {
        self.waiting.clone()
    }

    pub fn losses(&self) -> Arc<Losses> {
        self.losses.clone()
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
            unsettled: true,
            line: TimeLine::default(),
            clock_rate: clock_rate.max(1),
            started: false,
            cut: false,
            lost_since: None,
            last: None,
            told_at_us: i64::MIN,
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
        self.losses.packets.store(stream.depay.lost, Ordering::Relaxed);
        for unit in finished.drain(..) {
            stream.deliver(unit, &To { items: sender, losses: &self.losses, waiting: &self.waiting });
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

/// Where units go, and what is counted on the way.
struct To<'a> {
    items: &'a mpsc::Sender<Result<Item, SourceError>>,
    losses: &'a Losses,
    waiting: &'a Budget,
}

impl Stream {
    fn deliver(&mut self, unit: RawUnit<Tag>, to: &To<'_>) {
        let now_us = unit.tag.arrival.mono_us;
        // A camera that alternates between sets under ids of their own is followed by one run with all of them.
        let settled = now_us.saturating_sub(self.told_at_us) > SETTLED_US;
        self.unsettled |= self.sets.collect(&unit.data, unit.key && settled);
        let placed = self.line.place(unit.timestamp, now_us, self.clock_rate);
        self.cut |= placed.strays;
        if unit.key && !self.begin_group(now_us, &unit, to.items) {
            return self.lose(to.losses);
        }
        if !self.started {
            return;
        }
        let arrival = unit.tag.arrival.clone();
        let unit = AccessUnit {
            data: unit.data,
            pts_90k: placed.pts_90k,
            rtp_time: unit.timestamp,
            camera_ntp_us: unit.tag.camera_ntp_us,
            key: unit.key,
            arrival: unit.tag.arrival,
        };
        let bytes = unit.data.len();
        if !to.waiting.take(bytes) {
            return self.lose(to.losses);
        }
        match to.items.try_send(Ok(Item::Unit(unit))) {
            Ok(()) => self.last = Some(arrival),
            Err(_) => {
                to.waiting.give_back(bytes);
                self.lose(to.losses);
            }
        }
    }

    /// Tells what holds from this key frame on: what was lost before it, another format or time line. False when
    /// there was no place.
    fn begin_group(&mut self, now_us: i64, key: &RawUnit<Tag>, to: &mpsc::Sender<Result<Item, SourceError>>) -> bool {
        if let Some(since) = self.lost_since.take() {
            let gap = Item::Lost { from: since.clone(), to: key.tag.arrival.clone() };
            if to.try_send(Ok(gap)).is_err() {
                self.lost_since = Some(since);
                return false;
            }
        }
        if self.unsettled || self.cut || !self.started {
            let Some(format) = self.sets.format().map(Arc::new) else { return true };
            if self.cut || self.told.as_ref() != Some(&format) {
                if to.try_send(Ok(Item::Format(format.clone()))).is_err() {
                    return false;
                }
                self.told = Some(format);
                self.told_at_us = now_us;
                self.line.begin_again();
            }
            (self.started, self.unsettled, self.cut) = (true, false, false);
        }
        true
    }

    /// A picture found no place: nothing can be decoded until the next key frame.
    fn lose(&mut self, losses: &Losses) {
        losses.pictures.fetch_add(1, Ordering::Relaxed);
        self.started = false;
        self.lost_since = self.lost_since.take().or_else(|| self.last.clone());
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

    #[tokio::test]
    async fn pictures_that_found_no_place_are_counted_and_their_time_is_told() {
        let clock = Arc::new(SimClock::starting_at(WallTime(1)));
        let stamper = Stamper::new(clock.clone(), Arc::new(|| Belief { trusted: true, uncertainty_us: 7 }));
        let (sender, mut items) = mpsc::channel(3);
        let outlet = Outlet::new(sender, stamper);
        outlet.begin(Codec::H264, 90_000, &[SPROP]);
        let send = |sequence: u16, payload: &[u8]| {
            outlet.packet(&packet(sequence, u32::from(sequence) * 3_600, payload), None);
            clock.advance_micros(40_000);
        };
        send(1, &[0x65, 1]);
        send(2, &[0x41, 2]);
        // The format, a key frame, and one more: full.
        send(3, &[0x41, 3]);
        send(4, &[0x41, 4]);
        send(5, &[0x65, 5]);
        assert_eq!(outlet.losses().pictures.load(Ordering::Relaxed), 2, "what needs a lost picture is not counted");
        (0..3).for_each(|_| drop(items.try_recv().unwrap()));
        send(6, &[0x41, 6]);
        assert!(items.try_recv().is_err(), "it cannot be decoded");
        send(8, &[0x65, 8]);
        assert_eq!(outlet.losses().packets.load(Ordering::Relaxed), 1, "number 7 never came");
        let Ok(Item::Lost { from, to }) = items.try_recv().unwrap() else { panic!("the gap goes first") };
        assert_eq!(to.mono_us - from.mono_us, 5 * 40_000);
        assert!(matches!(items.try_recv(), Ok(Ok(Item::Unit(unit))) if unit.key));
    }

    #[tokio::test]
    async fn parameter_sets_between_key_frames_hold_from_the_next_key_frame_on() {
        let (outlet, mut items) = outlet();
        outlet.begin(Codec::H264, 90_000, &[SPROP]);
        outlet.packet(&packet(1, 100, &[0x65, 1]), None);
        let other = hex::decode("674d401fd900c037a6a0c0c0c80000030008000003019078b17240").unwrap();
        let mut aggregate = vec![24, 0, other.len() as u8];
        aggregate.extend(&other);
        aggregate.extend([0, 2, 0x41, 2]);
        outlet.packet(&packet(2, 3_700, &aggregate), None);
        outlet.packet(&packet(3, 7_300, &[0x65, 3]), None);
        let mut formats = Vec::new();
        while let Ok(item) = items.try_recv() {
            if let Ok(Item::Format(format)) = item {
                formats.push(format.decoder_configuration.clone());
            }
        }
        assert_eq!(formats.len(), 2);
        assert!(formats[1].windows(other.len()).any(|part| part == other), "the new set is what decoders are told");
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
