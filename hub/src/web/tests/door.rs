//! Every route there is passes the door.

use super::*;
use crate::access::{Action, Request as Asked};
use crate::web::routes::Entry;
use axum::routing::post;
use campanile_proto::federation::v1::{Purpose, SearchHit};
use campanile_proto::ids::{CameraId, EventId, RequestId, SegmentId};
use campanile_proto::time::MICROS_PER_HOUR;
use campanile_proto::types::v1::{KeyKind, SegmentHeader, Stream};
use prost::Message;
use serde_json::json;
use std::collections::BTreeSet;

const ID: &str = "00000000-0000-0000-0000-000000000007";

/// An address and a body for every route, such that nothing but the door can refuse them. A route that is not
/// here fails the test.
fn example(stand: &Stand, entry: &Entry, search: RequestId) -> Option<(String, Option<Value>)> {
    let (from, to) = (stand.clock.utc().plus_micros(-MICROS_PER_HOUR), stand.clock.utc());
    let (from, to) = (super::super::output::time(from), super::super::output::time(to));
    let reason = |mut body: Value| {
        body["purpose"] = "urban-security".into();
        body["case_number"] = "2026/17".into();
        Some(body)
    };
    let town = stand.hub().organisation.id;
    let (path, body) = match (entry.method.as_str(), entry.path) {
        ("POST", "/api/v1/session") => (entry.path, Some(json!({ "user": "operatore", "password": "x" }))),
        ("POST", "/api/v1/searches") => (entry.path, reason(json!({ "from": from, "to": to }))),
        ("POST", "/api/v1/playbacks") => (entry.path, reason(json!({ "camera": ID, "from": from, "to": to }))),
        ("DELETE", "/api/v1/playbacks/{id}") => ("/api/v1/playbacks/ID", None),
        ("GET", "/api/v1/playbacks/{id}") => ("/api/v1/playbacks/ID", None),
        ("GET", "/api/v1/playbacks/{id}/{playlist}") => ("/api/v1/playbacks/ID/master.m3u8", None),
        ("GET", "/api/v1/playbacks/{id}/{stream}/{run}/{part}") => ("/api/v1/playbacks/ID/main/ID/init.mp4", None),
        ("GET", "/api/v1/thumbnails/{organisation}/{event}") => {
            return Some((format!("/api/v1/thumbnails/{town}/{ID}?request={search}"), None));
        }
        ("POST", "/api/v1/cameras/{id}/mask") => {
            ("/api/v1/cameras/ID/mask", Some(json!({ "act": "12/2026", "author": "Rossi" })))
        }
        ("DELETE", "/api/v1/cameras/{id}/mask") => ("/api/v1/cameras/ID/mask", None),
        ("POST", "/api/v1/cameras/{id}/move") => ("/api/v1/cameras/ID/move", Some(json!({ "edge": ID }))),
        ("POST", "/api/v1/clock/confirm") => (entry.path, Some(json!({ "now": "2026-03-01T14:30:00Z" }))),
        ("POST", "/api/v1/edges/tokens") => (entry.path, Some(json!({ "site_name": "Piazza" }))),
        ("POST", "/api/v1/holds") => {
            let terms = json!({
                "act": "prot. 1/2026", "author": "Anna", "approver": "Bruno", "reason": "decreto", "cameras": [ID],
                "from": from, "to": to, "until": "2030-01-01T00:00:00Z",
            });
            (entry.path, Some(terms))
        }
        ("POST", "/api/v1/unsealings") => {
            let header = SegmentHeader {
                segment_id: ID.parse::<SegmentId>().unwrap().into(),
                camera_id: ID.parse::<CameraId>().unwrap().into(),
                stream: Stream::Main.into(),
                key_kind: KeyKind::Hour.into(),
                hour: stand.clock.utc().hour() as u64,
                ..SegmentHeader::default()
            };
            let header = hex::encode(header.encode_to_vec());
            (entry.path, reason(json!({ "segment": header, "wrapped_key": "00", "fragments": 1 })))
        }
        ("GET", "/api/v1/holds/{id}") => ("/api/v1/holds/ID", None),
        ("POST", "/api/v1/holds/{id}/release") => {
            ("/api/v1/holds/ID/release", Some(json!({ "by": "Anna", "reason": "archiviazione" })))
        }
        ("POST", "/api/v1/holds/{id}/playbacks") => {
            ("/api/v1/holds/ID/playbacks", reason(json!({ "camera": ID, "from": from, "to": to })))
        }
        ("DELETE", "/api/v1/edges/{id}") => ("/api/v1/edges/ID", None),
        ("POST", "/api/v1/edges/{id}/release") => ("/api/v1/edges/ID/release", Some(json!({}))),
        ("POST", "/api/v1/people") => (entry.path, Some(json!({ "name": "anna" }))),
        ("POST", "/api/v1/people/{name}/password") => ("/api/v1/people/operatore/password", Some(json!({}))),
        ("POST", "/api/v1/partners") => (entry.path, Some(json!({ "address": "127.0.0.1:1", "fingerprint": "00" }))),
        ("POST", "/api/v1/agreements") => {
            let terms = json!({
                "title": "Protocollo", "partner": ID, "valid_days": 1, "rights": ["search"],
                "purposes": ["urban-security"], "cameras": [ID],
            });
            (entry.path, Some(terms))
        }
        ("GET", "/api/v1/agreements/{id}") => ("/api/v1/agreements/ID", None),
        ("POST", "/api/v1/agreements/{id}/sign") => ("/api/v1/agreements/ID/sign", Some(json!({ "cameras": [ID] }))),
        ("POST", "/api/v1/agreements/{id}/confirm") => ("/api/v1/agreements/ID/confirm", Some(json!({}))),
        ("POST", "/api/v1/agreements/{id}/revoke") => {
            ("/api/v1/agreements/ID/revoke", Some(json!({ "reason": "basta" })))
        }
        ("GET", "/api/v1/register/inclusion") => ("/api/v1/register/inclusion?sequence=0&size=1", None),
        ("GET", "/api/v1/register/consistency") => ("/api/v1/register/consistency?sequence=1&size=1", None),
        ("GET" | "DELETE", path) if !path.contains('{') => (path, None),
        _ => return None,
    };
    Some((path.replace("ID", ID), body))
}

/// A search that was let in and found one event, so that its thumbnail may be asked for.
async fn found(stand: &Stand) -> RequestId {
    let (from, to) = (stand.clock.utc().plus_micros(-MICROS_PER_HOUR), stand.clock.utc());
    let asked = Asked {
        purpose: Some(Purpose::UrbanSecurity),
        case_number: Some("1".into()),
        interval: Some((from, to)),
        ..Asked::new(administrator(), Action::Search)
    };
    let pass = stand.hub().door.enter(asked).await.unwrap();
    stand.web.searches.open(&pass);
    let hit = SearchHit {
        event_id: ID.parse::<EventId>().unwrap().into(),
        camera_id: ID.parse::<CameraId>().unwrap().into(),
        start_us: from.0,
        end_us: to.0,
        ..Default::default()
    };
    stand.web.searches.note(pass.request_id(), stand.hub().organisation.id, &[hit]);
    let id = pass.request_id();
    pass.close(0, 0).await;
    id
}

/// Asks for one route while the door is shut. What is wrong with it, if anything.
async fn audit(stand: &Stand, router: &Router, entry: &Entry, search: RequestId) -> Result<(), String> {
    let (uri, body) = example(stand, entry, search).ok_or("has no example in this test")?;
    stand.shutter.shut();
    let (before, size) = (stand.traces(), stand.size().await);
    let (status, answer) = read(ask(router, LOCAL, &entry.method, &uri, body).await).await;
    let (asked, leaves) = (stand.shutter.asked(), stand.leaves(size).await);
    if status != 403 || answer["code"] != Shutter::CODE {
        return Err(format!("answers {status} {answer}"));
    }
    if asked != [entry.action] {
        return Err(format!("asks the door for {asked:?}, not for {:?}", entry.action));
    }
    if stand.traces() != before {
        return Err("was refused, and has left something behind".into());
    }
    match &leaves[..] {
        [leaf] if leaf.phase() == Phase::Refused && leaf.reason == Shutter::CODE => {
            (leaf.act() == entry.action.refused_act()).then_some(()).ok_or(format!("is registered as {:?}", leaf.act()))
        }
        other => Err(format!("leaves {} register entries", other.len())),
    }
}

/// Paths in the router itself, however they came there.
fn paths(router: &Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let quoted = text.split("RouteId(").filter_map(|rest| rest.split_once("): \"")?.1.split_once('"'));
    // What answers that there is nothing is no route.
    let routes = quoted.filter(|(path, _)| !path.contains("__private__axum_fallback"));
    routes.map(|(path, _)| path.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_refused_by_a_shut_door_and_leaves_nothing_but_its_entry() {
    let stand = Stand::open().await;
    let search = found(&stand).await;
    let routes = routes::all(stand.web.clone());
    let entries = routes.entries.clone();
    let router = routes.router();
    assert!(entries.len() > 35, "{} routes are there", entries.len());
    for entry in &entries {
        let outcome = audit(&stand, &router, entry, search).await;
        assert_eq!(outcome, Ok(()), "{} {}", entry.method, entry.path);
    }
    let listed: BTreeSet<String> = entries.iter().map(|entry| entry.path.to_owned()).collect();
    assert_eq!(paths(&router), listed, "no route came to be without Routes::add");

    // The control: routes that pass no door, or the door of something else, are found out.
    let (web, name) = (stand.web.clone(), "piantata");
    let planted = async move || {
        web.hub.people.add(name).await.unwrap();
        axum::http::StatusCode::NO_CONTENT
    };
    let unguarded = router.route("/api/v1/planted", post(planted));
    assert!(paths(&unguarded).difference(&listed).eq(["/api/v1/planted"]));
    let entry = Entry { method: Method::POST, path: "/api/v1/people", action: Action::ManagePeople };
    let (before, size) = (stand.traces(), stand.size().await);
    let (status, _) = read(ask(&unguarded, LOCAL, &Method::POST, "/api/v1/planted", None).await).await;
    assert_eq!((status, stand.size().await), (204, size));
    assert_ne!(stand.traces(), before, "what a route changes is seen");
    let other = Entry { action: Action::Status, ..entry.clone() };
    assert!(audit(&stand, &unguarded, &other, search).await.unwrap_err().contains("asks the door for"));
    let unknown = Entry { method: Method::PUT, path: "/api/v1/planted/{id}", action: Action::Status };
    assert!(audit(&stand, &unguarded, &unknown, search).await.is_err());
    assert_eq!(audit(&stand, &unguarded, &entry, search).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_reaches_the_page_and_the_sign_in_alone_and_writes_nothing() {
    let stand = Stand::open().await;
    let search = found(&stand).await;
    let routes = routes::all(stand.web.clone());
    let entries = routes.entries.clone();
    let router = routes.router();
    let (before, size) = (stand.traces(), stand.size().await);
    let mut open = BTreeSet::new();
    for entry in &entries {
        if entry.action == Action::SignIn {
            continue;
        }
        let (uri, body) = example(&stand, entry, search).unwrap();
        let (status, answer) = read(ask(&router, STRANGER, &entry.method, &uri, body).await).await;
        match status {
            200 => {
                open.insert(entry.action as u8);
            }
            _ => assert_eq!((status, answer["code"].as_str()), (401, Some("NOT_SIGNED_IN")), "{}", entry.path),
        }
    }
    assert_eq!(open, BTreeSet::from([Action::ReadPage as u8]));
    assert_eq!((stand.traces(), stand.size().await), (before, size));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_tries_what_is_the_administrators_leaves_an_entry() {
    let stand = Stand::open().await;
    let operator = Principal::Operator { name: "anna".into(), role: "operator".into() };
    let size = stand.size().await;
    for action in [Action::Status, Action::RevokeEdge, Action::ReadRegister] {
        assert_eq!(stand.hub().door.admits(&operator, action).await.unwrap_err().code, "NOT_ALLOWED");
    }
    assert!(stand.hub().door.admits(&Principal::Nobody, Action::Status).await.is_err());
    let leaves = stand.leaves(size).await;
    let acts: Vec<_> = refusals(&leaves).iter().map(|leaf| (leaf.act(), leaf.reason.as_str())).collect();
    let refused = [Action::Status, Action::RevokeEdge, Action::ReadRegister].map(|a| (a.refused_act(), "NOT_ALLOWED"));
    assert_eq!(acts, refused);
}
