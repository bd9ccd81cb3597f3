//! Two whole segment files, byte for byte: one in clear, one sealed and signed.

use crate::records::{event, header, instant, record_header};
use crate::{golden, hash};
use bytes::Bytes;
use campanile_proto::segment::{
    Link, MAGIC, PrivateKey, Record, RecordPrefix, SegmentKey, first_link, footer_signature_input,
};
use campanile_proto::types::v1::{
    Codec, RecordHeader, RecordKind, SegmentFooter, SegmentHeader, Stream, Suite, TableEntry,
};
use prost::Message;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, UnparsedPublicKey};

pub const NAMES: &[&str] = &["segment_clear", "segment_sealed"];

/// A P-256 pair made for these files alone.
const EDGE_PRIVATE: &str = "81308eedd21762e181afec59cf1b9989353bc6cf150e2a5c5c687cd9e8a18cbd";
const EDGE_PUBLIC: &str = "042a9ec6e8bb4350864503e3102eefb1eef0e3c49a5e2a973fd31ae34c0db7887f\
                           62b53332fe3fd0a967ab57fd9c63c722df076a0b9185e08150b79a73cd7b8266";

fn hour_key() -> PrivateKey {
    PrivateKey::from_bytes(&hash(0x41)).unwrap()
}

fn segment_header(suite: Suite) -> SegmentHeader {
    match suite {
        Suite::Clear => SegmentHeader { suite: suite.into(), codec: Codec::H264.into(), ..header() },
        // Sealed: an index stream, so that the file shows an opened record too.
        _ => {
            SegmentHeader { suite: suite.into(), stream: Stream::Index.into(), codec: Codec::Index.into(), ..header() }
        }
    }
}

/// Kind, header and payload before sealing of everything between the segment record and the footer.
fn contents(suite: Suite) -> Vec<(RecordKind, RecordHeader, Vec<u8>)> {
    let head = |kind: RecordKind, sealing: u32, plain: &[u8]| RecordHeader {
        kind: kind.into(),
        sealing,
        index: if kind == RecordKind::Init { 0 } else { 599 + u64::from(sealing) },
        plain_size: plain.len() as u32,
        ..record_header()
    };
    let plain: Vec<(RecordKind, Vec<u8>)> = match suite {
        Suite::Clear => vec![
            (RecordKind::Init, b"ftyp moov".to_vec()),
            (RecordKind::Fragment, b"moof mdat one".to_vec()),
            (RecordKind::Fragment, b"moof mdat two".to_vec()),
        ],
        _ => vec![(RecordKind::Index, event().encode_to_vec()), (RecordKind::Index, event().encode_to_vec())],
    };
    let numbered = plain.into_iter().enumerate();
    numbered.map(|(sealing, (kind, plain))| (kind, head(kind, sealing as u32, &plain), plain)).collect()
}

/// Writes a file as a box does.
fn write(suite: Suite) -> Vec<u8> {
    let header = segment_header(suite);
    let header_bytes = Bytes::from(header.encode_to_vec());
    let key = SegmentKey::random().unwrap();
    let wrapped = match suite {
        Suite::Clear => Vec::new(),
        _ => key.wrap(&header, &header_bytes, &crate::federation::x25519(&hour_key())).unwrap(),
    };
    let mut file = MAGIC.to_vec();
    let mut link = first_link(&header.previous_link);
    let mut put = |file: &mut Vec<u8>, kind, head: Bytes, payload: Vec<u8>| -> (u64, Link) {
        let offset = file.len() as u64;
        let record = Record::following(&link, kind, head, payload.into());
        file.extend(record.encode());
        link = record.link;
        (offset, link)
    };
    let (_, mut last) = put(&mut file, RecordKind::Segment, header_bytes, wrapped);
    let mut footer = SegmentFooter { closed: Some(instant()), ..Default::default() };
    for (kind, head, plain) in contents(suite) {
        let head_bytes = Bytes::from(head.encode_to_vec());
        let payload = match suite {
            Suite::Clear => plain,
            _ => key.seal(suite.into(), head.sealing, &head_bytes, &plain).unwrap(),
        };
        footer.payload_bytes += payload.len() as u64;
        let (offset, link) = put(&mut file, kind, head_bytes, payload);
        last = link;
        if kind != RecordKind::Init {
            footer.fragment_count += 1;
            footer.table.push(TableEntry {
                offset,
                index: head.index,
                mono_us: 86_400_000_001,
                decode_time_90k: head.decode_time_90k,
                starts_with_key: head.starts_with_key,
            });
        }
    }
    footer.last_link = Bytes::copy_from_slice(&last);
    footer.edge_signature = sign(&footer_signature_input(&header.segment_id, &last)).into();
    put(&mut file, RecordKind::Footer, footer.encode_to_vec().into(), Vec::new());
    file
}

fn sign(input: &[u8]) -> Vec<u8> {
    let (private, public) = (hex::decode(EDGE_PRIVATE).unwrap(), hex::decode(EDGE_PUBLIC).unwrap());
    let random = SystemRandom::new();
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_ASN1_SIGNING, &private, &public, &random);
    pair.unwrap().sign(&random, input).unwrap().as_ref().to_vec()
}

/// Reads a file without any key: records, chain, and the same bytes when written again.
fn read(file: &Bytes) -> Vec<Record> {
    assert_eq!(file[..MAGIC.len()], MAGIC);
    let mut rest = file.slice(MAGIC.len()..);
    let (mut records, mut again) = (Vec::new(), MAGIC.to_vec());
    while !rest.is_empty() {
        let prefix = RecordPrefix::parse(&rest).unwrap();
        let record = Record::decode(&rest.split_to(prefix.record_bytes())).unwrap();
        again.extend(record.encode());
        records.push(record);
    }
    assert_eq!(again.as_slice(), file.as_ref());
    let header = SegmentHeader::decode(records[0].header.clone()).unwrap();
    let mut previous = first_link(&header.previous_link);
    for record in &records {
        record.follows(&previous).unwrap();
        previous = record.link;
    }
    records
}

/// Header, contents and footer of a file against what was written.
fn file_holds(name: &str, suite: Suite) {
    let file = golden(name, || write(suite));
    let records = read(&file);
    let header = SegmentHeader::decode(records[0].header.clone()).unwrap();
    assert_eq!(records[0].kind, RecordKind::Segment);
    assert_eq!(header, segment_header(suite));
    let key = match suite {
        Suite::Clear => None,
        _ => Some(SegmentKey::unwrap(&header, &records[0].header, &records[0].payload, &hour_key()).unwrap()),
    };
    let expected = contents(suite);
    assert_eq!(records.len(), expected.len() + 2);
    for (record, (kind, head, plain)) in records[1..].iter().zip(&expected) {
        assert_eq!(record.kind, *kind);
        assert_eq!(&RecordHeader::decode(record.header.clone()).unwrap(), head);
        let opened = match &key {
            None => record.payload.to_vec(),
            Some(key) => key.open(suite.into(), head.sealing, &record.header, &record.payload).unwrap(),
        };
        assert_eq!(&opened, plain);
    }
    let (last, before) = records.split_last().unwrap();
    let footer = SegmentFooter::decode(last.header.clone()).unwrap();
    let link = before.last().unwrap().link;
    assert_eq!(footer.last_link.as_ref(), link);
    assert_eq!(footer.fragment_count, 2);
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, hex::decode(EDGE_PUBLIC).unwrap());
    let input = footer_signature_input(&header.segment_id, &link);
    public.verify(&input, &footer.edge_signature).unwrap();
    for entry in &footer.table {
        let at = file.slice(entry.offset as usize..);
        let prefix = RecordPrefix::parse(&at).unwrap();
        let record = Record::decode(&at.slice(..prefix.record_bytes())).unwrap();
        assert_eq!(RecordHeader::decode(record.header).unwrap().index, entry.index);
    }
}

#[test]
fn a_segment_in_clear_holds() {
    file_holds("segment_clear", Suite::Clear);
}

#[test]
fn a_sealed_segment_opens_with_its_hour_key() {
    file_holds("segment_sealed", Suite::Aes256Gcm);
}
