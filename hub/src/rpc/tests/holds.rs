//! Holds over a box that follows a script.

use super::footage::{CAMERA, RUN, Recorded, access, record, serve_answers, serve_footage};
use super::*;
use crate::holds::{HeldPlayback, Hold, HoldsError, Sort, State, Terms};
use bytes::Bytes;
use campanile_proto::edge::v1::report::Body;
use campanile_proto::edge::v1::{CameraState, DeliverUp, Desired, Fetch, SegmentState, deliver_up, fetch::What};
use campanile_proto::ids::{CameraId, HoldId, ObjectId};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{Act, Instant, Stream};
use mp4_atom::{Decode, Mdat, Moof};
use std::sync::atomic::{AtomicBool, Ordering};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
/// When the script's segment begins, before now.
const AGO: i64 = 60 * SECOND;

fn terms(stand: &Stand, from: i64, to: i64) -> Terms {
    let start = stand.clock.utc().plus_micros(-AGO);
    Terms {
        act: "prot. 4711/2026".into(),
        author: "Anna Bianchi".into(),
        approver: "Bruno Neri".into(),
        reason: "decreto di acquisizione".into(),
        cameras: vec![CAMERA],
        from: start.plus_micros(from),
        to: start.plus_micros(to),
        until: start.plus_micros(30 * 24 * HOUR),
    }
}

/// Coverage of the script's segment arrives, of a box that is not there any more.
async fn report(stand: &Stand, enrolled: &TestBox, recorded: &Recorded, deleted_by: &str) {
    let start = stand.clock.utc().plus_micros(-AGO);
    let count = recorded.records.len() as i64 - 1;
    let instant = |at: WallTime| {
        Some(Instant { boot_id: enrolled.boot.into(), mono_us: at.0 - start.0, utc_us: at.0, uncertainty_us: 9 })
    };
    let camera = CameraState { camera_id: CAMERA.into(), name: "Piazza".to_owned(), ..CameraState::default() };
    let segment = SegmentState {
        header: recorded.segment.header.clone(),
        wrapped_key: recorded.segment.wrapped_key.clone(),
        start: instant(start),
        end: instant(start.plus_micros(count * SECOND)),
        fragment_count: count as u64,
        size_bytes: 1,
        closed: true,
        deleted_by: deleted_by.to_owned(),
        ..SegmentState::default()
    };
    // Of another life of the box's database, so that its script begins at one.
    let epoch = Epoch::random();
    let bodies = [(7, Body::Camera(camera)), (8, Body::Segment(segment))];
    let reports = bodies.map(|(object, body)| Report {
        epoch: epoch.into(),
        sequence: object as u64,
        object_id: ObjectId::from_u128(object).into(),
        revision: 1,
        body: Some(body),
    });
    let ack = stand.catalog.ingest(enrolled.id, reports.to_vec()).await.unwrap();
    assert_eq!(ack.refused, 0);
}

async fn state(stand: &Stand, hold: HoldId) -> State {
    stand.holds.one(hold).await.unwrap().1
}

/// Rounds until the hold is in this state.
async fn until_state(stand: &Stand, hold: HoldId, wanted: State) {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        stand.holds.round().await;
        let now = state(stand, hold).await;
        if now == wanted {
            return;
        }
        let (row, _) = stand.holds.one(hold).await.unwrap();
        let account = stand.holds.account(&row).await.unwrap();
        assert!(std::time::Instant::now() < until, "{now:?}: {account:?}");
    }
}

/// Seconds of the main stream by what became of them.
async fn seconds(stand: &Stand, hold: &Hold, sort: Sort) -> i64 {
    let accounts = stand.holds.account(hold).await.unwrap();
    let main = accounts.iter().find(|account| account.stream == Stream::Main).unwrap();
    let parts = main.parts.iter().filter(|part| part.sort == sort);
    parts.map(|part| part.span.to - part.span.from).sum::<i64>() / SECOND
}

async fn open(stand: &Stand, hold: HoldId, from: i64, to: i64) -> Result<(HeldPlayback, Vec<u64>), HoldsError> {
    let pass = access(stand).await;
    let start = stand.holds.one(hold).await.unwrap().0.placed.plus_micros(-AGO);
    let interval = (start.plus_micros(from), start.plus_micros(to));
    let opened = stand.holds.open_playback(pass.request_id(), hold, CAMERA, interval).await?;
    let mut units = Vec::new();
    for group in &opened.listing.variants[0].groups {
        let bytes = opened.group(pass.request_id(), Stream::Main, RUN, (group.first, group.last)).await?;
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            let index = u64::from(Moof::decode(&mut rest).unwrap().mfhd.sequence_number) - 1;
            assert_eq!(Mdat::decode(&mut rest).unwrap().data, format!("access unit {index}").into_bytes());
            units.push(index);
        }
    }
    Ok((opened, units))
}

/// The ordinary term of everything passes, and with it every hour key.
fn term_passes(stand: &Stand) {
    stand.clock.advance_micros(169 * HOUR);
    assert!(!stand.keeper.maintain().unwrap().destroyed.is_empty());
}

#[tokio::test]
async fn held_seconds_open_past_their_term_those_beside_them_do_not_and_none_after_a_release() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let recorded = record(&stand, &enrolled, 10);
    report(&stand, &enrolled, &recorded, "").await;
    // Nobody is there, and the keys are wrapped all the same.
    let terms = terms(&stand, 3_500_000, 6_000_000);
    let hold = stand.holds.place(HoldId::ordered(), terms.clone()).await.unwrap();
    stand.holds.round().await;
    assert_eq!((state(&stand, hold.id).await, seconds(&stand, &hold, Sort::Waiting).await), (State::Copying, 2));
    let accounts = stand.holds.account(&hold).await.unwrap();
    assert!(accounts[0].parts[0].cause.contains("palo 7 is not connected"), "{accounts:?}");

    let serving = serve_footage(&stand, &enrolled, recorded.clone()).await;
    until_state(&stand, hold.id, State::Complete).await;
    // The control: before the term, the ordinary way opens what is held and what is not.
    let pass = access(&stand).await;
    let group =
        |first| stand.playback.group(pass.request_id(), CAMERA, Stream::Main, RUN, (first, first + 1), terms.from);
    for first in [0, 2, 4, 6] {
        assert!(group(first).await.is_ok(), "{first}");
    }
    serving.abort();
    term_passes(&stand);
    for first in [0, 2, 4, 6] {
        assert!(group(first).await.is_err(), "{first}");
    }
    let (_, units) = open(&stand, hold.id, 0, 60 * SECOND).await.unwrap();
    assert_eq!(units, [2, 3, 4, 5], "from the key frame before the start, to the end and no further");
    for (from, to) in [(0, 2 * SECOND), (6 * SECOND, 10 * SECOND)] {
        assert!(matches!(open(&stand, hold.id, from, to).await, Err(HoldsError::NothingHeld)), "{from}");
    }
    let (opened, _) = open(&stand, hold.id, 0, 60 * SECOND).await.unwrap();
    let reader = access(&stand).await;
    assert!(opened.group(reader.request_id(), Stream::Main, RUN, (4, 5)).await.is_ok());

    let files = dir.path().join("holds").join(hold.id.to_string());
    assert!(files.read_dir().unwrap().next().is_some());
    stand.holds.release(hold.id, "Carla Verdi".into(), "archiviazione".into()).await.unwrap();
    let gone = opened.group(reader.request_id(), Stream::Main, RUN, (4, 5)).await;
    assert!(matches!(gone, Err(HoldsError::Over(_))), "the same reader");
    assert!(matches!(open(&stand, hold.id, 0, 60 * SECOND).await, Err(HoldsError::Over(_))));
    assert!(!files.exists() && !stand.keeper.holds(hold.id));
    assert_eq!(state(&stand, hold.id).await, State::Released);
    drop((opened, reader, pass));
    stand.close().await;
}

#[tokio::test]
async fn no_fragment_outside_the_interval_is_copied_and_its_key_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let recorded = record(&stand, &enrolled, 10);
    report(&stand, &enrolled, &recorded, "").await;
    let hold = stand.holds.place(HoldId::ordered(), terms(&stand, 4 * SECOND, 6 * SECOND)).await.unwrap();
    let sealings = async || {
        let (header, keys) = stand.holds.keys_of(hold.id, CAMERA).await;
        let pass = access(&stand).await;
        let access = stand.door.registered(pass.request_id()).unwrap();
        let opened = stand.keeper.open_held(access, hold.id, (&header.0, &header.1), &keys).unwrap();
        opened.sealings().collect::<Vec<_>>()
    };
    assert!(sealings().await.len() > 10, "until the box has shown which they are, all of the segment's");
    let serving = serve_footage(&stand, &enrolled, recorded.clone()).await;
    until_state(&stand, hold.id, State::Complete).await;
    assert_eq!(sealings().await, [0, 5, 6], "the init section and two seconds");
    let copied: Vec<u8> = std::fs::read_dir(dir.path().join("holds").join(hold.id.to_string()))
        .unwrap()
        .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    let is_there = |payload: &Bytes| copied.windows(payload.len()).any(|window| window == payload.as_ref());
    let there: Vec<usize> = (0..=10).filter(|n| is_there(&recorded.records[*n].payload)).collect();
    assert_eq!(there, [0, 5, 6]);
    serving.abort();
    stand.close().await;
}

#[tokio::test]
async fn a_changed_record_is_not_kept_and_the_copy_goes_on_once_the_true_one_comes() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let recorded = record(&stand, &enrolled, 10);
    report(&stand, &enrolled, &recorded, "").await;
    let hold = stand.holds.place(HoldId::ordered(), terms(&stand, 0, 10 * SECOND)).await.unwrap();
    // Somebody puts one fragment's sealed bytes in the place of another's.
    let mut forged = recorded.clone();
    forged.records[7].payload = forged.records[6].payload.clone();
    let honest = Arc::new(AtomicBool::new(false));
    let is_honest = honest.clone();
    let serving = serve_answers(&stand, &enrolled, move |fetch: &Fetch| {
        if is_honest.load(Ordering::SeqCst) { recorded.answer(fetch) } else { forged.answer(fetch) }
    });
    let serving = serving.await;
    for _ in 0..2 {
        stand.holds.round().await;
        assert_eq!(seconds(&stand, &hold, Sort::Held).await, 6);
    }
    assert_eq!(state(&stand, hold.id).await, State::Copying);
    let account = stand.holds.account(&hold).await.unwrap();
    assert!(account[0].parts.iter().any(|part| part.cause.contains("does not follow")), "{account:?}");
    honest.store(true, Ordering::SeqCst);
    until_state(&stand, hold.id, State::Complete).await;
    assert_eq!(open(&stand, hold.id, 0, 60 * SECOND).await.unwrap().1, (0..10).collect::<Vec<_>>());
    serving.abort();
    stand.close().await;
}

#[tokio::test]
async fn a_link_that_breaks_off_in_the_middle_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let recorded = record(&stand, &enrolled, 10);
    report(&stand, &enrolled, &recorded, "").await;
    let hold = stand.holds.place(HoldId::ordered(), terms(&stand, 0, 10 * SECOND)).await.unwrap();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = asked.clone();
    let serving = serve_answers(&stand, &enrolled, move |fetch: &Fetch| {
        let mut answer = recorded.answer(fetch);
        if let Some(What::Fragments(range)) = &fetch.what {
            noted.lock().unwrap().push(range.first);
            // Two records more, then silence of a dead link: an end that says so.
            let is_end = |up: &DeliverUp| matches!(up.message, Some(deliver_up::Message::End(_)));
            let end = answer.iter().position(is_end).unwrap();
            answer.drain(5.min(end)..end);
            if let Some(DeliverUp { message: Some(deliver_up::Message::End(end)) }) = answer.last_mut() {
                end.complete = range.last - range.first < 2;
            }
        }
        answer
    });
    let serving = serving.await;
    until_state(&stand, hold.id, State::Complete).await;
    assert_eq!(*asked.lock().unwrap(), [0, 2, 4, 6, 8]);
    serving.abort();
    stand.close().await;
}

#[tokio::test]
async fn what_was_deleted_before_the_hold_is_named_as_lost_and_does_not_hold_it_up() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let recorded = record(&stand, &enrolled, 10);
    report(&stand, &enrolled, &recorded, "space").await;
    let hold = stand.holds.place(HoldId::ordered(), terms(&stand, 2 * SECOND, 8 * SECOND)).await.unwrap();
    until_state(&stand, hold.id, State::Complete).await;
    let (hold, _) = stand.holds.one(hold.id).await.unwrap();
    assert_eq!((seconds(&stand, &hold, Sort::Lost).await, seconds(&stand, &hold, Sort::Held).await), (6, 0));
    assert!(stand.holds.account(&hold).await.unwrap()[0].parts[0].cause.contains("space"));
    stand.close().await;
}

#[tokio::test]
async fn a_box_that_never_comes_back_leaves_an_incomplete_hold_that_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    report(&stand, &enrolled, &record(&stand, &enrolled, 10), "").await;
    let hold = stand.holds.place(HoldId::ordered(), terms(&stand, 0, 10 * SECOND)).await.unwrap();
    stand.holds.round().await;
    assert!(stand.holds.alarms().is_empty());
    term_passes(&stand);
    stand.holds.round().await;
    assert_eq!((state(&stand, hold.id).await, seconds(&stand, &hold, Sort::Waiting).await), (State::Incomplete, 10));
    assert_eq!(stand.holds.alarms()[0].code(), "HOLD_INCOMPLETE");
    stand.close().await;
}

#[tokio::test]
async fn a_hold_ends_by_itself_on_a_clock_that_is_believed_and_stands_in_the_register() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let recorded = record(&stand, &enrolled, 10);
    report(&stand, &enrolled, &recorded, "").await;
    let serving = serve_footage(&stand, &enrolled, recorded).await;
    let hold = stand.holds.place(HoldId::ordered(), terms(&stand, 0, 10 * SECOND)).await.unwrap();
    until_state(&stand, hold.id, State::Complete).await;
    serving.abort();
    let now = stand.clock.utc();
    stand.clock.step_utc(now.plus_micros(40 * 24 * HOUR));
    stand.holds.round().await;
    assert!(stand.keeper.holds(hold.id), "a clock that jumped destroys nothing");
    assert!(matches!(open(&stand, hold.id, 0, 60 * SECOND).await, Err(HoldsError::Over(_))), "and shows nothing");
    stand.clock.step_utc(now);
    assert!(open(&stand, hold.id, 0, 60 * SECOND).await.is_ok());

    stand.clock.advance_micros(31 * 24 * HOUR);
    stand.holds.round().await;
    assert_eq!((state(&stand, hold.id).await, stand.keeper.holds(hold.id)), (State::Ended, false));
    let leaves = stand.register.page(0, 1_000).await.unwrap();
    let of_hold = leaves.iter().filter(|entry| HoldId::try_from(&entry.leaf.hold_id) == Ok(hold.id));
    let acts: Vec<Act> = of_hold.map(|entry| entry.leaf.act()).collect();
    assert_eq!(acts, [Act::HoldComplete, Act::HoldEnded]);
    stand.close().await;
}

#[tokio::test]
async fn a_hold_outlives_the_hub_and_a_partners_camera_is_refused_with_a_clear_word() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let recorded = record(&stand, &enrolled, 10);
    report(&stand, &enrolled, &recorded, "").await;
    let foreign = Terms { cameras: vec![CameraId::from_u128(99)], ..terms(&stand, 0, 10 * SECOND) };
    let refused = stand.holds.place(HoldId::ordered(), foreign).await.unwrap_err();
    assert!(refused.to_string().contains("the partner's own hub"), "{refused}");

    let hold = stand.holds.place(HoldId::ordered(), terms(&stand, 0, 10 * SECOND)).await.unwrap();
    let mut session = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    let desired = async |session: &mut Session| {
        let wanted = |heard: &Heard| if let Heard::Desired(desired) = heard { Some(desired.clone()) } else { None };
        session.hear_until(wanted).await
    };
    let Desired { pins, .. } = desired(&mut session).await;
    assert_eq!(pins.iter().map(|pin| HoldId::try_from(&pin.hold_id).unwrap()).collect::<Vec<_>>(), [hold.id]);
    stand.holds.release(hold.id, "Carla Verdi".into(), "errore".into()).await.unwrap();
    assert!(desired(&mut session).await.pins.is_empty(), "the box hears of it at once");

    let again = stand.holds.place(HoldId::ordered(), terms(&stand, 0, 10 * SECOND)).await.unwrap();
    assert_eq!(desired(&mut session).await.pins.len(), 1);
    drop(session);
    let clock = stand.clock.clone();
    stand.close().await;
    let stand = Stand::with(dir.path(), clock, SessionTerms::default()).await;
    let states = stand.holds.all().await.unwrap();
    let states: Vec<_> = states.iter().map(|(hold, state)| (hold.id, *state)).collect();
    assert!(states.contains(&(hold.id, State::Released)) && states.contains(&(again.id, State::Copying)));
    let mut session = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    assert_eq!(desired(&mut session).await.pins.len(), 1, "from the first word on");
    stand.close().await;
}
