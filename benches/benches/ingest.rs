//! Event ingest: a thousand sealed reports from the wire's form until they are durable, opened and found by a
//! search, over the real catalogue. Once as time on the clock (up to a quarter of a second of it is the index
//! waiting for company before it commits), once as processor time of all threads.

use campanile_proto::edge::v1::report::Body;
use campanile_proto::edge::v1::{Report, SealedRecord, SealingKeys};
use campanile_proto::grid::CellSet;
use campanile_proto::ids::{CameraId, EdgeId, Epoch, EventId, ObjectId, SegmentId};
use campanile_proto::segment::{PublicKey, SegmentKey};
use campanile_proto::time::{Clock, MICROS_PER_HOUR, SystemClock};
use campanile_proto::types::v1::{
    Event, IndexRecord, Instant, KeyKind, RecordHeader, RecordKind, SegmentHeader, Stream, Suite, index_record::Content,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hub::catalog::{self, Catalog};
use hub::fleet::Identity;
use hub::media::RingKeeper;
use hub::search::{Query, Search};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVENTS: usize = 1_000;
/// Records of one index segment; each segment has a key of its own to unwrap.
const RECORDS_A_SEGMENT: usize = 100;
/// Reports that become durable together, as a session takes them in.
const BATCH: usize = 512;

const EDGE: EdgeId = EdgeId::from_u128(1);
const EPOCH: Epoch = Epoch::from_u128(2);

/// A hub's stores in a temporary folder.
struct Stand {
    _dir: tempfile::TempDir,
    clock: Arc<SystemClock>,
    keeper: Arc<RingKeeper>,
    catalog: Arc<dyn Catalog>,
    search: Search,
    sequence: u64,
}

impl Stand {
    async fn open() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let clock = Arc::new(SystemClock::new());
        let identity = Arc::new(Identity::open(dir.path(), "Comune di Prova", "").expect("an identity"));
        let keeper = RingKeeper::open(&dir.path().join("keyring"), identity.clone(), 7, clock.clone()).expect("keys");
        let keeper = Arc::new(keeper);
        let opened = catalog::open(dir.path(), identity.id, keeper.clone(), clock.clone(), 7);
        let (catalog, derived) = opened.expect("a catalogue");
        let index = dir.path().join("derived/tantivy");
        let (search, follower) =
            Search::open(&index, derived, catalog.clone(), clock.clone()).await.expect("a search index");
        tokio::spawn(follower.run(CancellationToken::new()));
        search.caught_up().await;
        Self { _dir: dir, clock, keeper, catalog, search, sequence: 0 }
    }

    fn now(&self, later_us: i64) -> Instant {
        let mut now = self.clock.instant(1_000);
        now.utc_us += later_us;
        now
    }

    /// A thousand reports, sealed as a box seals them; the last event is the newest.
    fn sealed(&mut self) -> (Vec<Report>, EventId) {
        let keys = self.keeper.signed_keys(EDGE).expect("keys");
        let keys = SealingKeys::decode(keys.payload).expect("keys of our own making");
        let mut reports = Vec::with_capacity(EVENTS);
        let mut last = EventId::random();
        for segment in 0..EVENTS / RECORDS_A_SEGMENT {
            let camera = CameraId::from_u128(10 + segment as u128);
            let hour = self.clock.utc().hour();
            let public = PublicKey::from_bytes(&keys.hour_keys[(hour - keys.first_hour as i64) as usize]);
            let header = SegmentHeader {
                segment_id: SegmentId::random().into(),
                organisation_id: keys.organisation_id.clone(),
                edge_id: EDGE.into(),
                camera_id: camera.into(),
                stream: Stream::Index.into(),
                suite: Suite::Aes256Gcm.into(),
                key_kind: KeyKind::Hour.into(),
                hour: hour as u64,
                key_generation: keys.generation,
                retention_days: 7,
                ..SegmentHeader::default()
            };
            let segment_bytes = header.encode_to_vec();
            let key = SegmentKey::random().expect("random bytes");
            let wrapped = key.wrap(&header, &segment_bytes, &public.expect("a public key")).expect("a wrapped key");
            for sealing in 0..RECORDS_A_SEGMENT as u32 {
                last = EventId::random();
                let content = self.event(last, camera, reports.len() as i64);
                let record = self.record(&key, header.suite, sealing, content);
                self.sequence += 1;
                reports.push(Report {
                    epoch: EPOCH.into(),
                    sequence: self.sequence,
                    object_id: record.1.into(),
                    revision: 1,
                    body: Some(Body::Sealed(SealedRecord {
                        segment_header: segment_bytes.clone().into(),
                        wrapped_key: wrapped.clone().into(),
                        ..record.0
                    })),
                });
            }
        }
        (reports, last)
    }

    fn event(&self, id: EventId, camera: CameraId, later_us: i64) -> Content {
        let mut moved = CellSet::EMPTY;
        (200..240).for_each(|cell| moved.insert(cell));
        Content::Event(Event {
            event_id: id.into(),
            camera_id: camera.into(),
            start: Some(self.now(later_us)),
            end: Some(self.now(later_us)),
            moved: moved.to_bytes().to_vec().into(),
            peak_cells: 40,
            ..Event::default()
        })
    }

    fn record(&self, key: &SegmentKey, suite: i32, sealing: u32, content: Content) -> (SealedRecord, ObjectId) {
        let object = ObjectId::random();
        let header = RecordHeader {
            kind: RecordKind::Index.into(),
            sealing,
            arrival: Some(self.now(0)),
            object_id: object.into(),
            revision: 1,
            ..RecordHeader::default()
        };
        let header = header.encode_to_vec();
        let plain = IndexRecord { content: Some(content) }.encode_to_vec();
        let payload = key.seal(suite, sealing, &header, &plain).expect("a sealed record");
        (SealedRecord { header: header.into(), payload: payload.into(), ..SealedRecord::default() }, object)
    }

    async fn newest(&self, limit: usize) -> Vec<EventId> {
        let now = self.clock.utc();
        let (from, to) = (now.plus_micros(-MICROS_PER_HOUR), now.plus_micros(MICROS_PER_HOUR));
        let (cameras, site, words, region) = Default::default();
        let hits = self.search.run(Query { from, to, cameras, site, words, region, limit }).await.expect("a search");
        hits.iter().map(|hit| EventId::try_from(&hit.event_id).expect("an id")).collect()
    }

    /// Until the last event is found, which the index takes in last.
    async fn take_in(&self, mut reports: Vec<Report>, last: EventId) {
        while !reports.is_empty() {
            let batch: Vec<Report> = reports.drain(..reports.len().min(BATCH)).collect();
            let ack = self.catalog.ingest(EDGE, batch).await.expect("reports kept");
            assert_eq!((ack.refused, ack.expired), (0, 0));
        }
        while self.newest(1).await != [last] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Of this process, all threads.
fn processor_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a process has a clock").into()
}

fn ingest(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let mut group = criterion.benchmark_group("ingest");
    group.sample_size(10).throughput(Throughput::Elements(EVENTS as u64));
    for measured in ["wall", "processor"] {
        group.bench_function(BenchmarkId::new("1000 sealed events", measured), |bencher| {
            let mut stand = runtime.block_on(Stand::open());
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let (reports, last) = stand.sealed();
                    let (wall, processor) = (std::time::Instant::now(), processor_time());
                    runtime.block_on(stand.take_in(reports, last));
                    spent += match measured {
                        "wall" => wall.elapsed(),
                        _ => processor_time() - processor,
                    };
                }
                spent
            });
            assert_eq!(runtime.block_on(stand.newest(EVENTS)).len(), EVENTS);
        });
    }
    group.finish();
}

criterion_group!(benches, ingest);
criterion_main!(benches);
