//! Sessions and deliveries against a hub with real TLS and gRPC.

use super::{Standing, Uplink, Wishes};
use crate::clock::{Reckoned, Timekeeper};
use crate::facts::Fact;
use crate::fake_hub::{FakeHub, Memory};
use crate::identity::{IdentityFolder, Token, enrol};
use crate::index::Index;
use crate::index::rescan::{ThisRun, rescan};
use crate::keys::KeySet;
use crate::specimen::{NOON, Specimen, instant};
use bytes::Bytes;
use campanile_proto::edge::v1::deliver_up::Message as Delivered;
use campanile_proto::edge::v1::edge_message::Message as Up;
use campanile_proto::edge::v1::fetch::What;
use campanile_proto::edge::v1::hub_message::Message as Down;
use campanile_proto::edge::v1::report::Body;
use campanile_proto::edge::v1::{
    CancelFetch, Desired, Fetch, FetchClass, Follow, FragmentRange, Gap, HubTime, Pin, Replay, TimeSpan,
};
use campanile_proto::ids::{BootId, CameraId, FetchId, HoldId, ObjectId, RunId};
use campanile_proto::signed;
use campanile_proto::time::{MonoTime, SystemClock, WallTime};
use campanile_proto::types::v1::{RecordHeader, Stream};
use proptest::prelude::*;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

const CAMERA: CameraId = CameraId::from_u128(1);
const RUN: RunId = RunId::from_u128(2);

/// A box without cameras.
struct Edge {
    index: Index,
    keys: watch::Receiver<Option<Arc<KeySet>>>,
    wishes: watch::Receiver<Wishes>,
    standing: watch::Receiver<Standing>,
    rescan: Arc<Notify>,
    stop: CancellationToken,
    state: tempfile::TempDir,
}

impl Edge {
    async fn start(hub: &FakeHub) -> Self {
        let edge = Self::prepare(hub).await;
        edge.run().await
    }

    async fn prepare(hub: &FakeHub) -> (tempfile::TempDir, Index, crate::identity::Identity, IdentityFolder) {
        let state = tempfile::tempdir().unwrap();
        let folder = IdentityFolder::open(state.path()).unwrap();
        let token = Token::parse(&hub.token()).unwrap();
        let identity = enrol(&folder, &token, "piazza", Reckoned::unvouched(WallTime(NOON)), false).await.unwrap();
        let index = Index::open(&state.path().join("index.sqlite")).unwrap();
        (state, index, identity, folder)
    }
}

trait Prepared {
    async fn run(self) -> Edge;
}

impl Prepared for (tempfile::TempDir, Index, crate::identity::Identity, IdentityFolder) {
    async fn run(self) -> Edge {
        let (state, index, identity, folder) = self;
        let clock = Arc::new(SystemClock::new());
        let timekeeper = Arc::new(Timekeeper::open(state.path(), clock.clone()));
        let (keys, keys_watch) = watch::channel(None);
        let (wishes, wishes_watch) = watch::channel(Wishes::default());
        let (standing, standing_watch) = watch::channel(Standing::Connecting);
        let (rescan, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let uplink = Uplink {
            folder,
            identity: watch::Sender::new(identity),
            index: index.clone(),
            clock,
            timekeeper,
            keys,
            wishes,
            standing,
            rescan: rescan.clone(),
        };
        tokio::spawn(uplink.run(stop.clone()));
        Edge { index, keys: keys_watch, wishes: wishes_watch, standing: standing_watch, rescan, stop, state }
    }
}

fn gap(n: u128) -> Fact {
    let gap = Gap { camera_id: CAMERA.into(), cause: n as i32, ..Gap::default() };
    Fact::Gap { object: ObjectId::from_u128(n), gap }
}

async fn tell(index: &Index, facts: Vec<Fact>) {
    index.take(facts, WallTime(NOON), MonoTime(0)).await.unwrap();
}

async fn until_empty(index: &Index) {
    let empty = async {
        while index.progress().await.unwrap().waiting > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), empty).await.expect("the outbox never became empty");
}

#[tokio::test]
async fn reports_arrive_and_leave_the_outbox() {
    let hub = FakeHub::start().await;
    let edge = Edge::start(&hub).await;
    tell(&edge.index, (1..=500).map(gap).collect()).await;
    until_empty(&edge.index).await;
    let memory = hub.memory.lock().unwrap();
    let objects: BTreeSet<_> = memory.reports.iter().map(|report| report.object_id.clone()).collect();
    assert_eq!((objects.len(), memory.reports.len()), (500, 500));
    assert_eq!(*edge.standing.borrow(), Standing::Connected);
}

#[tokio::test]
async fn sealed_records_are_read_from_their_segment_newest_first() {
    let hub = FakeHub::start().await;
    let prepared = Edge::prepare(&hub).await;
    let media = prepared.0.path().join("media");
    let objects: Vec<_> = (1..=3).map(ObjectId::from_u128).collect();
    let mut segment = Specimen::open(CAMERA, Stream::Index, RUN, 0, 0);
    for object in &objects {
        segment = segment.index_record(*object, 4);
    }
    segment.close().write(&media);
    let other_run = ThisRun { boot: BootId::random(), started: MonoTime(0) };
    rescan(&prepared.1, &media, other_run).await.unwrap();
    let edge = prepared.run().await;
    until_empty(&edge.index).await;
    let sealed: Vec<_> = hub
        .memory
        .lock()
        .unwrap()
        .reports
        .iter()
        .filter_map(|report| match &report.body {
            Some(Body::Sealed(record)) => Some((report.revision, record.payload.clone())),
            _ => None,
        })
        .collect();
    let expected: Vec<_> = objects.iter().rev().map(|object| (4, Bytes::from(format!("{object} 4")))).collect();
    assert_eq!(sealed, expected);
}

#[tokio::test]
async fn keys_wishes_and_time_are_taken_only_from_the_organisation() {
    let hub = FakeHub::start().await;
    let edge = Edge::start(&hub).await;
    let forged = {
        let mut keys = hub.keys(9);
        keys.signature = Bytes::from(vec![0; 64]);
        keys
    };
    let time_payload = [NOON.to_le_bytes(), 5u64.to_le_bytes()].concat();
    let signature = signed::sign(signed::EDGE, "HubTime", &time_payload, &hub.organisation_key).into();
    hub.until("a session", |m| (!m.sessions.is_empty()).then_some(())).await;
    for message in [
        Down::Keys(forged),
        Down::Keys(hub.keys(5)),
        Down::Keys(hub.keys(4)),
        Down::Time(HubTime { utc_us: NOON, uncertainty_us: 5, signature }),
        Down::Desired(Desired { generation: 3, retention_days: 2, ..Desired::default() }),
        Down::Desired(Desired {
            generation: 4,
            retention_days: 30,
            pins: vec![Pin {
                hold_id: HoldId::from_u128(1).into(),
                camera_id: CameraId::from_u128(2).into(),
                from_us: 5,
                to_us: 9,
                until_us: 100,
            }],
            masked_camera_ids: vec![CameraId::from_u128(3).into(), vec![1, 2].into()],
        }),
    ] {
        hub.say(message).await;
    }
    let problems = hub
        .until("both wishes answered", |m| {
            let applied: Vec<_> = m
                .other
                .iter()
                .filter_map(|message| match message {
                    Up::Applied(applied) => Some(applied.problems.len()),
                    _ => None,
                })
                .collect();
            (applied.len() == 2).then_some(applied)
        })
        .await;
    assert_eq!(problems, [0, 2]);
    assert_eq!(edge.keys.borrow().as_ref().unwrap().generation, 5);
    let wishes = edge.wishes.borrow().clone();
    assert_eq!((wishes.generation, wishes.retention_days), (3, 2));
    assert_eq!(wishes.pins.iter().map(|pin| pin.camera).collect::<Vec<_>>(), [CameraId::from_u128(2)]);
    assert_eq!(wishes.masked, [CameraId::from_u128(3)].into());
    until_empty(&edge.index).await;
    let anchors = edge.index.anchors().await.unwrap();
    assert_eq!((anchors.len(), anchors[0].utc_us), (1, NOON));
    assert!(edge.state.path().join("identity/keys.bin").exists());
}

#[tokio::test]
async fn a_replay_sends_everything_again() {
    let hub = FakeHub::start().await;
    let edge = Edge::start(&hub).await;
    tell(&edge.index, vec![gap(1), gap(2)]).await;
    until_empty(&edge.index).await;
    hub.say(Down::Replay(Replay { since_us: 0 })).await;
    hub.until("four reports", |m| (m.reports.len() == 4).then_some(())).await;
    until_empty(&edge.index).await;
    let revisions: BTreeSet<_> = {
        let memory = hub.memory.lock().unwrap();
        memory.reports.iter().map(|r| (r.object_id.clone(), r.revision)).collect()
    };
    assert_eq!(revisions.len(), 2, "the same revisions under new sequences");
    tokio::time::timeout(std::time::Duration::from_secs(5), edge.rescan.notified()).await.unwrap();
}

#[tokio::test]
async fn an_expired_certificate_is_renewed_before_the_session() {
    let hub = FakeHub::start_with(|hub| hub.gives_expired = true).await;
    let edge = Edge::start(&hub).await;
    hub.until("a session", |m| (!m.hellos.is_empty() && m.renewals > 0).then_some(())).await;
    edge.stop.cancel();
}

#[tokio::test]
async fn a_box_whose_clock_is_dead_renews_when_the_hub_turns_it_away() {
    let hub = FakeHub::start().await;
    hub.memory.lock().unwrap().turns_away = 1;
    let edge = Edge::start(&hub).await;
    hub.until("a session", |m| (!m.hellos.is_empty()).then_some(())).await;
    assert_eq!(hub.memory.lock().unwrap().renewals, 1);
    edge.stop.cancel();
}

/// What a hub must hold at the end: of every object its newest state, nothing twice under one sequence with
/// different content.
fn check(memory: &Memory, newest: &BTreeMap<u128, i32>) -> Result<(), TestCaseError> {
    let mut by_sequence: BTreeMap<u64, &campanile_proto::edge::v1::Report> = BTreeMap::new();
    for report in &memory.reports {
        let before = by_sequence.insert(report.sequence, report);
        prop_assert!(before.is_none(), "sequence {} was sent again though the hub held it", report.sequence);
    }
    let mut best: BTreeMap<Bytes, (u64, i32)> = BTreeMap::new();
    for report in &memory.reports {
        let Some(Body::Gap(gap)) = &report.body else { continue };
        let entry = best.entry(report.object_id.clone()).or_default();
        *entry = (*entry).max((report.revision, gap.cause));
    }
    let held: BTreeMap<u128, i32> = best
        .into_iter()
        .map(|(object, (_, cause))| (u128::from_be_bytes(object.as_ref().try_into().unwrap()), cause))
        .collect();
    prop_assert_eq!(&held, newest);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_doubled_whenever_the_link_breaks(
        breaks in proptest::collection::vec(0usize..30, 0..3),
        acknowledges: bool,
        changes in proptest::collection::vec((1u128..20, 1i32..9), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let hub = FakeHub::start().await;
            {
                let mut memory = hub.memory.lock().unwrap();
                memory.breaks_after = VecDeque::from(breaks);
                memory.acknowledges = acknowledges;
            }
            let edge = Edge::start(&hub).await;
            let mut newest = BTreeMap::new();
            for batch in changes.chunks(10) {
                let facts = batch.iter().map(|(object, cause)| {
                    newest.insert(*object, *cause);
                    let gap = Gap { camera_id: CAMERA.into(), cause: *cause, ..Gap::default() };
                    Fact::Gap { object: ObjectId::from_u128(*object), gap }
                });
                tell(&edge.index, facts.collect()).await;
            }
            until_empty(&edge.index).await;
            edge.stop.cancel();
            let counted = edge.index.progress().await.unwrap().acknowledged_count;
            let held = hub.memory.lock().unwrap().held.len() as u64;
            prop_assert!(counted <= held, "counted {counted}, and the hub holds {held}");
            prop_assert!(counted >= newest.len() as u64, "every object's newest state was acknowledged: {counted}");
            check(&hub.memory.lock().unwrap(), &newest)
        })?;
    }
}

/// Two segments of one run, ten fragments each, a key frame every four seconds.
async fn with_footage(hub: &FakeHub) -> (Edge, Vec<Specimen>) {
    let prepared = Edge::prepare(hub).await;
    let media = prepared.0.path().join("media");
    let segments = vec![
        Specimen::open(CAMERA, Stream::Main, RUN, 0, 0).fragments(12, 4).close(),
        Specimen::open(CAMERA, Stream::Main, RUN, 12, 12).fragments(12, 4).close(),
    ];
    segments.iter().for_each(|segment| {
        segment.write(&media);
    });
    let other_run = ThisRun { boot: BootId::random(), started: MonoTime(0) };
    rescan(&prepared.1, &media, other_run).await.unwrap();
    let edge = prepared.run().await;
    hub.until("a session", |m| (!m.sessions.is_empty()).then_some(())).await;
    (edge, segments)
}

fn fetch(what: What) -> Fetch {
    let fetch_id = FetchId::random().into();
    Fetch { fetch_id, camera_id: CAMERA.into(), stream: Stream::Main.into(), what: Some(what), ..Fetch::default() }
}

/// Asks and waits for the end; returns it, and what came before.
async fn delivered(hub: &FakeHub, fetch: Fetch) -> (Vec<Delivered>, bool, String) {
    let before = {
        let mut memory = hub.memory.lock().unwrap();
        memory.delivered.clear();
        memory.deliveries_ended
    };
    hub.say(Down::Fetch(fetch)).await;
    hub.until("the end of a delivery", |m| (m.deliveries_ended > before).then_some(())).await;
    let mut messages = std::mem::take(&mut hub.memory.lock().unwrap().delivered);
    match messages.pop() {
        Some(Delivered::End(end)) => (messages, end.complete, end.reason),
        other => panic!("a delivery ends with its end, not {other:?}"),
    }
}

fn indexes(messages: &[Delivered]) -> Vec<u64> {
    let of = |message: &Delivered| match message {
        Delivered::Record(record) => RecordHeader::decode(record.header.clone()).ok(),
        _ => None,
    };
    messages.iter().filter_map(of).filter(|header| header.kind == 3).map(|header| header.index).collect()
}

#[tokio::test]
async fn a_span_is_delivered_in_whole_groups_with_each_segments_key_and_init() {
    let hub = FakeHub::start().await;
    let (_edge, segments) = with_footage(&hub).await;
    let span = TimeSpan { from_us: NOON + 9_500_000, to_us: NOON + 13_000_000 };
    let (messages, complete, reason) = delivered(&hub, fetch(What::Span(span))).await;
    assert_eq!((indexes(&messages), complete), ((8..16).collect(), true), "{reason}");
    let headers: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            Delivered::Segment(segment) => Some(segment.header.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(headers, segments.iter().map(|segment| segment.header.clone()).collect::<Vec<_>>());
    assert!(matches!(&messages[..3], [Delivered::Open(_), Delivered::Segment(_), Delivered::Record(init)]
        if init.payload == "init".as_bytes()));
    let first = messages.iter().find_map(|message| match message {
        Delivered::Record(record) if record.utc_us > 0 => Some(record.clone()),
        _ => None,
    });
    assert_eq!(first.unwrap().utc_us, NOON + 8_000_000);
}

#[tokio::test]
async fn a_range_resumes_where_a_fetch_broke_off() {
    let hub = FakeHub::start().await;
    let (_edge, _segments) = with_footage(&hub).await;
    let mut limited = fetch(What::Fragments(FragmentRange { run_id: RUN.into(), first: 10, last: 20 }));
    limited.byte_budget = 3_500;
    let (messages, complete, reason) = delivered(&hub, limited).await;
    let got = indexes(&messages);
    assert_eq!((complete, reason.as_str()), (false, "byte budget used up"));
    assert!(!got.is_empty() && got.len() < 11);
    let rest = FragmentRange { run_id: RUN.into(), first: got[got.len() - 1] + 1, last: 20 };
    let (messages, complete, _) = delivered(&hub, fetch(What::Fragments(rest))).await;
    let all: Vec<_> = got.into_iter().chain(indexes(&messages)).collect();
    assert_eq!((all, complete), ((10..=20).collect(), true));
}

#[tokio::test]
async fn headers_alone_cost_no_bytes_and_unknown_cameras_deliver_nothing() {
    let hub = FakeHub::start().await;
    let (_edge, _segments) = with_footage(&hub).await;
    let mut listing = fetch(What::Span(TimeSpan { from_us: NOON, to_us: NOON + 100_000_000 }));
    listing.headers_only = true;
    let (messages, complete, _) = delivered(&hub, listing.clone()).await;
    assert_eq!((indexes(&messages).len(), complete), (24, true));
    let empty = |message: &Delivered| !matches!(message, Delivered::Record(record) if !record.payload.is_empty());
    assert!(messages.iter().all(empty));
    let other = Fetch { camera_id: CameraId::random().into(), ..listing };
    let (messages, complete, _) = delivered(&hub, other).await;
    assert_eq!((messages.len(), complete), (1, true));
}

#[tokio::test]
async fn live_follows_from_segment_to_segment_until_it_is_cancelled() {
    let hub = FakeHub::start().await;
    let prepared = Edge::prepare(&hub).await;
    let media = prepared.0.path().join("media");
    let index = prepared.1.clone();
    let first = Specimen::open(CAMERA, Stream::Main, RUN, 0, 0).fragments(6, 4);
    let open = |specimen: &Specimen| Fact::SegmentOpened {
        segment: specimen.id,
        camera: CAMERA,
        stream: Stream::Main,
        path: specimen.path(&media),
        header: specimen.header.clone(),
        wrapped_key: Bytes::new(),
    };
    first.write(&media);
    tell(&index, vec![open(&first)]).await;
    let _edge = prepared.run().await;
    hub.until("a session", |m| (!m.sessions.is_empty()).then_some(())).await;
    let live = fetch(What::Live(Follow {}));
    hub.say(Down::Fetch(live.clone())).await;
    hub.until("the newest group", |m| (indexes(&m.delivered) == [4, 5]).then_some(())).await;
    let first = first.fragments(1, 4).close();
    first.write(&media);
    let second = Specimen::open(CAMERA, Stream::Main, RUN, 7, 7).fragments(2, 4);
    second.write(&media);
    let closed = Fact::SegmentGrew {
        segment: first.id,
        start: instant(first.boot, NOON),
        end: instant(first.boot, NOON + 7_000_000),
        fragment_count: first.count(),
        size_bytes: first.bytes.len() as u64,
        newest_link: first.link,
        closed: true,
        signed: None,
    };
    tell(&index, vec![closed, open(&second)]).await;
    hub.until("the next segment", |m| (indexes(&m.delivered) == [4, 5, 6, 7, 8]).then_some(())).await;
    hub.say(Down::Cancel(CancelFetch { fetch_id: live.fetch_id })).await;
    hub.until("the end", |m| (m.deliveries_ended == 1).then_some(())).await;
    let end = hub.memory.lock().unwrap().delivered.pop();
    assert!(matches!(end, Some(Delivered::End(end)) if end.reason == "cancelled" && !end.complete));
}

#[tokio::test]
async fn damage_in_the_middle_of_a_recording_is_not_delivered_as_complete() {
    let hub = FakeHub::start().await;
    let (edge, segments) = with_footage(&hub).await;
    let path = segments[0].path(&edge.state.path().join("media"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[segments[0].offsets[6]] = 0xff;
    std::fs::write(&path, bytes).unwrap();
    let span = TimeSpan { from_us: NOON, to_us: NOON + 11_000_000 };
    let (messages, complete, reason) = delivered(&hub, fetch(What::Span(span))).await;
    assert!(!complete && reason.contains("damaged"), "{reason}");
    assert_eq!(indexes(&messages), [0, 1, 2, 3], "what can be read is there");
    // Control: the other segment.
    let span = TimeSpan { from_us: NOON + 13_000_000, to_us: NOON + 15_000_000 };
    assert!(delivered(&hub, fetch(What::Span(span))).await.1);
}

#[tokio::test]
async fn a_record_that_does_not_verify_costs_the_rest_of_its_segment_and_no_other() {
    let hub = FakeHub::start().await;
    let (edge, segments) = with_footage(&hub).await;
    let path = segments[0].path(&edge.state.path().join("media"));
    let mut bytes = std::fs::read(&path).unwrap();
    // Segment record and init section come first.
    bytes[segments[0].offsets[2 + 6] + 300] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let span = TimeSpan { from_us: NOON, to_us: NOON + 20_000_000 };
    let range = FragmentRange { run_id: RUN.into(), first: 0, last: 19 };
    for what in [What::Span(span), What::Fragments(range)] {
        let (messages, complete, reason) = delivered(&hub, fetch(what)).await;
        assert!(!complete && reason.contains("damaged"), "{reason}");
        assert_eq!(indexes(&messages), (0..6).chain(12..20).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn bulk_waits_while_somebody_watches_and_goes_on_afterwards() {
    let hub = FakeHub::start().await;
    let (_edge, _segments) = with_footage(&hub).await;
    let watched = Fetch { class: FetchClass::Live.into(), ..fetch(What::Live(Follow {})) };
    hub.say(Down::Fetch(watched.clone())).await;
    hub.until("live footage", |m| (!indexes(&m.delivered).is_empty()).then_some(())).await;
    hub.memory.lock().unwrap().delivered.clear();
    let span = What::Span(TimeSpan { from_us: NOON, to_us: NOON + 100_000_000 });
    hub.say(Down::Fetch(Fetch { class: FetchClass::Backfill.into(), ..fetch(span) })).await;
    hub.until("the bulk fetch is open", |m| {
        m.delivered.iter().any(|message| matches!(message, Delivered::Open(_))).then_some(())
    })
    .await;
    let headers_only = What::Span(TimeSpan { from_us: NOON, to_us: NOON + 1_000_000 });
    let playlist = Fetch { class: FetchClass::Playback.into(), headers_only: true, ..fetch(headers_only) };
    hub.say(Down::Fetch(playlist)).await;
    hub.until("a playlist in between", |m| (m.deliveries_ended == 1).then_some(())).await;
    let payloads = |m: &Memory| {
        m.delivered.iter().filter(|d| matches!(d, Delivered::Record(record) if !record.payload.is_empty())).count()
    };
    assert_eq!(payloads(&hub.memory.lock().unwrap()), 0, "bulk has sent nothing yet");
    hub.say(Down::Cancel(CancelFetch { fetch_id: watched.fetch_id })).await;
    hub.until("all of the bulk", |m| (m.deliveries_ended == 3 && payloads(m) >= 24).then_some(())).await;
}
