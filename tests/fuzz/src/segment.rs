//! A segment file, on a disk that somebody else had in hand.

use bytes::Bytes;
use campanile_proto::segment::{
    Ending, LINK_BYTES, MAGIC, PREFIX_BYTES, Record, RecordPrefix, SegmentReader, TRAILER_BYTES, first_link, inspect,
    next_link,
};
use campanile_proto::types::v1::SegmentHeader;
use edge_agent::index::walk::{Depth, walk};
use prost::Message;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// The first byte says whether links and checksums are put right, the rest is the file: what passes them is read deeper
/// than chance would get. Gives how many fragments were verified.
pub fn segment(bytes: &[u8]) -> u64 {
    let Some((&mended, bytes)) = bytes.split_first() else { return 0 };
    let mut file = bytes.to_vec();
    if mended % 2 == 1 {
        mend(&mut file);
    }
    record(&file);
    with_file(&file, |path| {
        let skimmed = walk(path, Depth::Skim);
        let verified = walk(path, Depth::Verify);
        let (Ok(skimmed), Ok(verified)) = (skimmed, verified) else {
            read(path);
            return 0;
        };
        assert!(verified.good_bytes <= skimmed.good_bytes && skimmed.good_bytes <= file.len() as u64);
        assert_eq!((skimmed.id, skimmed.camera), (verified.id, verified.camera));
        assert!(verified.index.len() as u64 <= verified.fragments);
        for entry in &verified.index {
            let record = SegmentReader::open(path).and_then(|segment| segment.record_at(entry.offset));
            let record = record.expect("it was verified");
            assert!(!record.header.is_empty());
        }
        // What is looked over whole walks to the same end.
        if let Ok(whole) = inspect(&mut file.as_slice(), None) {
            assert_eq!((verified.good_bytes, verified.damage), (file.len() as u64, None));
            assert_eq!((whole.count, whole.ending != Ending::Open), (verified.fragments, verified.footer));
        }
        read(path);
        verified.fragments
    })
}

/// The reader below the walk, also behind a footer.
fn read(path: &Path) {
    let Ok(reader) = SegmentReader::open(path) else { return };
    let mut before = 0;
    for entry in reader.entries(SegmentReader::first_offset()).map_while(Result::ok) {
        assert!(entry.offset > before, "it goes forward");
        before = entry.offset;
        let _ = entry.record_header();
        let _ = reader.record(&entry);
    }
}

/// What is read as a record is written as the same bytes.
fn record(file: &[u8]) {
    let Some(rest) = file.get(MAGIC.len()..) else { return };
    let bytes = Bytes::copy_from_slice(rest);
    if let Ok(record) = Record::decode(&bytes) {
        let again = record.encode();
        assert_eq!(again, bytes[..again.len()]);
    }
}

/// Gives every record that fits the link and checksum that follow from what it holds.
fn mend(file: &mut [u8]) {
    let (mut at, mut link) = (MAGIC.len(), None);
    while let Some(prefix) = file.get(at..).and_then(|rest| RecordPrefix::parse(rest).ok()) {
        let size = prefix.record_bytes();
        let Some(record) = file.get_mut(at..at + size) else { return };
        let (body, trailer) = record.split_at_mut(size - TRAILER_BYTES);
        let (header, payload) = body[PREFIX_BYTES..].split_at(prefix.header_bytes);
        let before = link.unwrap_or_else(|| {
            first_link(&SegmentHeader::decode(header).map(|header| header.previous_link).unwrap_or_default())
        });
        let following = next_link(&before, header, payload);
        trailer[..LINK_BYTES].copy_from_slice(&following);
        link = Some(following);
        let (whole, checksum) = record.split_at_mut(size - 4);
        checksum.copy_from_slice(&checksum_of(whole));
        at += size;
    }
}

/// CRC-32C, as an encoded record carries it.
fn checksum_of(whole: &[u8]) -> [u8; 4] {
    // Reflected polynomial of RFC 3720.
    let crc = whole.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    (!crc).to_le_bytes()
}

thread_local! {
    static FILE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// The bytes as a file in memory, one a thread.
fn with_file<T>(bytes: &[u8], look: impl FnOnce(&Path) -> T) -> T {
    let path = FILE.with_borrow_mut(|kept| {
        let name = || {
            let memory = Path::new("/dev/shm");
            let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
            let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-");
            folder.join(format!("campanile-fuzz-{}-{thread}", std::process::id()))
        };
        kept.get_or_insert_with(name).clone()
    });
    std::fs::write(&path, bytes).expect("there is memory for a file");
    let seen = look(&path);
    let _ = std::fs::remove_file(&path);
    seen
}
