//! How the index behaves, whoever made its rows: facts, or the walk through files.

use super::rescan::{Summary, ThisRun, rescan};
use super::walk::{Depth, walk};
use super::{Content, Index, IndexError, REVISION_DELETED, Waiting};
use crate::facts::Fact;
use crate::record::segment::Signed;
use crate::specimen::{NOON, Specimen, instant};
use bytes::Bytes;
use campanile_proto::edge::v1::report::Body;
use campanile_proto::edge::v1::{CameraState, Gap, SegmentState, SequenceRange};
use campanile_proto::ids::{BootId, CameraId, Epoch, ObjectId, RunId, SegmentId};
use campanile_proto::time::{MonoTime, WallTime};
use campanile_proto::types::v1::Stream;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

const NOW: WallTime = WallTime(NOON);
const OTHER_RUN: fn() -> ThisRun = || ThisRun { boot: BootId::random(), started: MonoTime(0) };

async fn take(index: &Index, facts: Vec<Fact>, seconds: i64) {
    index.take(facts, NOW.plus_micros(seconds * 1_000_000), MonoTime(seconds * 1_000_000)).await.unwrap();
}

async fn waiting(index: &Index) -> Vec<Waiting> {
    index.waiting(index.epoch(), 1_000, HashSet::new()).await.unwrap().unwrap()
}

fn opened(specimen: &Specimen, media: &Path) -> Fact {
    Fact::SegmentOpened {
        segment: specimen.id,
        camera: specimen.camera,
        stream: specimen.stream,
        path: specimen.path(media),
        header: specimen.header.clone(),
        wrapped_key: Bytes::new(),
    }
}

fn grew(specimen: &Specimen, fragments: u64, closed: bool) -> Fact {
    Fact::SegmentGrew {
        segment: specimen.id,
        start: instant(specimen.boot, NOON),
        end: instant(specimen.boot, NOON + fragments as i64 * 1_000_000),
        fragment_count: fragments,
        size_bytes: 100 * fragments,
        newest_link: [fragments as u8; 32],
        closed,
        signed: None,
    }
}

fn video(start_s: i64, first_index: u64) -> Specimen {
    Specimen::open(CameraId::from_u128(1), Stream::Main, RunId::from_u128(2), start_s, first_index)
}

fn index_stream(start_s: i64) -> Specimen {
    Specimen::open(CameraId::from_u128(1), Stream::Index, RunId::from_u128(3), start_s, 0)
}

fn segment_states(waiting: &[Waiting]) -> BTreeMap<SegmentId, (u64, SegmentState)> {
    let state = |w: &Waiting| match &w.content {
        Content::Body(Body::Segment(state)) => {
            Some((SegmentId::try_from(w.object.as_bytes().as_slice()).unwrap(), (w.revision, state.clone())))
        }
        _ => None,
    };
    waiting.iter().filter_map(state).collect()
}

#[tokio::test]
async fn one_object_waits_once_with_its_newest_state() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let segment = video(0, 0);
    take(&index, vec![opened(&segment, dir.path()), grew(&segment, 1, false)], 0).await;
    let first = waiting(&index).await;
    take(&index, vec![grew(&segment, 2, false)], 1).await;
    assert_eq!(waiting(&index).await[0].revision, 2, "growth within five seconds is not worth a report");
    take(&index, vec![grew(&segment, 7, false)], 6).await;
    take(&index, vec![grew(&segment, 8, true), grew(&segment, 8, true)], 7).await;
    let last = waiting(&index).await;
    assert_eq!((first.len(), last.len()), (1, 1));
    assert!(last[0].sequence > first[0].sequence);
    let (revision, state) = &segment_states(&last)[&segment.id];
    assert_eq!((*revision, state.fragment_count, state.closed), (17, 8, true));
}

#[tokio::test]
async fn what_was_acknowledged_is_forgotten_and_what_came_after_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    let index = Index::open(&path).unwrap();
    let segment = video(0, 0);
    take(&index, vec![opened(&segment, dir.path()), grew(&segment, 1, false)], 0).await;
    let sent = waiting(&index).await[0].sequence;
    take(&index, vec![grew(&segment, 3, true)], 1).await;
    let range = |first, last| vec![SequenceRange { first, last }];
    assert_eq!(index.acknowledge(Epoch::random(), range(0, u64::MAX)).await.unwrap(), 0, "a foreign epoch");
    index.acknowledge(index.epoch(), range(sent, sent)).await.unwrap();
    assert_eq!(waiting(&index).await[0].revision, 7, "the closing was not in what was acknowledged");
    index.acknowledge(index.epoch(), range(0, u64::MAX)).await.unwrap();
    let progress = index.progress().await.unwrap();
    assert_eq!((progress.waiting, progress.acknowledged_through + 1), (0, progress.next_sequence));
    index.acknowledge(index.epoch(), range(0, u64::MAX)).await.unwrap();
    assert_eq!(index.progress().await.unwrap().acknowledged_count, 1, "rows that were there, each once");
    index.acknowledge_sent(index.epoch(), range(sent, sent), 1).await.unwrap();
    assert_eq!(index.progress().await.unwrap().acknowledged_count, 2, "superseded on its way, acknowledged");
    let (epoch, next) = (index.epoch(), progress.next_sequence);
    drop(index);
    let again = Index::open(&path).unwrap();
    assert_eq!((again.epoch(), again.progress().await.unwrap().next_sequence), (epoch, next));
}

#[tokio::test]
async fn a_database_that_is_made_anew_is_another_epoch_with_the_same_objects() {
    let dir = tempfile::tempdir().unwrap();
    let media = dir.path().join("media");
    let event = ObjectId::random();
    let footage = video(0, 0).fragments(5, 5).close();
    let records = index_stream(0).index_record(event, 1).index_record(event, 2).close();
    footage.write(&media);
    records.write(&media);
    let mut lives = Vec::new();
    for name in ["one.sqlite", "two.sqlite"] {
        let index = Index::open(&dir.path().join(name)).unwrap();
        rescan(&index, &media, OTHER_RUN()).await.unwrap();
        let objects: BTreeMap<_, _> = waiting(&index).await.iter().map(|w| (w.object, w.revision)).collect();
        lives.push((index.epoch(), objects));
    }
    assert_ne!(lives[0].0, lives[1].0);
    assert_eq!(lives[0].1, lives[1].1);
    assert_eq!(lives[0].1.get(&event), Some(&2));
    assert_eq!(lives[0].1.len(), 3, "two segments and one event");
}

#[tokio::test]
async fn a_damaged_database_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    std::fs::write(&path, b"this is no database, but long enough to look at".repeat(40)).unwrap();
    let index = Index::open(&path).unwrap();
    assert_eq!(index.progress().await.unwrap().next_sequence, 1);
    assert!(path.with_extension("damaged").exists());
}

#[tokio::test]
async fn a_gap_that_went_on_when_the_box_was_killed_ends_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let boot = BootId::random();
    let gap = |ongoing, end| Gap {
        camera_id: CameraId::from_u128(1).into(),
        start: Some(instant(boot, NOON)),
        end: Some(instant(boot, NOON + end)),
        ongoing,
        ..Gap::default()
    };
    let facts = [(1, gap(true, 1)), (2, gap(true, 900)), (3, gap(false, 1))];
    let facts = facts.map(|(n, gap)| Fact::Gap { object: ObjectId::from_u128(n), gap });
    take(&index, facts.to_vec(), 0).await;
    let alive = instant(boot, NOON + 500);
    assert_eq!(index.end_gaps(Some(alive), NOW).await.unwrap(), 2);
    let ends: BTreeMap<_, _> = waiting(&index)
        .await
        .into_iter()
        .map(|waiting| match waiting.content {
            Content::Body(Body::Gap(gap)) => (waiting.object, (gap.ongoing, gap.end.unwrap().utc_us - NOON)),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ends.into_values().collect::<Vec<_>>(), [(false, 500), (false, 900), (false, 1)]);
    assert_eq!(index.end_gaps(None, NOW).await.unwrap(), 0, "once");
}

#[tokio::test]
async fn a_fact_that_cannot_be_read_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let camera = |id: &'static [u8]| Fact::Camera(CameraState { camera_id: id.into(), ..CameraState::default() });
    let facts = vec![camera(b"no id"), camera(&[7; 16])];
    assert_eq!(index.take(facts, NOW, MonoTime(0)).await.unwrap(), 1);
    assert_eq!(waiting(&index).await.len(), 1);
}

/// Every column of every table and every index, by name.
fn shape(path: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let query =
        "SELECT m.name || '.' || c.name || ' ' || c.type || ' ' || c.\"notnull\" || ' ' || coalesce(c.dflt_value, '')
                 FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'
                 UNION ALL SELECT name || ' ' || coalesce(sql, '') FROM sqlite_master WHERE type = 'index' ORDER BY 1";
    let mut statement = connection.prepare(query).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn an_old_database_is_upgraded_in_place_and_keeps_its_epoch_and_rows() {
    let dir = tempfile::tempdir().unwrap();
    let fresh = dir.path().join("fresh.sqlite");
    drop(Index::open(&fresh).unwrap());
    let olds = [include_str!("old_schemas/1.sql"), include_str!("old_schemas/2.sql")];
    for (version, schema) in (1..).zip(olds) {
        let old = dir.path().join(format!("{version}.sqlite"));
        let connection = rusqlite::Connection::open(&old).unwrap();
        connection.execute_batch(schema).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
        let rows = "INSERT INTO epoch (one, epoch, acknowledged) VALUES (1, zeroblob(16), 9);
             INSERT INTO segment (id, camera, stream, path, header, wrapped_key, captured_us, start, end, link, closed)
             VALUES (zeroblob(16), zeroblob(16), 1, 'p', x'', x'', 5, x'', x'', zeroblob(32), 1);";
        connection.execute_batch(rows).unwrap();
        drop(connection);
        let index = Index::open(&old).unwrap();
        assert_eq!(index.epoch(), Epoch::from_u128(0), "of version {version}");
        assert_eq!(index.progress().await.unwrap().acknowledged_count, 9);
        let row = index.segment(SegmentId::from_u128(0)).await.unwrap().unwrap();
        assert_eq!((row.closed, row.signed, row.suspect, row.captured), (true, None, None, WallTime(5)));
        drop(index);
        assert_eq!(shape(&old), shape(&fresh), "of version {version}");
    }
}

#[tokio::test]
async fn the_boxs_signature_over_a_closed_segment_is_reported_by_fact_and_by_walk() {
    let dir = tempfile::tempdir().unwrap();
    let segment = video(0, 0).fragments(2, 2).close();
    segment.write(dir.path());
    let walked = Index::open(&dir.path().join("walked.sqlite")).unwrap();
    rescan(&walked, dir.path(), OTHER_RUN()).await.unwrap();
    let told = Index::open(&dir.path().join("told.sqlite")).unwrap();
    let signed = Signed { last_link: Bytes::from_static(&[8; 32]), edge_signature: Bytes::from_static(b"signature") };
    let mut closing = grew(&segment, 2, true);
    if let Fact::SegmentGrew { signed: told, .. } = &mut closing {
        *told = Some(signed.clone());
    }
    take(&told, vec![opened(&segment, dir.path()), closing], 0).await;
    let state = |waiting: Vec<Waiting>| segment_states(&waiting)[&segment.id].1.clone();
    let by_walk = state(waiting(&walked).await);
    assert!(by_walk.last_link.len() == 32 && by_walk.last_link != by_walk.newest_link, "the footer has its own link");
    let by_fact = state(waiting(&told).await);
    assert_eq!((by_fact.last_link, by_fact.edge_signature), (signed.last_link, signed.edge_signature));
}

#[tokio::test]
async fn a_database_that_breaks_while_it_is_open_is_made_anew_under_another_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    let index = Index::open(&path).unwrap();
    let (mut epochs, before) = (index.epochs(), index.epoch());
    let segment = video(0, 0).fragments(2, 2).close();
    segment.write(dir.path());
    let corrupt = |_: &rusqlite::Connection| -> Result<(), IndexError> {
        let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None);
        Err(IndexError::Statement { attempt: "read", source })
    };
    assert!(index.with(corrupt).await.is_err());
    tokio::time::timeout(std::time::Duration::from_secs(20), epochs.changed()).await.unwrap().unwrap();
    assert_ne!(index.epoch(), before);
    assert!(path.with_extension("damaged").exists());
    rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
    assert_eq!(waiting(&index).await.len(), 1, "the walk finds what was recorded");
}

#[tokio::test]
async fn an_acknowledgement_that_meets_an_index_made_anew_takes_nothing_out_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let before = index.epoch();
    let corrupt = |_: &rusqlite::Connection| -> Result<(), IndexError> {
        let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None);
        Err(IndexError::Statement { attempt: "read", source })
    };
    let gap = Fact::Gap { object: ObjectId::from_u128(1), gap: Default::default() };
    let first = || vec![SequenceRange { first: 1, last: 1 }];
    // All asked while the old index still stands.
    let (_, taken, acknowledged, withdrawn, old) = tokio::join!(
        index.with(corrupt),
        index.take(vec![gap], WallTime(NOON), MonoTime(0)),
        index.acknowledge(before, first()),
        index.withdraw(before, 1),
        index.waiting(before, 10, HashSet::new()),
    );
    assert_eq!((taken.unwrap(), acknowledged.unwrap()), (0, 0));
    withdrawn.unwrap();
    assert!(old.unwrap().is_none(), "its sequences are not the old epoch's");
    let progress = index.progress().await.unwrap();
    assert_eq!((progress.epoch, progress.waiting), (index.epoch(), 1));
    assert_ne!(progress.epoch, before);
    // Control: under its own epoch it goes.
    assert_eq!(index.acknowledge(progress.epoch, first()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_suspect_segment_is_read_back_as_a_whole_and_says_only_what_verified() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let whole = |segment: &Specimen| Fact::SegmentGrew {
        segment: segment.id,
        start: instant(segment.boot, NOON),
        end: instant(segment.boot, NOON + 6_000_000),
        fragment_count: 6,
        size_bytes: segment.bytes.len() as u64,
        newest_link: segment.link,
        closed: true,
        signed: None,
    };
    let segments = [video(0, 0).fragments(6, 3), video(10, 6).fragments(6, 3)];
    for segment in &segments {
        let path = segment.write(dir.path());
        let mut bytes = segment.bytes.clone();
        // Segment record, init section, four fragments: the fifth is damaged within its payload.
        bytes[segment.offsets[6] + 300] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        take(&index, vec![opened(segment, dir.path()), whole(segment)], 0).await;
    }
    let [suspect, other] = &segments;
    let revision = async |id| segment_states(&waiting(&index).await)[&id].0;
    let before = revision(suspect.id).await;
    let cause = "a flush failed: on purpose".to_owned();
    take(&index, vec![Fact::SegmentSuspect { segment: suspect.id, cause: cause.clone() }], 1).await;
    assert!(revision(suspect.id).await > before, "the hub is told though it did not grow");
    let left = std::fs::read(suspect.path(dir.path())).unwrap();
    assert_eq!(rescan(&index, dir.path(), OTHER_RUN()).await.unwrap().walked, 1, "by its size the other one is whole");
    let row = async |id| index.segment(id).await.unwrap().unwrap();
    assert_eq!((row(suspect.id).await.fragments, row(other.id).await.fragments), (4, 6));
    let (_, state) = segment_states(&waiting(&index).await).remove(&suspect.id).unwrap();
    assert_eq!((state.suspect, state.fragment_count, state.closed), (cause.clone(), 4, true));
    assert_eq!(std::fs::read(suspect.path(dir.path())).unwrap(), left, "it is evidence and left alone");
    assert_eq!(rescan(&index, dir.path(), OTHER_RUN()).await.unwrap().walked, 0, "read back once");
    index.drop_recorded().await.unwrap();
    rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
    assert_eq!(row(suspect.id).await.suspect, Some(cause), "no walk could tell it");
    assert_eq!(index.suspect_segments().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_copy_of_a_segment_under_another_name_never_takes_its_place_and_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let segment = video(0, 0).fragments(4, 2);
    let path = segment.write_torn(dir.path(), segment.bytes.len() - 5);
    let elsewhere = dir.path().join(CameraId::from_u128(9).to_string()).join("main/20270115T08");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let copies =
        [path.with_file_name(format!("{}.seg", SegmentId::random())), elsewhere.join(path.file_name().unwrap())];
    for copy in &copies {
        std::fs::copy(&path, copy).unwrap();
    }
    rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
    let rows = index.all_segments().await.unwrap();
    assert_eq!(rows.iter().map(|row| (row.id, row.path.clone())).collect::<Vec<_>>(), [(segment.id, path.clone())]);
    let length = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(copies.iter().all(|copy| length(copy) == segment.bytes.len() as u64 - 5));
    assert!(length(&path) < length(&copies[0]), "the torn tail of the real one is cut off");
    // A rule that deleted it, and could not any more, is finished by the next walk.
    index.delete_segment(segment.id, "age").await.unwrap();
    rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
    assert!(!path.exists() && copies.iter().all(|copy| copy.exists()));
}

#[tokio::test]
async fn bytes_behind_a_footer_are_noticed_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let segment = video(0, 0).fragments(2, 2).close();
    let path = segment.write(dir.path());
    assert_eq!(rescan(&index, dir.path(), OTHER_RUN()).await.unwrap().overlong, 0);
    let longer = [&segment.bytes[..], b"smuggled"].concat();
    std::fs::write(&path, &longer).unwrap();
    assert_eq!(rescan(&index, dir.path(), OTHER_RUN()).await.unwrap().overlong, 1);
    assert_eq!(std::fs::read(&path).unwrap(), longer);
    assert_eq!(index.segment(segment.id).await.unwrap().unwrap().size_bytes, segment.bytes.len() as u64);
}

#[tokio::test]
async fn a_job_that_panics_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let panics = |_: &rusqlite::Connection| -> Result<(), IndexError> { panic!("on purpose") };
    assert!(matches!(index.with(panics).await, Err(IndexError::Closed)));
    assert_eq!(index.progress().await.unwrap().next_sequence, 1);
}

#[tokio::test]
async fn a_newer_schema_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Index::open(&path).err().unwrap();
    assert!(error.to_string().contains("99"), "{error}");
}

#[tokio::test]
async fn facts_and_walk_offer_a_record_once() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let objects: Vec<ObjectId> = (0..4).map(|_| ObjectId::random()).collect();
    let mut records = index_stream(0);
    for object in &objects {
        records = records.index_record(*object, 1);
    }
    let path = records.write(dir.path());
    let told = |n: usize| Fact::IndexRecord {
        segment: records.id,
        path: path.clone(),
        offset: records.offsets[n + 1] as u64,
        object: objects[n],
        revision: 1,
    };
    // The facts of records 1 and 2 were dropped.
    take(&index, vec![opened(&records, dir.path()), told(0), told(3)], 0).await;
    let all = vec![SequenceRange { first: 0, last: u64::MAX }];
    index.acknowledge(index.epoch(), all).await.unwrap();
    rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
    let offered: HashSet<_> = waiting(&index).await.iter().map(|w| w.object).collect();
    assert_eq!(offered.iter().filter(|object| objects.contains(object)).count(), 2);
    assert!(offered.contains(&objects[1]) && offered.contains(&objects[2]));
    let before = index.progress().await.unwrap();
    rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
    assert_eq!(index.progress().await.unwrap(), before, "a second walk finds nothing new");
}

#[tokio::test]
async fn deleting_is_reported_above_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let segment = video(0, 0).fragments(3, 3).close();
    segment.write(dir.path());
    rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
    index.delete_segment(segment.id, "age").await.unwrap();
    let (revision, state) = segment_states(&waiting(&index).await)[&segment.id].clone();
    assert_eq!((state.deleted_by.as_str(), revision > REVISION_DELETED), ("age", true));
    // The power went before the file did: the next start finishes what was decided.
    let before = index.progress().await.unwrap();
    rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
    assert!(!segment.path(dir.path()).exists());
    assert_eq!(index.progress().await.unwrap(), before);
    index.acknowledge(index.epoch(), vec![SequenceRange { first: 0, last: u64::MAX }]).await.unwrap();
    index.forget(NOW).await.unwrap();
    assert!(index.segment(segment.id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_replay_offers_everything_under_the_same_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let event = ObjectId::random();
    video(0, 0).fragments(3, 3).close().write(dir.path());
    index_stream(0).index_record(event, 5).close().write(dir.path());
    rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
    take(&index, vec![Fact::Camera(CameraState { camera_id: CameraId::from_u128(1).into(), ..Default::default() })], 0)
        .await;
    let objects = |waiting: Vec<Waiting>| waiting.iter().map(|w| (w.object, w.revision)).collect::<BTreeMap<_, _>>();
    let first = objects(waiting(&index).await);
    index.acknowledge(index.epoch(), vec![SequenceRange { first: 0, last: u64::MAX }]).await.unwrap();
    index.offer_again(NOW.plus_micros(-1)).await.unwrap();
    rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
    assert_eq!(objects(waiting(&index).await), first);
    assert_eq!(first.len(), 4);
}

#[tokio::test]
async fn what_a_rescan_cannot_read_is_set_aside_and_foreign_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    let media = dir.path().join("media");
    let segment = video(0, 0).fragments(1, 1);
    let path = segment.path(&media);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, b"not a segment at all").unwrap();
    let foreign = path.with_file_name("notes.txt");
    std::fs::write(&foreign, b"somebody's").unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let summary = rescan(&index, &media, OTHER_RUN()).await.unwrap();
    assert_eq!(summary, Summary { files: 1, walked: 1, set_aside: 1, ..Summary::default() });
    assert!(foreign.exists() && media.join("quarantine").join(path.file_name().unwrap()).exists());
}

#[tokio::test]
async fn a_file_the_recorder_still_writes_is_read_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let segment = video(0, 0).fragments(3, 3);
    let torn = segment.bytes.len() - 5;
    let path = segment.write_torn(dir.path(), torn);
    let this_run = ThisRun { boot: segment.boot, started: MonoTime(0) };
    rescan(&index, dir.path(), this_run).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), torn as u64);
    let row = index.segment(segment.id).await.unwrap().unwrap();
    assert_eq!((row.fragments, row.closed), (2, false));
}

#[tokio::test]
async fn a_segment_whose_file_is_gone_is_reported_as_missing() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let (gone, stays) = (video(0, 0).fragments(1, 1).close(), video(10, 1).fragments(1, 1).close());
    let path = gone.write(dir.path());
    stays.write(dir.path());
    rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(rescan(&index, dir.path(), OTHER_RUN()).await.unwrap().missing, 1);
    let states = segment_states(&waiting(&index).await);
    assert_eq!(states[&gone.id].1.deleted_by, "file missing");
    assert_eq!(states[&stays.id].1.deleted_by, "");
}

#[tokio::test]
async fn a_disk_that_was_away_brings_its_segments_back() {
    let dir = tempfile::tempdir().unwrap();
    let media = dir.path().join("media");
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let segment = video(0, 0).fragments(2, 2).close();
    let path = segment.write(&media);
    rescan(&index, &media, OTHER_RUN()).await.unwrap();
    let elsewhere = dir.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    rescan(&index, &media, OTHER_RUN()).await.unwrap();
    let missing = segment_states(&waiting(&index).await)[&segment.id].clone();
    assert_eq!(missing.1.deleted_by, "file missing");
    index.forget(NOW).await.unwrap();
    std::fs::rename(&elsewhere, &path).unwrap();
    rescan(&index, &media, OTHER_RUN()).await.unwrap();
    assert!(path.exists(), "a file nobody here deleted is never unlinked");
    let back = segment_states(&waiting(&index).await)[&segment.id].clone();
    assert_eq!((back.1.deleted_by.as_str(), back.1.fragment_count, back.1.closed), ("", 2, true));
    assert!(back.0 > missing.0, "the hub takes the higher revision");
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_makes_nothing_missing() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let segment = video(0, 0).fragments(1, 1).close();
    let path = segment.write(dir.path());
    rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
    let stream_folder = path.parent().unwrap().parent().unwrap().to_owned();
    std::fs::rename(&stream_folder, dir.path().join("elsewhere")).unwrap();
    std::fs::write(&stream_folder, b"in its place").unwrap();
    assert_eq!(rescan(&index, dir.path(), OTHER_RUN()).await.unwrap().missing, 0);
    std::fs::remove_file(&stream_folder).unwrap();
    std::fs::create_dir(&stream_folder).unwrap();
    assert_eq!(rescan(&index, dir.path(), OTHER_RUN()).await.unwrap().missing, 1, "an empty one does");
}

#[tokio::test]
async fn a_segment_that_was_closed_stays_closed_whatever_is_told_late() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
    let segment = video(0, 0);
    take(&index, vec![opened(&segment, dir.path()), grew(&segment, 3, true)], 0).await;
    take(&index, vec![grew(&segment, 3, false)], 60).await;
    assert!(index.segment(segment.id).await.unwrap().unwrap().closed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_tail_torn_anywhere_costs_only_the_torn_record(cut in 0usize..10_000, zeros in 0usize..200) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let segment = video(0, 0).fragments(6, 3);
        let first_fragment = segment.offsets[1];
        let cut = first_fragment + cut % (segment.bytes.len() - first_fragment + 1);
        let path = segment.write_torn(dir.path(), cut);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(vec![0; zeros]);
        std::fs::write(&path, &bytes).unwrap();
        let whole = segment.offsets.iter().skip(3).chain([&segment.bytes.len()]).filter(|end| **end <= cut).count();
        runtime.block_on(async {
            let index = Index::open(&dir.path().join("index.sqlite")).unwrap();
            rescan(&index, dir.path(), OTHER_RUN()).await.unwrap();
            let row = index.segment(segment.id).await.unwrap().unwrap();
            prop_assert_eq!((row.fragments, row.closed), (whole as u64, true));
            let again = walk(&path, Depth::Verify).unwrap();
            prop_assert_eq!(again.damage, None);
            prop_assert_eq!(again.good_bytes, again.file_bytes);
            prop_assert_eq!(&std::fs::read(&path).unwrap()[..], &segment.bytes[..again.file_bytes as usize]);
            Ok(())
        })?;
    }
}
