//! Segment files in hand are opened for people at the hub's machine, for a case, and within their term.

use super::commands::run;
use super::*;
use crate::media::keeper::tests::sealing_key;
use crate::web::client::ClientError;
use crate::web::listen;
use bytes::Bytes;
use campanile_proto::edge::v1::{Report, SealingKeys, SegmentState, report};
use campanile_proto::ids::{CameraId, EdgeId, Epoch, ObjectId, RunId, SegmentId};
use campanile_proto::segment::{FORMAT, Link, MAGIC, Record, RecordPrefix, SegmentKey, first_link};
use campanile_proto::time::{MICROS_PER_HOUR, WallTime};
use campanile_proto::types::v1::{
    Act, Instant, KeyKind, RecordHeader, RecordKind, SegmentFooter, SegmentHeader, Stream, Suite, TableEntry,
};
use prost::Message;

const EDGE: EdgeId = EdgeId::from_u128(5);
const FRAGMENTS: usize = 4;
const REASON: &str = "SEGMENT --output FOLDER --purpose judicial-police --case 2026/17";

fn after(link: &mut Link, file: &mut Vec<u8>, kind: RecordKind, header: Vec<u8>, payload: Vec<u8>) {
    let record = Record::following(link, kind, header.into(), payload.into());
    *link = record.link;
    file.extend(record.encode());
}

/// A segment of this hour as a box of this hub would write it, and what is in it.
pub(super) fn sealed(stand: &Stand) -> (Vec<u8>, Vec<u8>) {
    sealed_to(stand, KeyKind::Hour)
}

fn sealed_to(stand: &Stand, kind: KeyKind) -> (Vec<u8>, Vec<u8>) {
    let keys = stand.hub().keeper.signed_keys(EDGE).unwrap();
    let keys = SealingKeys::decode(keys.payload).unwrap();
    let hour = stand.clock.utc().hour();
    let to = sealing_key(&keys, kind, hour);
    let header = SegmentHeader {
        format: FORMAT,
        segment_id: SegmentId::random().into(),
        organisation_id: keys.organisation_id.clone(),
        edge_id: EDGE.into(),
        camera_id: CameraId::from_u128(7).into(),
        stream: Stream::Main.into(),
        run_id: RunId::from_u128(9).into(),
        suite: Suite::Aes256Gcm.into(),
        key_kind: kind.into(),
        hour: hour as u64,
        key_generation: keys.generation,
        retention_days: keys.retention_days,
        ..SegmentHeader::default()
    };
    let bytes = header.encode_to_vec();
    let key = SegmentKey::random().unwrap();
    let wrapped = key.wrap(&header, &bytes, &to).unwrap();
    let (mut file, mut link, mut plain) = (MAGIC.to_vec(), first_link(&[]), Vec::new());
    let (mut table, mut payload_bytes) = (Vec::new(), wrapped.len() as u64);
    after(&mut link, &mut file, RecordKind::Segment, bytes, wrapped);
    for number in 0..=FRAGMENTS as u32 {
        let kind = if number == 0 { RecordKind::Init } else { RecordKind::Fragment };
        let index = u64::from(number.saturating_sub(1));
        let record = RecordHeader {
            kind: kind.into(),
            index,
            sealing: number,
            arrival: Some(Instant::default()),
            ..RecordHeader::default()
        };
        let (record, content) = (record.encode_to_vec(), format!("moof mdat {number}").into_bytes());
        let payload = key.seal(header.suite, number, &record, &content).unwrap();
        payload_bytes += payload.len() as u64;
        if number > 0 {
            table.push(TableEntry { offset: file.len() as u64, index, ..TableEntry::default() });
        }
        after(&mut link, &mut file, kind, record, payload);
        plain.extend(content);
    }
    let last_link = Bytes::copy_from_slice(&link);
    let fragment_count = FRAGMENTS as u64;
    let footer = SegmentFooter { fragment_count, payload_bytes, table, last_link, ..SegmentFooter::default() };
    after(&mut link, &mut file, RecordKind::Footer, footer.encode_to_vec(), Vec::new());
    (file, plain)
}

/// The one file that was written, if any.
fn written(stand: &Stand) -> Option<Vec<u8>> {
    let entries = std::fs::read_dir(stand.path("export")).ok()?;
    let files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() <= 1, "{files:?}");
    let bytes = files.first().map(|path| std::fs::read(path).unwrap());
    files.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    bytes
}

async fn unseal(stand: &Stand, file: &[u8]) -> Result<(), ClientError> {
    std::fs::write(stand.path("own.seg"), file).unwrap();
    run(stand, "unseal", &REASON.replace("SEGMENT", &stand.path("own.seg").to_string_lossy())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_in_hand_opens_for_a_case_within_its_term_and_not_after() {
    let stand = Stand::open().await;
    let stop = CancellationToken::new();
    let socket = listen::bind_administration(&stand.path("admin.sock")).unwrap();
    let serving = tokio::spawn(listen::administrators(socket, stand.router(), stop.clone()));
    let (file, plain) = sealed(&stand);
    let size = stand.size().await;
    unseal(&stand, &file).await.unwrap();
    assert_eq!(written(&stand).unwrap(), plain);
    let leaves = stand.leaves(size).await;
    let seen: Vec<_> = leaves.iter().map(|leaf| (leaf.act(), leaf.phase(), leaf.items)).collect();
    // The init section's, and one a fragment in hand.
    let keys = FRAGMENTS as u64 + 1;
    assert_eq!(seen, [(Act::Export, Phase::Opened, 0), (Act::Export, Phase::Closed, keys)]);

    // Of a changed file: what stands before the change.
    let mut changed = file.clone();
    // Behind the segment's record, the init section and two fragments.
    let size = |at: usize| RecordPrefix::parse(&file[at..]).unwrap().record_bytes();
    let at = (0..4).fold(MAGIC.len(), |at, _| at + size(at));
    changed[at + 20] ^= 1;
    assert!(matches!(unseal(&stand, &changed).await, Err(ClientError::Incomplete(_))));
    let part = written(&stand).unwrap();
    assert!(plain.starts_with(&part) && part.len() < plain.len());

    // The control for its end: at the last instant of its term it opens.
    let over = WallTime::from_hour(stand.clock.utc().hour() + 7 * 24);
    stand.clock.advance_micros(over - stand.clock.utc() - 1);
    unseal(&stand, &file).await.unwrap();
    assert_eq!(written(&stand).unwrap(), plain);
    stand.clock.advance_micros(1 + MICROS_PER_HOUR / 60);
    assert!(matches!(unseal(&stand, &file).await, Err(ClientError::Incomplete(_))));
    assert_eq!(written(&stand), None);
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_sealed_to_a_reserve_key_opens_once_its_box_reported_it_and_within_its_term() {
    let stand = Stand::open().await;
    let stop = CancellationToken::new();
    let socket = listen::bind_administration(&stand.path("admin.sock")).unwrap();
    let serving = tokio::spawn(listen::administrators(socket, stand.router(), stop.clone()));
    let (file, plain) = sealed_to(&stand, KeyKind::Reserve);
    assert!(unseal(&stand, &file).await.is_err());
    assert_eq!(written(&stand), None, "nobody knows when it was recorded");

    let size = RecordPrefix::parse(&file[MAGIC.len()..]).unwrap().record_bytes();
    let record = Record::decode(&Bytes::copy_from_slice(&file[MAGIC.len()..MAGIC.len() + size])).unwrap();
    let now = stand.clock.utc();
    let at = |utc: WallTime| Instant { boot_id: vec![7; 16].into(), mono_us: 1, utc_us: utc.0, uncertainty_us: 1_000 };
    let state = SegmentState {
        header: record.header,
        wrapped_key: record.payload,
        start: Some(at(now)),
        end: Some(at(now.plus_micros(1))),
        ..SegmentState::default()
    };
    let report = Report {
        epoch: Epoch::from_u128(4).into(),
        sequence: 1,
        object_id: ObjectId::from_u128(9).into(),
        revision: 1,
        body: Some(report::Body::Segment(state)),
    };
    let ack = stand.hub().catalog.ingest(EDGE, vec![report]).await.unwrap();
    assert_eq!((ack.expired, ack.refused), (0, 0));
    unseal(&stand, &file).await.unwrap();
    assert_eq!(written(&stand).unwrap(), plain);

    let over = WallTime::from_hour(now.hour() + 7 * 24);
    stand.clock.advance_micros(over - stand.clock.utc() - 1);
    unseal(&stand, &file).await.unwrap();
    assert_eq!(written(&stand).unwrap(), plain, "the control, at the last instant of its term");
    stand.clock.advance_micros(1);
    assert!(unseal(&stand, &file).await.is_err());
    assert_eq!(written(&stand), None);
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_segment_or_of_another_town_is_named_and_not_opened() {
    let stand = Stand::open().await;
    let stop = CancellationToken::new();
    let socket = listen::bind_administration(&stand.path("admin.sock")).unwrap();
    let serving = tokio::spawn(listen::administrators(socket, stand.router(), stop.clone()));
    let other = Stand::open().await;
    for file in [b"no segment at all".to_vec(), sealed(&other).0] {
        assert!(matches!(unseal(&stand, &file).await, Err(ClientError::Incomplete(_) | ClientError::Hub { .. })));
        assert_eq!(written(&stand), None);
    }
    unseal(&stand, &sealed(&stand).0).await.unwrap();
    assert!(written(&stand).is_some(), "the control");

    // A foreign file in the drawer keeps no other from being opened; a missing case is said before any.
    std::fs::write(stand.path("a.seg"), sealed(&other).0).unwrap();
    std::fs::write(stand.path("b.seg"), sealed(&stand).0).unwrap();
    let both = ["a.seg", "b.seg"].map(|name| stand.path(name).to_string_lossy().into_owned()).join(" ");
    let mixed = run(&stand, "unseal", &REASON.replace("SEGMENT", &both)).await;
    assert!(matches!(mixed, Err(ClientError::Incomplete(_))), "{mixed:?}");
    assert!(written(&stand).is_some());
    let nameless = REASON.replace("SEGMENT", &both).replace("2026/17", &"9".repeat(65));
    let refused = run(&stand, "unseal", &nameless).await;
    assert!(matches!(&refused, Err(ClientError::Hub { code, .. }) if code == "NO_CASE"), "{refused:?}");
    stop.cancel();
    serving.await.unwrap();
}
