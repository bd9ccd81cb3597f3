//! Headers and index records of the segment format, and the register.

use crate::{AT_US, hash, holds, id};
use bytes::Bytes;
use campanile_proto::grid::CellSet;
use campanile_proto::types::v1::*;

pub const NAMES: &[&str] = &[
    "segment_header",
    "record_header",
    "segment_footer",
    "index_motion",
    "index_event",
    "index_thumbnail",
    "anchor",
    "register_leaf",
    "register_leaf_hold",
];

pub fn instant() -> Instant {
    Instant { boot_id: id(0xb0), mono_us: 86_400_000_001, utc_us: AT_US, uncertainty_us: 2_500 }
}

pub fn header() -> SegmentHeader {
    SegmentHeader {
        format: 1,
        segment_id: id(1),
        organisation_id: id(2),
        edge_id: id(3),
        camera_id: id(4),
        stream: Stream::Main.into(),
        codec: Codec::H265.into(),
        run_id: id(5),
        first_index: 600,
        opened: Some(instant()),
        suite: Suite::Aes256Gcm.into(),
        key_kind: KeyKind::Hour.into(),
        hour: 492_984,
        key_generation: 3,
        retention_days: 7,
        previous_segment_id: id(6),
        previous_link: hash(7),
    }
}

pub fn record_header() -> RecordHeader {
    RecordHeader {
        kind: RecordKind::Index.into(),
        sealing: 9,
        index: 612,
        arrival: Some(instant()),
        starts_with_key: true,
        decode_time_90k: 1_080_000,
        duration_90k: 90_000,
        sample_count: 25,
        rtp_time: 0xfedc_ba98,
        camera_ntp_us: AT_US - 40_000,
        object_id: id(8),
        revision: 4,
        plain_size: 65_537,
    }
}

pub fn footer() -> SegmentFooter {
    let entry = TableEntry {
        offset: 8_192,
        index: 600,
        mono_us: 86_400_000_001,
        decode_time_90k: 54_000_000,
        starts_with_key: true,
    };
    SegmentFooter {
        fragment_count: 600,
        payload_bytes: 150_000_000,
        table: vec![entry, TableEntry { index: 601, starts_with_key: false, ..entry }],
        closed: Some(instant()),
        last_link: hash(0x11),
        edge_signature: Bytes::from_static(b"ECDSA P-256, DER"),
    }
}

fn cells() -> Bytes {
    let cells = CellSet::touched_by(&[(0.25, 0.25), (0.5, 0.25), (0.5, 0.75)]);
    Bytes::copy_from_slice(&cells.to_bytes())
}

fn detector() -> Option<Detector> {
    Some(Detector { name: "cells".into(), version: "1".into() })
}

pub fn picture_box() -> Box {
    Box { left: 2_500, top: 1_250, right: 5_000, bottom: 10_000 }
}

pub fn label() -> Label {
    Label { name: "persona".into(), source: "camera".into() }
}

pub fn motion() -> IndexRecord {
    let second = |blind| MotionSecond { moved: cells(), looked: cells(), blind };
    let seconds = vec![second(false), second(true)];
    let motion = MotionSeconds { camera_id: id(4), start: Some(instant()), seconds, detector: detector() };
    IndexRecord { content: Some(index_record::Content::Motion(motion)) }
}

pub fn event() -> IndexRecord {
    let event = Event {
        event_id: id(10),
        camera_id: id(4),
        start: Some(instant()),
        end: Some(instant()),
        ongoing: true,
        union: Some(picture_box()),
        moved: cells(),
        peak_cells: 44,
        detector: detector(),
        labels: vec![label()],
    };
    IndexRecord { content: Some(index_record::Content::Event(event)) }
}

pub fn thumbnail() -> IndexRecord {
    let thumbnail = Thumbnail {
        event_id: id(10),
        camera_id: id(4),
        at: Some(instant()),
        width: 320,
        height: 180,
        jpeg: Bytes::from_static(&[0xff, 0xd8, 0xff, 0xd9]),
    };
    IndexRecord { content: Some(index_record::Content::Thumbnail(thumbnail)) }
}

pub fn anchor() -> Anchor {
    Anchor {
        boot_id: id(0xb0),
        mono_us: 86_400_000_001,
        utc_us: AT_US,
        uncertainty_us: 2_500,
        source: TimeSource::Ntp.into(),
    }
}

pub fn leaf() -> RegisterLeaf {
    RegisterLeaf {
        sequence: 41,
        utc_us: AT_US,
        organisation_id: id(2),
        act: Act::Playback.into(),
        phase: Phase::Closed.into(),
        request_id: id(12),
        operator_commitment: hash(1),
        purpose_commitment: hash(2),
        case_commitment: hash(3),
        requester_organisation_id: id(13),
        camera_ids: vec![id(4), id(14)],
        from_us: AT_US - 60_000_000,
        to_us: AT_US,
        agreement_id: id(15),
        clause: "3.3".into(),
        items: 30,
        bytes_sent: 7_500_000,
        reason: "REVOKED".into(),
        hold_id: Bytes::new(),
    }
}

pub fn leaf_of_hold() -> RegisterLeaf {
    RegisterLeaf { act: Act::HoldPlaced.into(), phase: Phase::Opened.into(), hold_id: id(16), ..leaf() }
}

#[test]
fn headers_footers_and_index_records_hold() {
    holds("segment_header", &header());
    holds("record_header", &record_header());
    holds("segment_footer", &footer());
    holds("index_motion", &motion());
    holds("index_event", &event());
    holds("index_thumbnail", &thumbnail());
    holds("anchor", &anchor());
    holds("register_leaf", &leaf());
    holds("register_leaf_hold", &leaf_of_hold());
}
