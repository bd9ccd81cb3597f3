//! Pictures become findings: the child's own work, apart from its process.

use super::frame::Frame;
use crate::media::gst::Picture;
use crate::motion::Detector;
use crate::motion::detect::{NAME, VERSION};
use crate::motion::event::{Episode, Episodes, region};
use crate::motion::seconds::{Batch, Seconds};
use crate::motion::thumbnail;
use bytes::Bytes;
use campanile_proto::grid::CellSet;
use campanile_proto::ids::{CameraId, ObjectId};
use campanile_proto::types::v1::index_record::Content;
use campanile_proto::types::v1::{self, Event, IndexRecord, Instant, MotionSeconds, Thumbnail};
use prost::Message;

/// The first thumbnail goes out after this, a better one at the event's end.
const FIRST_THUMBNAIL_US: i64 = 1_000_000;

/// Looks at one camera.
pub struct Look {
    camera: CameraId,
    ignore: CellSet,
    detector: Option<(usize, usize, Detector)>,
    episodes: Episodes,
    seconds: Seconds,
    last: Option<Instant>,
    best: Option<Best>,
}

/// The best picture of the event that goes on.
struct Best {
    object: ObjectId,
    revision: u64,
    at: Instant,
    cells: usize,
    told_cells: usize,
    width: usize,
    height: usize,
    jpeg: Vec<u8>,
}

impl Look {
    pub fn new(camera: CameraId, ignore: CellSet) -> Self {
        Self {
            camera,
            ignore,
            detector: None,
            episodes: Episodes::default(),
            seconds: Seconds::looking_beside(&ignore),
            last: None,
            best: None,
        }
    }

    /// Looks at a picture that arrived then.
    pub fn picture(&mut self, picture: &Picture, at: &Instant, found: &mut Vec<Frame>) {
        let size = (picture.width, picture.height);
        if self.detector.as_ref().is_none_or(|(w, h, _)| (*w, *h) != size) {
            self.detector = Some((size.0, size.1, Detector::new(size.0, size.1).ignoring(self.ignore)));
        }
        let Some((_, _, detector)) = &mut self.detector else { return };
        // Reordered pictures arrived out of order; what is shown later is not earlier.
        let last = self.last.take().unwrap_or_else(|| at.clone());
        let at = if last.mono_us > at.mono_us { &last } else { at };
        let step_us = at.mono_us - last.mono_us;
        self.last = Some(at.clone());
        let (luma, stride) = picture.plane(0);
        let seen = detector.frame(luma, stride, step_us as f32 / 1e6);
        if let Some(batch) = self.seconds.picture(at, &seen) {
            found.push(self.motion(batch));
        }
        let told = self.episodes.picture(at, &seen);
        let cells = seen.moved.len();
        if self.episodes.ongoing().is_some() && cells > self.best.as_ref().map_or(0, |best| best.cells) {
            self.keep(picture, at, cells);
        }
        if let Some(episode) = told {
            self.tell(&episode, found);
        }
    }

    /// Nothing more comes.
    pub fn finish(&mut self, found: &mut Vec<Frame>) {
        if let Some(batch) = self.seconds.finish() {
            found.push(self.motion(batch));
        }
        if let Some(episode) = self.episodes.finish() {
            self.tell(&episode, found);
        }
    }

    fn keep(&mut self, picture: &Picture, at: &Instant, cells: usize) {
        let planes = (picture.plane(0), picture.plane(1), picture.plane(2));
        let Some(jpeg) = thumbnail::jpeg(picture.width, picture.height, planes.0, planes.1, planes.2) else { return };
        let best = self.best.get_or_insert_with(|| Best {
            object: ObjectId::random(),
            revision: 0,
            at: at.clone(),
            cells: 0,
            told_cells: 0,
            width: picture.width,
            height: picture.height,
            jpeg: Vec::new(),
        });
        (best.at, best.cells, best.jpeg) = (at.clone(), cells, jpeg);
    }

    fn motion(&self, batch: Batch) -> Frame {
        let at = batch.start.clone();
        let motion = MotionSeconds {
            camera_id: self.camera.into(),
            start: Some(batch.start),
            seconds: batch.seconds,
            detector: Some(detector()),
        };
        found(ObjectId::random(), 1, at, Content::Motion(motion))
    }

    fn tell(&mut self, episode: &Episode, out: &mut Vec<Frame>) {
        let event = event(self.camera, episode);
        let object = ObjectId::try_from(&event.event_id).unwrap_or_else(|_| ObjectId::random());
        let at = episode.end.clone();
        out.push(found(object, episode.revision, at, Content::Event(event)));
        let long_enough = episode.end.mono_us - episode.start.mono_us >= FIRST_THUMBNAIL_US;
        if let Some(best) = &mut self.best
            && (!episode.ongoing || long_enough && best.told_cells == 0)
            && best.cells > best.told_cells
        {
            best.told_cells = best.cells;
            best.revision += 1;
            let thumbnail = Thumbnail {
                event_id: episode.id.into(),
                camera_id: self.camera.into(),
                at: Some(best.at.clone()),
                width: best.width as u32,
                height: best.height as u32,
                jpeg: Bytes::copy_from_slice(&best.jpeg),
            };
            out.push(found(best.object, best.revision, best.at.clone(), Content::Thumbnail(thumbnail)));
        }
        if !episode.ongoing {
            self.best = None;
        }
    }
}

fn detector() -> v1::Detector {
    v1::Detector { name: NAME.into(), version: VERSION.into() }
}

fn event(camera: CameraId, episode: &Episode) -> Event {
    Event {
        event_id: episode.id.into(),
        camera_id: camera.into(),
        start: Some(episode.start.clone()),
        end: Some(episode.end.clone()),
        ongoing: episode.ongoing,
        union: Some(region(&episode.moved)),
        moved: Bytes::copy_from_slice(&episode.moved.to_bytes()),
        peak_cells: episode.peak_cells,
        detector: Some(detector()),
        labels: Vec::new(),
    }
}

fn found(object: ObjectId, revision: u64, at: Instant, content: Content) -> Frame {
    let record = IndexRecord { content: Some(content) }.encode_to_vec();
    Frame::Found { object, revision, at, record: record.into() }
}
