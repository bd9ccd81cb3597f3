//! One segment being written.

use super::{Disk, SegmentError, SegmentFile, Signed, Signer};
use bytes::Bytes;
use campanile_proto::segment::{Link, MAGIC, PublicKey, Record, SegmentKey, first_link, footer_signature_input};
use campanile_proto::types::v1::{Instant, RecordHeader, RecordKind, SegmentFooter, SegmentHeader, Suite, TableEntry};
use prost::Message;
use std::path::{Path, PathBuf};

/// Holds the segment's key in memory only; forgotten when dropped.
pub struct SegmentWriter {
    file: Box<dyn SegmentFile>,
    path: PathBuf,
    header: SegmentHeader,
    header_bytes: Bytes,
    wrapped_key: Bytes,
    /// None: in the clear.
    key: Option<SegmentKey>,
    next_sealing: u32,
    link: Link,
    size_bytes: u64,
    payload_bytes: u64,
    table: Vec<TableEntry>,
    /// Records other than segment, init and footer.
    count: u64,
}

/// A record that was written.
#[derive(Debug, Clone)]
pub struct Appended {
    pub offset: u64,
    pub record: Record,
}

/// A segment that was closed.
#[derive(Debug, Clone)]
pub struct Closed {
    /// Behind the footer.
    pub link: Link,
    pub size_bytes: u64,
    pub signed: Signed,
}

impl SegmentWriter {
    /// Makes the file and writes the segment record; `to` is none in the clear, and `header.suite` says so too.
    pub fn create(
        disk: &dyn Disk,
        path: &Path,
        header: SegmentHeader,
        to: Option<&PublicKey>,
    ) -> Result<Self, SegmentError> {
        let file = disk.create(path).map_err(|source| SegmentError::Create { path: path.into(), source })?;
        let seal = |source| SegmentError::Seal { path: path.into(), source };
        let header_bytes = Bytes::from(header.encode_to_vec());
        let (key, wrapped_key) = match to {
            None => (None, Bytes::new()),
            Some(to) => {
                let key = SegmentKey::random().map_err(seal)?;
                let wrapped = key.wrap(&header, &header_bytes, to).map_err(seal)?;
                (Some(key), Bytes::from(wrapped))
            }
        };
        let mut writer = Self {
            file,
            path: path.into(),
            link: first_link(&header.previous_link),
            header,
            header_bytes: header_bytes.clone(),
            wrapped_key: wrapped_key.clone(),
            key,
            // 0 is the init section's, whether there is one or not.
            next_sealing: 1,
            size_bytes: 0,
            payload_bytes: 0,
            table: Vec::new(),
            count: 0,
        };
        writer.write(&MAGIC)?;
        writer.record(RecordKind::Segment, header_bytes, wrapped_key)?;
        Ok(writer)
    }

    /// Writes the init section, once, before the first fragment.
    pub fn init(&mut self, arrival: Instant, plain: &[u8]) -> Result<Appended, SegmentError> {
        let header = RecordHeader { kind: RecordKind::Init.into(), arrival: Some(arrival), ..Default::default() };
        self.seal_and_write(header, 0, plain)
    }

    /// Writes a fragment or an index record. `header.kind` says which; sealing and size are filled in here.
    pub fn append(&mut self, header: RecordHeader, plain: &[u8]) -> Result<Appended, SegmentError> {
        let sealing = self.next_sealing;
        self.next_sealing += 1;
        let entry = TableEntry {
            offset: self.size_bytes,
            index: header.index,
            mono_us: header.arrival.as_ref().map_or(0, |arrival| arrival.mono_us),
            decode_time_90k: header.decode_time_90k,
            starts_with_key: header.starts_with_key,
        };
        let appended = self.seal_and_write(header, sealing, plain)?;
        self.table.push(entry);
        self.count += 1;
        Ok(appended)
    }

    /// Writes the signed footer and brings everything to disk. `end`: of the last byte received.
    /// Nothing may be written behind it.
    pub fn close(&mut self, end: Instant, signer: Option<&Signer>) -> Result<Closed, SegmentError> {
        let last_link = Bytes::copy_from_slice(&self.link);
        let input = footer_signature_input(&self.header.segment_id, &last_link);
        let edge_signature = Bytes::from(signer.map(|sign| sign(&input)).unwrap_or_default());
        let signed = Signed { last_link: last_link.clone(), edge_signature: edge_signature.clone() };
        let footer = SegmentFooter {
            fragment_count: self.count,
            payload_bytes: self.payload_bytes,
            table: std::mem::take(&mut self.table),
            closed: Some(end),
            last_link,
            edge_signature,
        };
        self.record(RecordKind::Footer, footer.encode_to_vec().into(), Bytes::new())?;
        self.sync()?;
        Ok(Closed { link: self.link, size_bytes: self.size_bytes, signed })
    }

    /// Brings what was written to disk.
    pub fn sync(&self) -> Result<(), SegmentError> {
        self.file.sync().map_err(|source| SegmentError::Sync { path: self.path.clone(), source })
    }

    fn seal_and_write(
        &mut self,
        mut header: RecordHeader,
        sealing: u32,
        plain: &[u8],
    ) -> Result<Appended, SegmentError> {
        header.sealing = sealing;
        header.plain_size = plain.len() as u32;
        let bytes = Bytes::from(header.encode_to_vec());
        let payload = match &self.key {
            None => Bytes::copy_from_slice(plain),
            Some(key) => key
                .seal(self.header.suite, sealing, &bytes, plain)
                .map_err(|source| SegmentError::Seal { path: self.path.clone(), source })?
                .into(),
        };
        let kind = header.kind();
        self.record(kind, bytes, payload)
    }

    fn record(&mut self, kind: RecordKind, header: Bytes, payload: Bytes) -> Result<Appended, SegmentError> {
        let offset = self.size_bytes;
        let record = Record::following(&self.link, kind, header, payload);
        self.write(&record.encode())?;
        self.payload_bytes += record.payload.len() as u64;
        self.link = record.link;
        Ok(Appended { offset, record })
    }

    /// After a failed write the file ends in a torn record: nothing more may be written to it.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        self.file.append(bytes).map_err(|source| SegmentError::Write { path: self.path.clone(), source })?;
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// `SegmentHeader`, encoded.
    pub fn header_bytes(&self) -> &Bytes {
        &self.header_bytes
    }

    pub fn wrapped_key(&self) -> &Bytes {
        &self.wrapped_key
    }

    /// Newest link of the chain.
    pub fn link(&self) -> Link {
        self.link
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Fragments or index records so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn is_clear(&self) -> bool {
        self.header.suite() == Suite::Clear
    }
}
