//! One person's searches and playbacks are nobody else's; the entry comes before the answer.

use super::*;
use crate::access::{Action, Request as Asked};
use crate::web::viewings::Source;
use campanile_proto::federation::v1::{Listing, Purpose, SearchHit};
use campanile_proto::ids::{CameraId, EventId};
use campanile_proto::time::MICROS_PER_HOUR;
use serde_json::json;

const OTHER: Visitor = Visitor::Local { uid: 1 };

async fn pass(stand: &Stand, action: Action) -> crate::access::Pass {
    let interval = Some((stand.clock.utc().plus_micros(-MICROS_PER_HOUR), stand.clock.utc()));
    let (purpose, case_number) = (Some(Purpose::UrbanSecurity), Some("1".into()));
    let asked = Asked { purpose, case_number, interval, ..Asked::new(administrator(), action) };
    stand.hub().door.enter(asked).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_playback_looks_as_if_it_were_not_there() {
    let stand = Stand::open().await;
    let router = stand.router();
    let own = Source::Own(CameraId::from_u128(7));
    let id = stand.web.viewings.add(own, Listing::default(), pass(&stand, Action::Playback).await).unwrap();
    for path in [format!("/api/v1/playbacks/{id}"), format!("/api/v1/playbacks/{id}/master.m3u8")] {
        let (mine, _) = read(ask(&router, LOCAL, &Method::GET, &path, None).await).await;
        let (theirs, said) = read(ask(&router, OTHER, &Method::GET, &path, None).await).await;
        assert_eq!((mine, theirs, said["code"].as_str()), (200, 410, Some("PLAYBACK_ENDED")), "{path}");
    }
    let path = format!("/api/v1/playbacks/{id}");
    let (status, _) = read(ask(&router, OTHER, &Method::DELETE, &path, None).await).await;
    assert_eq!((status, stand.web.viewings.len()), (204, 1), "nobody else closes it");
    let (status, _) = read(ask(&router, LOCAL, &Method::DELETE, &path, None).await).await;
    assert_eq!((status, stand.web.viewings.len()), (204, 0));
    let (status, said) = read(ask(&router, LOCAL, &Method::GET, &path, None).await).await;
    assert_eq!((status, said["code"].as_str()), (410, Some("PLAYBACK_ENDED")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thumbnail_belongs_to_the_search_of_the_same_person() {
    let stand = Stand::open().await;
    let router = stand.router();
    let pass = pass(&stand, Action::Search).await;
    let event = EventId::from_u128(9);
    let town = stand.hub().organisation.id;
    let hit = SearchHit { event_id: event.into(), camera_id: CameraId::from_u128(7).into(), ..Default::default() };
    stand.web.searches.open(&pass);
    stand.web.searches.note(pass.request_id(), town, &[hit]);
    let path = |event: EventId| format!("/api/v1/thumbnails/{town}/{event}?request={}", pass.request_id());
    let code = async |visitor, path: String| {
        let (_, said) = read(ask(&router, visitor, &Method::GET, &path, None).await).await;
        said["code"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(code(LOCAL, path(event)).await, "NO_THUMBNAIL", "the control: it may be asked for");
    assert_eq!(code(OTHER, path(event)).await, "BAD_FIELD");
    assert_eq!(code(LOCAL, path(EventId::from_u128(10))).await, "BAD_FIELD");
    stand.clock.advance_micros(MICROS_PER_HOUR);
    assert_eq!(code(LOCAL, path(event)).await, "BAD_FIELD", "an hour later it is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entry_of_a_search_is_on_the_disk_before_its_first_byte() {
    let stand = Stand::open().await;
    let size = stand.size().await;
    let time = |at| super::super::output::time(at);
    let body = json!({
        "from": time(stand.clock.utc().plus_micros(-MICROS_PER_HOUR)), "to": time(stand.clock.utc()),
        "purpose": "urban-security", "case_number": "2026/17",
    });
    let response = ask(&stand.router(), LOCAL, &Method::POST, "/api/v1/searches", Some(body)).await;
    assert_eq!(response.status(), 200);
    let entry = stand.hub().register.page(size, 1).await.unwrap().remove(0);
    assert_eq!((entry.leaf.phase(), entry.case_number.as_deref()), (Phase::Opened, Some("2026/17")));
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert!(String::from_utf8_lossy(&bytes).lines().last().unwrap().contains("\"end\""));
}
