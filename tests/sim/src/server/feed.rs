//! Sending one stream to one client.
//!
//! Belongs here: waiting for each access unit's moment, logging it, handing it to GStreamer.
//! Does not belong here: what comes next on the time line (`timeline`).
//! Invariant: nothing is skipped between a client's first access unit and a fault; a unit that
//! cannot be logged is not sent.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gstreamer as gst;
use gstreamer_app as gst_app;
use tracing::{debug, error};

use super::camera::{Camera, Mode, Stream};
use crate::journal::LogLine;
use crate::timeline::Due;

/// Feeds one media.
pub(super) struct Feeder {
    camera: Arc<Camera>,
    stream: Arc<Stream>,
    source: gst_app::AppSrc,
    ended: Arc<AtomicBool>,
    client: u64,
    /// The unit the client starts with.
    first: u64,
    /// Time line position at which the media's running time is nought.
    zero_90k: u64,
}

/// The payloaders read this offset as "choose at random".
const RANDOM_OFFSET: u32 = u32::MAX;

impl Feeder {
    pub(super) fn new(
        camera: Arc<Camera>,
        stream: Arc<Stream>,
        source: gst_app::AppSrc,
        ended: Arc<AtomicBool>,
    ) -> Feeder {
        let now = stream.now_90k();
        let first = stream.program.timeline.start(now);
        let due = stream.program.timeline.at(first);
        let mut zero_90k = now.min(due.pts_90k).min(due.dts_90k);
        if stream.rtp_base.wrapping_add(zero_90k as u32) == RANDOM_OFFSET {
            zero_90k = zero_90k.saturating_sub(1);
        }
        let client = stream.new_client();
        Feeder { camera, stream, source, ended, client, first, zero_90k }
    }

    /// Offset that puts the stream's one RTP time line on the wire.
    pub(super) fn timestamp_offset(&self) -> u32 {
        self.stream.rtp_base.wrapping_add(self.zero_90k as u32)
    }

    pub(super) fn run(self) {
        let mut next = self.first;
        let mut seq = 0;
        loop {
            match self.wait_for(next) {
                Turn::Send => {
                    if !self.send(seq, next) {
                        return;
                    }
                    seq += 1;
                    next += 1;
                }
                Turn::Resume => next = self.stream.program.timeline.start(self.stream.now_90k()),
                Turn::End => return,
            }
        }
    }

    /// Waits until the n-th unit is due, or something else happens.
    fn wait_for(&self, n: u64) -> Turn {
        let gate = &self.camera.gate;
        let due_90k = self.stream.program.timeline.at(n).dts_90k;
        let mut mode = gate.mode();
        let mut was_paused = false;
        loop {
            if self.ended.load(Ordering::Acquire) || *mode == Mode::Off {
                return Turn::End;
            }
            if *mode == Mode::Paused {
                was_paused = true;
                mode = gate.changed().wait(mode).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if was_paused {
                return Turn::Resume;
            }
            let now = self.stream.now_90k();
            if now >= due_90k {
                return Turn::Send;
            }
            let rest = Duration::from_nanos((due_90k - now) * 100_000 / 9 + 1);
            mode = gate.changed().wait_timeout(mode, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn send(&self, seq: u64, n: u64) -> bool {
        let due = self.stream.program.timeline.at(n);
        if let Err(error) = self.stream.journal.append(&self.line(seq, &due)) {
            error!(camera = %self.stream.camera, %error, "access unit not logged, client ends");
            return false;
        }
        let mut buffer = gst::Buffer::from_slice(due.unit.bytes.clone());
        if let Some(fresh) = buffer.get_mut() {
            // Rounded up: the payloader rounds down and arrives at exactly these ticks.
            let ticks = due.pts_90k.saturating_sub(self.zero_90k);
            fresh.set_pts(gst::ClockTime::from_nseconds((ticks * 100_000).div_ceil(9)));
            if !due.unit.key {
                fresh.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        match self.source.push_buffer(buffer) {
            Ok(_) => true,
            Err(flow) => {
                debug!(camera = %self.stream.camera, client = self.client, ?flow, "client gone");
                false
            }
        }
    }

    fn line(&self, seq: u64, due: &Due<'_>) -> LogLine {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        LogLine {
            seq,
            camera: self.stream.camera.clone(),
            stream: self.stream.kind.to_owned(),
            client: self.client,
            sha256: due.unit.sha256.clone(),
            rtp_time: self.stream.rtp_base.wrapping_add(due.pts_90k as u32),
            pts_90k: due.pts_90k,
            wall_us: wall.as_micros() as i64,
            key: due.unit.key,
            frame: due.index,
            size: due.unit.bytes.len() as u64,
        }
    }
}

enum Turn {
    Send,
    Resume,
    End,
}
