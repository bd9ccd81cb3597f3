use super::*;
use crate::index::walk::{Depth, walk};
use bytes::Bytes;
use campanile_proto::ids::{CameraId, OrganisationId, RunId, SegmentId};
use campanile_proto::segment::{
    DamagedRecord, Entry, FORMAT, PrivateKey, SegmentKey, SegmentReader, TRAILER_BYTES, footer_signature_input,
    key_pair,
};
use campanile_proto::types::v1::{Instant, RecordHeader, RecordKind, SegmentFooter, SegmentHeader, Stream, Suite};
use prost::Message;
use std::path::Path;
use std::sync::Arc;

fn header(suite: Suite) -> SegmentHeader {
    SegmentHeader {
        format: FORMAT,
        segment_id: SegmentId::random().into(),
        organisation_id: OrganisationId::from_u128(1).into(),
        camera_id: CameraId::random().into(),
        stream: Stream::Main.into(),
        run_id: RunId::random().into(),
        suite: suite.into(),
        hour: 500_000,
        retention_days: 7,
        ..Default::default()
    }
}

fn fragment(index: u64) -> RecordHeader {
    RecordHeader { kind: RecordKind::Fragment.into(), index, arrival: Some(Instant::default()), ..Default::default() }
}

/// Three fragments and their init section.
fn write(path: &Path, suite: Suite) -> (SegmentWriter, PrivateKey) {
    let (private, public) = key_pair();
    let to = (suite != Suite::Clear).then_some(&public);
    let mut writer = SegmentWriter::create(&OwnDisk, path, header(suite), to).unwrap();
    writer.init(Instant::default(), b"ftyp moov").unwrap();
    for index in 0..3 {
        writer.append(fragment(index), format!("moof mdat {index}").as_bytes()).unwrap();
    }
    (writer, private)
}

fn open_all(path: &Path, private: &PrivateKey) -> Vec<Vec<u8>> {
    let reader = SegmentReader::open(path).unwrap();
    let head = reader.head().unwrap();
    let key = SegmentKey::unwrap(&head.header, &head.header_bytes, &head.wrapped_key, private).unwrap();
    let mut plain = Vec::new();
    for entry in entries(&reader) {
        let Some(header) = entry.record_header() else { continue };
        let record = reader.record(&entry).unwrap();
        plain.push(key.open(head.header.suite, header.sealing, &record.header, &record.payload).unwrap());
    }
    plain
}

/// Records behind the first.
fn entries(reader: &SegmentReader) -> Vec<Entry> {
    reader.entries(reader.head().unwrap().body_offset).collect::<Result<_, _>>().unwrap()
}

#[test]
fn the_private_key_opens_what_was_sealed_and_the_disk_shows_none_of_it() {
    let folder = tempfile::tempdir().unwrap();
    for suite in [Suite::Aes256Gcm, Suite::Chacha20Poly1305] {
        let path = folder.path().join(format!("{suite:?}"));
        let (mut writer, private) = write(&path, suite);
        writer.close(Instant::default(), None).unwrap();
        let plain = open_all(&path, &private);
        let expected: [&[u8]; 4] = [b"ftyp moov", b"moof mdat 0", b"moof mdat 1", b"moof mdat 2"];
        assert_eq!(plain, expected);
        let disk = std::fs::read(&path).unwrap();
        assert!(!disk.windows(4).any(|bytes| bytes == b"mdat"));
    }
}

#[test]
fn in_the_clear_the_payload_is_what_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clear");
    let (writer, _) = write(&path, Suite::Clear);
    drop(writer);
    let reader = SegmentReader::open(&path).unwrap();
    let init = entries(&reader).remove(0);
    assert_eq!((init.prefix.kind, init.record_header().unwrap().sealing), (RecordKind::Init, 0));
    assert_eq!(reader.record(&init).unwrap().payload, Bytes::from_static(b"ftyp moov"));
}

#[test]
fn a_file_being_written_is_read_as_far_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("open");
    let (mut writer, _) = write(&path, Suite::Aes256Gcm);
    let reader = SegmentReader::open(&path).unwrap();
    assert_eq!(entries(&reader).len(), 4);
    let end = reader.size_bytes().unwrap();
    assert_eq!(reader.entry(end).unwrap(), None);
    let appended = writer.append(fragment(3), b"later").unwrap();
    let entry = reader.entry(end).unwrap().unwrap();
    assert_eq!((entry.offset, entry.link), (appended.offset, appended.record.link));
}

#[test]
fn a_footer_holds_table_and_signature_over_the_last_link() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("closed");
    let (mut writer, _) = write(&path, Suite::Aes256Gcm);
    let (id, last) = (writer.header().segment_id.clone(), writer.link());
    let signer: Signer = Arc::new(|input: &[u8]| input.to_vec());
    writer.close(Instant::default(), Some(&signer)).unwrap();
    let reader = SegmentReader::open(&path).unwrap();
    let closed = reader.record(entries(&reader).last().unwrap()).unwrap();
    let footer = SegmentFooter::decode(closed.header).unwrap();
    assert_eq!((closed.kind, footer.fragment_count), (RecordKind::Footer, 3));
    assert_eq!(footer.last_link, last.to_vec());
    assert_eq!(footer.edge_signature, footer_signature_input(&id, &last));
    for entry in &footer.table {
        let record = reader.record_at(entry.offset).unwrap();
        assert_eq!(record.kind, RecordKind::Fragment);
    }
}

#[test]
fn a_torn_tail_costs_the_torn_record_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole");
    let (writer, _) = write(&path, Suite::Aes256Gcm);
    let whole = writer.size_bytes();
    drop(writer);
    let bytes = std::fs::read(&path).unwrap();
    let starts = entries(&SegmentReader::open(&path).unwrap()).into_iter().map(|entry| entry.offset);
    let ends: Vec<u64> = starts.chain([whole]).collect();
    assert_eq!(ends.len(), 5, "an init section and three fragments");
    for cut in ends[0]..=whole {
        let torn = folder.path().join("torn");
        std::fs::write(&torn, &bytes[..cut as usize]).unwrap();
        let walked = walk(&torn, Depth::Verify).unwrap();
        let last_whole = ends.iter().copied().filter(|end| *end <= cut).max().unwrap();
        assert_eq!((walked.good_bytes, walked.file_bytes), (last_whole, cut));
        let fragments = ends.iter().filter(|end| **end <= cut).count().saturating_sub(2);
        assert_eq!(walked.fragments, fragments as u64, "cut at {cut}");
        assert_eq!(walked.damage.is_some(), cut > last_whole, "cut at {cut}");
        assert!(!walked.footer);
    }
}

#[test]
fn damage_in_the_middle_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    let (writer, _) = write(&path, Suite::Aes256Gcm);
    drop(writer);
    let whole = std::fs::read(&path).unwrap();
    let entries = entries(&SegmentReader::open(&path).unwrap());
    for (entry, next) in entries.iter().zip(&entries[1..]) {
        let mut bytes = whole.clone();
        // Within the payload: lengths still lead to the next record.
        bytes[next.offset as usize - TRAILER_BYTES - 1] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let walked = walk(&path, Depth::Verify).unwrap();
        assert_eq!((walked.good_bytes, walked.damage), (entry.offset, Some(DamagedRecord::Checksum)));
    }
}
