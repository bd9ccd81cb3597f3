use super::*;
use campanile_proto::edge::v1::report::Body;
use campanile_proto::edge::v1::{CameraState, SequenceRange};
use campanile_proto::ids::{CameraId, ObjectId};
use campanile_proto::signed;
use std::time::Instant;

fn camera(enrolled: &TestBox, sequence: u64, name: &str) -> Report {
    let id = CameraId::from_u128(7);
    let state = CameraState { camera_id: id.into(), name: name.to_owned(), ..CameraState::default() };
    Report {
        epoch: enrolled.epoch.into(),
        sequence,
        object_id: ObjectId::from_u128(7).into(),
        revision: sequence,
        body: Some(Body::Camera(state)),
    }
}

async fn ack(session: &mut Session) -> Vec<SequenceRange> {
    session
        .hear_until(|heard| match heard {
            Heard::Ack(ack) => Some(ack.ranges.clone()),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_session_welcomes_and_acknowledges_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let mut session = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    let welcome = session.welcome().await;
    assert_eq!((welcome.protocol, welcome.held.len()), (1, 0));
    let time = session.hear_until(|heard| match heard {
        Heard::Time(time) => Some(time.clone()),
        _ => None,
    });
    let time = time.await;
    let payload = [time.utc_us.to_le_bytes(), time.uncertainty_us.to_le_bytes()].concat();
    let organisation = signed::verifying_key(&enrolled.response.organisation_key).unwrap();
    signed::verify(signed::EDGE, "HubTime", &payload, &time.signature, &organisation).unwrap();
    session.hear_until(|heard| matches!(heard, Heard::Keys(_)).then_some(())).await;
    session.hear_until(|heard| matches!(heard, Heard::Desired(d) if d.retention_days == 7).then_some(())).await;
    for sequence in 1..=3 {
        session.report(camera(&enrolled, sequence, &format!("Piazza {sequence}"))).await;
    }
    let mut acknowledged = 0;
    while acknowledged < 3 {
        acknowledged = ack(&mut session).await.iter().map(|range| range.last).max().unwrap();
    }
    assert_eq!(stand.catalog.cameras().await.unwrap()[0].name, "Piazza 3");
    let status = &stand.fleet.edges().await.unwrap()[0];
    assert!(status.connected && status.software == "script");
    stand.close().await;
}

#[tokio::test]
async fn a_report_of_another_epoch_than_the_sessions_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let mut session = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    session.welcome().await;
    session.report(camera(&enrolled, 1, "Piazza")).await;
    ack(&mut session).await;
    let other = TestBox { epoch: Epoch::random(), ..enrolled.clone() };
    session.report(camera(&other, 2, "Another piazza")).await;
    assert_eq!(session.goodbye().await, "a report of another epoch than the session's");
    assert_eq!(stand.catalog.cameras().await.unwrap()[0].name, "Piazza");
    stand.close().await;
}

#[tokio::test]
async fn revoking_ends_a_live_session_within_five_seconds_and_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let mut enrolled = stand.enrolled().await;
    let mut session = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    session.welcome().await;
    let asked = Instant::now();
    stand.fleet.revoke(enrolled.id).await.unwrap();
    assert_eq!(session.goodbye().await, "revoked");
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(enrolled.session(&stand, enrolled.hello(1, 0)).await.is_err());
    assert!(enrolled.renew(&stand).await.is_err());
    let clock = stand.clock.clone();
    stand.close().await;
    // Yesterday's catalogue, which does not know of the box at all, does not bring it back.
    for file in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = std::fs::remove_file(dir.path().join(file));
    }
    let stand = Stand::with(dir.path(), clock, SessionTerms::default()).await;
    assert!(enrolled.session(&stand, enrolled.hello(1, 0)).await.is_err());
    assert_eq!(stand.fleet.edges().await.unwrap()[0].standing, "revoked");
    stand.close().await;
}

#[tokio::test]
async fn a_reconnecting_box_supersedes_itself() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let mut first = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    first.welcome().await;
    let mut second = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    second.welcome().await;
    assert_eq!(first.goodbye().await, "superseded");
    second.report(camera(&enrolled, 1, "Piazza")).await;
    ack(&mut second).await;
    assert_eq!(stand.fleet.edges().await.unwrap()[0].standing, "good");
    stand.close().await;
}

#[tokio::test]
async fn two_live_boxes_with_one_identity_are_both_set_apart() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let original = stand.enrolled().await;
    let copy = TestBox { boot: BootId::random(), ..original.clone() };
    let mut first = original.session(&stand, original.hello(1, 0)).await.unwrap();
    first.welcome().await;
    let mut second = copy.session(&stand, copy.hello(1, 0)).await.unwrap();
    assert_eq!(second.goodbye().await, "quarantined");
    assert_eq!(first.goodbye().await, "quarantined");
    let status = &stand.fleet.edges().await.unwrap()[0];
    assert_eq!(status.standing, "quarantined");
    assert!(status.reason.contains("different boots"), "{}", status.reason);
    let mut again = original.session(&stand, original.hello(1, 0)).await.unwrap();
    assert_eq!(again.goodbye().await, "quarantined");
    stand.fleet.release(original.id).await.unwrap();
    let mut again = original.session(&stand, original.hello(1, 0)).await.unwrap();
    again.welcome().await;
    stand.close().await;
}

#[tokio::test]
async fn a_box_that_restarted_takes_its_place_once_the_old_connection_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let terms = SessionTerms { dead_known: PATIENCE, ..SessionTerms::default() };
    let stand = Stand::with(dir.path(), Arc::new(SimClock::starting_at(SystemClock::new().utc())), terms).await;
    let before = stand.enrolled().await;
    let after = TestBox { boot: BootId::random(), epoch: Epoch::random(), ..before.clone() };
    let mut first = before.session(&stand, before.hello(1, 0)).await.unwrap();
    first.welcome().await;
    let mut second = after.session(&stand, after.hello(1, 0)).await.unwrap();
    drop(first);
    second.welcome().await;
    assert_eq!(stand.fleet.edges().await.unwrap()[0].standing, "good");
    stand.close().await;
}

#[tokio::test]
async fn a_known_database_that_goes_back_in_time_is_set_apart() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let mut session = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    session.welcome().await;
    session.report(camera(&enrolled, 1, "Piazza")).await;
    ack(&mut session).await;
    drop(session);
    // The control: the box itself goes on.
    let mut session = enrolled.session(&stand, enrolled.hello(2, 1)).await.unwrap();
    session.welcome().await;
    let mut copy = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    assert_eq!(copy.goodbye().await, "quarantined");
    assert_eq!(session.goodbye().await, "quarantined");
    assert!(stand.fleet.edges().await.unwrap()[0].reason.contains("back in time"));
    stand.close().await;
}

#[tokio::test]
async fn a_revision_that_a_newer_one_replaced_is_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let mut session = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    for sequence in [2, 5] {
        session.report(camera(&enrolled, sequence, "Piazza")).await;
        ack(&mut session).await;
    }
    drop(session);
    for (acknowledged_count, lost) in [(2, false), (3, true)] {
        let hello = Hello { acknowledged_count, ..enrolled.hello(9, 7) };
        let mut session = enrolled.session(&stand, hello).await.unwrap();
        let welcome = session.welcome().await;
        assert_eq!(welcome.held.last().map(|range| range.last), if lost { Some(7) } else { Some(5) });
        let replay = session.hear_until(|heard| match heard {
            Heard::Replay(_) => Some(true),
            Heard::Ack(_) => Some(false),
            // Nothing else follows unless something is reported.
            Heard::Desired(_) if !lost => Some(false),
            _ => None,
        });
        assert_eq!(replay.await, lost);
    }
    stand.close().await;
}

#[tokio::test]
async fn a_restored_older_catalogue_asks_for_a_replay_until_it_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let clock = stand.clock.clone();
    stand.close().await;
    let backup = std::fs::read(dir.path().join("catalog.sqlite")).unwrap();

    let stand = Stand::open(dir.path()).await;
    let mut session = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    for sequence in 1..=2 {
        session.report(camera(&enrolled, sequence, "Piazza")).await;
        ack(&mut session).await;
    }
    drop(session);
    // Nothing is lost yet, so nothing is asked for.
    let mut session = enrolled.session(&stand, enrolled.hello(3, 2)).await.unwrap();
    session.report(camera(&enrolled, 3, "Piazza")).await;
    session
        .hear_until(|heard| {
            assert!(!matches!(heard, Heard::Replay(_)), "a replay without a loss");
            matches!(heard, Heard::Ack(_)).then_some(())
        })
        .await;
    drop(session);
    stand.close().await;

    for file in ["catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = std::fs::remove_file(dir.path().join(file));
    }
    std::fs::write(dir.path().join("catalog.sqlite"), backup).unwrap();
    let terms = SessionTerms { replay_settles: Duration::ZERO, ..SessionTerms::default() };
    let stand = Stand::with(dir.path(), clock, terms).await;
    assert!(stand.catalog.cameras().await.unwrap().is_empty());
    let mut session = enrolled.session(&stand, enrolled.hello(4, 3)).await.unwrap();
    session.hear_until(|heard| matches!(heard, Heard::Replay(_)).then_some(())).await;
    session.report(camera(&enrolled, 4, "Piazza, again")).await;
    ack(&mut session).await;
    drop(session);
    assert_eq!(stand.catalog.cameras().await.unwrap().len(), 1);
    let held = || async { stand.catalog.held(enrolled.id, enrolled.epoch).await.unwrap() };
    let until = Instant::now() + PATIENCE;
    while held().await.ranges.iter().next() != Some((0, 4)) {
        assert!(Instant::now() < until, "not settled: {:?}", held().await);
        tokio::task::yield_now().await;
    }
    let mut session = enrolled.session(&stand, enrolled.hello(5, 4)).await.unwrap();
    session.report(camera(&enrolled, 5, "Piazza")).await;
    session
        .hear_until(|heard| {
            assert!(!matches!(heard, Heard::Replay(_)), "a replay after it was settled");
            matches!(heard, Heard::Ack(_)).then_some(())
        })
        .await;
    stand.close().await;
}

#[tokio::test]
async fn a_box_that_holds_newer_keys_than_a_restored_ring_gets_keys_it_will_take() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let ours = generation(enrolled.response.keys.as_ref().unwrap());
    let mut other = stand.enrolled().await.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    other.welcome().await;
    // The control: whoever holds ours is told nothing.
    let same = Hello { key_generation: ours, ..enrolled.hello(1, 0) };
    let mut session = enrolled.session(&stand, same).await.unwrap();
    session
        .hear_until(|heard| {
            assert!(!matches!(heard, Heard::Keys(_)), "keys that the box has");
            matches!(heard, Heard::Desired(_)).then_some(())
        })
        .await;
    let newer = Hello { key_generation: ours + 5, ..enrolled.hello(1, 0) };
    let mut session = enrolled.session(&stand, newer).await.unwrap();
    for session in [&mut session, &mut other] {
        let delivered = session.hear_until(|heard| match heard {
            Heard::Keys(keys) => Some(generation(keys)).filter(|delivered| *delivered > ours + 5),
            _ => None,
        });
        delivered.await;
    }
    stand.close().await;
}

#[tokio::test]
async fn a_hub_that_doubts_its_clock_tells_no_box_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let now = stand.clock.utc();
    for (utc, told) in [(now, true), (now.plus_micros(86_400_000_000), false), (now, true)] {
        stand.clock.step_utc(utc);
        let mut session = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
        // What is wished for comes after the time.
        let time = session.hear_until(|heard| match heard {
            Heard::Time(_) => Some(true),
            Heard::Desired(_) => Some(false),
            _ => None,
        });
        assert_eq!(time.await, told, "{utc:?}");
    }
    stand.close().await;
}

fn generation(keys: &campanile_proto::edge::v1::SignedKeys) -> u32 {
    let keys: campanile_proto::edge::v1::SealingKeys = prost::Message::decode(keys.payload.clone()).unwrap();
    keys.generation
}
