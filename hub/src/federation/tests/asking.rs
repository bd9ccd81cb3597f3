//! Searches and thumbnails across the border.

use super::town::*;
use crate::federation::replies::{Asking, Replies};
use crate::federation::*;
use campanile_proto::federation::v1::{Purpose, Right};
use campanile_proto::ids::CameraId;
use campanile_proto::signed;
use campanile_proto::time::MICROS_PER_HOUR;
use campanile_proto::types::v1::Phase;
use futures::StreamExt;
use std::time::Duration;

/// Hits and last word of each partner.
async fn ask(town: &Town, query: PartnerQuery) -> Vec<(OrganisationId, Vec<CameraId>, Answer)> {
    let answers: Vec<_> = town.federation.ask_search(query).collect().await;
    let mut found: Vec<(OrganisationId, Vec<CameraId>, Answer)> = Vec::new();
    for answer in answers {
        if !found.iter().any(|(partner, ..)| *partner == answer.partner) {
            found.push((answer.partner, Vec::new(), Answer::Done { count: 0, truncated: false }));
        }
        let entry = found.iter_mut().find(|(partner, ..)| *partner == answer.partner).unwrap();
        match answer.result {
            Answer::Hits(hits) => entry.1.extend(hits.iter().map(|h| CameraId::try_from(&h.camera_id).unwrap())),
            last => entry.2 = last,
        }
    }
    found
}

/// Code and clause.
fn refused(answer: &Answer) -> (&str, &str) {
    match answer {
        Answer::Failed { code, clause, .. } => (code, clause),
        other => panic!("{other:?} is no refusal"),
    }
}

#[tokio::test]
async fn a_search_finds_what_is_granted_and_nothing_else() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.agree_with(&firenze).await;
    let found = ask(&prato, query()).await;
    let [(partner, cameras, Answer::Done { count: 2, truncated: false })] = &found[..] else { panic!("{found:?}") };
    assert_eq!((*partner, cameras.as_slice()), (firenze.id(), &[camera(2, 1), camera(2, 2)][..]));

    let leaves = firenze.leaves().await;
    let of_search: Vec<_> = leaves.iter().filter(|(_, clause, _)| clause == "3.1").map(|leaf| leaf.0).collect();
    assert_eq!(of_search, [Phase::Opened, Phase::Closed]);
    let granted = prato.federation.granted_cameras();
    assert_eq!(granted.len(), 2);
    assert!(granted.iter().all(|g| g.card.as_ref().is_some_and(|card| card.name.starts_with("Via"))));

    let narrowed = ask(&prato, PartnerQuery { cameras: vec![camera(2, 2)], ..query() }).await;
    assert_eq!(narrowed[0].1, [camera(2, 2)]);
    let limited = ask(&prato, PartnerQuery { limit: 1, ..query() }).await;
    assert!(matches!(limited[0].2, Answer::Done { count: 1, truncated: true }));
    assert!(ask(&prato, PartnerQuery { cameras: vec![camera(9, 9)], ..query() }).await.is_empty());
}

/// Sends a signed request by hand, under whatever agreement, as a hub would that does not look first.
async fn insist(town: &Town, owner: &Town, agreement: AgreementId, right: Right) -> Result<(), String> {
    let partner = town.federation.partner(owner.id()).unwrap();
    let (behalf, playing) = (behalf(), playback(owner, 1, 10));
    let asking =
        Asking { agreement, right, cameras: vec![camera(owner.number, 1)], from: playing.from, to: playing.to };
    let inner = &town.federation.0;
    let (mut request, private) = inner.access_request(&partner, &behalf, asking);
    request.event_id = event_of(camera(owner.number, 1)).into();
    let envelope = signed::envelope(&request, town.id(), &inner.identity.hub);
    let opener = inner.opener(&partner, behalf.request_id, private).unwrap();
    let mut client = inner.connections.client(&partner);
    let answer = match right {
        Right::Search => client.search(envelope).await,
        Right::Thumbnail => client.thumbnail(envelope).await,
        _ => client.open(envelope).await,
    };
    let stream = answer.map_err(|status| format!("{:?}", status.code()))?.into_inner();
    Replies::new(stream, opener).next().await.map(drop).map_err(|error| error.code().to_owned())
}

#[tokio::test]
async fn a_peer_without_agreement_learns_nothing() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.meet(&firenze).await;
    let refused = prato.federation.open_playback(playback(&firenze, 1, 10)).await;
    assert_eq!(refused.err().unwrap().code(), "NO_AGREEMENT");
    let any = AgreementId::from_u128(5);
    let rights = [Right::Search, Right::Thumbnail, Right::Playback];
    for right in rights {
        assert_eq!(insist(&prato, &firenze, any, right).await, Err("NO_AGREEMENT".into()));
    }
    let leaves = firenze.leaves().await;
    assert!(leaves.iter().all(|leaf| leaf.0 == Phase::Refused && leaf.2 == "NO_AGREEMENT"), "{leaves:?}");
    assert_eq!(leaves.len(), rights.len());
    let agreement = prato.agree_with(&firenze).await;
    for right in rights {
        assert_eq!(insist(&prato, &firenze, agreement, right).await, Ok(()), "the control");
    }
}

#[tokio::test]
async fn a_partner_that_cannot_be_asked_is_named_with_the_reason() {
    let prato = Town::start(1).await;
    let (stranger, revoked, expired, live) =
        (Town::start(2).await, Town::start(3).await, Town::start(4).await, Town::start(5).await);
    prato.meet(&stranger).await;
    let id = prato.agree_with(&revoked).await;
    prato.federation.revoke(id, "basta").await.unwrap();
    prato.meet(&expired).await;
    let grants = expired.grants(&prato);
    let short = AgreementDraft { title: "Breve".into(), partner: expired.id(), grants, valid_days: 1 };
    let id = prato.federation.propose(short).await.unwrap();
    expired.federation.sign(id, Vec::new()).await.unwrap();
    prato.agree_with(&live).await;
    for town in [&prato, &live] {
        town.clock.advance_micros(25 * MICROS_PER_HOUR);
    }
    let later = |query: PartnerQuery| PartnerQuery {
        from: query.from.plus_micros(25 * MICROS_PER_HOUR),
        to: query.to.plus_micros(25 * MICROS_PER_HOUR),
        ..query
    };
    let answers: Vec<_> = prato.federation.ask_search(later(query())).collect().await;
    let code = |town: &Town| {
        let answer = answers.iter().find(|answer| answer.partner == town.id()).unwrap();
        match &answer.result {
            Answer::Failed { code, .. } => (code.clone(), answer.latency),
            other => (format!("{other:?}"), Duration::ZERO),
        }
    };
    assert_eq!(code(&stranger), ("NO_AGREEMENT".into(), Duration::ZERO));
    assert_eq!(code(&revoked), ("REVOKED".into(), Duration::ZERO));
    assert_eq!(code(&expired), ("EXPIRED".into(), Duration::ZERO));
    assert!(code(&live).0.starts_with("Done"), "{answers:?}");

    let named = |town: u8| later(PartnerQuery { cameras: vec![camera(town, 1)], ..query() });
    let concerned = ask(&prato, named(3)).await;
    assert_eq!(concerned.len(), 1, "{concerned:?}");
    assert_eq!((concerned[0].0, refused(&concerned[0].2).0), (revoked.id(), "REVOKED"));
    assert!(ask(&prato, named(9)).await.is_empty());
}

#[tokio::test]
async fn outside_the_agreement_the_owner_names_the_clause() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.agree_with(&firenze).await;
    let other_purpose = OnBehalf { purpose: Purpose::RoadSafety, ..behalf() };
    let other_role = OnBehalf { role: "messo".into(), ..behalf() };
    let too_far_back = NOW.plus_micros(-30 * MICROS_PER_HOUR);
    for outside in [
        PartnerQuery { behalf: other_purpose, ..query() },
        PartnerQuery { behalf: other_role, ..query() },
        PartnerQuery { from: too_far_back, ..query() },
    ] {
        let found = ask(&prato, outside).await;
        assert_eq!(refused(&found[0].2), ("NOT_GRANTED", "3.1"));
        assert!(found[0].1.is_empty());
    }
    let other_camera = prato.federation.open_playback(playback(&firenze, 3, 10)).await.err().unwrap();
    assert_eq!(other_camera.code(), "NOT_GRANTED");
    assert!(matches!(other_camera, AskError::Refused(refusal) if refusal.clause == "3.3"));
    let refusals = firenze.leaves().await.into_iter().filter(|leaf| leaf.0 == Phase::Refused);
    assert_eq!(refusals.count(), 4);
}

#[tokio::test]
async fn a_thumbnail_needs_its_own_right_camera_and_time() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.agree_with(&firenze).await;
    let granted = ThumbnailQuery {
        behalf: behalf(),
        partner: firenze.id(),
        camera: camera(2, 1),
        event: event_of(camera(2, 1)),
        from: event_start(),
        to: NOW,
    };
    let fresh = || ThumbnailQuery { behalf: behalf(), ..granted.clone() };
    assert_eq!(prato.federation.thumbnail(fresh()).await.unwrap().as_ref(), b"jpeg");
    // An event of another camera under the name of a granted one, and one that does not exist, look alike.
    let others = ThumbnailQuery { event: event_of(camera(2, 3)), ..fresh() };
    let nobodys = ThumbnailQuery { event: event_of(camera(7, 7)), ..fresh() };
    let earlier = ThumbnailQuery { from: event_start().plus_micros(1), ..fresh() };
    let mut answers = Vec::new();
    for outside in [others, nobodys, earlier] {
        answers.push(prato.federation.thumbnail(outside).await.unwrap_err().sentence());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.contains("grants")), "{answers:?}");
}

#[tokio::test]
async fn a_revocation_stops_hits_and_thumbnails_that_are_on_their_way() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    let id = prato.agree_with(&firenze).await;
    let thumbnail = ThumbnailQuery {
        behalf: behalf(),
        partner: firenze.id(),
        camera: camera(2, 1),
        event: event_of(camera(2, 1)),
        from: event_start(),
        to: NOW,
    };
    assert!(prato.federation.thumbnail(thumbnail.clone()).await.is_ok(), "the control");
    let revoke = || {
        let revoking = firenze.federation.clone();
        Box::pin(async move { revoking.revoke(id, "durante").await.unwrap() })
    };
    *firenze.holdings.meanwhile.lock().unwrap() = Some(revoke());
    let found = ask(&prato, query()).await;
    assert_eq!((refused(&found[0].2).0, found[0].1.len()), ("REVOKED", 0));

    let again = prato.agree_with(&firenze).await;
    let revoking = firenze.federation.clone();
    *firenze.holdings.meanwhile.lock().unwrap() =
        Some(Box::pin(async move { revoking.revoke(again, "durante").await.unwrap() }));
    let fresh = ThumbnailQuery { behalf: behalf(), ..thumbnail };
    assert_eq!(prato.federation.thumbnail(fresh).await.unwrap_err().code(), "REVOKED");
    let leaves = firenze.leaves().await;
    let phases = |phase| leaves.iter().filter(|leaf| leaf.0 == phase).count();
    assert_eq!(phases(Phase::Opened), phases(Phase::Closed), "every entry is closed");
}

type Bend<T> = fn(&mut T);

#[tokio::test]
async fn an_event_that_was_not_asked_for_is_not_shown() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.agree_with(&firenze).await;
    let bends: [Bend<campanile_proto::federation::v1::SearchHit>; 3] = [
        |hit| hit.start_us = NOW.0 + MICROS_PER_HOUR,
        |hit| hit.start_us -= 2 * MICROS_PER_HOUR,
        |hit| hit.event_id.clear(),
    ];
    for bend in bends {
        *firenze.holdings.bent.lock().unwrap() = Some((bend, |_| ()));
        let found = ask(&prato, query()).await;
        assert_eq!((refused(&found[0].2).0, found[0].1.len()), ("UNEXPECTED", 0));
    }
    // The owner narrows a search to what is granted; here its partner is asked for one camera and sends two.
    *firenze.holdings.bent.lock().unwrap() = Some((|hit| hit.camera_id = camera(2, 1).into(), |_| ()));
    let narrowed = ask(&prato, PartnerQuery { cameras: vec![camera(2, 1)], ..query() }).await;
    assert!(narrowed[0].1.iter().all(|found| *found == camera(2, 1)));
    *firenze.holdings.bent.lock().unwrap() =
        Some((|hit| hit.camera_name = format!("Via\u{1b}[2J{}", "x".repeat(1_000)), |_| ()));
    let answers: Vec<_> = prato.federation.ask_search(query()).collect().await;
    let Answer::Hits(hits) = &answers[0].result else { panic!("{answers:?}") };
    assert_eq!(hits[0].camera_name.chars().count(), 300);
    assert!(hits[0].camera_name.starts_with("Via[2Jx"));
}

#[tokio::test]
async fn a_listing_that_was_not_asked_for_is_not_played() {
    let (prato, firenze) = (Town::start(1).await, Town::start(2).await);
    prato.agree_with(&firenze).await;
    let bends: [Bend<campanile_proto::federation::v1::Listing>; 5] = [
        |listing| listing.variants[0].codecs = "avc1\"\n#EXT-X-MAP:URI=\"https://evil.example/x".into(),
        |listing| listing.variants[0].codecs = "a".repeat(65),
        |listing| listing.variants[0].groups[0].start_us += MICROS_PER_HOUR,
        |listing| listing.variants[0].groups[0].start_us -= MICROS_PER_HOUR,
        |listing| listing.variants = vec![listing.variants[0].clone(); 5],
    ];
    for bend in bends {
        *firenze.holdings.bent.lock().unwrap() = Some((|_| (), bend));
        let refused = prato.federation.open_playback(playback(&firenze, 1, 10)).await.err().unwrap();
        assert_eq!(refused.code(), "UNEXPECTED");
    }
    *firenze.holdings.bent.lock().unwrap() =
        Some((|_| (), |listing| listing.variants[0].codecs = "hvc1.1.6.L93.B0".into()));
    assert!(prato.federation.open_playback(playback(&firenze, 1, 10)).await.is_ok(), "the control");
}

#[tokio::test]
async fn a_dead_partner_is_named_and_a_slow_one_delays_nobody() {
    let prato = Town::start(1).await;
    let (quick, slow, dead) = (Town::start(2).await, Town::start(3).await, Town::start(4).await);
    for town in [&quick, &slow, &dead] {
        prato.agree_with(town).await;
    }
    *slow.holdings.slow.lock().unwrap() = Duration::from_secs(60);
    dead.fall_silent().await;
    let answers: Vec<_> = prato.federation.ask_search(query()).collect().await;
    let last = |town: &Town| answers.iter().rfind(|answer| answer.partner == town.id()).unwrap();
    assert!(matches!(last(&quick).result, Answer::Done { count: 2, .. }), "{:?}", last(&quick));
    assert_eq!(refused(&last(&slow).result).0, "TIMED_OUT");
    assert_eq!(refused(&last(&dead).result).0, "UNREACHABLE");
    assert_eq!(last(&dead).name, "Comune 4");
    assert!(last(&quick).latency < last(&slow).latency);
    let order: Vec<_> = answers.iter().map(|answer| answer.partner).collect();
    assert_eq!(order.last(), Some(&slow.id()), "the slow one comes last");
}
