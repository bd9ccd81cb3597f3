//! Looking a whole segment file over without any key: what a box, a hub, and a court's expert can each do alone.
//!
//! Everything a file states twice is compared: checksums, the chain, the order of records, what the footer says of
//! them, and the signature of the box over the last link.

use super::record::{DamagedRecord, LINK_BYTES, Link, MAGIC, PREFIX_BYTES, Record, RecordPrefix, first_link};
use super::{FORMAT, footer_signature_input};
use crate::kind::Kind;
use crate::types::v1::{RecordHeader, RecordKind, SegmentFooter, SegmentHeader, TableEntry};
use bytes::Bytes;
use prost::Message;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use std::io::Read;

/// Why a file is not a segment as its box wrote it.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("cannot read the segment")]
    Read(#[source] std::io::Error),
    #[error("it does not begin with CAMPSEG1")]
    Magic,
    #[error("the record at byte {offset} is damaged")]
    Damaged { offset: u64, source: DamagedRecord },
    #[error("the record at byte {offset} contradicts the file: {what}")]
    Contradiction { offset: u64, what: &'static str },
    #[error("the signature in its footer is not of this box")]
    Signature,
}

impl InspectError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read(_) => Kind::Internal,
            _ => Kind::Invalid,
        }
    }
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a footer whose signature by the given key holds.
    Signed,
    /// With a footer; there was no key to try its signature with, or the box had none.
    Closed,
    /// Behind a whole record: it is being written, or a crash ended it. Nothing says what is missing.
    Open,
}

/// A file whose records are whole, follow on each other, and are what its footer says.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspected {
    pub header: SegmentHeader,
    /// Fragments or index records.
    pub count: u64,
    pub payload_bytes: u64,
    /// Of the last record before the footer.
    pub last_link: Link,
    pub ending: Ending,
}

/// Reads a segment from its first byte to its last, a record in memory at a time. `signer`: the public key of the
/// box's certificate, an uncompressed point of P-256 (SEC 1, section 2.3.3).
pub fn inspect(file: &mut impl Read, signer: Option<&[u8]>) -> Result<Inspected, InspectError> {
    let mut reader = Reader { file, offset: 0 };
    if reader.take(MAGIC.len())?.as_ref() != MAGIC {
        return Err(InspectError::Magic);
    }
    let (at, first) = (reader.offset, reader.record()?);
    let first = first.ok_or(InspectError::Contradiction { offset: at, what: "there is no record" })?;
    let mut looked = Looked::begin(at, &first)?;
    loop {
        let at = reader.offset;
        let Some(record) = reader.record()? else {
            return Ok(looked.end(Ending::Open));
        };
        record.follows(&looked.link).map_err(|source| InspectError::Damaged { offset: at, source })?;
        if record.kind == RecordKind::Footer {
            let signed = looked.footer(at, &record, signer)?;
            return match reader.take(1)?.is_empty() {
                true => Ok(looked.end(if signed { Ending::Signed } else { Ending::Closed })),
                false => Err(InspectError::Contradiction { offset: reader.offset, what: "bytes behind the footer" }),
            };
        }
        looked.record(at, &record)?;
    }
}

struct Reader<'a, R> {
    file: &'a mut R,
    offset: u64,
}

impl<R: Read> Reader<'_, R> {
    /// As many bytes as there are, at most `size`.
    fn take(&mut self, size: usize) -> Result<Bytes, InspectError> {
        let mut bytes = Vec::new();
        self.file.by_ref().take(size as u64).read_to_end(&mut bytes).map_err(InspectError::Read)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.into())
    }

    /// The next record; none at the end of the file.
    fn record(&mut self) -> Result<Option<Record>, InspectError> {
        let offset = self.offset;
        let damaged = |source| InspectError::Damaged { offset, source };
        let prefix = self.take(PREFIX_BYTES)?;
        if prefix.is_empty() {
            return Ok(None);
        }
        let size = RecordPrefix::parse(&prefix).map_err(damaged)?.record_bytes();
        let rest = self.take(size - PREFIX_BYTES)?;
        Record::decode(&[prefix, rest].concat().into()).map(Some).map_err(damaged)
    }
}

/// What was read so far.
struct Looked {
    header: SegmentHeader,
    link: Link,
    table: Vec<TableEntry>,
    payload_bytes: u64,
    has_init: bool,
}

impl Looked {
    fn begin(offset: u64, first: &Record) -> Result<Self, InspectError> {
        let contradiction = |what| InspectError::Contradiction { offset, what };
        if first.kind != RecordKind::Segment {
            return Err(contradiction("the first record is not the segment's"));
        }
        let header = SegmentHeader::decode(first.header.clone()).map_err(|_| contradiction("an unreadable header"))?;
        if header.format != FORMAT {
            return Err(contradiction("a format that is not known"));
        }
        if !matches!(header.previous_link.len(), 0 | LINK_BYTES) {
            return Err(contradiction("a previous link that is none"));
        }
        let before = first_link(&header.previous_link);
        first.follows(&before).map_err(|source| InspectError::Damaged { offset, source })?;
        let payload_bytes = first.payload.len() as u64;
        Ok(Self { header, link: first.link, table: Vec::new(), payload_bytes, has_init: false })
    }

    fn record(&mut self, offset: u64, record: &Record) -> Result<(), InspectError> {
        let contradiction = |what| InspectError::Contradiction { offset, what };
        let header = RecordHeader::decode(record.header.clone()).map_err(|_| contradiction("an unreadable header"))?;
        if header.kind() != record.kind {
            return Err(contradiction("two kinds in one record"));
        }
        match record.kind {
            RecordKind::Init if self.has_init || !self.table.is_empty() || header.sealing != 0 => {
                return Err(contradiction("an init section out of place"));
            }
            RecordKind::Init => self.has_init = true,
            RecordKind::Fragment | RecordKind::Index => {
                let number = self.table.len() as u64;
                if u64::from(header.sealing) != number + 1 {
                    return Err(contradiction("a sealing out of order"));
                }
                // What found no place in the box's queue leaves a hole in them.
                let least = self.table.last().map_or(self.header.first_index, |before| before.index.saturating_add(1));
                if header.index < least {
                    return Err(contradiction("an index out of order"));
                }
                self.table.push(TableEntry {
                    offset,
                    index: header.index,
                    mono_us: header.arrival.as_ref().map_or(0, |arrival| arrival.mono_us),
                    decode_time_90k: header.decode_time_90k,
                    starts_with_key: header.starts_with_key,
                });
            }
            _ => return Err(contradiction("a second segment record")),
        }
        self.payload_bytes += record.payload.len() as u64;
        self.link = record.link;
        Ok(())
    }

    /// Whether its signature was tried, and holds.
    fn footer(&self, offset: u64, record: &Record, signer: Option<&[u8]>) -> Result<bool, InspectError> {
        let contradiction = |what| InspectError::Contradiction { offset, what };
        let footer = SegmentFooter::decode(record.header.clone()).map_err(|_| contradiction("an unreadable footer"))?;
        if footer.last_link != self.link.as_slice() {
            return Err(contradiction("a footer of another chain"));
        }
        if footer.fragment_count != self.table.len() as u64 || footer.payload_bytes != self.payload_bytes {
            return Err(contradiction("a footer that counts otherwise"));
        }
        if footer.table != self.table {
            return Err(contradiction("a table of other fragments"));
        }
        let Some(signer) = signer else { return Ok(false) };
        let input = footer_signature_input(&self.header.segment_id, &footer.last_link);
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, signer);
        key.verify(&input, &footer.edge_signature).map_err(|_| InspectError::Signature)?;
        Ok(true)
    }

    fn end(self, ending: Ending) -> Inspected {
        Inspected {
            count: self.table.len() as u64,
            payload_bytes: self.payload_bytes,
            last_link: self.link,
            header: self.header,
            ending,
        }
    }
}
