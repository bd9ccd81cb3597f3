//! Box and hub.

use crate::records::{anchor, header, instant, record_header};
use crate::{AT_US, hash, holds, id, written};
use bytes::Bytes;
use campanile_proto::edge::v1::*;
use campanile_proto::signed;
use campanile_proto::types::v1::{Codec, Stream, TimeSource};
use ed25519_dalek::SigningKey;
use prost::Message;

pub const NAMES: &[&str] = &[
    "enrol_request",
    "enrol_response",
    "renew_request",
    "renew_response",
    "signed_keys",
    "edge_hello",
    "edge_report_camera",
    "edge_report_camera_losses",
    "edge_report_segment",
    "edge_report_segment_signed",
    "edge_report_segment_suspect",
    "edge_report_sealed",
    "edge_report_health",
    "edge_report_health_alarm",
    "edge_report_health_days",
    "edge_report_anchor",
    "edge_report_gap",
    "edge_fetch_refused",
    "edge_applied",
    "hub_welcome",
    "hub_ack",
    "hub_fetch_span",
    "hub_fetch_fragments",
    "hub_fetch_live",
    "hub_cancel",
    "hub_replay",
    "hub_keys",
    "hub_desired",
    "hub_desired_pins",
    "hub_desired_masks",
    "hub_time",
    "hub_goodbye",
    "deliver_open",
    "deliver_segment",
    "deliver_record",
    "deliver_end",
    "deliver_window",
    "deliver_cancel",
];

fn organisation_key() -> SigningKey {
    SigningKey::from_bytes(&[0x21; 32])
}

fn signed_keys() -> SignedKeys {
    let keys = SealingKeys {
        organisation_id: id(2),
        edge_id: id(3),
        generation: 3,
        first_hour: 492_984,
        hour_keys: vec![hash(0x31), hash(0x32)],
        reserve_key: hash(0x33),
        retention_days: 7,
    };
    let payload = keys.encode_to_vec();
    let signature = signed::sign(signed::EDGE, "SealingKeys", &payload, &organisation_key());
    SignedKeys { payload: payload.into(), signature: signature.into() }
}

fn pinning() -> Desired {
    let pin = Pin {
        hold_id: id(16),
        camera_id: id(4),
        from_us: AT_US - 60_000_000,
        to_us: AT_US,
        until_us: AT_US + 86_400_000_000,
    };
    Desired { generation: 5, retention_days: 7, pins: vec![pin], masked_camera_ids: Vec::new() }
}

fn masking() -> Desired {
    Desired { generation: 5, retention_days: 7, pins: Vec::new(), masked_camera_ids: vec![id(4), id(5)] }
}

pub fn to_hub() -> Vec<(&'static str, EdgeMessage)> {
    use edge_message::Message::*;
    use report::Body;
    let report = |body| {
        Report(campanile_proto::edge::v1::Report {
            epoch: id(0xe0),
            sequence: 17,
            object_id: id(8),
            revision: 4,
            body: Some(body),
        })
    };
    let state = StreamState {
        stream: Stream::Sub.into(),
        codec: Codec::H264.into(),
        width: 640,
        height: 360,
        condition: CameraCondition::Unreachable.into(),
        detail: "la telecamera non risponde".into(),
        since: Some(instant()),
        ..StreamState::default()
    };
    let losses = StreamState { lost_packets: 40, lost_pictures: 7, ..state.clone() };
    let camera = CameraState {
        camera_id: id(4),
        name: "Piazza del Duomo".into(),
        site: "Centro".into(),
        address: "Piazza del Duomo 1".into(),
        latitude: 43.8808,
        longitude: 11.0966,
        streams: vec![state],
        removed: true,
    };
    let segment = SegmentState {
        header: header().encode_to_vec().into(),
        wrapped_key: Bytes::from_static(b"enc and key"),
        start: Some(instant()),
        end: Some(instant()),
        fragment_count: 12,
        size_bytes: 3_000_000,
        newest_link: hash(9),
        closed: true,
        deleted_by: "retention".into(),
        ..SegmentState::default()
    };
    let signed = SegmentState { last_link: hash(8), edge_signature: hash(7), ..segment.clone() };
    let suspect = SegmentState { suspect: "a flush failed: Input/output error".into(), ..segment.clone() };
    let lossy = CameraState { streams: vec![losses], ..camera.clone() };
    let sealed = SealedRecord {
        segment_header: header().encode_to_vec().into(),
        wrapped_key: Bytes::from_static(b"enc and key"),
        header: record_header().encode_to_vec().into(),
        payload: Bytes::from_static(b"sealed"),
    };
    let health = EdgeHealth {
        at: Some(instant()),
        software: "0.1.0".into(),
        disk_free_bytes: 1 << 40,
        disk_total_bytes: 1 << 41,
        memory_bytes: 150 << 20,
        load: 0.75,
        outbox_waiting: 3,
        clock: TimeSource::Hub.into(),
        clock_uncertainty_us: 2_500,
        analyse_restarts: 1,
        certificate_expires_us: AT_US as u64 + 1,
        temperature_celsius: 48.5,
        acknowledged_through: 16,
        ..EdgeHealth::default()
    };
    let alarm = Alarm {
        kind: AlarmKind::DiskError.into(),
        camera_id: id(4),
        sentence: "guarda il disco".into(),
        at: Some(instant()),
    };
    let alarming = EdgeHealth { alarms: vec![alarm], ..health.clone() };
    let foreseeing = EdgeHealth { days_kept: 3.5, days_agreed: 7, ..health.clone() };
    let gap = Gap {
        camera_id: id(4),
        stream: Stream::Main.into(),
        start: Some(instant()),
        end: Some(instant()),
        ongoing: true,
        cause: CameraCondition::NoBytes.into(),
    };
    let hello = campanile_proto::edge::v1::Hello {
        oldest_protocol: 1,
        newest_protocol: 2,
        features: vec!["live".into()],
        epoch: id(0xe0),
        next_sequence: 18,
        acknowledged_through: 16,
        boot_id: id(0xb0),
        software: "0.1.0".into(),
        now: Some(instant()),
        desired_generation: 5,
        key_generation: 3,
        acknowledged_count: 12,
    };
    let refused = campanile_proto::edge::v1::FetchRefused { fetch_id: id(0xf0), reason: "deleted".into() };
    let applied = campanile_proto::edge::v1::Applied { generation: 5, problems: vec!["disk full".into()] };
    let messages = vec![
        ("edge_hello", Hello(hello)),
        ("edge_report_camera", report(Body::Camera(camera))),
        ("edge_report_camera_losses", report(Body::Camera(lossy))),
        ("edge_report_segment", report(Body::Segment(segment))),
        ("edge_report_segment_signed", report(Body::Segment(signed))),
        ("edge_report_segment_suspect", report(Body::Segment(suspect))),
        ("edge_report_sealed", report(Body::Sealed(sealed))),
        ("edge_report_health", report(Body::Health(health))),
        ("edge_report_health_alarm", report(Body::Health(alarming))),
        ("edge_report_health_days", report(Body::Health(foreseeing))),
        ("edge_report_anchor", report(Body::Anchor(anchor()))),
        ("edge_report_gap", report(Body::Gap(gap))),
        ("edge_fetch_refused", FetchRefused(refused)),
        ("edge_applied", Applied(applied)),
    ];
    messages.into_iter().map(|(name, message)| (name, EdgeMessage { message: Some(message) })).collect()
}

pub fn from_hub() -> Vec<(&'static str, HubMessage)> {
    use fetch::What;
    use hub_message::Message::*;
    let range = |first, last| SequenceRange { first, last };
    let welcome = campanile_proto::edge::v1::Welcome {
        protocol: 1,
        features: vec!["live".into()],
        catalogue_incarnation: id(0xc0),
        held: vec![range(1, 9), range(12, 16)],
    };
    let ack = campanile_proto::edge::v1::Ack { epoch: id(0xe0), ranges: vec![range(1, 17)], expired: 2, refused: 1 };
    let fetch = |what| {
        Fetch(campanile_proto::edge::v1::Fetch {
            fetch_id: id(0xf0),
            camera_id: id(4),
            stream: Stream::Main.into(),
            what: Some(what),
            class: FetchClass::Playback.into(),
            headers_only: true,
            byte_budget: 1 << 30,
        })
    };
    let span = TimeSpan { from_us: AT_US - 30_000_000, to_us: AT_US };
    let fragments = FragmentRange { run_id: id(5), first: 600, last: 629 };
    let time = HubTime { utc_us: AT_US, uncertainty_us: 1_000, signature: Bytes::from(vec![0x55; 64]) };
    let messages = vec![
        ("hub_welcome", Welcome(welcome)),
        ("hub_ack", Ack(ack)),
        ("hub_fetch_span", fetch(What::Span(span))),
        ("hub_fetch_fragments", fetch(What::Fragments(fragments))),
        ("hub_fetch_live", fetch(What::Live(Follow {}))),
        ("hub_cancel", Cancel(CancelFetch { fetch_id: id(0xf0) })),
        ("hub_replay", Replay(campanile_proto::edge::v1::Replay { since_us: AT_US })),
        ("hub_keys", Keys(signed_keys())),
        (
            "hub_desired",
            Desired(campanile_proto::edge::v1::Desired { generation: 5, retention_days: 7, ..Default::default() }),
        ),
        ("hub_desired_pins", Desired(pinning())),
        ("hub_desired_masks", Desired(masking())),
        ("hub_time", Time(time)),
        ("hub_goodbye", Goodbye(campanile_proto::edge::v1::Goodbye { reason: "superseded".into() })),
    ];
    messages.into_iter().map(|(name, message)| (name, HubMessage { message: Some(message) })).collect()
}

pub fn up() -> Vec<(&'static str, DeliverUp)> {
    use deliver_up::Message::*;
    let segment =
        DeliverSegment { header: header().encode_to_vec().into(), wrapped_key: Bytes::from_static(b"enc and key") };
    let record = DeliverRecord {
        header: record_header().encode_to_vec().into(),
        payload: Bytes::from_static(b"sealed"),
        link: hash(9),
        utc_us: AT_US,
        uncertainty_us: 2_500,
    };
    let messages = vec![
        ("deliver_open", Open(DeliverOpen { fetch_id: id(0xf0) })),
        ("deliver_segment", Segment(segment)),
        ("deliver_record", Record(record)),
        ("deliver_end", End(DeliverEnd { complete: true, reason: "whole".into() })),
    ];
    messages.into_iter().map(|(name, message)| (name, DeliverUp { message: Some(message) })).collect()
}

pub fn down() -> Vec<(&'static str, DeliverDown)> {
    use deliver_down::Message::*;
    let messages = vec![("deliver_window", WindowBytes(4 << 20)), ("deliver_cancel", Cancel(true))];
    messages.into_iter().map(|(name, message)| (name, DeliverDown { message: Some(message) })).collect()
}

pub fn enrolment() -> (EnrolRequest, EnrolResponse, RenewRequest, RenewResponse) {
    let request =
        EnrolRequest { token_secret: "0123".into(), csr: Bytes::from_static(b"PKCS#10"), name: "box 1".into() };
    let response = EnrolResponse {
        edge_id: id(3),
        organisation_id: id(2),
        organisation_name: "Comune di Prato".into(),
        certificate: Bytes::from_static(b"X.509"),
        authority: Bytes::from_static(b"X.509 CA"),
        organisation_key: Bytes::copy_from_slice(organisation_key().verifying_key().as_bytes()),
        keys: Some(signed_keys()),
    };
    let renew = RenewRequest { csr: Bytes::from_static(b"PKCS#10") };
    (request, response, renew, RenewResponse { certificate: Bytes::from_static(b"X.509") })
}

#[test]
fn every_message_between_box_and_hub_holds() {
    to_hub().iter().for_each(|(name, message)| holds(name, message));
    from_hub().iter().for_each(|(name, message)| holds(name, message));
    up().iter().for_each(|(name, message)| holds(name, message));
    down().iter().for_each(|(name, message)| holds(name, message));
    let (request, response, renew, renewed) = enrolment();
    holds("enrol_request", &request);
    holds("enrol_response", &response);
    holds("renew_request", &renew);
    holds("renew_response", &renewed);
}

#[test]
fn the_sealing_keys_are_signed_by_the_organisation() {
    holds("signed_keys", &signed_keys());
    let keys = SignedKeys::decode(written("signed_keys")).unwrap();
    let key = organisation_key().verifying_key();
    signed::verify(signed::EDGE, "SealingKeys", &keys.payload, &keys.signature, &key).unwrap();
    assert!(signed::verify(signed::EDGE, "HubTime", &keys.payload, &keys.signature, &key).is_err());
    assert_eq!(SealingKeys::decode(keys.payload).unwrap().hour_keys.len(), 2);
}

/// For the coverage of nested bytes.
pub fn sealing_keys() -> Bytes {
    signed_keys().payload
}
