//! A child that was taken over, and a disk that is slow.

use super::*;
use crate::facts::{self, Fact};
use crate::record::fixture;
use crate::record::recorder::Writing;
use campanile_proto::segment::SegmentReader;
use campanile_proto::time::{Clock, SimClock, WallTime};
use campanile_proto::types::v1::{Event, RecordKind, Thumbnail};
use std::collections::BTreeSet;
use std::sync::Arc;

const CAMERA: CameraId = CameraId::from_u128(1);

struct Bench {
    listener: Listener,
    clock: Arc<SimClock>,
    facts: tokio::sync::mpsc::Receiver<Fact>,
    writing: Writing,
    media: tempfile::TempDir,
}

/// What reached the disk: object, revision, hour, and the record.
type Written = (ObjectId, u64, i64, IndexRecord);

impl Bench {
    fn new() -> Self {
        let media = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(WallTime(crate::specimen::NOON)));
        let (sender, facts, _) = facts::channel();
        let setting = fixture::on(clock.clone(), media.path(), CAMERA, sender);
        let stamper = setting.stamper.clone();
        let (recorder, _, writing) = Recorder::start(setting).unwrap();
        Self { listener: Listener::new(CAMERA, recorder, stamper), clock, facts, writing, media }
    }

    fn end(self) -> Vec<Written> {
        let Self { mut listener, mut facts, writing, media: _media, .. } = self;
        listener.finish();
        drop(listener);
        assert!(writing.finish());
        let mut written = Vec::new();
        while let Ok(fact) = facts.try_recv() {
            let Fact::IndexRecord { path, offset, object, revision, .. } = fact else { continue };
            let record = SegmentReader::open(&path).and_then(|segment| segment.record_at(offset)).unwrap();
            assert_eq!(record.kind, RecordKind::Index);
            let header = campanile_proto::types::v1::RecordHeader::decode(record.header).unwrap();
            let hour = WallTime(header.arrival.unwrap().utc_us).hour();
            written.push((object, revision, hour, IndexRecord::decode(record.payload).unwrap()));
        }
        written
    }
}

fn event(id: ObjectId, ongoing: bool) -> Bytes {
    let event = Event { event_id: id.into(), camera_id: CAMERA.into(), ongoing, ..Event::default() };
    IndexRecord { content: Some(Content::Event(event)) }.encode_to_vec().into()
}

fn event_of(record: &IndexRecord) -> &Event {
    let Some(Content::Event(event)) = &record.content else { panic!("{record:?}") };
    event
}

#[tokio::test]
async fn ids_revisions_and_times_are_the_agents_own() {
    let mut bench = Bench::new();
    let childs = ObjectId::from_u128(7);
    let far = Instant { mono_us: i64::MAX, utc_us: i64::MIN, ..bench.clock.instant(0) };
    bench.listener.take(childs, &far, &event(childs, true));
    bench.listener.take(childs, &bench.clock.instant(0), &event(childs, false));
    let thumbnail = Thumbnail { event_id: childs.into(), camera_id: CAMERA.into(), ..Thumbnail::default() };
    let thumbnail: Bytes = IndexRecord { content: Some(Content::Thumbnail(thumbnail)) }.encode_to_vec().into();
    bench.listener.take(ObjectId::from_u128(8), &bench.clock.instant(0), &thumbnail);
    let foreign = Event { event_id: childs.into(), camera_id: CameraId::random().into(), ..Event::default() };
    let foreign: Bytes = IndexRecord { content: Some(Content::Event(foreign)) }.encode_to_vec().into();
    bench.listener.take(childs, &bench.clock.instant(0), &foreign);
    let written = bench.end();
    let [first, second, third] = written.as_slice() else { panic!("{written:#?}") };
    assert_eq!((first.0, first.1, second.1, third.1), (second.0, 1, 2, 1));
    assert_ne!(first.0, childs, "a child cannot overwrite what others reported");
    assert!(written.iter().all(|(_, _, hour, _)| *hour == 500_000), "nor choose the hour it is sealed to");
    assert_eq!(event_of(&first.3).event_id, first.0.as_bytes().as_slice());
    let Some(Content::Thumbnail(thumbnail)) = &third.3.content else { panic!() };
    assert_eq!(thumbnail.event_id, first.0.as_bytes().as_slice(), "still the event's thumbnail");
}

#[tokio::test]
async fn events_without_end_are_ended_and_a_flood_is_cut_off() {
    let mut bench = Bench::new();
    for n in 0..100 {
        let id = ObjectId::from_u128(n);
        bench.listener.take(id, &bench.clock.instant(0), &event(id, true));
        assert!(bench.listener.known.len() <= MAX_OBJECTS);
    }
    let flood: Bytes = vec![0; 200 << 10].into();
    let taken = (0..1_000).filter(|_| bench.listener.afford(flood.len())).count();
    assert!(taken <= 5, "{taken}");
    bench.clock.advance_micros(60_000_000);
    assert!(bench.listener.afford(flood.len()), "a budget comes back");
    let written = bench.end();
    let (open, ended): (Vec<_>, Vec<_>) = written.iter().partition(|(_, _, _, record)| event_of(record).ongoing);
    let ids = |of: &[&Written]| of.iter().map(|written| written.0).collect::<BTreeSet<_>>();
    assert_eq!((ids(&open).len(), ids(&open)), (100, ids(&ended)), "every event that began ended");
}

#[tokio::test]
async fn the_newest_state_of_what_found_no_place_is_handed_on_later() {
    let mut bench = Bench::new();
    let ids: Vec<_> = (0..3).map(ObjectId::from_u128).collect();
    for id in &ids {
        let (arrival, record) = (bench.clock.instant(0), event(*id, true));
        bench.listener.pending.insert(*id, IndexOrder { object: *id, revision: 1, arrival, record });
    }
    bench.listener.order(ids[0], 2, bench.clock.instant(0), event(ids[0], false));
    let written = bench.end();
    let mut seen: Vec<_> = written.iter().map(|(object, revision, ..)| (*object, *revision)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(ids[0], 2), (ids[1], 1), (ids[2], 1)]);
}
