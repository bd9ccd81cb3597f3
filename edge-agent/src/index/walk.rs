//! Reading segment files, without any key: also one that is being written, and one that was torn.

use crate::record::segment::Signed;
use bytes::Bytes;
use campanile_proto::ids::{BootId, CameraId, ObjectId, RunId, SegmentId};
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::segment::{
    DamagedRecord, FORMAT, LINK_BYTES, Link, MAGIC, MAX_HEADER_BYTES, PREFIX_BYTES, Record, RecordPrefix,
    TRAILER_BYTES, first_link,
};
use campanile_proto::types::v1::{Instant, RecordHeader, RecordKind, SegmentFooter, SegmentHeader, Stream};
use prost::Message;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why a file is no segment.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a segment: {reason}")]
    NotASegment { path: PathBuf, reason: &'static str },
    #[error("{path} is damaged at byte {offset}")]
    Damaged { path: PathBuf, offset: u64, source: DamagedRecord },
}

impl WalkError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Kind::NotFound,
            Self::Read { .. } => Kind::Internal,
            Self::NotASegment { .. } | Self::Damaged { .. } => Kind::Invalid,
        }
    }
}

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

/// A record's header and where it stands.
#[derive(Debug, Clone)]
pub struct Entry {
    pub offset: u64,
    pub prefix: RecordPrefix,
    pub header: Bytes,
    pub link: Link,
}

impl Entry {
    pub fn next_offset(&self) -> u64 {
        self.offset + self.prefix.record_bytes() as u64
    }
}

/// Reads one file; never past what is whole.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
}

impl Reader {
    pub fn open(path: &Path) -> Result<Self, WalkError> {
        let read = |source| WalkError::Read { path: path.to_owned(), source };
        let reader = Self { file: File::open(path).map_err(read)?, path: path.to_owned() };
        let mut magic = [0; MAGIC.len()];
        let whole = reader.read_at(&mut magic, 0)?;
        if !whole || magic != MAGIC {
            return Err(WalkError::NotASegment { path: path.to_owned(), reason: "it does not begin with CAMPSEG1" });
        }
        Ok(reader)
    }

    /// Where the first record stands.
    pub fn first_offset() -> u64 {
        MAGIC.len() as u64
    }

    pub fn len(&self) -> Result<u64, WalkError> {
        let length = self.file.metadata().map(|metadata| metadata.len());
        length.map_err(|source| WalkError::Read { path: self.path.clone(), source })
    }

    pub fn is_empty(&self) -> Result<bool, WalkError> {
        Ok(self.len()? <= Self::first_offset())
    }

    /// The record's header at `offset`; none at the end of what is written. Its payload is not looked at.
    pub fn entry(&self, offset: u64) -> Result<Option<Entry>, WalkError> {
        let length = self.len()?;
        if offset >= length {
            return Ok(None);
        }
        let mut prefix = [0; PREFIX_BYTES];
        let have = length - offset;
        let torn = |want: usize| self.damaged(offset, DamagedRecord::Torn { have: have as usize, want });
        if !self.read_at(&mut prefix, offset)? {
            return Err(torn(PREFIX_BYTES));
        }
        let prefix = RecordPrefix::parse(&prefix).map_err(|source| self.damaged(offset, source))?;
        if have < prefix.record_bytes() as u64 {
            return Err(torn(prefix.record_bytes()));
        }
        let mut header = vec![0; prefix.header_bytes.min(MAX_HEADER_BYTES)];
        let mut link = [0; LINK_BYTES];
        let link_at = offset + (prefix.record_bytes() - TRAILER_BYTES) as u64;
        if !self.read_at(&mut header, offset + PREFIX_BYTES as u64)? || !self.read_at(&mut link, link_at)? {
            return Err(torn(prefix.record_bytes()));
        }
        Ok(Some(Entry { offset, prefix, header: header.into(), link }))
    }

    /// The whole record at an entry, its CRC checked.
    pub fn record(&self, entry: &Entry) -> Result<Record, WalkError> {
        let mut bytes = vec![0; entry.prefix.record_bytes()];
        if !self.read_at(&mut bytes, entry.offset)? {
            let (have, want) = (0, bytes.len());
            return Err(self.damaged(entry.offset, DamagedRecord::Torn { have, want }));
        }
        Record::decode(&Bytes::from(bytes)).map_err(|source| self.damaged(entry.offset, source))
    }

    fn damaged(&self, offset: u64, source: DamagedRecord) -> WalkError {
        WalkError::Damaged { path: self.path.clone(), offset, source }
    }

    /// False when the file ends before the buffer is full.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<bool, WalkError> {
        match self.file.read_exact_at(buffer, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(WalkError::Read { path: self.path.clone(), source }),
        }
    }
}

/// One record of a file.
pub fn record_at(path: &Path, offset: u64) -> Result<Record, WalkError> {
    let reader = Reader::open(path)?;
    match reader.entry(offset)? {
        Some(entry) => reader.record(&entry),
        None => Err(reader.damaged(offset, DamagedRecord::Torn { have: 0, want: PREFIX_BYTES })),
    }
}

/// Its first record only.
pub fn head(path: &Path) -> Result<Walk, WalkError> {
    begin(&Reader::open(path)?)
}

/// Walks through a file as far as its records are whole.
pub fn walk(path: &Path, depth: Depth) -> Result<Walk, WalkError> {
    let (found, broken) = through(&Reader::open(path)?, depth)?;
    broken.map_or(Ok(found), Err)
}

/// As [`walk`] with every CRC and the whole chain, up to where the disk cannot be read.
pub fn as_far_as_readable(path: &Path) -> Result<Walk, WalkError> {
    let (found, broken) = through(&Reader::open(path)?, Depth::Verify)?;
    if let Some(error) = broken {
        tracing::warn!(offset = found.good_bytes, error = %Chain(&error), "a segment cannot be read any further");
    }
    Ok(found)
}

/// What was found, and what ended it before the last whole record.
fn through(reader: &Reader, depth: Depth) -> Result<(Walk, Option<WalkError>), WalkError> {
    let mut found = begin(reader)?;
    loop {
        match step(reader, &mut found, depth) {
            Ok(true) => {}
            Ok(false) => return Ok((found, None)),
            Err(WalkError::Damaged { source, .. }) => {
                found.damage = Some(source);
                return Ok((found, None));
            }
            Err(other) => return Ok((found, Some(other))),
        }
    }
}

/// The first record says which segment it is; without it the file is none.
fn begin(reader: &Reader) -> Result<Walk, WalkError> {
    let not = |reason| WalkError::NotASegment { path: reader.path.clone(), reason };
    let entry = reader.entry(Reader::first_offset())?.ok_or(not("it holds no record"))?;
    let record = reader.record(&entry)?;
    if record.kind != RecordKind::Segment {
        return Err(not("its first record is not a segment header"));
    }
    let header = SegmentHeader::decode(record.header.clone()).map_err(|_| not("its header cannot be read"))?;
    if header.format != FORMAT {
        return Err(not("its format is not one this version knows"));
    }
    record.follows(&first_link(&header.previous_link)).map_err(|source| reader.damaged(entry.offset, source))?;
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
        header_bytes: record.header,
        wrapped_key: record.payload,
        fragments: 0,
        good_bytes: entry.next_offset(),
        file_bytes: reader.len()?,
        link: record.link,
        footer: false,
        signed: None,
        damage: None,
        index: Vec::new(),
    })
}

/// Takes the next record into account; false at the end.
fn step(reader: &Reader, found: &mut Walk, depth: Depth) -> Result<bool, WalkError> {
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
