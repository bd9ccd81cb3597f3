//! Playback of a partner's camera through both hubs.

use super::town::*;
use crate::federation::*;
use campanile_proto::time::MICROS_PER_SECOND;
use campanile_proto::types::v1::{Phase, Stream};
use std::time::Duration;

#[tokio::test]
async fn a_granted_camera_plays_and_its_register_entry_counts_it() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.agree_with(&firenze).await;
    let playing = prato.federation.open_playback(playback(&firenze, 1, 10)).await.unwrap();
    let (camera, run) = (camera(2, 1), run_of(camera(2, 1)));
    assert_eq!(playing.listing().variants[0].groups.len(), 5);
    assert_eq!(playing.init(Stream::Main, run).await.unwrap().as_ref(), b"ftyp moov");
    for first in [0, 2, 4] {
        assert_eq!(playing.group(Stream::Main, run, first, first + 1).await.unwrap(), footage(camera, first));
    }
    playing.close().await;
    let closed = eventually("the closing entry", || async {
        let page = firenze.register.page(0, 100).await.unwrap();
        page.into_iter().map(|entry| entry.leaf).find(|leaf| leaf.phase() == Phase::Closed && leaf.clause == "3.3")
    });
    let closed = closed.await;
    assert_eq!(closed.items, 4);
    assert!(closed.bytes_sent > 3 * (700 << 10), "{}", closed.bytes_sent);
    assert_eq!(playing.init(Stream::Main, run).await.unwrap_err().code(), "ENDED");
}

#[tokio::test]
async fn a_revocation_ends_what_is_being_watched_at_once() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let id = prato.agree_with(&firenze).await;
    let playing = prato.federation.open_playback(playback(&firenze, 1, 10)).await.unwrap();
    let run = run_of(camera(2, 1));
    playing.group(Stream::Main, run, 0, 1).await.unwrap();
    // Prato is not told: Firenze's refusal alone must end it.
    prato.fall_silent().await;
    firenze.federation.revoke(id, "urgente").await.unwrap();
    assert_eq!(prato.state(id), State::Live);
    let refused = playing.group(Stream::Main, run, 2, 3).await.unwrap_err();
    assert_eq!(refused.code(), "REVOKED");
    tokio::time::timeout(Duration::from_secs(10), playing.ended()).await.expect("the renewal is refused");
    assert_eq!(playing.ended_by().map(|why| why.code.as_str()), Some("REVOKED"));
    assert!(firenze.leaves().await.iter().any(|(phase, clause, _)| *phase == Phase::Closed && clause == "3.3"));
}

#[tokio::test]
async fn a_revocation_stops_a_group_that_is_on_its_way() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let id = prato.agree_with(&firenze).await;
    let playing = prato.federation.open_playback(playback(&firenze, 1, 10)).await.unwrap();
    let revoking = firenze.federation.clone();
    *firenze.holdings.meanwhile.lock().unwrap() = Some(Box::pin(async move {
        revoking.revoke(id, "durante").await.unwrap();
    }));
    assert!(playing.group(Stream::Main, run_of(camera(2, 1)), 0, 1).await.is_err());
}

#[tokio::test]
async fn the_requesters_own_revocation_ends_its_playback() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let id = prato.agree_with(&firenze).await;
    let playing = prato.federation.open_playback(playback(&firenze, 1, 10)).await.unwrap();
    prato.federation.revoke(id, "basta").await.unwrap();
    tokio::time::timeout(Duration::from_secs(2), playing.ended()).await.expect("without waiting for a renewal");
}

#[tokio::test]
async fn a_lease_that_nobody_renews_is_closed_in_the_register() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.agree_with(&firenze).await;
    let playing = prato.federation.open_playback(playback(&firenze, 1, 10)).await.unwrap();
    firenze.clock.advance_micros(15 * MICROS_PER_SECOND);
    let closed = || async {
        let leaves = firenze.leaves().await;
        leaves.iter().any(|(phase, clause, _)| *phase == Phase::Closed && clause == "3.3").then_some(())
    };
    eventually("the expired lease's entry", closed).await;
    let refused = playing.group(Stream::Main, run_of(camera(2, 1)), 0, 1).await.unwrap_err();
    assert!(["EXPIRED", "NO_LEASE"].contains(&refused.code()), "{refused}");
}

#[tokio::test]
async fn a_requester_whose_clock_is_behind_renews_its_lease() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.agree_with(&firenze).await;
    // 40 s of difference, within what is tolerated between hubs.
    firenze.clock.advance_micros(40 * MICROS_PER_SECOND);
    let playing = prato.federation.open_playback(playback(&firenze, 1, 10)).await.unwrap();
    prato.clock.advance_micros(5 * MICROS_PER_SECOND);
    playing.renew().await.unwrap();
    let again = playing.renew().await.unwrap_err();
    assert_eq!(again.code(), "REPLAYED", "the control: signed at the same instant, it renews nothing");
}

#[tokio::test]
async fn what_is_granted_and_was_not_recorded_is_told_so_and_what_is_not_granted_is_not() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.agree_with(&firenze).await;
    for kind in [campanile_proto::kind::Kind::NotFound, campanile_proto::kind::Kind::Expired] {
        *firenze.holdings.missing.lock().unwrap() = Some(kind);
        let granted = prato.federation.open_playback(playback(&firenze, 1, 10)).await.err().unwrap();
        assert_eq!((granted.code(), granted.kind()), ("NOTHING_RECORDED", campanile_proto::kind::Kind::NotFound));
        let other = prato.federation.open_playback(playback(&firenze, 3, 10)).await.err().unwrap();
        assert_eq!(other.code(), "NOT_GRANTED");
    }
}

#[tokio::test]
async fn a_day_of_one_camera_is_listed_whole() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.agree_with(&firenze).await;
    let day = PlaybackQuery {
        from: NOW.plus_micros(-24 * campanile_proto::time::MICROS_PER_HOUR),
        to: NOW,
        ..playback(&firenze, 1, 10)
    };
    let playing = prato.federation.open_playback(day).await.unwrap();
    let groups = &playing.listing().variants[0].groups;
    assert_eq!(groups.len(), 43_200);
    assert!(groups.windows(2).all(|pair| pair[0].last + 1 == pair[1].first));
    let last = groups.last().unwrap();
    playing.group(Stream::Main, run_of(camera(2, 1)), last.first, last.last).await.unwrap();
}

#[tokio::test]
async fn footage_outside_the_leased_interval_is_not_sent() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.agree_with(&firenze).await;
    let playing = prato.federation.open_playback(playback(&firenze, 1, 10)).await.unwrap();
    let other_camera = playing.group(Stream::Main, run_of(camera(2, 2)), 0, 1).await.unwrap_err();
    let beyond = playing.group(Stream::Main, run_of(camera(2, 1)), 10, 11).await.unwrap_err();
    assert_eq!((other_camera.code(), beyond.code()), ("NOT_GRANTED", "NOT_GRANTED"));
}
