//! What every catalogue does, one function a behaviour, over `dyn Catalog`. A second back end adds one
//! `Bench` and runs the same list.

use super::{Catalog, Derived, EdgeRow, EdgeStanding, Mask, NewToken, Redeemed, TokenRefused, open};
use crate::fleet::Identity;
use crate::media::RingKeeper;
use bytes::Bytes;
use campanile_proto::edge::v1::report::Body;
use campanile_proto::edge::v1::{CameraState, EdgeHealth, Gap, Report, SealedRecord, SealingKeys, SegmentState};
use campanile_proto::grid::CellSet;
use campanile_proto::ids::{CameraId, EdgeId, Epoch, EventId, ObjectId, RunId, SegmentId};
use campanile_proto::segment::{PublicKey, SegmentKey};
use campanile_proto::time::{Clock, MICROS_PER_HOUR, MICROS_PER_SECOND, SimClock, WallTime};
use campanile_proto::types::v1::{
    Event, IndexRecord, Instant, KeyKind, MotionSecond, MotionSeconds, RecordHeader, RecordKind, SegmentHeader, Stream,
    Suite, Thumbnail, index_record::Content,
};
use prost::Message;
use std::sync::Arc;

const HOUR: i64 = 490_000;
pub(crate) const EDGE: EdgeId = EdgeId::from_u128(1);
const OTHER: EdgeId = EdgeId::from_u128(2);
pub(crate) const CAMERA: CameraId = CameraId::from_u128(3);
const EPOCH: Epoch = Epoch::from_u128(4);

/// A catalogue in a folder, its clock, and what a box needs to seal.
pub(crate) struct Bench {
    pub dir: tempfile::TempDir,
    pub clock: Arc<SimClock>,
    pub keeper: Arc<RingKeeper>,
    pub catalog: Arc<dyn Catalog>,
    pub derived: Arc<Derived>,
    days: u32,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(WallTime::from_hour(HOUR).plus_micros(60 * MICROS_PER_SECOND)));
        let identity = Arc::new(Identity::for_tests());
        let keeper = Arc::new(RingKeeper::open(&dir.path().join("keyring"), identity, 7, clock.clone()).unwrap());
        let (catalog, derived) = open(dir.path(), Identity::for_tests().id, keeper.clone(), clock.clone(), 7).unwrap();
        Self { dir, clock, keeper, catalog, derived, days: 7 }
    }

    /// The process ended and began again.
    fn reopened(self) -> Self {
        let Self { dir, clock, keeper, catalog, derived, days } = self;
        drop((catalog, derived));
        let (catalog, derived) =
            open(dir.path(), Identity::for_tests().id, keeper.clone(), clock.clone(), days).unwrap();
        Self { dir, clock, keeper, catalog, derived, days }
    }

    pub fn now(&self) -> Instant {
        instant(self.clock.utc())
    }

    /// A record sealed as a box seals it, in a segment of its own.
    pub fn sealed(
        &self,
        edge: EdgeId,
        camera: CameraId,
        object: ObjectId,
        revision: u64,
        content: Content,
    ) -> SealedRecord {
        self.sealed_to((KeyKind::Hour, self.clock.utc().hour()), (edge, camera), (object, revision), content)
    }

    /// To the key of the hour, or to the reserve key by a box that believes the hour.
    fn sealed_to(
        &self,
        (kind, hour): (KeyKind, i64),
        (edge, camera): (EdgeId, CameraId),
        (object, revision): (ObjectId, u64),
        content: Content,
    ) -> SealedRecord {
        let keys = SealingKeys::decode(self.keeper.signed_keys(edge).unwrap().payload).unwrap();
        let public = match kind {
            KeyKind::Hour => &keys.hour_keys[(hour - keys.first_hour as i64) as usize],
            _ => &keys.reserve_key,
        };
        let public = PublicKey::from_bytes(public).unwrap();
        let segment = SegmentHeader {
            segment_id: SegmentId::random().into(),
            organisation_id: keys.organisation_id,
            edge_id: edge.into(),
            camera_id: camera.into(),
            stream: Stream::Index.into(),
            suite: Suite::Aes256Gcm.into(),
            key_kind: kind.into(),
            hour: hour as u64,
            key_generation: keys.generation,
            retention_days: 7,
            ..SegmentHeader::default()
        };
        let segment_bytes = segment.encode_to_vec();
        let key = SegmentKey::random().unwrap();
        let header = RecordHeader {
            kind: RecordKind::Index.into(),
            sealing: 1,
            arrival: Some(self.now()),
            object_id: object.into(),
            revision,
            ..RecordHeader::default()
        };
        let header_bytes = header.encode_to_vec();
        let plain = IndexRecord { content: Some(content) }.encode_to_vec();
        SealedRecord {
            wrapped_key: key.wrap(&segment, &segment_bytes, &public).unwrap().into(),
            payload: key.seal(segment.suite, 1, &header_bytes, &plain).unwrap().into(),
            segment_header: segment_bytes.into(),
            header: header_bytes.into(),
        }
    }

    fn event(&self, id: EventId, ongoing: bool) -> Content {
        let mut moved = CellSet::EMPTY;
        moved.insert(40);
        Content::Event(Event {
            event_id: id.into(),
            camera_id: CAMERA.into(),
            start: Some(self.now()),
            end: Some(self.now()),
            ongoing,
            moved: moved.to_bytes().to_vec().into(),
            peak_cells: 1,
            ..Event::default()
        })
    }

    /// Reports what a box concluded.
    pub async fn conclude(&self, sequence: u64, content: Content) {
        let object = ObjectId::random();
        let sealed = Body::Sealed(self.sealed(EDGE, CAMERA, object, 1, content));
        let report = Report { object_id: object.into(), ..report(sequence, 0, 1, sealed) };
        let ack = self.catalog.ingest(EDGE, vec![report]).await.unwrap();
        assert_eq!((ack.refused, ack.expired), (0, 0));
    }

    /// Reports one segment of 10 s and one event, now, as numbers `sequence` and the next.
    pub async fn record(&self, sequence: u64) -> EventId {
        let (object, event) = (ObjectId::random(), EventId::random());
        let sealed = Body::Sealed(self.sealed(EDGE, CAMERA, object, 1, self.event(event, false)));
        let sealed = Report { object_id: object.into(), ..report(sequence, 0, 1, sealed) };
        let covered = report(sequence + 1, u128::from(sequence), 1, segment(self.clock.utc(), 10));
        let ack = self.catalog.ingest(EDGE, vec![sealed, covered]).await.unwrap();
        assert_eq!((ack.refused, ack.expired), (0, 0));
        event
    }

    /// Segments there are, whenever.
    pub async fn coverage(&self) -> usize {
        let now = self.clock.utc();
        let (from, to) = (now.plus_micros(-1_000 * MICROS_PER_HOUR), now.plus_micros(1_000 * MICROS_PER_HOUR));
        self.catalog.segments(CAMERA, Stream::Main, from, to).await.unwrap().len()
    }

    async fn held(&self) -> Vec<(u64, u64)> {
        self.catalog.held(EDGE, EPOCH).await.unwrap().ranges.iter().collect()
    }
}

pub(crate) fn instant(utc: WallTime) -> Instant {
    Instant { boot_id: Bytes::from_static(&[7; 16]), mono_us: 1, utc_us: utc.0, uncertainty_us: 1_000 }
}

fn report(sequence: u64, object: u128, revision: u64, body: Body) -> Report {
    let object_id = ObjectId::from_u128(object).into();
    Report { epoch: EPOCH.into(), sequence, object_id, revision, body: Some(body) }
}

fn camera(name: &str) -> Body {
    Body::Camera(CameraState { camera_id: CAMERA.into(), name: name.to_owned(), ..CameraState::default() })
}

fn segment(at: WallTime, seconds: i64) -> Body {
    let header = SegmentHeader {
        segment_id: SegmentId::from_u128(at.0 as u128).into(),
        camera_id: CAMERA.into(),
        run_id: RunId::from_u128(1).into(),
        stream: Stream::Main.into(),
        ..SegmentHeader::default()
    };
    Body::Segment(SegmentState {
        header: header.encode_to_vec().into(),
        start: Some(instant(at)),
        end: Some(instant(at.plus_micros(seconds * MICROS_PER_SECOND))),
        ..SegmentState::default()
    })
}

#[tokio::test]
async fn a_report_told_twice_counts_once() {
    let bench = Bench::new();
    let reports = vec![report(1, 3, 1, camera("Piazza")), report(2, 9, 1, segment(bench.clock.utc(), 10))];
    for _ in 0..2 {
        let ack = bench.catalog.ingest(EDGE, reports.clone()).await.unwrap();
        assert_eq!(ack.ranges.iter().map(|r| (r.first, r.last)).collect::<Vec<_>>(), [(1, 2)]);
        assert_eq!((ack.expired, ack.refused), (0, 0));
    }
    assert_eq!(bench.catalog.cameras().await.unwrap().len(), 1);
    let (from, to) = (WallTime(0), WallTime(i64::MAX));
    let from = from.max(bench.clock.utc().plus_micros(-1));
    assert_eq!(bench.catalog.segments(CAMERA, Stream::Main, from, to).await.unwrap().len(), 1);
    assert_eq!(bench.held().await, [(1, 2)]);
}

#[tokio::test]
async fn a_hub_that_doubts_its_clock_drops_no_report_as_expired_or_of_the_future() {
    let bench = Bench::new();
    let right = bench.clock.utc();
    for (sequence, days) in [(1, 30), (2, -30)] {
        let (object, event) = (ObjectId::random(), EventId::random());
        let sealed = Body::Sealed(bench.sealed(EDGE, CAMERA, object, 1, bench.event(event, false)));
        let report = Report { object_id: object.into(), ..report(sequence, 0, 1, sealed) };
        bench.clock.step_utc(right.plus_micros(days * 24 * MICROS_PER_HOUR));
        assert!(!bench.keeper.clock_trusted());
        let ack = bench.catalog.ingest(EDGE, vec![report]).await.unwrap();
        assert_eq!((ack.refused, ack.expired), (0, 0));
        bench.clock.step_utc(right);
        assert!(bench.derived.event(event).await.unwrap().is_some());
    }
    // What is of no time at all goes once the clock is believed.
    let (object, event) = (ObjectId::random(), EventId::random());
    bench.clock.step_utc(right.plus_micros(30 * 24 * MICROS_PER_HOUR));
    let mad = bench.event(event, false);
    bench.clock.step_utc(right);
    let sealed = || Body::Sealed(bench.sealed(EDGE, CAMERA, object, 1, mad.clone()));
    let told = |sequence, sealed| vec![Report { object_id: object.into(), ..report(sequence, 0, 1, sealed) }];
    let ack = bench.catalog.ingest(EDGE, told(3, sealed())).await.unwrap();
    assert_eq!((ack.refused, ack.expired), (1, 0));
    let late = told(4, sealed());
    bench.clock.step_utc(right.plus_micros(-MICROS_PER_HOUR));
    assert_eq!(bench.catalog.ingest(EDGE, late).await.unwrap().refused, 0);
    bench.clock.step_utc(right);
    assert!(bench.derived.event(event).await.unwrap().is_some());
    bench.derived.expire(7).await.unwrap();
    assert!(bench.derived.event(event).await.unwrap().is_none());
}

#[tokio::test]
async fn the_highest_revision_wins_in_any_order() {
    let bench = Bench::new();
    for (sequence, revision, name) in [(5, 9, "new"), (4, 8, "old"), (3, 7, "older")] {
        bench.catalog.ingest(EDGE, vec![report(sequence, 3, revision, camera(name))]).await.unwrap();
    }
    assert_eq!(bench.catalog.cameras().await.unwrap()[0].name, "new");
    assert_eq!(bench.held().await, [(3, 5)]);
}

#[tokio::test]
async fn a_rebuilt_box_reports_again_under_another_epoch_without_a_double() {
    let bench = Bench::new();
    let at = bench.clock.utc();
    bench.catalog.ingest(EDGE, vec![report(1, 3, 9, camera("before")), report(2, 8, 5, segment(at, 9))]).await.unwrap();
    let mut again = vec![report(1, 3, 1, camera("after")), report(2, 8, 1, segment(at, 10))];
    again.iter_mut().for_each(|report| report.epoch = Epoch::from_u128(99).into());
    bench.catalog.ingest(EDGE, again).await.unwrap();
    let cameras = bench.catalog.cameras().await.unwrap();
    assert_eq!(cameras.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["after"]);
    let rows = bench.catalog.segments(CAMERA, Stream::Main, at, at.plus_micros(1)).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.end - row.start).collect::<Vec<_>>(), [10 * MICROS_PER_SECOND]);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let bench = Bench::new();
    let (event, incarnation) = (EventId::random(), bench.catalog.incarnation());
    let object = ObjectId::random();
    let sealed = Body::Sealed(bench.sealed(EDGE, CAMERA, object, 1, bench.event(event, false)));
    let mut report_of_event = report(2, 0, 1, sealed);
    report_of_event.object_id = object.into();
    bench.catalog.ingest(EDGE, vec![report(1, 3, 1, camera("Piazza")), report_of_event]).await.unwrap();
    let bench = bench.reopened();
    assert_eq!(bench.catalog.incarnation(), incarnation);
    assert_eq!(bench.held().await, [(1, 2)]);
    assert_eq!(bench.catalog.owner(CAMERA), Some(EDGE));
    assert_eq!(bench.derived.event(event).await.unwrap().unwrap().camera, CAMERA);
}

#[tokio::test]
async fn a_camera_belongs_to_the_box_that_reported_it_first() {
    let bench = Bench::new();
    bench.catalog.ingest(EDGE, vec![report(1, 3, 1, camera("Piazza"))]).await.unwrap();
    let (object, event) = (ObjectId::random(), EventId::random());
    let mut theft = report(2, 0, 1, Body::Sealed(bench.sealed(OTHER, CAMERA, object, 1, bench.event(event, false))));
    theft.object_id = object.into();
    let ack = bench.catalog.ingest(OTHER, vec![report(1, 3, 99, camera("mine")), theft]).await.unwrap();
    assert_eq!((ack.refused, ack.ranges.len()), (2, 1));
    assert_eq!(bench.catalog.cameras().await.unwrap()[0].name, "Piazza");
    assert_eq!(bench.catalog.owner(CAMERA), Some(EDGE));
    assert!(bench.derived.event(event).await.unwrap().is_none());
}

fn registered(id: EdgeId, standing: EdgeStanding) -> EdgeRow {
    EdgeRow { id, name: String::new(), site_name: String::new(), enrolled: WallTime(0), standing }
}

#[tokio::test]
async fn a_box_enrolled_anew_keeps_the_cameras_and_records_of_its_revoked_self() {
    let bench = Bench::new();
    let now = bench.clock.utc();
    let covered = || report(2, 9, 1, segment(now, 10));
    bench.catalog.ingest(EDGE, vec![report(1, 3, 1, camera("Piazza")), covered()]).await.unwrap();
    let (object, event) = (ObjectId::random(), EventId::random());
    let record = bench.sealed(EDGE, CAMERA, object, 1, bench.event(event, false));
    let sealed = |sequence| Report { object_id: object.into(), ..report(sequence, 0, 1, Body::Sealed(record.clone())) };
    bench.catalog.put_edge(registered(EDGE, EdgeStanding::Good)).await.unwrap();
    let again = |first| {
        vec![sealed(first), report(first + 1, 3, 1, camera("Duomo")), report(first + 2, 9, 1, segment(now, 10))]
    };
    assert_eq!(bench.catalog.ingest(OTHER, again(1)).await.unwrap().refused, 3, "while the box is good");
    bench.catalog.put_edge(registered(EDGE, EdgeStanding::Revoked { since: now })).await.unwrap();
    assert_eq!(bench.catalog.ingest(OTHER, again(11)).await.unwrap().refused, 0);
    let bench = bench.reopened();
    assert_eq!((bench.catalog.owner(CAMERA), bench.catalog.former_owners(CAMERA)), (Some(OTHER), vec![EDGE]));
    let names: Vec<_> = bench.catalog.cameras().await.unwrap().into_iter().map(|camera| camera.name).collect();
    assert_eq!(names, ["Duomo"]);
    assert_eq!(bench.catalog.segments(CAMERA, Stream::Main, now, now.plus_micros(1)).await.unwrap().len(), 1);
    assert!(bench.derived.event(event).await.unwrap().is_some());
}

#[tokio::test]
async fn a_camera_that_a_person_moved_is_the_other_boxs_with_what_was_sealed_before() {
    let bench = Bench::new();
    bench.catalog.ingest(EDGE, vec![report(1, 3, 1, camera("Piazza"))]).await.unwrap();
    assert!(!bench.catalog.move_camera(CameraId::from_u128(99), OTHER).await.unwrap());
    assert!(bench.catalog.move_camera(CAMERA, OTHER).await.unwrap());
    assert_eq!((bench.catalog.owner(CAMERA), bench.catalog.former_owners(CAMERA)), (Some(OTHER), vec![EDGE]));
    assert_eq!(bench.catalog.ingest(EDGE, vec![report(2, 3, 2, camera("old"))]).await.unwrap().refused, 1);
    assert_eq!(bench.catalog.ingest(OTHER, vec![report(1, 3, 1, camera("new"))]).await.unwrap().refused, 0);
    assert_eq!(bench.catalog.cameras().await.unwrap()[0].name, "new");
    assert!(bench.catalog.move_camera(CAMERA, EDGE).await.unwrap());
    assert_eq!(bench.reopened().catalog.former_owners(CAMERA), [OTHER]);
}

#[tokio::test]
async fn a_mask_stays_by_its_first_act_until_it_is_taken_back() {
    let bench = Bench::new();
    let mask = |camera, act: &str| Mask { camera, since: WallTime(7), act: act.into(), author: "Rossi".into() };
    assert!(!bench.catalog.mask(mask(CAMERA, "12/2026")).await.unwrap(), "no such camera");
    bench.catalog.ingest(EDGE, vec![report(1, 3, 1, camera("Piazza"))]).await.unwrap();
    assert!(bench.catalog.mask(mask(CAMERA, "12/2026")).await.unwrap());
    assert!(bench.catalog.mask(mask(CAMERA, "13/2026")).await.unwrap());
    let bench = bench.reopened();
    assert_eq!(bench.catalog.masks().await.unwrap(), [mask(CAMERA, "12/2026")]);
    assert!(bench.catalog.unmask(CAMERA).await.unwrap());
    assert!(!bench.catalog.unmask(CAMERA).await.unwrap());
    assert_eq!(bench.catalog.masks().await.unwrap(), []);
}

#[tokio::test]
async fn a_lost_derived_store_is_filled_again_by_the_boxes() {
    let bench = Bench::new();
    let event = bench.record(1).await;
    let incarnation = bench.catalog.incarnation();
    let bench = bench.reopened();
    assert_eq!((bench.held().await, bench.catalog.incarnation()), (vec![(1, 2)], incarnation));
    // The mark of a version that made none is not missed.
    std::fs::remove_file(bench.dir.path().join("derived/incarnation")).unwrap();
    let bench = bench.reopened();
    assert_eq!((bench.held().await, bench.catalog.incarnation()), (vec![(1, 2)], incarnation));
    std::fs::remove_dir_all(bench.dir.path().join("derived")).unwrap();
    let bench = bench.reopened();
    assert!(bench.derived.event(event).await.unwrap().is_none());
    let held = bench.catalog.held(EDGE, EPOCH).await.unwrap();
    assert!(held.ranges.is_empty() && held.accepted == 0, "no box would be asked for a replay");
    assert_ne!(bench.catalog.incarnation(), incarnation);
    let incarnation = bench.catalog.incarnation();
    assert_eq!(bench.reopened().catalog.incarnation(), incarnation);
}

#[tokio::test]
async fn a_box_cannot_pass_on_the_record_of_another() {
    let bench = Bench::new();
    let (object, event) = (ObjectId::random(), EventId::random());
    let mut stolen = report(1, 0, 1, Body::Sealed(bench.sealed(EDGE, CAMERA, object, 1, bench.event(event, false))));
    stolen.object_id = object.into();
    assert_eq!(bench.catalog.ingest(OTHER, vec![stolen.clone()]).await.unwrap().refused, 1);
    assert!(bench.derived.event(event).await.unwrap().is_none());
    assert_eq!(bench.catalog.ingest(EDGE, vec![stolen]).await.unwrap().refused, 0);
    assert!(bench.derived.event(event).await.unwrap().is_some());
}

#[tokio::test]
async fn what_cannot_be_read_is_set_aside_and_acknowledged() {
    let bench = Bench::new();
    let nothing = Report { epoch: EPOCH.into(), sequence: 7, ..Report::default() };
    let garbage = report(8, 1, 1, Body::Sealed(SealedRecord::default()));
    let no_header = report(9, 1, 1, Body::Segment(SegmentState::default()));
    let ack = bench.catalog.ingest(EDGE, vec![nothing, garbage, no_header]).await.unwrap();
    assert_eq!((ack.refused, bench.held().await), (3, vec![(7, 9)]));
}

#[tokio::test]
async fn a_tampered_record_is_refused_and_the_true_one_kept() {
    let bench = Bench::new();
    let (object, event) = (ObjectId::random(), EventId::random());
    let record = bench.sealed(EDGE, CAMERA, object, 1, bench.event(event, false));
    let mut bad = record.clone();
    let mut payload = bad.payload.to_vec();
    payload[5] ^= 1;
    bad.payload = payload.into();
    let of = |sequence, record| Report { object_id: object.into(), ..report(sequence, 0, 1, Body::Sealed(record)) };
    assert_eq!(bench.catalog.ingest(EDGE, vec![of(1, bad)]).await.unwrap().refused, 1);
    assert!(bench.derived.event(event).await.unwrap().is_none());
    assert_eq!(bench.catalog.ingest(EDGE, vec![of(2, record)]).await.unwrap().refused, 0);
    assert!(bench.derived.event(event).await.unwrap().is_some());
}

#[tokio::test]
async fn an_event_keeps_its_newest_revision_and_gets_its_thumbnail() {
    let bench = Bench::new();
    let mut followed = bench.derived.subscribe();
    let (object, picture, event) = (ObjectId::random(), ObjectId::random(), EventId::random());
    let of = |sequence, object: ObjectId, revision, content| Report {
        object_id: object.into(),
        ..report(sequence, 0, revision, Body::Sealed(bench.sealed(EDGE, CAMERA, object, revision, content)))
    };
    let jpeg = Bytes::from_static(&[0xff, 0xd8, 1, 2]);
    let thumbnail = Thumbnail {
        event_id: event.into(),
        camera_id: CAMERA.into(),
        at: Some(bench.now()),
        jpeg: jpeg.clone(),
        ..Thumbnail::default()
    };
    bench.catalog.ingest(EDGE, vec![of(3, object, 2, bench.event(event, false))]).await.unwrap();
    bench.catalog.ingest(EDGE, vec![of(2, object, 1, bench.event(event, true))]).await.unwrap();
    bench.catalog.ingest(EDGE, vec![of(4, picture, 1, Content::Thumbnail(thumbnail))]).await.unwrap();
    let row = bench.derived.event(event).await.unwrap().unwrap();
    assert_eq!((row.revision, row.ongoing, row.has_thumbnail), (2, false, true));
    assert_eq!(bench.derived.thumbnail(event).await.unwrap(), Some(jpeg));
    let heard: Vec<_> = std::iter::from_fn(|| followed.try_recv().ok()).map(|e| e.has_thumbnail).collect();
    assert_eq!(heard, [false, true]);
    let now = bench.clock.utc();
    let found = bench.derived.events_between(now.plus_micros(-1), now.plus_micros(1), &[CAMERA]).await.unwrap();
    assert_eq!(found, [row]);
}

#[tokio::test]
async fn a_doorway_is_found_by_the_seconds_it_moved() {
    let bench = Bench::new();
    let mut door = CellSet::EMPTY;
    door.insert(100);
    let quiet = MotionSecond::default();
    let moved = MotionSecond { moved: door.to_bytes().to_vec().into(), ..MotionSecond::default() };
    let blind = MotionSecond { blind: true, ..MotionSecond::default() };
    let object = ObjectId::random();
    // Begins in one hour and ends in the next.
    bench.clock.step_utc(WallTime::from_hour(HOUR + 1).plus_micros(-2 * MICROS_PER_SECOND));
    let start = bench.clock.utc();
    let motion = MotionSeconds {
        camera_id: CAMERA.into(),
        start: Some(bench.now()),
        seconds: vec![quiet.clone(), moved.clone(), quiet, moved, blind],
        ..MotionSeconds::default()
    };
    let sealed = bench.sealed(EDGE, CAMERA, object, 1, Content::Motion(motion));
    let reported = Report { object_id: object.into(), ..report(1, 0, 1, Body::Sealed(sealed)) };
    assert_eq!(bench.catalog.ingest(EDGE, vec![reported]).await.unwrap().refused, 0);
    let end = start.plus_micros(10 * MICROS_PER_SECOND);
    let seconds = bench.derived.moved(&[CAMERA], start, end, door).await.unwrap();
    let offsets: Vec<_> = seconds.iter().map(|(_, at)| (*at - start) / MICROS_PER_SECOND).collect();
    assert_eq!(offsets, [1, 3]);
    let mut window = CellSet::EMPTY;
    window.insert(5);
    assert!(bench.derived.moved(&[CAMERA], start, end, window).await.unwrap().is_empty());
    let rows = bench.derived.motion(CAMERA, start, end).await.unwrap();
    assert_eq!(rows.len(), 5);
    assert!(rows[0].moved.is_empty() && rows[0].looked == CellSet::FULL && rows[4].looked.is_empty());
}

#[tokio::test]
async fn nothing_outlives_its_term_and_late_records_count_as_expired() {
    let bench = Bench::new();
    let (object, event) = (ObjectId::random(), EventId::random());
    let record = bench.sealed(EDGE, CAMERA, object, 1, bench.event(event, false));
    let late = bench.sealed(EDGE, CAMERA, ObjectId::from_u128(77), 1, bench.event(EventId::random(), false));
    let reported = Report { object_id: object.into(), ..report(1, 0, 1, Body::Sealed(record)) };
    bench.catalog.ingest(EDGE, vec![reported]).await.unwrap();
    bench.clock.advance_micros(168 * MICROS_PER_HOUR - 60 * MICROS_PER_SECOND - 1);
    bench.derived.expire(7).await.unwrap();
    assert!(bench.derived.event(event).await.unwrap().is_some());
    bench.clock.advance_micros(1);
    assert!(bench.derived.event(event).await.unwrap().is_none(), "past its term it is not shown");
    assert_eq!(bench.derived.expire(7).await.unwrap().0, 1);
    let ack = bench.catalog.ingest(EDGE, vec![report(2, 77, 1, Body::Sealed(late))]).await.unwrap();
    assert_eq!((ack.expired, ack.refused), (1, 0));
    bench.clock.advance_micros(48 * MICROS_PER_HOUR);
    bench.derived.expire(7).await.unwrap();
    assert!(!Derived::has_days(&bench.dir.path().join("derived")), "the day's folder is gone");
}

#[tokio::test]
async fn what_a_box_with_a_dead_clock_sealed_is_kept_by_present_time() {
    let bench = Bench::new();
    let content = |event| {
        let object = ObjectId::random();
        let (dead, of) = ((KeyKind::Reserve, 17), (EDGE, CAMERA));
        let record = bench.sealed_to(dead, of, (object, 1), bench.event(event, false));
        move |sequence| Report { object_id: object.into(), ..report(sequence, 0, 1, Body::Sealed(record.clone())) }
    };
    let (event, late) = (EventId::random(), EventId::random());
    let (now, then) = (content(event)(1), content(late)(2));
    let ack = bench.catalog.ingest(EDGE, vec![now]).await.unwrap();
    assert_eq!((ack.expired, ack.refused), (0, 0));
    assert!(bench.derived.event(event).await.unwrap().is_some());
    bench.clock.advance_micros(169 * MICROS_PER_HOUR);
    let ack = bench.catalog.ingest(EDGE, vec![then]).await.unwrap();
    assert_eq!((ack.expired, ack.refused), (1, 0));
    assert!(bench.derived.event(late).await.unwrap().is_none());
}

#[tokio::test]
async fn a_shorter_rule_acts_at_once_on_what_is_held() {
    let mut bench = Bench::new();
    let (object, event) = (ObjectId::random(), EventId::random());
    let record = bench.sealed(EDGE, CAMERA, object, 1, bench.event(event, false));
    let reported = Report { object_id: object.into(), ..report(1, 0, 1, Body::Sealed(record)) };
    bench.catalog.ingest(EDGE, vec![reported]).await.unwrap();
    bench.clock.advance_micros(30 * MICROS_PER_HOUR);
    bench = bench.reopened();
    assert!(bench.derived.event(event).await.unwrap().is_some());
    bench.days = 1;
    bench = bench.reopened();
    assert!(bench.derived.event(event).await.unwrap().is_none());
    bench.days = 7;
    assert!(bench.reopened().derived.event(event).await.unwrap().is_none(), "a longer rule never acts backwards");
}

#[tokio::test]
async fn an_event_whose_box_was_killed_in_the_middle_does_not_go_on_for_ever() {
    let bench = Bench::new();
    let (event, began) = (EventId::random(), bench.clock.utc());
    bench.conclude(1, bench.event(event, true)).await;
    let goes_on = async || {
        let now = bench.clock.utc();
        let shown = bench.derived.event(event).await.unwrap().unwrap();
        let listed = bench.derived.events_between(began, now.plus_micros(1), &[CAMERA]).await.unwrap();
        assert_eq!(listed, std::slice::from_ref(&shown));
        assert_eq!(shown.end, began, "its end is the last one its box told");
        shown.ongoing
    };
    bench.clock.advance_micros(180_000_000);
    assert!(goes_on().await);
    bench.clock.advance_micros(1);
    assert!(!goes_on().await);
}

#[tokio::test]
async fn gaps_are_found_while_they_go_on() {
    let bench = Bench::new();
    let now = bench.clock.utc();
    let mut gap = Gap { camera_id: CAMERA.into(), stream: Stream::Main.into(), cause: 3, ..Gap::default() };
    gap.start = Some(instant(now));
    gap.ongoing = true;
    bench.catalog.ingest(EDGE, vec![report(1, 5, 1, Body::Gap(gap.clone()))]).await.unwrap();
    let later = now.plus_micros(MICROS_PER_HOUR);
    assert!(bench.catalog.gaps(CAMERA, later, later.plus_micros(1)).await.unwrap()[0].ongoing);
    gap.ongoing = false;
    gap.end = Some(instant(now.plus_micros(5)));
    bench.catalog.ingest(EDGE, vec![report(2, 5, 2, Body::Gap(gap))]).await.unwrap();
    assert!(bench.catalog.gaps(CAMERA, later, later.plus_micros(1)).await.unwrap().is_empty());
    assert_eq!(bench.catalog.gaps(CAMERA, now, later).await.unwrap().len(), 1);
    assert_eq!(bench.catalog.forget_before(later).await.unwrap(), 1);
}

#[tokio::test]
async fn a_token_is_used_once_and_in_time() {
    let bench = Bench::new();
    let now = bench.clock.utc();
    let row = |id| EdgeRow {
        id,
        name: "palo 3".to_owned(),
        site_name: String::new(),
        enrolled: now,
        standing: EdgeStanding::Good,
    };
    for (hash, expires) in [([1; 32], 100), ([2; 32], 1)] {
        let token = NewToken {
            secret_hash: hash,
            site_name: "Piazza".to_owned(),
            made: now,
            expires: now.plus_micros(expires),
        };
        bench.catalog.add_token(token).await.unwrap();
    }
    let later = now.plus_micros(1);
    let key = |edge: EdgeId| Box::new([edge.as_bytes()[15]; 32]);
    let redeem = |hash: u8, edge: EdgeId| bench.catalog.redeem([hash; 32], *key(edge), row(edge), later);
    assert_eq!(redeem(9, EDGE).await.unwrap(), Redeemed::Refused(TokenRefused::Unknown));
    assert_eq!(redeem(2, EDGE).await.unwrap(), Redeemed::Refused(TokenRefused::Expired));
    let Redeemed::Enrolled(enrolled) = redeem(1, EDGE).await.unwrap() else { panic!("not enrolled") };
    assert_eq!(enrolled.site_name, "Piazza");
    assert_eq!(redeem(1, OTHER).await.unwrap(), Redeemed::Refused(TokenRefused::Used));
    assert_eq!(bench.catalog.edges().await.unwrap(), std::slice::from_ref(&enrolled));
    // The answer was lost: the same key asks again and is the same box, until that is revoked.
    let again = bench.catalog.redeem([1; 32], *key(EDGE), row(OTHER), later).await.unwrap();
    assert_eq!(again, Redeemed::Enrolled(enrolled.clone()));
    let standing = EdgeStanding::Revoked { since: now };
    bench.catalog.put_edge(EdgeRow { standing, ..enrolled }).await.unwrap();
    assert_eq!(redeem(1, EDGE).await.unwrap(), Redeemed::Refused(TokenRefused::Used));
    assert!(bench.catalog.token_known([2; 32]).await.unwrap() && !bench.catalog.token_known([9; 32]).await.unwrap());
}

#[tokio::test]
async fn standing_survives_a_restart() {
    let bench = Bench::new();
    let since = bench.clock.utc();
    let quarantined = EdgeStanding::Quarantined { since, reason: "a copy".to_owned() };
    let row = |id, standing| EdgeRow { id, name: String::new(), site_name: String::new(), enrolled: since, standing };
    let rows = [row(EDGE, quarantined), row(OTHER, EdgeStanding::Revoked { since })];
    for row in rows.clone() {
        bench.catalog.put_edge(row).await.unwrap();
    }
    assert_eq!(bench.reopened().catalog.edges().await.unwrap(), rows);
}

#[tokio::test]
async fn what_is_settled_is_one_range_and_is_counted() {
    let bench = Bench::new();
    for sequence in [50, 52, 54, 52] {
        bench.catalog.ingest(EDGE, vec![report(sequence, 3, sequence, camera("x"))]).await.unwrap();
    }
    let held = bench.catalog.held(EDGE, EPOCH).await.unwrap();
    assert_eq!((held.accepted, held.ranges.iter().count()), (3, 3));
    bench.catalog.settle(EDGE, EPOCH, 53, 0).await.unwrap();
    assert_eq!((bench.held().await, bench.catalog.held(EDGE, EPOCH).await.unwrap().accepted), (vec![(0, 54)], 3));
    bench.catalog.settle(EDGE, EPOCH, 60, 37).await.unwrap();
    let bench = bench.reopened();
    let held = bench.catalog.held(EDGE, EPOCH).await.unwrap();
    assert_eq!((held.accepted, held.ranges.iter().collect::<Vec<_>>()), (40, vec![(0, 60)]));
}

#[tokio::test]
async fn a_health_report_joins_the_ranges_around_what_will_never_come() {
    let bench = Bench::new();
    let health = |through| Body::Health(EdgeHealth { acknowledged_through: through, ..EdgeHealth::default() });
    let reports = [1, 3, 7].map(|sequence| report(sequence, 3, sequence, camera("x")));
    bench.catalog.ingest(EDGE, reports.to_vec()).await.unwrap();
    bench.catalog.ingest(EDGE, vec![report(9, 1, 1, health(4))]).await.unwrap();
    assert_eq!(bench.held().await, [(0, 4), (7, 7), (9, 9)]);
    // No box speaks for what it has not sent yet.
    bench.catalog.ingest(EDGE, vec![report(11, 1, 2, health(1_000))]).await.unwrap();
    assert_eq!(bench.held().await, [(0, 11)]);
}
