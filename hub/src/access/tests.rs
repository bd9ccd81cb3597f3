//! The decision, case by case, and the door around it.

use super::*;
use crate::register::Register;
use campanile_proto::federation::v1::{Agreement, Grant, OrganisationCard, Party, Purpose, Right};
use campanile_proto::ids::{AgreementId, CameraId, EdgeId, OrganisationId};
use campanile_proto::kind::Kind;
use campanile_proto::time::{MICROS_PER_HOUR, MICROS_PER_SECOND, SimClock, WallTime};
use campanile_proto::types::v1::{Act, Phase};
use std::sync::Arc;

const NOW: WallTime = WallTime(1_800_000_000_000_000);
const US: OrganisationId = OrganisationId::from_u128(1);
const THEM: OrganisationId = OrganisationId::from_u128(2);
const AGREEMENT: AgreementId = AgreementId::from_u128(4);

fn camera(number: u128) -> CameraId {
    CameraId::from_u128(number)
}

fn ago(hours: i64) -> WallTime {
    NOW.plus_micros(-hours * MICROS_PER_HOUR)
}

/// Every action there is; the match makes the compiler ask for a new one.
fn actions() -> Vec<Action> {
    use Action::*;
    let all = [
        SignIn,
        ReadPage,
        Enrol,
        Introduce,
        Propose,
        SignOut,
        ListCameras,
        ViewCoverage,
        Search,
        Thumbnail,
        Playback,
        PlaybackLease,
        ViewHolds,
        ReadHold,
        Unseal,
        PlaceHold,
        ReleaseHold,
        ViewEdges,
        IssueToken,
        RevokeEdge,
        ReleaseEdge,
        ManagePeople,
        ViewAgreements,
        ManageAgreements,
        ReadRegister,
        Status,
        Administer,
        EdgeSession,
        EdgeDeliver,
        EdgeRenew,
        PartnerConclude,
        PartnerRevoke,
        PartnerSearch,
        PartnerThumbnail,
        PartnerPlayback,
        PartnerLease,
        PartnerClose,
        PartnerWitness,
    ];
    for action in all {
        match action {
            SignIn | ReadPage | Enrol | Introduce | Propose | SignOut | ListCameras | ViewCoverage | Search
            | Thumbnail | Playback | PlaybackLease | ViewHolds | ReadHold | Unseal | PlaceHold | ReleaseHold
            | ViewEdges | IssueToken | RevokeEdge | ReleaseEdge | ManagePeople | ViewAgreements | ManageAgreements
            | ReadRegister | Status | Administer | EdgeSession | EdgeDeliver | EdgeRenew | PartnerConclude
            | PartnerRevoke | PartnerSearch | PartnerThumbnail | PartnerPlayback | PartnerLease | PartnerClose
            | PartnerWitness => {}
        }
    }
    all.to_vec()
}

fn operator() -> Principal {
    Principal::Operator { name: "anna".into(), role: "operator".into() }
}

fn edge(current: bool, revoked: bool) -> Principal {
    Principal::Edge { id: EdgeId::from_u128(3), current, revoked }
}

#[test]
fn what_is_not_allowed_by_name_is_refused() {
    use Action::*;
    let table: [(Principal, Vec<Action>); 7] = [
        (Principal::Nobody, vec![SignIn, ReadPage, Enrol, Introduce, Propose]),
        (
            operator(),
            vec![
                SignIn,
                ReadPage,
                SignOut,
                ListCameras,
                ViewCoverage,
                Search,
                Thumbnail,
                Playback,
                PlaybackLease,
                ViewHolds,
                ReadHold,
            ],
        ),
        (
            Principal::Administrator { uid: 0 },
            vec![
                SignIn,
                ReadPage,
                SignOut,
                ListCameras,
                ViewCoverage,
                Search,
                Thumbnail,
                Playback,
                PlaybackLease,
                ViewHolds,
                ReadHold,
                Unseal,
                PlaceHold,
                ReleaseHold,
                ViewEdges,
                IssueToken,
                RevokeEdge,
                ReleaseEdge,
                ManagePeople,
                ViewAgreements,
                ManageAgreements,
                ReadRegister,
                Status,
                Administer,
            ],
        ),
        (edge(true, false), vec![SignIn, ReadPage, Enrol, EdgeSession, EdgeDeliver, EdgeRenew]),
        (edge(false, false), vec![SignIn, ReadPage, Enrol, EdgeRenew]),
        (edge(true, true), vec![SignIn, ReadPage]),
        (
            Principal::Partner { organisation: THEM },
            vec![
                SignIn,
                ReadPage,
                Introduce,
                Propose,
                PartnerConclude,
                PartnerRevoke,
                PartnerSearch,
                PartnerThumbnail,
                PartnerPlayback,
                PartnerLease,
                PartnerClose,
                PartnerWitness,
            ],
        ),
    ];
    for (principal, allowed) in table {
        for action in actions() {
            assert_eq!(stands(&principal, action).is_ok(), allowed.contains(&action), "{principal:?} {action:?}");
        }
    }
}

fn own(action: Action) -> Request {
    Request {
        purpose: Some(Purpose::UrbanSecurity),
        case_number: Some("2026/17".into()),
        interval: Some((ago(2), ago(1))),
        ..Request::new(operator(), action)
    }
}

fn partners(action: Action) -> Request {
    Request {
        cameras: vec![camera(1)],
        agreement: Some(AGREEMENT),
        audience: Some(US),
        expires: Some(NOW.plus_micros(60 * MICROS_PER_SECOND)),
        operator_pseudonym: Some("op-7".into()),
        role: Some("agente".into()),
        ..Request { principal: Principal::Partner { organisation: THEM }, ..own(action) }
    }
}

fn grant(clause: &str, right: Right, cameras: &[u128]) -> Grant {
    Grant {
        clause: clause.into(),
        owner_id: US.into(),
        beneficiary_id: THEM.into(),
        right: right.into(),
        camera_ids: cameras.iter().map(|number| camera(*number).into()).collect(),
        purposes: vec![Purpose::UrbanSecurity.into()],
        roles: vec!["agente".into()],
        lookback_hours: 24,
    }
}

fn party(id: OrganisationId) -> Party {
    Party { card: Some(OrganisationCard { organisation_id: id.into(), ..Default::default() }) }
}

fn policy(grants: Vec<Grant>) -> Policy {
    let agreement = Agreement {
        schema: AGREEMENT_SCHEMA,
        agreement_id: AGREEMENT.into(),
        parties: vec![party(US), party(THEM)],
        grants,
        valid_from_us: ago(24).0,
        valid_until_us: NOW.0 + MICROS_PER_HOUR,
        ..Default::default()
    };
    let live = LiveAgreement { id: AGREEMENT, agreement, suspended: false, revoked_at: None };
    Policy { organisation: US, agreements: vec![live], retention_days: 7 }
}

fn usual() -> Policy {
    policy(vec![
        grant("3.1", Right::Search, &[1, 2]),
        grant("3.2", Right::Thumbnail, &[1, 2]),
        grant("3.3", Right::Playback, &[1]),
        grant("3.4", Right::Playback, &[2]),
    ])
}

/// Code and clause of the refusal, or `ok` and the clause that allows.
fn outcome(policy: &Policy, request: &Request) -> (String, String) {
    match decide(policy, request, NOW) {
        Decision::Allow { clause, .. } => ("ok".into(), clause),
        Decision::Refuse(refusal) => (refusal.code.into(), refusal.clause),
    }
}

fn code(policy: &Policy, request: &Request) -> String {
    outcome(policy, request).0
}

#[test]
fn purpose_case_and_interval_come_before_pixels() {
    use Action::*;
    let policy = usual();
    for action in actions().into_iter().filter(|action| action.shows_footage()) {
        let mut request = if action.right().is_some() { partners(action) } else { own(action) };
        if action == Unseal {
            request.principal = Principal::Administrator { uid: 0 };
        }
        let ask = |change: &dyn Fn(&mut Request)| {
            let mut request = request.clone();
            change(&mut request);
            code(&policy, &request)
        };
        assert_eq!(ask(&|_| ()), "ok", "{action:?}");
        assert_eq!(ask(&|r| r.purpose = None), "NO_PURPOSE", "{action:?}");
        assert_eq!(ask(&|r| r.purpose = Some(Purpose::Unspecified)), "NO_PURPOSE", "{action:?}");
        for case in [None, Some(""), Some("   "), Some("a\nb"), Some(&*"9".repeat(65))] {
            assert_eq!(ask(&|r| r.case_number = case.map(str::to_owned)), "NO_CASE", "{action:?} {case:?}");
        }
        assert_eq!(ask(&|r| r.case_number = Some("è".repeat(64))), "ok", "{action:?}");
        let without = if action == Thumbnail { "ok" } else { "BAD_INTERVAL" };
        assert_eq!(ask(&|r| r.interval = None), without, "{action:?}");
        for (from, to) in [
            (ago(1), ago(1)),
            (ago(1), ago(2)),
            (NOW.plus_micros(MICROS_PER_HOUR), NOW.plus_micros(2 * MICROS_PER_HOUR)),
            (ago(7 * 24 + 1), ago(1)),
        ] {
            assert_eq!(ask(&|r| r.interval = Some((from, to))), "BAD_INTERVAL", "{action:?} {from:?}");
        }
        let day = (ago(24), NOW.plus_micros(MICROS_PER_HOUR));
        let short = matches!(action, Playback | ReadHold | PartnerPlayback | PartnerLease);
        assert_eq!(ask(&|r| r.interval = Some(day)), if short { "BAD_INTERVAL" } else { "ok" }, "{action:?}");
        // Further back than anything is kept: a hold says itself how far it reaches.
        let old = (ago(30 * 24), ago(30 * 24 - 1));
        let reaches = if action == ReadHold { "ok" } else { "BAD_INTERVAL" };
        assert_eq!(ask(&|r| r.interval = Some(old)), reaches, "{action:?}");
        assert_eq!(ask(&|r| r.cameras = vec![camera(1); 10_001]), "TOO_MANY_CAMERAS", "{action:?}");
    }
}

#[test]
fn a_partners_request_is_addressed_to_us_still_holds_and_names_an_operator() {
    let policy = usual();
    let ask = |change: &dyn Fn(&mut Request)| {
        let mut request = partners(Action::PartnerPlayback);
        change(&mut request);
        code(&policy, &request)
    };
    assert_eq!(ask(&|_| ()), "ok");
    assert_eq!(ask(&|r| r.audience = None), "WRONG_AUDIENCE");
    assert_eq!(ask(&|r| r.audience = Some(THEM)), "WRONG_AUDIENCE");
    assert_eq!(ask(&|r| r.principal = Principal::Partner { organisation: US }), "WRONG_AUDIENCE");
    assert_eq!(ask(&|r| r.expires = None), "EXPIRED");
    assert_eq!(ask(&|r| r.expires = Some(ago(1))), "EXPIRED");
    assert_eq!(ask(&|r| r.expires = Some(NOW.plus_micros(MICROS_PER_HOUR + 1))), "EXPIRED");
    for pseudonym in [None, Some(String::new()), Some("a\u{7}".into()), Some("x".repeat(129))] {
        assert_eq!(ask(&|r| r.operator_pseudonym.clone_from(&pseudonym)), "NO_OPERATOR");
    }
}

#[test]
fn the_clause_that_allows_is_the_one_that_covers() {
    let policy = usual();
    let of = |action, cameras: &[u128]| {
        let cameras = cameras.iter().map(|number| camera(*number)).collect();
        outcome(&policy, &Request { cameras, ..partners(action) })
    };
    let pair = |code: &str, clause: &str| (code.to_owned(), clause.to_owned());
    assert_eq!(of(Action::PartnerPlayback, &[1]), pair("ok", "3.3"));
    assert_eq!(of(Action::PartnerPlayback, &[2]), pair("ok", "3.4"));
    assert_eq!(of(Action::PartnerPlayback, &[1, 2]), pair("ok", "3.3, 3.4"));
    assert_eq!(of(Action::PartnerLease, &[2]), pair("ok", "3.4"));
    assert_eq!(of(Action::PartnerThumbnail, &[2]), pair("ok", "3.2"));
    assert_eq!(of(Action::PartnerPlayback, &[3]), pair("NOT_GRANTED", "3.3"));
    assert_eq!(of(Action::PartnerPlayback, &[1, 3]).0, "NOT_GRANTED", "footage: all or nothing");
    assert_eq!(of(Action::PartnerPlayback, &[]).0, "NOT_GRANTED", "footage of no camera is of none");
    assert_eq!(of(Action::PartnerSearch, &[]), pair("ok", "3.1"));
    let search = Request { cameras: vec![camera(2), camera(3)], ..partners(Action::PartnerSearch) };
    let Decision::Allow { cameras, .. } = decide(&policy, &search, NOW) else { panic!("a search gets its part") };
    assert_eq!(cameras, [camera(2)]);
}

#[test]
fn the_clause_that_refuses_is_the_one_that_names_the_camera() {
    let policy = usual();
    let refused = |change: &dyn Fn(&mut Request)| {
        let mut request = Request { cameras: vec![camera(2)], ..partners(Action::PartnerPlayback) };
        change(&mut request);
        outcome(&policy, &request)
    };
    let by = ("NOT_GRANTED".to_owned(), "3.4".to_owned());
    assert_eq!(refused(&|r| r.purpose = Some(Purpose::RoadSafety)), by);
    assert_eq!(refused(&|r| r.purpose = Some(Purpose::Maintenance)), by);
    assert_eq!(refused(&|r| r.role = Some("messo".into())), by);
    assert_eq!(refused(&|r| r.role = None), by);
    assert_eq!(refused(&|r| r.interval = Some((ago(30), ago(29)))), by);
    assert_eq!(refused(&|_| ()), ("ok".into(), "3.4".into()), "the control");
    let nothing = policy_without(Right::Thumbnail);
    assert_eq!(outcome(&nothing, &partners(Action::PartnerThumbnail)), ("NOT_GRANTED".into(), String::new()));
}

fn policy_without(right: Right) -> Policy {
    let mut policy = usual();
    policy.agreements[0].agreement.grants.retain(|grant| grant.right() != right);
    policy
}

#[test]
fn maintenance_is_never_a_partners_footage() {
    let mut policy = usual();
    policy.agreements[0].agreement.grants[2].purposes.push(Purpose::Maintenance.into());
    let maintenance = Request { purpose: Some(Purpose::Maintenance), ..partners(Action::PartnerPlayback) };
    assert_eq!(code(&policy, &maintenance), "NOT_GRANTED");
    assert_eq!(code(&policy, &Request { purpose: Some(Purpose::Maintenance), ..own(Action::Playback) }), "ok");
}

#[test]
fn an_agreement_that_does_not_stand_allows_nothing() {
    let request = partners(Action::PartnerPlayback);
    let with = |change: &dyn Fn(&mut LiveAgreement)| {
        let mut policy = usual();
        change(&mut policy.agreements[0]);
        code(&policy, &request)
    };
    assert_eq!(with(&|_| ()), "ok");
    assert_eq!(with(&|live| live.suspended = true), "SUSPENDED");
    assert_eq!(with(&|live| live.revoked_at = Some(NOW)), "REVOKED");
    assert_eq!(with(&|live| (live.suspended, live.revoked_at) = (true, Some(ago(1)))), "REVOKED");
    assert_eq!(with(&|live| live.agreement.valid_until_us = NOW.0), "EXPIRED");
    assert_eq!(with(&|live| live.agreement.valid_from_us = NOW.0 + 1), "EXPIRED");
    assert_eq!(with(&|live| live.agreement.schema = AGREEMENT_SCHEMA + 1), "SCHEMA_TOO_OLD");
    assert_eq!(with(&|live| live.agreement.schema = 0), "SCHEMA_TOO_OLD");
    assert_eq!(with(&|live| live.id = AgreementId::from_u128(9)), "NO_AGREEMENT");
    assert_eq!(with(&|live| live.agreement.parties[1] = party(OrganisationId::from_u128(9))), "NO_AGREEMENT");
    assert_eq!(with(&|live| live.agreement.grants[2].beneficiary_id = US.into()), "NOT_GRANTED");
    assert_eq!(with(&|live| live.agreement.grants[2].owner_id = THEM.into()), "NOT_GRANTED");
    let other =
        Request { principal: Principal::Partner { organisation: OrganisationId::from_u128(8) }, ..request.clone() };
    assert_eq!(code(&usual(), &other), "NO_AGREEMENT");
}

struct Stand {
    door: Door,
    register: Register,
    folder: tempfile::TempDir,
}

fn stand() -> Stand {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SimClock::starting_at(NOW));
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let register = Register::open(&folder.path().join("register.sqlite"), US, key, clock.clone()).unwrap();
    let door = Door::new(US, 7, register.clone(), clock);
    door.set_agreements(usual().agreements);
    Stand { door, register, folder }
}

impl Stand {
    async fn leaves(&self) -> Vec<(Act, Phase, String, String)> {
        let page = self.register.page(0, 100).await.unwrap();
        let leaf = |entry: crate::register::Entry| {
            (entry.leaf.act(), entry.leaf.phase(), entry.leaf.clause.clone(), entry.leaf.reason)
        };
        page.into_iter().map(leaf).collect()
    }
}

#[tokio::test]
async fn an_entry_is_on_the_disk_before_anybody_is_let_in_and_closes_with_what_was_released() {
    let stand = stand();
    let pass = stand.door.enter(partners(Action::PartnerPlayback)).await.unwrap();
    let opened = (Act::Playback, Phase::Opened, "3.3".to_owned(), String::new());
    assert_eq!(stand.leaves().await, [opened]);
    pass.count(2, 10);
    pass.close(1, 5).await;
    let closed = stand.register.page(1, 1).await.unwrap().remove(0).leaf;
    assert_eq!((closed.phase(), closed.items, closed.bytes_sent), (Phase::Closed, 3, 15));
    let first = stand.register.page(0, 1).await.unwrap().remove(0);
    assert_eq!((first.operator.as_deref(), first.case_number.as_deref()), (Some("op-7"), Some("2026/17")));
    assert_eq!(closed.request_id, first.leaf.request_id);

    drop(stand.door.enter(own(Action::Search)).await.unwrap());
    // The next entry is written behind the one that was left to close by itself.
    stand.door.note(Act::SignIn, "anna", "").await;
    let phases: Vec<Phase> = stand.leaves().await.into_iter().skip(2).map(|leaf| leaf.1).collect();
    assert_eq!(phases, [Phase::Opened, Phase::Closed, Phase::Done]);
}

#[tokio::test]
async fn whatever_is_refused_to_somebody_known_leaves_its_entry_with_clause_and_reason() {
    let stand = stand();
    let outside = Request { role: Some("messo".into()), ..partners(Action::PartnerPlayback) };
    assert!(stand.door.enter(outside).await.is_err());
    assert!(stand.door.enter(Request { purpose: None, ..own(Action::Search) }).await.is_err());
    assert!(stand.door.admits(&operator(), Action::IssueToken).await.is_err());
    assert!(stand.door.enter(Request::new(Principal::Nobody, Action::Search)).await.is_err());
    for _ in 0..3 {
        assert!(stand.door.enter(Request::new(edge(false, false), Action::EdgeSession)).await.is_err());
    }
    let expected = [
        (Act::Playback, "3.3", "NOT_GRANTED"),
        (Act::Search, "", "NO_PURPOSE"),
        (Act::IssueToken, "", "NOT_ALLOWED"),
        (Act::ConnectEdge, "", "EXPIRED"),
    ];
    let expected = expected.map(|(act, clause, reason)| (act, Phase::Refused, clause.to_owned(), reason.to_owned()));
    assert_eq!(stand.leaves().await, expected);
}

#[tokio::test]
async fn what_cannot_be_registered_is_not_shown() {
    let stand = stand();
    assert!(stand.door.enter(own(Action::Search)).await.is_ok(), "the control");
    let file = rusqlite::Connection::open(stand.folder.path().join("register.sqlite")).unwrap();
    file.execute_batch("DROP TABLE personal").unwrap();
    for action in [Action::Search, Action::Thumbnail, Action::Playback] {
        let refusal = stand.door.enter(own(action)).await.err().unwrap();
        assert_eq!((refusal.code, refusal.kind), ("UNAVAILABLE", Kind::Unavailable), "{action:?}");
    }
    let lease = Request::new(operator(), Action::PlaybackLease);
    assert!(stand.door.enter(lease).await.is_ok(), "what leaves no entry needs none");
}

#[tokio::test]
async fn a_revocation_acts_on_the_next_decision() {
    let stand = stand();
    assert!(stand.door.enter(partners(Action::PartnerLease)).await.is_ok());
    let mut told = stand.door.policy();
    told.mark_unchanged();
    let mut agreements = usual().agreements;
    agreements[0].revoked_at = Some(NOW);
    stand.door.set_agreements(agreements);
    assert!(told.has_changed().unwrap());
    assert_eq!(stand.door.enter(partners(Action::PartnerLease)).await.err().unwrap().code, "REVOKED");
}
