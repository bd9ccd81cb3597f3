//! Footage of boxes that lived through something: all of it plays within its term, and none of it after.

use super::footage::{CAMERA, Capture, RUN, Recorded, access, record_as, serve_answers};
use super::*;
use crate::media::PlaybackError;
use campanile_proto::edge::v1::{DeliverUp, Fetch, deliver_up};
use campanile_proto::time::{MICROS_PER_HOUR, MICROS_PER_SECOND, WallTime, kept_until};
use campanile_proto::types::v1::{KeyKind, Stream};

const DAYS: u32 = 7;
const DAY_US: i64 = 24 * MICROS_PER_HOUR;
/// Of each capture: fragments of a second, a key frame every two.
const COUNT: u64 = 6;

fn capture(kind: KeyKind, start: WallTime, first_index: u64) -> Capture {
    Capture { kind, start, believed: start, first_index, count: COUNT }
}

/// A box's disk: every segment that has something of what is asked.
async fn serve(stand: &Stand, enrolled: &TestBox, disk: Vec<Recorded>) -> tokio::task::JoinHandle<()> {
    let is_record = |up: &DeliverUp| matches!(up.message, Some(deliver_up::Message::Record(_)));
    let answer = move |fetch: &Fetch| {
        let mut answers: Vec<Vec<DeliverUp>> = disk.iter().map(|recorded| recorded.answer(fetch)).collect();
        // An init section alone is nothing of what was asked.
        answers.retain(|answer| answer.iter().filter(|up| is_record(up)).count() > 1);
        let last = answers.len().saturating_sub(1);
        let of = |(n, answer): (usize, Vec<DeliverUp>)| {
            let end = answer.len() - usize::from(n < last);
            answer.into_iter().take(end).skip(usize::from(n > 0))
        };
        answers.into_iter().enumerate().flat_map(of).collect()
    };
    serve_answers(stand, enrolled, answer).await
}

/// Opens the group that begins with this fragment, as a player does.
async fn opens(stand: &Stand, first: u64) -> Result<(), PlaybackError> {
    let pass = access(stand).await;
    let group =
        stand.playback.group(pass.request_id(), CAMERA, Stream::Main, RUN, (first, first + 1), WallTime(0)).await;
    pass.close(1, 1).await;
    group.map(drop)
}

/// The hub lives on until then: its clock is believed, and its ring kept, every six hours.
fn live_until(stand: &Stand, then: WallTime) {
    while stand.clock.utc() < then {
        stand.clock.advance_micros((then - stand.clock.utc()).min(6 * MICROS_PER_HOUR));
        stand.keeper.maintain().unwrap();
    }
}

/// It plays up to the last hour of its term, and not once that is over.
async fn plays_within_its_term_and_not_after(stand: &Stand, capture: &Capture) {
    let (first, end) = (capture.first_index, kept_until(capture.start, DAYS));
    live_until(stand, end.plus_micros(-MICROS_PER_HOUR));
    opens(stand, first).await.unwrap_or_else(|error| panic!("within its term, {first}: {error}"));
    live_until(stand, end);
    let after = opens(stand, first).await;
    assert!(matches!(after, Err(PlaybackError::Keeper(_) | PlaybackError::Expired)), "{first}: {after:?}");
}

#[tokio::test]
async fn a_box_60_days_without_its_hub_is_played_within_the_term() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let began = stand.clock.utc();
    let at = |days: i64| began.plus_micros(days * DAY_US);
    // Its hour keys reach 35 days; then it seals to its reserve key.
    let captures = [
        capture(KeyKind::Hour, at(34), 0),
        capture(KeyKind::Reserve, at(52), 100),
        capture(KeyKind::Reserve, at(55), 200),
        capture(KeyKind::Reserve, at(60), 300),
    ];
    live_until(&stand, at(60).plus_micros(60 * MICROS_PER_SECOND));
    serve(&stand, &enrolled, captures.iter().map(|one| record_as(&enrolled, *one)).collect()).await;
    for too_old in [0, 100] {
        assert!(opens(&stand, too_old).await.is_err(), "{too_old} is older than a week");
    }
    for capture in &captures[2..] {
        plays_within_its_term_and_not_after(&stand, capture).await;
    }
    stand.close().await;
}

#[tokio::test]
async fn a_recording_across_midnight_ends_hour_by_hour() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let midnight = WallTime((stand.clock.utc().0.div_euclid(DAY_US) + 1) * DAY_US);
    let before = capture(KeyKind::Hour, midnight.plus_micros(-(COUNT as i64) * MICROS_PER_SECOND), 0);
    let after = capture(KeyKind::Hour, midnight, COUNT);
    live_until(&stand, midnight.plus_micros(60 * MICROS_PER_SECOND));
    serve(&stand, &enrolled, vec![record_as(&enrolled, before), record_as(&enrolled, after)]).await;
    let pass = access(&stand).await;
    let (from, to) = (before.start, midnight.plus_micros(COUNT as i64 * MICROS_PER_SECOND));
    let listing = stand.playback.listing(pass.request_id(), CAMERA, from, to).await.unwrap();
    pass.close(1, 1).await;
    let listed: Vec<_> = listing.variants[0].groups.iter().map(|group| (group.first, group.discontinuity)).collect();
    assert_eq!(listed, [(0, false), (2, false), (4, false), (6, false), (8, false), (10, false)], "one unbroken line");
    plays_within_its_term_and_not_after(&stand, &before).await;
    assert!(opens(&stand, after.first_index).await.is_ok(), "the hour after midnight has an hour left");
    plays_within_its_term_and_not_after(&stand, &after).await;
    stand.close().await;
}

#[tokio::test]
async fn a_box_that_booted_in_1970_or_2040_is_played_by_when_it_truly_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let now = stand.clock.utc();
    // Without a trusted clock it seals to its reserve key; its anchors came later.
    let believing =
        |believed, start, first_index| Capture { believed, ..capture(KeyKind::Reserve, start, first_index) };
    let of_1970 = believing(WallTime(1_000_000), now, 0);
    let of_2040 = believing(WallTime(2_208_988_800_000_000), now.plus_micros(DAY_US), 100);
    live_until(&stand, now.plus_micros(DAY_US + 60 * MICROS_PER_SECOND));
    serve(&stand, &enrolled, vec![record_as(&enrolled, of_1970), record_as(&enrolled, of_2040)]).await;
    plays_within_its_term_and_not_after(&stand, &of_1970).await;
    plays_within_its_term_and_not_after(&stand, &of_2040).await;
    stand.close().await;
}

#[tokio::test]
async fn a_hub_whose_clock_is_a_year_ahead_for_a_while_destroys_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let recorded = capture(KeyKind::Hour, stand.clock.utc(), 0);
    live_until(&stand, recorded.start.plus_micros(DAY_US));
    serve(&stand, &enrolled, vec![record_as(&enrolled, recorded)]).await;
    let before = stand.clock.utc();
    stand.clock.step_utc(before.plus_micros(365 * DAY_US));
    for _ in 0..3 {
        let done = stand.keeper.maintain().unwrap();
        assert!(done.clock_doubted && done.destroyed.is_empty(), "{done:?}");
        stand.clock.advance_micros(MICROS_PER_HOUR);
    }
    stand.clock.step_utc(before.plus_micros(3 * MICROS_PER_HOUR));
    stand.keeper.maintain().unwrap();
    plays_within_its_term_and_not_after(&stand, &recorded).await;
    stand.close().await;
}
