//! Takes what one child says. A child that was taken over may lie about what moves on its own camera, and about
//! nothing else: times, ids and revisions are made here, and it cannot fill the disk.

use super::frame::{Frame, HEAD_BYTES};
use super::parent::SharedPulse;
use crate::media::stamp::Stamper;
use crate::record::Recorder;
use crate::record::recorder::IndexOrder;
use bytes::{Bytes, BytesMut};
use campanile_proto::ids::{CameraId, ObjectId};
use campanile_proto::types::v1::index_record::Content;
use campanile_proto::types::v1::{IndexRecord, Instant};
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;

/// A thumbnail of 320 pixels takes about 15 KB.
const MAX_RECORD: usize = 256 << 10;
/// Findings are of the last minutes: a thumbnail waits for its event's end.
const OLDEST_US: i64 = 300_000_000;
/// A clock that was set since a picture arrived may differ by this.
const SET_US: i64 = 120_000_000;
/// Objects that may still be spoken of; an honest child has one event and one thumbnail open.
const MAX_OBJECTS: usize = 32;
/// Bytes of findings a second, over minutes, and at once: a busy street takes a tenth.
const BYTES_PER_SECOND: i64 = 32 << 10;
const BURST_BYTES: i64 = 1 << 20;
/// Findings that the recorder had no place for, the newest of each object.
const MAX_PENDING: usize = 64;
const RETRY: Duration = Duration::from_secs(1);
/// What analysis takes of the processor is told this often, to whoever looks closely.
const TELL_SPENT: Duration = Duration::from_secs(5);

/// What is known of an object that the child speaks of.
struct Known {
    childs: ObjectId,
    ours: ObjectId,
    revision: u64,
    /// Its newest state, while it is an event that goes on.
    ongoing: Option<(Instant, IndexRecord)>,
}

pub(super) struct Listener {
    camera: CameraId,
    recorder: Recorder,
    stamper: Stamper,
    /// Oldest first.
    known: VecDeque<Known>,
    pending: BTreeMap<ObjectId, IndexOrder>,
    budget_bytes: i64,
    budget_at_us: i64,
    /// Findings left out for want of budget; told once.
    flooded: bool,
}

impl Listener {
    pub fn new(camera: CameraId, recorder: Recorder, stamper: Stamper) -> Self {
        let budget_at_us = stamper.clock.mono().0;
        Self {
            camera,
            recorder,
            stamper,
            known: VecDeque::new(),
            pending: BTreeMap::new(),
            budget_bytes: BURST_BYTES,
            budget_at_us,
            flooded: false,
        }
    }

    /// Until the child closes its end; tells `pulse` of every word.
    pub async fn run(mut self, mut from_child: OwnedReadHalf, pulse: SharedPulse) {
        let mut told_at = tokio::time::Instant::now();
        loop {
            let frame = {
                let next = next(&mut from_child);
                tokio::pin!(next);
                loop {
                    tokio::select! {
                        frame = &mut next => break frame,
                        () = tokio::time::sleep(RETRY), if !self.pending.is_empty() => self.retry(),
                    }
                }
            };
            pulse.heard();
            match frame {
                Some(Frame::Alive { decode_us, look_us }) if told_at.elapsed() >= TELL_SPENT => {
                    told_at = tokio::time::Instant::now();
                    tracing::debug!(camera = %self.camera, decode_us, look_us, "analysis took");
                }
                Some(Frame::Alive { .. }) => {}
                Some(Frame::Ready { sandbox }) => tracing::info!(camera = %self.camera, %sandbox, "analysis begins"),
                Some(Frame::Found { object, at, record, .. }) => self.take(object, &at, &record),
                Some(Frame::Begin { .. } | Frame::Unit { .. }) | None => break,
            }
        }
        self.finish();
    }

    /// What a dead child left open ends where it was last seen.
    fn finish(&mut self) {
        for mut known in std::mem::take(&mut self.known) {
            let Some((at, mut record)) = known.ongoing.take() else { continue };
            if let Some(Content::Event(event)) = &mut record.content {
                event.ongoing = false;
            }
            self.order(known.ours, known.revision.saturating_add(1), at, record.encode_to_vec().into());
        }
        self.retry();
    }

    fn take(&mut self, childs: ObjectId, at: &Instant, record: &Bytes) {
        let Ok(mut said) = IndexRecord::decode(record.clone()) else { return };
        if !self.afford(record.len()) || !self.is_ours(&said) {
            return;
        }
        let at = self.believable(at);
        if let Some(Content::Motion(_)) = &said.content {
            return self.order(ObjectId::random(), 1, at, said.encode_to_vec().into());
        }
        // An event is known by its own id, and its thumbnail by the event's.
        match &mut said.content {
            Some(Content::Event(event)) => event.event_id = self.known(childs).ours.into(),
            Some(Content::Thumbnail(thumbnail)) => {
                let Ok(event) = ObjectId::try_from(&thumbnail.event_id) else { return };
                thumbnail.event_id = self.known(event).ours.into();
            }
            _ => return,
        }
        let goes_on = matches!(&said.content, Some(Content::Event(event)) if event.ongoing);
        let encoded = said.encode_to_vec().into();
        let known = self.known(childs);
        known.revision = known.revision.saturating_add(1);
        known.ongoing = goes_on.then(|| (at.clone(), said));
        let (ours, revision) = (known.ours, known.revision);
        self.order(ours, revision, at, encoded);
    }

    fn is_ours(&self, said: &IndexRecord) -> bool {
        let camera = match &said.content {
            Some(Content::Motion(motion)) => &motion.camera_id,
            Some(Content::Event(event)) => &event.camera_id,
            Some(Content::Thumbnail(thumbnail)) => &thumbnail.camera_id,
            None => return false,
        };
        CameraId::try_from(camera) == Ok(self.camera)
    }

    /// Whether there is budget left for so many bytes; takes it.
    fn afford(&mut self, bytes: usize) -> bool {
        let now = self.stamper.clock.mono().0;
        let earned = (now - self.budget_at_us).clamp(0, 60_000_000) * BYTES_PER_SECOND / 1_000_000;
        if earned > 0 {
            self.budget_at_us = now;
        }
        self.budget_bytes = (self.budget_bytes + earned).min(BURST_BYTES);
        let affordable = i64::try_from(bytes).is_ok_and(|bytes| bytes <= self.budget_bytes);
        if affordable {
            self.budget_bytes -= bytes as i64;
        } else if !std::mem::replace(&mut self.flooded, true) {
            tracing::error!(camera = %self.camera, "the analysing child says more than it can have seen");
        }
        affordable
    }

    /// A time of this boot's last minutes; another one is taken for now.
    fn believable(&self, at: &Instant) -> Instant {
        let now = self.stamper.now();
        let age_us = now.mono_us.saturating_sub(at.mono_us);
        let drift_us = now.utc_us.saturating_sub(at.utc_us).saturating_sub(age_us);
        let sound = at.boot_id == now.boot_id && (0..=OLDEST_US).contains(&age_us) && drift_us.abs() <= SET_US;
        if sound { at.clone() } else { now }
    }

    /// What is known of the child's object; the oldest make room, and an event among them ends.
    fn known(&mut self, childs: ObjectId) -> &mut Known {
        let at = self.known.iter().position(|known| known.childs == childs).unwrap_or_else(|| {
            if self.known.len() >= MAX_OBJECTS
                && let Some(Known { ours, revision, ongoing: Some((at, mut record)), .. }) = self.known.pop_front()
            {
                if let Some(Content::Event(event)) = &mut record.content {
                    event.ongoing = false;
                }
                self.order(ours, revision.saturating_add(1), at, record.encode_to_vec().into());
            }
            self.known.push_back(Known { childs, ours: ObjectId::random(), revision: 0, ongoing: None });
            self.known.len() - 1
        });
        &mut self.known[at]
    }

    /// Hands a finding on; one that finds no place is kept, the newest of its object.
    fn order(&mut self, object: ObjectId, revision: u64, arrival: Instant, record: Bytes) {
        let order = IndexOrder { object, revision, arrival, record };
        // An older revision that waits is superseded.
        self.pending.remove(&object);
        if self.recorder.index(order.clone()).is_ok() {
            return;
        }
        if self.pending.len() >= MAX_PENDING {
            tracing::warn!(camera = %self.camera, "a finding was lost: the disk does not keep up");
            self.pending.pop_first();
        }
        self.pending.insert(object, order);
    }

    fn retry(&mut self) {
        let recorder = &self.recorder;
        self.pending.retain(|_, order| recorder.index(order.clone()).is_err());
    }
}

async fn next(from_child: &mut OwnedReadHalf) -> Option<Frame> {
    let mut head = [0; HEAD_BYTES];
    from_child.read_exact(&mut head).await.ok()?;
    let size = Frame::body_bytes(&head).ok().filter(|size| *size <= MAX_RECORD)?;
    let mut body = BytesMut::zeroed(size);
    from_child.read_exact(&mut body).await.ok()?;
    Frame::decode(head[0], body.freeze()).ok()
}

#[cfg(test)]
mod tests;
