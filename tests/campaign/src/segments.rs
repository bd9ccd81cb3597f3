//! Segment files as a court would read them: from their bytes alone.

use anyhow::{Context, Result};
use campanile_proto::segment::{MAGIC, PREFIX_BYTES, Record, RecordPrefix, first_link};
use campanile_proto::types::v1::{RecordHeader, RecordKind, SegmentHeader, Suite};
use campanile_sim::fragments;
use campanile_sim::units::FileUnit;
use prost::Message;
use std::path::{Path, PathBuf};

pub const ENDING: &str = ".seg";

/// One fragment or index record.
#[derive(Debug, Clone)]
pub struct Piece {
    pub header: RecordHeader,
    /// Behind its record.
    pub end: u64,
}

impl Piece {
    /// UTC at which its last picture is over, as the box believed.
    pub fn over_us(&self) -> i64 {
        let lasts_us = i64::try_from(self.header.duration_90k * 100 / 9).unwrap_or(0);
        self.began_us() + lasts_us
    }

    pub fn began_us(&self) -> i64 {
        self.header.arrival.as_ref().map_or(0, |arrival| arrival.utc_us)
    }
}

/// What is whole of a segment, from its first byte on.
#[derive(Debug, Clone)]
pub struct Whole {
    pub header: SegmentHeader,
    pub pieces: Vec<Piece>,
    pub footer: bool,
    /// Up to here every record is whole and in the chain.
    pub good_bytes: u64,
    pub link: Vec<u8>,
    /// Of a segment in the clear: its `ftyp`, `moov`, `moof` and `mdat`.
    plain: Vec<u8>,
}

/// None when not even the first record is whole.
pub fn read(bytes: &[u8]) -> Option<Whole> {
    let mut at = MAGIC.len();
    if !bytes.starts_with(&MAGIC) {
        return None;
    }
    let mut found: Option<Whole> = None;
    while let Some(record) = record(bytes, at) {
        let size = RecordPrefix::parse(&bytes[at..at + PREFIX_BYTES]).ok()?.record_bytes();
        let end = (at + size) as u64;
        match &mut found {
            None => {
                let header = SegmentHeader::decode(record.header.clone()).ok()?;
                record.follows(&first_link(&header.previous_link)).ok()?;
                let link = record.link.to_vec();
                let plain = Vec::new();
                found = Some(Whole { header, pieces: Vec::new(), footer: false, good_bytes: end, link, plain });
            }
            Some(whole) => {
                let Ok(link) = whole.link.as_slice().try_into() else { break };
                if whole.footer || record.follows(&link).is_err() {
                    break;
                }
                whole.take(&record, end);
            }
        }
        at += size;
    }
    found
}

fn record(bytes: &[u8], at: usize) -> Option<Record> {
    let prefix = RecordPrefix::parse(bytes.get(at..at + PREFIX_BYTES)?).ok()?;
    let whole = bytes.get(at..at.checked_add(prefix.record_bytes())?)?;
    Record::decode(&bytes::Bytes::copy_from_slice(whole)).ok()
}

impl Whole {
    fn take(&mut self, record: &Record, end: u64) {
        match record.kind {
            RecordKind::Footer => self.footer = true,
            RecordKind::Fragment | RecordKind::Index => {
                let header = RecordHeader::decode(record.header.clone()).unwrap_or_default();
                self.pieces.push(Piece { header, end });
            }
            _ => {}
        }
        if self.header.suite() == Suite::Clear && matches!(record.kind, RecordKind::Init | RecordKind::Fragment) {
            self.plain.extend_from_slice(&record.payload);
        }
        self.good_bytes = end;
        self.link = record.link.to_vec();
    }

    /// Its access units; none of a sealed segment can be read.
    pub fn units(&self) -> Result<Vec<FileUnit>> {
        fragments::read(&self.plain).context("a fragment is damaged inside its whole record")
    }

    pub fn is_sealed(&self) -> bool {
        self.header.suite() != Suite::Clear
    }
}

/// Segment files below a media folder, in no order.
pub fn list(media: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![media.to_owned()]);
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.to_string_lossy().ends_with(ENDING) && !is_aside(&path) {
                found.push(path);
            }
        }
    }
    found
}

/// Set aside by the box as no segment.
pub fn is_aside(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("quarantine"))
}

/// `<camera>/<stream>` of a segment's path.
pub fn stream_of(path: &Path) -> Option<(String, String)> {
    let stream = path.parent()?.parent()?;
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    Some((name(stream.parent()?)?, name(stream)?))
}
