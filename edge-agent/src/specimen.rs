//! Segment files for tests, made with the contract's own records, in clear: their readers need no key.

use bytes::Bytes;
use campanile_proto::ids::{BootId, CameraId, ObjectId, RunId, SegmentId};
use campanile_proto::segment::{FORMAT, Link, MAGIC, Record, first_link};
use campanile_proto::types::v1::{Instant, RecordHeader, RecordKind, SegmentFooter, SegmentHeader, Stream, Suite};
use prost::Message;
use std::path::{Path, PathBuf};

/// 2027-01-15T08:00Z.
pub const NOON: i64 = 1_800_000_000_000_000;

/// A segment under construction.
pub struct Specimen {
    pub id: SegmentId,
    pub camera: CameraId,
    pub stream: Stream,
    pub run: RunId,
    pub boot: BootId,
    pub header: Bytes,
    pub bytes: Vec<u8>,
    /// Where each record begins.
    pub offsets: Vec<usize>,
    pub link: Link,
    start_us: i64,
    first_index: u64,
    count: u64,
}

impl Specimen {
    /// Opened `start_s` seconds after [`NOON`] by a boot that is over.
    pub fn open(camera: CameraId, stream: Stream, run: RunId, start_s: i64, first_index: u64) -> Self {
        Self::begin(camera, stream, run, start_s, first_index, BootId::random())
    }

    fn begin(camera: CameraId, stream: Stream, run: RunId, start_s: i64, first_index: u64, boot: BootId) -> Self {
        let id = SegmentId::random();
        let start_us = NOON + start_s * 1_000_000;
        let header = SegmentHeader {
            format: FORMAT,
            segment_id: id.into(),
            camera_id: camera.into(),
            stream: stream.into(),
            run_id: run.into(),
            first_index,
            opened: Some(instant(boot, start_us)),
            suite: Suite::Clear.into(),
            hour: (start_us / 3_600_000_000) as u64,
            retention_days: 7,
            ..SegmentHeader::default()
        };
        let header = Bytes::from(header.encode_to_vec());
        let mut specimen = Self {
            id,
            camera,
            stream,
            run,
            boot,
            header: header.clone(),
            bytes: MAGIC.to_vec(),
            offsets: Vec::new(),
            link: first_link(&[]),
            start_us,
            first_index,
            count: 0,
        };
        specimen.push(RecordKind::Segment, header, Bytes::new());
        if stream != Stream::Index {
            let init = RecordHeader { kind: RecordKind::Init.into(), ..RecordHeader::default() };
            specimen.push(RecordKind::Init, init.encode_to_vec().into(), Bytes::from_static(b"init"));
        }
        specimen
    }

    /// The same, begun by another boot.
    pub fn of_boot(self, boot: BootId) -> Self {
        let start_s = (self.start_us - NOON) / 1_000_000;
        Self::begin(self.camera, self.stream, self.run, start_s, self.first_index, boot)
    }

    fn push(&mut self, kind: RecordKind, header: Bytes, payload: Bytes) {
        let record = Record::following(&self.link, kind, header, payload);
        self.offsets.push(self.bytes.len());
        self.bytes.extend(record.encode());
        self.link = record.link;
    }

    /// One second each, a key frame every `gop`.
    pub fn fragments(mut self, count: u64, gop: u64) -> Self {
        for _ in 0..count {
            let n = self.count;
            let header = RecordHeader {
                kind: RecordKind::Fragment.into(),
                sealing: n as u32 + 1,
                index: self.first_index + n,
                arrival: Some(instant(self.boot, self.start_us + n as i64 * 1_000_000)),
                starts_with_key: n.is_multiple_of(gop),
                duration_90k: 90_000,
                ..RecordHeader::default()
            };
            let payload = format!("fragment {} of {}", header.index, self.run).repeat(20);
            self.push(RecordKind::Fragment, header.encode_to_vec().into(), payload.into());
            self.count += 1;
        }
        self
    }

    pub fn index_record(mut self, object: ObjectId, revision: u64) -> Self {
        let header = RecordHeader {
            kind: RecordKind::Index.into(),
            index: self.count,
            arrival: Some(instant(self.boot, self.start_us + self.count as i64 * 1_000_000)),
            object_id: object.into(),
            revision,
            ..RecordHeader::default()
        };
        let payload = format!("{object} {revision}");
        self.push(RecordKind::Index, header.encode_to_vec().into(), payload.into());
        self.count += 1;
        self
    }

    pub fn close(mut self) -> Self {
        let closed = instant(self.boot, self.start_us + self.count as i64 * 1_000_000);
        let footer = SegmentFooter {
            fragment_count: self.count,
            closed: Some(closed),
            last_link: Bytes::copy_from_slice(&self.link),
            ..SegmentFooter::default()
        };
        self.push(RecordKind::Footer, footer.encode_to_vec().into(), Bytes::new());
        self
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn path(&self, media_dir: &Path) -> PathBuf {
        let stream = format!("{:?}", self.stream).to_lowercase();
        media_dir.join(self.camera.to_string()).join(stream).join("20270115T08").join(format!("{}.seg", self.id))
    }

    /// Writes the first `length` bytes where the recorder would.
    pub fn write_torn(&self, media_dir: &Path, length: usize) -> PathBuf {
        let path = self.path(media_dir);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &self.bytes[..length]).unwrap();
        path
    }

    pub fn write(&self, media_dir: &Path) -> PathBuf {
        self.write_torn(media_dir, self.bytes.len())
    }
}

pub fn instant(boot: BootId, utc_us: i64) -> Instant {
    Instant { boot_id: boot.into(), mono_us: utc_us - NOON, utc_us, uncertainty_us: 1_000_000 }
}
