use super::*;
use crate::catalog::conformance::{Bench, CAMERA, instant};
use campanile_proto::ids::EventId;
use campanile_proto::time::{MICROS_PER_HOUR, MICROS_PER_SECOND};
use campanile_proto::types::v1::{Event, MotionSecond, MotionSeconds, index_record::Content};
use tokio_util::sync::CancellationToken;

async fn search(bench: &Bench) -> (Search, CancellationToken, tokio::task::JoinHandle<()>) {
    let (dir, clock) = (bench.dir.path().join("derived/tantivy"), bench.clock.clone());
    let (search, follower) = Search::open(&dir, bench.derived.clone(), bench.catalog.clone(), clock).await.unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(follower.run(stop.clone()));
    search.caught_up().await;
    (search, stop, task)
}

/// Of the last day and the next.
fn all(bench: &Bench) -> Query {
    let now = bench.clock.utc();
    let day = 24 * MICROS_PER_HOUR;
    let (cameras, site, words) = Default::default();
    Query { from: now.plus_micros(-day), to: now.plus_micros(day), cameras, site, words, region: None, limit: 10 }
}

async fn found(search: &Search, query: Query) -> Vec<EventId> {
    let hits = search.run(query).await.unwrap();
    hits.iter().map(|hit| EventId::try_from(&hit.event_id).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_is_found_and_a_lost_index_is_made_again() {
    let bench = Bench::new();
    let (searching, stop, task) = search(&bench).await;
    let event = bench.record(1).await;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while found(&searching, all(&bench)).await != [event] {
        assert!(std::time::Instant::now() < until, "the event is not found");
        tokio::task::yield_now().await;
    }
    stop.cancel();
    task.await.unwrap();
    drop(searching);
    std::fs::remove_dir_all(bench.dir.path().join("derived/tantivy")).unwrap();
    let (searching, ..) = search(&bench).await;
    assert_eq!(found(&searching, all(&bench)).await, [event]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_counts_only_within_the_interval() {
    let bench = Bench::new();
    let start = bench.clock.utc();
    let at = |second: i64| start.plus_micros(second * MICROS_PER_SECOND);
    let (mut door, mut window) = (CellSet::EMPTY, CellSet::EMPTY);
    door.insert(100);
    window.insert(5);
    let event = EventId::random();
    let content = Event {
        event_id: event.into(),
        camera_id: CAMERA.into(),
        start: Some(instant(at(0))),
        end: Some(instant(at(60))),
        moved: door.to_bytes().to_vec().into(),
        ..Event::default()
    };
    bench.conclude(1, Content::Event(content)).await;
    // It moved in the doorway in the tenth second only.
    let still = MotionSecond::default();
    let moved = MotionSecond { moved: door.to_bytes().to_vec().into(), ..MotionSecond::default() };
    let seconds = (0..60).map(|second| if second == 10 { moved.clone() } else { still.clone() }).collect();
    let motion =
        MotionSeconds { camera_id: CAMERA.into(), start: Some(instant(at(0))), seconds, ..MotionSeconds::default() };
    bench.conclude(2, Content::Motion(motion)).await;
    let (searching, ..) = search(&bench).await;
    for (from, to, region, expected) in [
        (-5, 70, door, true),
        (-5, 70, window, false),
        (5, 70, door, true),
        (10, 11, door, true),
        (11, 70, door, false),
        (-5, 10, door, false),
    ] {
        let query = Query { from: at(from), to: at(to), region: Some(region), ..all(&bench) };
        assert_eq!(found(&searching, query).await == [event], expected, "{from}..{to}");
        // Without a region the event is there whenever it overlaps.
        let query = Query { from: at(from), to: at(to), ..all(&bench) };
        assert_eq!(found(&searching, query).await, [event], "{from}..{to}");
    }
}
