use super::*;
use crate::access::{Action, Pass, Principal, Request};
use crate::fleet::FetchError;
use crate::media::PlaybackError;
use crate::media::keeper::tests::sealing_key;
use bytes::Bytes;
use campanile_proto::edge::v1::report::Body;
use campanile_proto::edge::v1::{
    CameraState, DeliverEnd, DeliverOpen, DeliverRecord, DeliverSegment, DeliverUp, Fetch, FetchRefused, SealingKeys,
    deliver_up, fetch::What,
};
use campanile_proto::federation::v1::{Listing, Purpose};
use campanile_proto::ids::{CameraId, ObjectId, RequestId, RunId, SegmentId};
use campanile_proto::segment::{Link, SegmentKey, first_link, next_link};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{KeyKind, RecordHeader, RecordKind, SegmentHeader, Stream, Suite};
use mp4_atom::{Avc1, Avcc, Codec, Decode, Encode, Mdat, Moof, Moov, Stsd, Tfdt, Tfhd, Traf, Trak, Trun};
use prost::Message;

pub(super) const CAMERA: CameraId = CameraId::from_u128(7);
pub(super) const RUN: RunId = RunId::from_u128(8);
const SECOND: u64 = 90_000;

/// One recorded stream of a box: a sealed segment of one-second fragments, a key frame every two.
#[derive(Clone)]
pub(super) struct Recorded {
    pub segment: DeliverSegment,
    pub records: Vec<DeliverRecord>,
}

fn init() -> Bytes {
    let avcc = Avcc {
        configuration_version: 1,
        avc_profile_indication: 0x64,
        avc_level_indication: 0x1f,
        length_size: 4,
        ..Avcc::new(&[0x67, 0x64, 0, 0x1f], &[0x68]).unwrap()
    };
    let visual = mp4_atom::Visual { width: 1280, height: 720, ..Default::default() };
    let mut trak = Trak::default();
    trak.mdia.minf.stbl.stsd = Stsd { codecs: vec![Codec::Avc1(Avc1 { visual, avcc, ..Default::default() })] };
    let moov = Moov { trak: vec![trak], ..Default::default() };
    let mut out = Vec::new();
    moov.encode(&mut out).unwrap();
    out.into()
}

fn fragment(index: u64) -> Bytes {
    let data = format!("access unit {index}").into_bytes();
    let traf = Traf {
        tfhd: Tfhd { track_id: 1, default_sample_size: Some(data.len() as u32), ..Default::default() },
        tfdt: Some(Tfdt { base_media_decode_time: index * SECOND }),
        trun: vec![Trun { data_offset: Some(0), ..Default::default() }],
        ..Default::default()
    };
    let mut out = Vec::new();
    Moof { traf: vec![traf], ..Default::default() }.encode(&mut out).unwrap();
    Mdat { data }.encode(&mut out).unwrap();
    out.into()
}

/// When something was recorded, and by which key.
#[derive(Clone, Copy)]
pub(super) struct Capture {
    pub kind: KeyKind,
    /// As everybody knows now.
    pub start: WallTime,
    /// As the box believed when it sealed.
    pub believed: WallTime,
    pub first_index: u64,
    pub count: u64,
}

/// Of the last minute, by its hour's key.
pub(super) fn record(stand: &Stand, enrolled: &TestBox, count: u64) -> Recorded {
    let start = stand.clock.utc().plus_micros(-60_000_000);
    record_as(enrolled, Capture { kind: KeyKind::Hour, start, believed: start, first_index: 0, count })
}

/// Sealed with the keys that the box was enrolled with.
pub(super) fn record_as(enrolled: &TestBox, capture: Capture) -> Recorded {
    let Capture { kind: key_kind, start, believed, first_index, count } = capture;
    let keys = SealingKeys::decode(enrolled.response.keys.clone().unwrap().payload).unwrap();
    let hour = believed.hour();
    let public = sealing_key(&keys, key_kind, hour);
    let segment = SegmentHeader {
        segment_id: SegmentId::random().into(),
        organisation_id: keys.organisation_id,
        edge_id: enrolled.id.into(),
        camera_id: CAMERA.into(),
        stream: Stream::Main.into(),
        run_id: RUN.into(),
        suite: Suite::Chacha20Poly1305.into(),
        key_kind: key_kind.into(),
        hour: hour as u64,
        first_index,
        key_generation: keys.generation,
        retention_days: 7,
        ..SegmentHeader::default()
    };
    let header = Bytes::from(segment.encode_to_vec());
    let key = SegmentKey::random().unwrap();
    let wrapped_key = Bytes::from(key.wrap(&segment, &header, &public).unwrap());
    let mut link: Link = next_link(&first_link(&[]), &header, &wrapped_key);
    let mut records = Vec::new();
    for sealing in 0..=count as u32 {
        let (kind, plain) = match sealing {
            0 => (RecordKind::Init, init()),
            n => (RecordKind::Fragment, fragment(first_index + u64::from(n) - 1)),
        };
        let index = first_index + u64::from(sealing.saturating_sub(1));
        let header = RecordHeader {
            kind: kind.into(),
            sealing,
            index,
            starts_with_key: index % 2 == 0,
            decode_time_90k: index * SECOND,
            duration_90k: SECOND,
            sample_count: 1,
            plain_size: plain.len() as u32,
            ..RecordHeader::default()
        };
        let header = Bytes::from(header.encode_to_vec());
        let payload = Bytes::from(key.seal(segment.suite, sealing, &header, &plain).unwrap());
        link = next_link(&link, &header, &payload);
        // Packets arrive a little late, each by another bit.
        let since_us = (index - first_index) as i64 * 1_000_000;
        let utc_us = start.0 + since_us + (index as i64 % 3) * 7_000;
        records.push(DeliverRecord { header, payload, link: Bytes::copy_from_slice(&link), utc_us, uncertainty_us: 9 });
    }
    Recorded { segment: DeliverSegment { header, wrapped_key }, records }
}

impl Recorded {
    pub fn answer(&self, fetch: &Fetch) -> Vec<DeliverUp> {
        let up = |message| DeliverUp { message: Some(message) };
        let wanted = |record: &DeliverRecord| {
            let header = RecordHeader::decode(record.header.clone()).unwrap();
            match fetch.what.as_ref().unwrap() {
                _ if header.kind() == RecordKind::Init => true,
                What::Fragments(range) => (range.first..=range.last).contains(&header.index),
                What::Span(_) => true,
                What::Live(_) => false,
            }
        };
        let mut messages = vec![up(deliver_up::Message::Open(DeliverOpen { fetch_id: fetch.fetch_id.clone() }))];
        if fetch.stream() == Stream::Main {
            messages.push(up(deliver_up::Message::Segment(self.segment.clone())));
            for record in self.records.iter().filter(|record| wanted(record)) {
                let mut record = record.clone();
                if fetch.headers_only {
                    record.payload = Bytes::new();
                }
                messages.push(up(deliver_up::Message::Record(record)));
            }
        }
        messages.push(up(deliver_up::Message::End(DeliverEnd { complete: true, reason: String::new() })));
        messages
    }
}

/// Reports its camera, then answers every fetch until the hub ends the session.
pub(super) async fn serve_footage(
    stand: &Stand,
    enrolled: &TestBox,
    recorded: Recorded,
) -> tokio::task::JoinHandle<()> {
    serve_answers(stand, enrolled, move |fetch| recorded.answer(fetch)).await
}

/// The same with answers of the test's choice.
pub(super) async fn serve_answers(
    stand: &Stand,
    enrolled: &TestBox,
    answer: impl Fn(&Fetch) -> Vec<DeliverUp> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    let mut session = enrolled.session(stand, enrolled.hello(1, 0)).await.unwrap();
    let state = CameraState { camera_id: CAMERA.into(), name: "Piazza".to_owned(), ..CameraState::default() };
    let body = Some(Body::Camera(state));
    let object_id = ObjectId::from_u128(7).into();
    session.report(Report { epoch: enrolled.epoch.into(), sequence: 1, object_id, revision: 1, body }).await;
    session.hear_until(|heard| matches!(heard, Heard::Ack(_)).then_some(())).await;
    let client = enrolled.client(stand).await;
    tokio::spawn(async move {
        // The box's side stays open as long as it answers.
        let Session { up: _up, mut down } = session;
        while let Ok(Some(HubMessage { message: Some(heard) })) = down.message().await {
            let Heard::Fetch(fetch) = heard else { continue };
            let messages = answer(&fetch);
            let mut client = client.clone();
            tokio::spawn(async move {
                let mut down = client.deliver(tokio_stream::iter(messages)).await.unwrap().into_inner();
                while let Ok(Some(_)) = down.message().await {}
            });
        }
    })
}

/// Somebody's access, in the register as long as it is held.
pub(super) async fn access(stand: &Stand) -> Pass {
    let now = stand.clock.utc();
    let request = Request {
        purpose: Some(Purpose::UrbanSecurity),
        case_number: Some("12/2026".to_owned()),
        cameras: vec![CAMERA],
        interval: Some((now.plus_micros(-60_000_000), now)),
        ..Request::new(Principal::Administrator { uid: 0 }, Action::Playback)
    };
    stand.door.enter(request).await.ok().unwrap()
}

async fn list(stand: &Stand) -> Result<Listing, PlaybackError> {
    let (now, pass) = (stand.clock.utc(), access(stand).await);
    let id = pass.request_id();
    stand.playback.listing(id, CAMERA, now.plus_micros(-57_500_000), now.plus_micros(-53_000_000)).await
}

#[tokio::test]
async fn footage_is_listed_opened_and_put_on_one_time_line() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    serve_footage(&stand, &enrolled, record(&stand, &enrolled, 10)).await;
    let (listing, pass) = (list(&stand).await.unwrap(), access(&stand).await);
    let [main] = listing.variants.as_slice() else { panic!("{listing:?}") };
    assert_eq!((main.codecs.as_str(), main.width, main.height), ("avc1.64001F", 1280, 720));
    let seen: Vec<_> = main.groups.iter().map(|g| (g.first, g.last, g.duration_us, g.discontinuity)).collect();
    assert_eq!(seen, [(2, 3, 2_000_000, false), (4, 5, 2_000_000, false), (6, 7, 2_000_000, false)]);
    assert_eq!(listing.zero_us, main.groups[0].start_us);
    assert_eq!(stand.playback.init(pass.request_id(), CAMERA, Stream::Main, RUN).await.unwrap(), init());
    let mut decode_times = Vec::new();
    for group in &main.groups {
        let zero = WallTime(listing.zero_us);
        let bytes = stand
            .playback
            .group(pass.request_id(), CAMERA, Stream::Main, RUN, (group.first, group.last), zero)
            .await
            .unwrap();
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            let moof = Moof::decode(&mut rest).unwrap();
            let mdat = Mdat::decode(&mut rest).unwrap();
            let index = moof.mfhd.sequence_number - 1;
            assert_eq!(mdat.data, format!("access unit {index}").into_bytes());
            decode_times.push(moof.traf[0].tfdt.as_ref().unwrap().base_media_decode_time);
        }
    }
    assert_eq!(decode_times, (0..6).map(|n| n * SECOND).collect::<Vec<_>>());
    pass.close(1, 1).await;
    stand.close().await;
}

#[tokio::test]
async fn a_changed_record_breaks_the_chain_and_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let mut recorded = record(&stand, &enrolled, 10);
    // Somebody puts one fragment's sealed bytes in the place of another's.
    recorded.records[4].payload = recorded.records[5].payload.clone();
    serve_footage(&stand, &enrolled, recorded).await;
    let (listing, pass) = (list(&stand).await.unwrap(), access(&stand).await);
    let group = |first, last| {
        stand.playback.group(pass.request_id(), CAMERA, Stream::Main, RUN, (first, last), WallTime(listing.zero_us))
    };
    assert!(matches!(group(2, 3).await, Err(PlaybackError::Chain)));
    assert!(group(4, 5).await.is_ok());
    pass.close(1, 1).await;
    stand.close().await;
}

#[tokio::test]
async fn what_does_not_come_has_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    assert!(matches!(list(&stand).await, Err(PlaybackError::Fetch(FetchError::CameraUnknown(CAMERA)))));
    let enrolled = stand.enrolled().await;
    let serving = serve_footage(&stand, &enrolled, record(&stand, &enrolled, 2)).await;
    // Two seconds were recorded, and they lie before the interval.
    assert!(matches!(list(&stand).await, Err(PlaybackError::NothingRecorded)));
    serving.abort();
    let until = std::time::Instant::now() + PATIENCE;
    while stand.fleet.is_connected(enrolled.id) {
        assert!(std::time::Instant::now() < until, "the session is still there");
        tokio::task::yield_now().await;
    }
    let offline = list(&stand).await.err().unwrap();
    assert!(
        matches!(&offline, PlaybackError::Fetch(FetchError::BoxOffline { name }) if name == "palo 7"),
        "{offline:?}"
    );

    let mut session = enrolled.session(&stand, enrolled.hello(2, 1)).await.unwrap();
    session.welcome().await;
    let refusing = async {
        loop {
            let id = session.hear_until(|heard| match heard {
                Heard::Fetch(fetch) => Some(fetch.fetch_id.clone()),
                _ => None,
            });
            let refused = FetchRefused { fetch_id: id.await, reason: "disk asleep".to_owned() };
            let message = EdgeMessage { message: Some(edge_message::Message::FetchRefused(refused)) };
            session.up.send(message).await.unwrap();
        }
    };
    let refused = tokio::select! {
        refused = list(&stand) => refused.err().unwrap(),
        () = refusing => unreachable!("it refuses as long as it is asked"),
    };
    assert!(matches!(&refused, PlaybackError::Fetch(FetchError::Refused(why)) if why == "disk asleep"), "{refused:?}");
    stand.close().await;
}

#[tokio::test]
async fn footage_past_its_term_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    serve_footage(&stand, &enrolled, record(&stand, &enrolled, 10)).await;
    let (listing, pass) = (list(&stand).await.unwrap(), access(&stand).await);
    let group =
        || stand.playback.group(pass.request_id(), CAMERA, Stream::Main, RUN, (2, 3), WallTime(listing.zero_us));
    assert!(group().await.is_ok());
    stand.clock.advance_micros(169 * 3_600 * 1_000_000);
    assert!(matches!(group().await, Err(PlaybackError::Keeper(_) | PlaybackError::Expired)));
    pass.close(1, 1).await;
    stand.close().await;
}

/// Reports its camera; its fetches are left to the test.
async fn with_camera(stand: &Stand, enrolled: &TestBox) -> Session {
    let mut session = enrolled.session(stand, enrolled.hello(1, 0)).await.unwrap();
    let state = CameraState { camera_id: CAMERA.into(), ..CameraState::default() };
    let (body, object_id) = (Some(Body::Camera(state)), ObjectId::from_u128(7).into());
    session.report(Report { epoch: enrolled.epoch.into(), sequence: 1, object_id, revision: 1, body }).await;
    session.hear_until(|heard| matches!(heard, Heard::Ack(_)).then_some(())).await;
    session
}

async fn asked(session: &mut Session) -> Fetch {
    let heard = session.hear_until(|heard| match heard {
        Heard::Fetch(fetch) => Some(fetch.clone()),
        _ => None,
    });
    heard.await
}

fn everything() -> Fetch {
    let span = campanile_proto::edge::v1::TimeSpan { from_us: 0, to_us: i64::MAX };
    Fetch { stream: Stream::Main.into(), what: Some(What::Span(span)), ..Fetch::default() }
}

/// What came, and how it ended.
async fn drain(mut stream: crate::fleet::FetchStream) -> (usize, Option<FetchError>) {
    let mut came = 0;
    while let Some(item) = stream.next().await {
        match item {
            Ok(_) => came += 1,
            Err(error) => return (came, Some(error)),
        }
    }
    (came, None)
}

#[tokio::test]
async fn no_footage_is_opened_without_an_open_entry_in_the_register() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    serve_footage(&stand, &enrolled, record(&stand, &enrolled, 10)).await;
    let (listing, pass) = (list(&stand).await.unwrap(), access(&stand).await);
    let id = pass.request_id();
    let group = |id| stand.playback.group(id, CAMERA, Stream::Main, RUN, (2, 3), WallTime(listing.zero_us));
    assert!(matches!(group(RequestId::ordered()).await, Err(PlaybackError::NotRegistered)));
    assert!(group(id).await.is_ok());
    pass.close(1, 1).await;
    // Not from memory either.
    assert!(matches!(group(id).await, Err(PlaybackError::NotRegistered)));
    assert!(matches!(stand.playback.init(id, CAMERA, Stream::Main, RUN).await, Err(PlaybackError::NotRegistered)));
    stand.close().await;
}

#[tokio::test]
async fn a_box_enrolled_anew_shows_what_its_revoked_self_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let before = stand.enrolled().await;
    let recorded = record(&stand, &before, 10);
    with_camera(&stand, &before).await;
    let after = stand.enrolled().await;
    stand.fleet.revoke(before.id).await.unwrap();
    serve_footage(&stand, &after, recorded).await;
    assert_eq!(stand.catalog.owner(CAMERA), Some(after.id));
    let (listing, pass) = (list(&stand).await.unwrap(), access(&stand).await);
    let group = |first| {
        stand.playback.group(
            pass.request_id(),
            CAMERA,
            Stream::Main,
            RUN,
            (first, first + 1),
            WallTime(listing.zero_us),
        )
    };
    assert!(group(2).await.is_ok());
    pass.close(1, 1).await;
    stand.close().await;
}

#[tokio::test]
async fn what_a_stranger_sealed_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let (one, other) = (stand.enrolled().await, stand.enrolled().await);
    serve_footage(&stand, &one, record(&stand, &other, 10)).await;
    assert!(matches!(list(&stand).await, Err(PlaybackError::Foreign)));
    stand.close().await;
}

#[tokio::test]
async fn a_delivery_cut_off_by_a_revocation_is_no_complete_listing() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let recorded = record(&stand, &enrolled, 3);
    let mut session = with_camera(&stand, &enrolled).await;
    let client = enrolled.client(&stand).await;
    for revoked in [false, true] {
        let mut stream = stand.fleet.fetch(CAMERA, everything()).unwrap();
        let mut messages = recorded.answer(&asked(&mut session).await);
        let end = messages.pop().unwrap();
        let (up, wire) = mpsc::channel(64);
        for message in messages {
            up.send(message).await.unwrap();
        }
        let _down = client.clone().deliver(ReceiverStream::new(wire)).await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        match revoked {
            false => up.send(end).await.unwrap(),
            true => stand.fleet.revoke(enrolled.id).await.unwrap(),
        }
        let ended = drain(stream).await.1;
        assert_eq!(matches!(ended, Some(FetchError::Broken(_))), revoked, "{ended:?}");
    }
    stand.close().await;
}

#[tokio::test]
async fn a_delivery_opened_before_a_revocation_brings_nothing_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let recorded = record(&stand, &enrolled, 3);
    let mut session = with_camera(&stand, &enrolled).await;
    let stream = stand.fleet.fetch(CAMERA, everything()).unwrap();
    let messages = recorded.answer(&asked(&mut session).await);
    let (up, wire) = mpsc::channel(64);
    let mut down = enrolled.client(&stand).await.deliver(ReceiverStream::new(wire)).await.unwrap().into_inner();
    stand.fleet.revoke(enrolled.id).await.unwrap();
    for message in messages {
        let _ = up.send(message).await;
    }
    assert_eq!(drain(stream).await.0, 0);
    // The hub cancels it without having asked for a byte.
    use campanile_proto::edge::v1::deliver_down::Message;
    while let Ok(Some(message)) = down.message().await {
        assert!(!matches!(message.message, Some(Message::WindowBytes(_))), "{message:?}");
    }
    stand.close().await;
}

#[tokio::test]
async fn a_box_that_ignores_its_window_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let recorded = record(&stand, &enrolled, 1);
    let mut session = with_camera(&stand, &enrolled).await;
    let client = enrolled.client(&stand).await;
    for (records, cut) in [(8_usize, false), (60, true)] {
        let stream = stand.fleet.fetch(CAMERA, everything()).unwrap();
        let mut messages = recorded.answer(&asked(&mut session).await);
        let (end, mut record) = (messages.pop().unwrap(), messages.pop().unwrap());
        if let Some(deliver_up::Message::Record(record)) = &mut record.message {
            record.payload = vec![0; 1 << 20].into();
        }
        messages.extend(std::iter::repeat_n(record, records));
        messages.push(end);
        let deliver = client.clone().deliver(tokio_stream::iter(messages)).await;
        // Nobody reads until the hub has done with the delivery.
        let mut down = deliver.unwrap().into_inner();
        while let Ok(Some(_)) = down.message().await {}
        let (came, ended) = drain(stream).await;
        assert_eq!(matches!(ended, Some(FetchError::Broken(_))), cut, "{ended:?}");
        assert!(came < 24, "{came} records of 1 MiB were taken in");
    }
    stand.close().await;
}
