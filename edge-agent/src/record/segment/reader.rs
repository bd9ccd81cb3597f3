//! Segments read without keys: headers, sealed payloads, the chain.

use super::SegmentError;
use bytes::{Bytes, BytesMut};
use campanile_proto::segment::{
    DamagedRecord, LINK_BYTES, Link, MAGIC, PREFIX_BYTES, Record, RecordPrefix, TRAILER_BYTES, first_link,
};
use campanile_proto::types::v1::{RecordHeader, RecordKind, SegmentFooter, SegmentHeader};
use prost::Message;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Reads a file from front to back; a record that is not whole yet is not there yet.
#[derive(Debug)]
pub struct SegmentReader {
    file: File,
    path: PathBuf,
    header: SegmentHeader,
    header_bytes: Bytes,
    wrapped_key: Bytes,
    /// Where the next record begins.
    at: u64,
}

/// A record without its payload. Its checksum is looked at by [`SegmentReader::record`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub offset: u64,
    pub kind: RecordKind,
    pub header_bytes: Bytes,
    pub payload_bytes: usize,
    pub link: Link,
}

/// A walk over the whole file.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Records of every kind.
    pub records: u64,
    /// Fragments or index records.
    pub count: u64,
    pub last_link: Link,
    /// Last record before the footer, or of all.
    pub last: Option<RecordHeader>,
    /// There when it was closed in order.
    pub footer: Option<SegmentFooter>,
    /// Bytes of whole records, magic included.
    pub whole_bytes: u64,
    /// Bytes behind them: a record torn by a crash.
    pub torn_bytes: u64,
}

impl Entry {
    pub fn record_header(&self) -> Option<RecordHeader> {
        RecordHeader::decode(self.header_bytes.clone()).ok()
    }
}

impl SegmentReader {
    /// Reads magic and segment record.
    pub fn open(path: &Path) -> Result<Self, SegmentError> {
        let file = File::open(path).map_err(|source| SegmentError::Read { path: path.into(), source })?;
        let no_segment = |reason| SegmentError::NoSegment { path: path.into(), reason };
        let mut reader = Self {
            file,
            path: path.into(),
            header: SegmentHeader::default(),
            header_bytes: Bytes::new(),
            wrapped_key: Bytes::new(),
            at: MAGIC.len() as u64,
        };
        match reader.read(0, MAGIC.len())? {
            Some(magic) if magic == MAGIC.as_slice() => {}
            _ => return Err(no_segment("it does not begin like one")),
        }
        let first = reader.next_entry()?.ok_or_else(|| no_segment("it ends before its header"))?;
        if first.kind != RecordKind::Segment {
            return Err(no_segment("its first record is no segment record"));
        }
        let record = reader.record(first.offset)?;
        reader.header =
            SegmentHeader::decode(record.header.clone()).map_err(|_| no_segment("its header cannot be read"))?;
        reader.header_bytes = record.header;
        reader.wrapped_key = record.payload;
        Ok(reader)
    }

    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// `SegmentHeader` as it stands in the file.
    pub fn header_bytes(&self) -> &Bytes {
        &self.header_bytes
    }

    pub fn wrapped_key(&self) -> &Bytes {
        &self.wrapped_key
    }

    /// The next whole record, without reading its payload; `None` at the (present) end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, SegmentError> {
        let offset = self.at;
        let Some(prefix) = self.read(offset, PREFIX_BYTES)? else { return Ok(None) };
        let prefix = RecordPrefix::parse(&prefix).map_err(|source| self.damaged(offset, source))?;
        let size = prefix.record_bytes() as u64;
        let link_at = offset + size - TRAILER_BYTES as u64;
        let Some(header_bytes) = self.read(offset + PREFIX_BYTES as u64, prefix.header_bytes)? else { return Ok(None) };
        let Some(trailer) = self.read(link_at, TRAILER_BYTES)? else { return Ok(None) };
        let mut link = [0; LINK_BYTES];
        link.copy_from_slice(&trailer[..LINK_BYTES]);
        self.at = offset + size;
        Ok(Some(Entry { offset, kind: prefix.kind, header_bytes, payload_bytes: prefix.payload_bytes, link }))
    }

    /// Continues at this record.
    pub fn seek(&mut self, offset: u64) {
        self.at = offset;
    }

    /// One whole record, its checksum looked at.
    pub fn record(&self, offset: u64) -> Result<Record, SegmentError> {
        let torn = |have: usize, want| self.damaged(offset, DamagedRecord::Torn { have, want });
        let prefix = self.read(offset, PREFIX_BYTES)?.ok_or_else(|| torn(0, PREFIX_BYTES))?;
        let prefix = RecordPrefix::parse(&prefix).map_err(|source| self.damaged(offset, source))?;
        let size = prefix.record_bytes();
        let bytes = self.read(offset, size)?.ok_or_else(|| torn(PREFIX_BYTES, size))?;
        Record::decode(&bytes).map_err(|source| self.damaged(offset, source))
    }

    /// Walks the whole file: checksums, chain, and what is torn at its end. Damage before the end is an error.
    pub fn verify(&mut self) -> Result<Verified, SegmentError> {
        self.at = MAGIC.len() as u64;
        let mut link = first_link(&self.header.previous_link);
        let mut found = Verified {
            records: 0,
            count: 0,
            last_link: link,
            last: None,
            footer: None,
            whole_bytes: self.at,
            torn_bytes: 0,
        };
        while let Some(entry) = self.next_entry()? {
            let record = self.record(entry.offset)?;
            record.follows(&link).map_err(|source| self.damaged(entry.offset, source))?;
            link = record.link;
            found.records += 1;
            match record.kind {
                RecordKind::Fragment | RecordKind::Index => {
                    found.count += 1;
                    found.last = entry.record_header();
                }
                RecordKind::Footer => found.footer = SegmentFooter::decode(record.header).ok(),
                _ => {}
            }
        }
        let size = self.file.metadata().map_err(|source| SegmentError::Read { path: self.path.clone(), source })?.len();
        found.last_link = link;
        found.whole_bytes = self.at;
        found.torn_bytes = size.saturating_sub(self.at);
        Ok(found)
    }

    /// Exactly `size` bytes at `offset`, or `None` when the file ends before.
    fn read(&self, offset: u64, size: usize) -> Result<Option<Bytes>, SegmentError> {
        let mut bytes = BytesMut::zeroed(size);
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(Some(bytes.freeze())),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(source) => Err(SegmentError::Read { path: self.path.clone(), source }),
        }
    }

    fn damaged(&self, offset: u64, source: DamagedRecord) -> SegmentError {
        SegmentError::Damaged { path: self.path.clone(), offset, source }
    }
}
