//! Segment files read in place, without any key: also one that is being written, and one that was torn.

use super::FORMAT;
use super::record::{
    DamagedRecord, LINK_BYTES, Link, MAGIC, MAX_HEADER_BYTES, PREFIX_BYTES, Record, RecordPrefix, TRAILER_BYTES,
    first_link,
};
use crate::kind::Kind;
use crate::types::v1::{RecordHeader, RecordKind, SegmentHeader};
use bytes::Bytes;
use prost::Message;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why a file, or a part of it, cannot be read as a segment.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a segment: {reason}")]
    NotASegment { path: PathBuf, reason: &'static str },
    #[error("{path} is damaged at byte {offset}")]
    Damaged { path: PathBuf, offset: u64, source: DamagedRecord },
}

impl ReadError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Kind::NotFound,
            Self::Read { .. } => Kind::Internal,
            Self::NotASegment { .. } | Self::Damaged { .. } => Kind::Invalid,
        }
    }
}

/// Reads one file; never past what is whole.
#[derive(Debug)]
pub struct SegmentReader {
    path: PathBuf,
    file: File,
}

/// The first record: which segment it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    pub header: SegmentHeader,
    /// `SegmentHeader` as it stands in the file.
    pub header_bytes: Bytes,
    pub wrapped_key: Bytes,
    pub link: Link,
    /// Where the next record stands.
    pub body_offset: u64,
}

/// A record without its payload. Its checksum is looked at by [`SegmentReader::record`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    /// None in the first record, in a footer, and in what cannot be read.
    pub fn record_header(&self) -> Option<RecordHeader> {
        let has_one = matches!(self.prefix.kind, RecordKind::Init | RecordKind::Fragment | RecordKind::Index);
        has_one.then(|| RecordHeader::decode(self.header.clone()).ok()).flatten()
    }
}

impl SegmentReader {
    /// Looks at the file's first bytes only.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::Read { path: path.to_owned(), source })?;
        let reader = Self { file, path: path.to_owned() };
        let mut magic = [0; MAGIC.len()];
        if !reader.read_at(&mut magic, 0)? || magic != MAGIC {
            return Err(reader.not_a_segment("it does not begin with CAMPSEG1"));
        }
        Ok(reader)
    }

    /// Where the first record stands.
    pub const fn first_offset() -> u64 {
        MAGIC.len() as u64
    }

    /// At this moment: a file may be growing.
    pub fn size_bytes(&self) -> Result<u64, ReadError> {
        let metadata = self.file.metadata();
        metadata.map(|metadata| metadata.len()).map_err(|source| ReadError::Read { path: self.path.clone(), source })
    }

    /// The first record, its checksum and link looked at; without it the file is no segment.
    pub fn head(&self) -> Result<Head, ReadError> {
        let entry = self.entry(Self::first_offset())?.ok_or_else(|| self.not_a_segment("it holds no record"))?;
        let record = self.record(&entry)?;
        if record.kind != RecordKind::Segment {
            return Err(self.not_a_segment("its first record is not a segment header"));
        }
        let header = SegmentHeader::decode(record.header.clone());
        let header = header.map_err(|_| self.not_a_segment("its header cannot be read"))?;
        if header.format != FORMAT {
            return Err(self.not_a_segment("its format is not one this version knows"));
        }
        record.follows(&first_link(&header.previous_link)).map_err(|source| self.damaged(entry.offset, source))?;
        Ok(Head {
            header,
            header_bytes: record.header,
            wrapped_key: record.payload,
            link: record.link,
            body_offset: entry.next_offset(),
        })
    }

    /// The record's header at `offset`; none at the end of what is written. Its payload is not looked at.
    pub fn entry(&self, offset: u64) -> Result<Option<Entry>, ReadError> {
        let size = self.size_bytes()?;
        if offset >= size {
            return Ok(None);
        }
        let mut prefix = [0; PREFIX_BYTES];
        let have = size - offset;
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

    /// The records from `offset` on; an error is the last.
    pub fn entries(&self, offset: u64) -> impl Iterator<Item = Result<Entry, ReadError>> {
        let mut next = Some(offset);
        std::iter::from_fn(move || {
            let found = self.entry(next.take()?).transpose()?;
            next = found.as_ref().ok().map(Entry::next_offset);
            Some(found)
        })
    }

    /// The whole record at an entry, its checksum looked at; its link is the caller's to look at.
    pub fn record(&self, entry: &Entry) -> Result<Record, ReadError> {
        let mut bytes = vec![0; entry.prefix.record_bytes()];
        if !self.read_at(&mut bytes, entry.offset)? {
            let (have, want) = (0, bytes.len());
            return Err(self.damaged(entry.offset, DamagedRecord::Torn { have, want }));
        }
        Record::decode(&Bytes::from(bytes)).map_err(|source| self.damaged(entry.offset, source))
    }

    /// As [`Self::record`], by its place.
    pub fn record_at(&self, offset: u64) -> Result<Record, ReadError> {
        match self.entry(offset)? {
            Some(entry) => self.record(&entry),
            None => Err(self.damaged(offset, DamagedRecord::Torn { have: 0, want: PREFIX_BYTES })),
        }
    }

    /// Says where this file is damaged.
    pub fn damaged(&self, offset: u64, source: DamagedRecord) -> ReadError {
        ReadError::Damaged { path: self.path.clone(), offset, source }
    }

    /// Says why this file is none.
    pub fn not_a_segment(&self, reason: &'static str) -> ReadError {
        ReadError::NotASegment { path: self.path.clone(), reason }
    }

    /// False when the file ends before the buffer is full.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<bool, ReadError> {
        match self.file.read_exact_at(buffer, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(ReadError::Read { path: self.path.clone(), source }),
        }
    }
}
