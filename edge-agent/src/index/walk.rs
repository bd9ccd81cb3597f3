//! What a segment file holds, found without any key.

use crate::record::segment::Signed;
use bytes::Bytes;
use campanile_proto::ids::{BootId, CameraId, ObjectId, RunId, SegmentId};
use campanile_proto::kind::Chain;
use campanile_proto::segment::{DamagedRecord, Head, Link, ReadError, SegmentReader};
use campanile_proto::types::v1::{Instant, RecordHeader, RecordKind, SegmentFooter, SegmentHeader, Stream};
use prost::Message;
use std::path::Path;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Headers only: a closed segment was verified when it was written, and a week of footage is a terabyte.
    Skim,
    /// Every CRC and the whole chain.
    Verify,
}

/// An index record's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexAt {
    pub offset: u64,
    pub object: ObjectId,
    pub revision: u64,
    pub utc_us: i64,
}

/// What a walk through a file found.
#[derive(Debug, Clone)]
pub struct Walk {
    pub id: SegmentId,
    pub camera: CameraId,
    pub stream: Stream,
    pub run: RunId,
    pub opened_boot: Option<BootId>,
    pub header: SegmentHeader,
    pub header_bytes: Bytes,
    pub wrapped_key: Bytes,
    pub start: Instant,
    pub end: Instant,
    pub fragments: u64,
    /// Up to here every record is whole.
    pub good_bytes: u64,
    pub file_bytes: u64,
    pub link: Link,
    pub footer: bool,
    /// What the footer vouches for.
    pub signed: Option<Signed>,
    /// What stands behind `good_bytes`, if anything.
    pub damage: Option<DamagedRecord>,
    pub index: Vec<IndexAt>,
}

impl Walk {
    pub fn lies_at(&self, path: &Path) -> bool {
        is_place_of(path, self.camera, self.id)
    }
}

/// Whether a recorder puts this segment there, `<camera>/<stream>/<hour>/<id>.seg`; a copy under another name is
/// somebody else's file.
pub fn is_place_of(path: &Path, camera: CameraId, id: SegmentId) -> bool {
    let folder = path.ancestors().nth(3).and_then(Path::file_name);
    path.file_stem().is_some_and(|name| *name == *id.to_string())
        && folder.is_some_and(|name| *name == *camera.to_string())
}

/// Its first record only.
pub fn head(path: &Path) -> Result<Walk, ReadError> {
    begin(&SegmentReader::open(path)?)
}

/// Walks through a file as far as its records are whole.
pub fn walk(path: &Path, depth: Depth) -> Result<Walk, ReadError> {
    let (found, broken) = through(&SegmentReader::open(path)?, depth)?;
    broken.map_or(Ok(found), Err)
}

/// As [`walk`] with every CRC and the whole chain, up to where the disk cannot be read.
pub fn as_far_as_readable(path: &Path) -> Result<Walk, ReadError> {
    let (found, broken) = through(&SegmentReader::open(path)?, Depth::Verify)?;
    if let Some(error) = broken {
        tracing::warn!(offset = found.good_bytes, error = %Chain(&error), "a segment cannot be read any further");
    }
    Ok(found)
}

/// What was found, and what ended it before the last whole record.
fn through(reader: &SegmentReader, depth: Depth) -> Result<(Walk, Option<ReadError>), ReadError> {
    let mut found = begin(reader)?;
    loop {
        match step(reader, &mut found, depth) {
            Ok(true) => {}
            Ok(false) => return Ok((found, None)),
            Err(ReadError::Damaged { source, .. }) => {
                found.damage = Some(source);
                return Ok((found, None));
            }
            Err(other) => return Ok((found, Some(other))),
        }
    }
}

fn begin(reader: &SegmentReader) -> Result<Walk, ReadError> {
    let Head { header, header_bytes, wrapped_key, link, body_offset } = reader.head()?;
    let not = |reason| reader.not_a_segment(reason);
    let opened = header.opened.clone().unwrap_or_default();
    Ok(Walk {
        id: SegmentId::try_from(&header.segment_id).map_err(|_| not("its id is none"))?,
        camera: CameraId::try_from(&header.camera_id).map_err(|_| not("its camera is none"))?,
        stream: Stream::try_from(header.stream).map_err(|_| not("its stream is none"))?,
        run: RunId::try_from(&header.run_id).unwrap_or(RunId::from_u128(0)),
        opened_boot: BootId::try_from(&opened.boot_id).ok(),
        start: opened.clone(),
        end: opened,
        header,
        header_bytes,
        wrapped_key,
        fragments: 0,
        good_bytes: body_offset,
        file_bytes: reader.size_bytes()?,
        link,
        footer: false,
        signed: None,
        damage: None,
        index: Vec::new(),
    })
}

/// Takes the next record into account; false at the end.
fn step(reader: &SegmentReader, found: &mut Walk, depth: Depth) -> Result<bool, ReadError> {
    let Some(entry) = reader.entry(found.good_bytes)? else { return Ok(false) };
    if depth == Depth::Verify || entry.prefix.kind == RecordKind::Footer {
        let record = reader.record(&entry)?;
        record.follows(&found.link).map_err(|source| reader.damaged(entry.offset, source))?;
    }
    let unreadable = |_| reader.damaged(entry.offset, DamagedRecord::Checksum);
    match entry.prefix.kind {
        RecordKind::Footer => {
            let footer = SegmentFooter::decode(entry.header.clone()).map_err(unreadable)?;
            found.end = footer.closed.unwrap_or(found.end.clone());
            found.footer = true;
            found.signed = Some(Signed { last_link: footer.last_link, edge_signature: footer.edge_signature });
        }
        kind @ (RecordKind::Fragment | RecordKind::Index) => {
            let header = RecordHeader::decode(entry.header.clone()).map_err(unreadable)?;
            take(found, entry.offset, kind, &header);
        }
        _ => {}
    }
    found.link = entry.link;
    found.good_bytes = entry.next_offset();
    Ok(!found.footer)
}

fn take(found: &mut Walk, offset: u64, kind: RecordKind, header: &RecordHeader) {
    let arrival = header.arrival.clone().unwrap_or_default();
    if found.fragments == 0 {
        found.start = arrival.clone();
    }
    found.fragments += 1;
    let lasts_us = i64::try_from(header.duration_90k.saturating_mul(100) / 9).unwrap_or(0);
    found.end = Instant {
        mono_us: arrival.mono_us.saturating_add(lasts_us),
        utc_us: arrival.utc_us.saturating_add(lasts_us),
        ..arrival.clone()
    };
    if kind == RecordKind::Index
        && let Ok(object) = ObjectId::try_from(&header.object_id)
    {
        found.index.push(IndexAt { offset, object, revision: header.revision, utc_us: arrival.utc_us });
    }
}
