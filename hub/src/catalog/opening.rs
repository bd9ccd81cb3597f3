//! Sealed records into what they say, or into why they say nothing.

use super::Anchors;
use super::ingest::Outcome;
use super::motion::Second;
use super::partition::NewEvent;
use crate::media::{For, Keeper, KeeperError};
use bytes::Bytes;
use campanile_proto::edge::v1::SealedRecord;
use campanile_proto::ids::{CameraId, EdgeId, EventId, ObjectId, OrganisationId, SegmentId};
use campanile_proto::kind::Chain;
use campanile_proto::segment::SegmentKey;
use campanile_proto::time::{MICROS_PER_HOUR, MICROS_PER_SECOND, WallTime, kept_until};
use campanile_proto::types::v1::{Event, IndexRecord, MotionSeconds, RecordHeader, SegmentHeader, Stream, Suite};
use campanile_proto::types::v1::{Thumbnail, index_record::Content};
use prost::Message;
use std::collections::HashMap;
use std::sync::Arc;

/// Segment keys kept unwrapped: an HPKE opening costs more than the record.
const MAX_KEYS: usize = 512;
/// A motion report covers a minute or so.
const MAX_SECONDS: usize = 3_600;
const MAX_JPEG_BYTES: usize = 1 << 20;
const MAX_LABELS: usize = 32;
/// A box's clock may run ahead of ours by this much before its captures are from no time at all.
pub(super) const AHEAD_US: i64 = 24 * MICROS_PER_HOUR;

/// Part of a record, within one day.
pub(super) enum Opened {
    Event(Box<NewEvent>),
    Thumbnail {
        event: EventId,
        camera: CameraId,
        revision: u64,
        at: WallTime,
        until: WallTime,
        jpeg: Bytes,
    },
    /// Within one hour.
    Motion {
        camera: CameraId,
        object: ObjectId,
        revision: u64,
        start: WallTime,
        until: WallTime,
        seconds: Vec<Second>,
    },
}

impl Opened {
    pub fn camera(&self) -> CameraId {
        match self {
            Self::Event(event) => event.camera,
            Self::Thumbnail { camera, .. } | Self::Motion { camera, .. } => *camera,
        }
    }

    /// Capture, by which its day is chosen.
    pub fn at(&self) -> WallTime {
        match self {
            Self::Event(event) => event.start,
            Self::Thumbnail { at, .. } => *at,
            Self::Motion { start, .. } => *start,
        }
    }
}

pub(super) struct Opener {
    organisation: OrganisationId,
    keeper: Arc<dyn Keeper>,
    anchors: Arc<Anchors>,
    retention_days: u32,
    keys: HashMap<SegmentId, (Bytes, SegmentKey)>,
}

/// What is known of the record being opened.
struct Context<'a> {
    camera: CameraId,
    object: ObjectId,
    revision: u64,
    now: WallTime,
    /// Whether `now` may decide that the record is kept no longer, or never was of any time.
    judges: bool,
    days: u32,
    edge: EdgeId,
    anchors: &'a Anchors,
}

fn refused(reason: impl ToString) -> Outcome {
    Outcome::Refused(reason.to_string())
}

impl Opener {
    pub fn new(
        organisation: OrganisationId,
        keeper: Arc<dyn Keeper>,
        anchors: Arc<Anchors>,
        retention_days: u32,
    ) -> Self {
        Self { organisation, keeper, anchors, retention_days, keys: HashMap::new() }
    }

    /// Forgets unwrapped keys, so that none outlives its hour key by more than a round of retention.
    pub fn forget(&mut self) {
        self.keys.clear();
    }

    pub fn open(
        &mut self,
        edge: EdgeId,
        object: &Bytes,
        revision: u64,
        record: &SealedRecord,
        now: WallTime,
        belongs: &impl Fn(CameraId, EdgeId) -> bool,
    ) -> Result<Vec<Opened>, Outcome> {
        let segment = SegmentHeader::decode(record.segment_header.clone())
            .map_err(|_| refused("the segment header is not a message"))?;
        let (camera, sealed_by) = self.check_segment(&segment)?;
        if !belongs(camera, sealed_by) {
            return Err(refused(format!("camera {camera}, or what was sealed of it, is another box's")));
        }
        let header =
            RecordHeader::decode(record.header.clone()).map_err(|_| refused("the record header is not a message"))?;
        let object_id = ObjectId::try_from(&header.object_id).map_err(refused)?;
        if header.object_id != *object || header.revision != revision || revision > i64::MAX as u64 {
            return Err(refused("the report and its record name different objects or revisions"));
        }
        let days = segment.retention_days.min(self.retention_days);
        let captured = self.anchors.present(edge, header.arrival.as_ref().ok_or_else(|| refused("no arrival"))?).0;
        // What is dropped is never sent again. While the clock is in doubt all is kept, hidden where it seems over;
        // the round of retention judges it once the clock is believed.
        let judges = self.keeper.may_destroy();
        if judges && kept_until(captured, days) <= now {
            return Err(Outcome::Expired);
        }
        let plain = self.unseal(&segment, &header, record)?;
        let content = IndexRecord::decode(Bytes::from(plain))
            .map_err(|_| refused("the record, once opened, is not a message"))?
            .content
            .ok_or_else(|| refused("the record says nothing this version knows"))?;
        let context = Context { camera, object: object_id, revision, now, judges, days, edge, anchors: &self.anchors };
        match content {
            Content::Event(event) => context.event(event),
            Content::Thumbnail(thumbnail) => context.thumbnail(thumbnail),
            Content::Motion(motion) => context.motion(motion),
        }
    }

    /// Of which camera it is, and which box sealed it.
    fn check_segment(&self, segment: &SegmentHeader) -> Result<(CameraId, EdgeId), Outcome> {
        if OrganisationId::try_from(&segment.organisation_id) != Ok(self.organisation) {
            return Err(refused("the segment is of another organisation"));
        }
        if segment.stream() != Stream::Index {
            return Err(refused("the segment is not of an index stream"));
        }
        let camera = CameraId::try_from(&segment.camera_id).map_err(refused)?;
        Ok((camera, EdgeId::try_from(&segment.edge_id).map_err(refused)?))
    }

    fn unseal(
        &mut self,
        segment: &SegmentHeader,
        header: &RecordHeader,
        record: &SealedRecord,
    ) -> Result<Vec<u8>, Outcome> {
        if segment.suite() == Suite::Clear {
            return Ok(record.payload.to_vec());
        }
        let id = SegmentId::try_from(&segment.segment_id).map_err(refused)?;
        let known = self.keys.get(&id).filter(|(bytes, _)| *bytes == record.segment_header);
        let key = match known {
            Some((_, key)) => key.clone(),
            None => {
                let key = self
                    .keeper
                    .unwrap(For::Report, segment, &record.segment_header, &record.wrapped_key)
                    .map_err(|error| match error {
                        KeeperError::Destroyed { .. } => Outcome::Expired,
                        error => refused(Chain(&error)),
                    })?;
                if self.keys.len() >= MAX_KEYS {
                    self.keys.clear();
                }
                self.keys.insert(id, (record.segment_header.clone(), key.clone()));
                key
            }
        };
        key.open(segment.suite, header.sealing, &record.header, &record.payload).map_err(refused)
    }
}

impl Context<'_> {
    fn until(&self, captured: WallTime) -> Result<WallTime, Outcome> {
        if self.judges && captured - self.now > AHEAD_US {
            return Err(refused("captured in the future"));
        }
        let until = kept_until(captured, self.days);
        if self.judges && until <= self.now { Err(Outcome::Expired) } else { Ok(until) }
    }

    fn same_camera(&self, bytes: &Bytes) -> Result<(), Outcome> {
        if CameraId::try_from(bytes) == Ok(self.camera) {
            Ok(())
        } else {
            Err(refused("the record is of another camera"))
        }
    }

    fn event(&self, event: Event) -> Result<Vec<Opened>, Outcome> {
        self.same_camera(&event.camera_id)?;
        let id = EventId::try_from(&event.event_id).map_err(refused)?;
        let start = event.start.as_ref().ok_or_else(|| refused("the event has no start"))?;
        let (start, uncertainty_us) = self.anchors.present(self.edge, start);
        let end = event.end.as_ref().map_or(start, |end| self.anchors.present(self.edge, end).0).max(start);
        if !(event.moved.is_empty() || event.moved.len() == 72) || event.labels.len() > MAX_LABELS {
            return Err(refused("the event's cells or labels are out of bounds"));
        }
        Ok(vec![Opened::Event(Box::new(NewEvent {
            event: id,
            camera: self.camera,
            revision: self.revision,
            start,
            end,
            uncertainty_us,
            until: self.until(start)?,
            content: event,
        }))])
    }

    fn thumbnail(&self, thumbnail: Thumbnail) -> Result<Vec<Opened>, Outcome> {
        self.same_camera(&thumbnail.camera_id)?;
        let event = EventId::try_from(&thumbnail.event_id).map_err(refused)?;
        let at = thumbnail.at.as_ref().ok_or_else(|| refused("the thumbnail has no time"))?;
        let at = self.anchors.present(self.edge, at).0;
        // ITU-T T.81: a JPEG begins with the marker SOI.
        if thumbnail.jpeg.len() > MAX_JPEG_BYTES || !thumbnail.jpeg.starts_with(&[0xff, 0xd8]) {
            return Err(refused("the thumbnail is too large or no JPEG"));
        }
        let until = self.until(at)?;
        let (camera, revision) = (self.camera, self.revision);
        Ok(vec![Opened::Thumbnail { event, camera, revision, at, until, jpeg: thumbnail.jpeg }])
    }

    /// One part an hour, so that each part lies in one day and ends at one instant.
    fn motion(&self, motion: MotionSeconds) -> Result<Vec<Opened>, Outcome> {
        self.same_camera(&motion.camera_id)?;
        let start = motion.start.as_ref().ok_or_else(|| refused("the motion seconds have no start"))?;
        let start = self.anchors.present(self.edge, start).0;
        if motion.seconds.len() > MAX_SECONDS {
            return Err(refused("the motion seconds are too many"));
        }
        let mut parts: Vec<(WallTime, Vec<Second>)> = Vec::new();
        for (n, second) in motion.seconds.iter().enumerate() {
            let at = start.plus_micros(n as i64 * MICROS_PER_SECOND);
            let second = Second::read(second).map_err(refused)?;
            match parts.last_mut().filter(|(begun, _)| begun.hour() == at.hour()) {
                Some((_, seconds)) => seconds.push(second),
                None => parts.push((at, vec![second])),
            }
        }
        let part = |(start, seconds)| {
            let (camera, object, revision) = (self.camera, self.object, self.revision);
            Ok(Opened::Motion { camera, object, revision, start, until: self.until(start)?, seconds })
        };
        parts.into_iter().map(part).collect()
    }
}
