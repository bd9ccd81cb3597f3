//! Leases on a clock that the test cranks.

use super::town::{NOW, behalf, camera, run_of};
use crate::federation::lease::{Leases, Terms};
use crate::federation::owner::Entry;
use crate::federation::request::{Access, Leased, Part};
use campanile_proto::federation::v1::{GroupListing, Listing, Purpose, Right, VariantListing};
use campanile_proto::ids::{AgreementId, OrganisationId};
use campanile_proto::time::{MICROS_PER_SECOND, MonoTime};
use campanile_proto::types::v1::Stream;

const PARTNER: OrganisationId = OrganisationId::from_u128(1);

fn at(seconds: i64) -> MonoTime {
    MonoTime(seconds * MICROS_PER_SECOND)
}

/// 100 groups of 4 s; group n is fragments 4n to 4n+3.
fn listing() -> Listing {
    let group = |n: u64| GroupListing {
        run_id: run_of(camera(2, 1)).into(),
        first: n * 4,
        last: n * 4 + 3,
        start_us: NOW.0 + n as i64 * 4 * MICROS_PER_SECOND,
        duration_us: 4_000_000,
        discontinuity: false,
    };
    let main =
        VariantListing { stream: Stream::Main.into(), groups: (0..100).map(group).collect(), ..Default::default() };
    Listing { variants: vec![main], ..Default::default() }
}

fn opened(leases: &Leases) -> Leased {
    let behalf = behalf();
    let access = Access {
        id: behalf.request_id,
        agreement: AgreementId::from_u128(4),
        right: Right::Playback,
        purpose: Purpose::UrbanSecurity,
        case_number: "1".into(),
        operator_pseudonym: "op".into(),
        role: String::new(),
        cameras: vec![camera(2, 1)],
        from: NOW,
        to: NOW.plus_micros(400 * MICROS_PER_SECOND),
        issued: NOW,
        expires: NOW,
        words: String::new(),
        region: None,
        limit: 1,
        event: None,
    };
    let terms = Terms::new(PARTNER, access, camera(2, 1), &listing());
    let entry = Entry::new(Vec::new(), String::new(), Box::new(|_, _| Box::pin(async {})));
    let lease = leases.open(terms, entry, at(0)).unwrap();
    Leased { lease, request: behalf.request_id, issued: NOW.plus_micros(1) }
}

fn group(n: u64) -> (Stream, campanile_proto::ids::RunId, Part) {
    (Stream::Main, run_of(camera(2, 1)), Part::Group { first: n * 4, last: n * 4 + 3 })
}

fn code<T>(outcome: Result<T, campanile_proto::federation::v1::Refusal>) -> String {
    outcome.err().map_or_else(|| "ok".to_owned(), |refusal| refusal.code)
}

#[test]
fn a_lease_ends_15_seconds_after_its_last_renewal() {
    let leases = Leases::default();
    let mut leased = opened(&leases);
    assert_eq!(code(leases.terms(&leased, PARTNER, at(14))), "ok");
    assert_eq!(code(leases.renew(&leased, PARTNER, at(14))), "ok");
    assert!(leases.sweep(at(28)).is_empty());
    assert_eq!(code(leases.renew(&leased, PARTNER, at(28))), "REPLAYED");
    leased.issued = leased.issued.plus_micros(1);
    assert_eq!(code(leases.terms(&leased, PARTNER, at(29))), "EXPIRED");
    assert_eq!(code(leases.renew(&leased, PARTNER, at(29))), "EXPIRED");
    assert!(!leases.sent(leased.lease, 0, 0, at(29)));
    assert_eq!(leases.sweep(at(29)).len(), 1);
    assert_eq!(code(leases.terms(&leased, PARTNER, at(30))), "EXPIRED");
    leases.sweep(at(200));
    assert_eq!(code(leases.terms(&leased, PARTNER, at(200))), "NO_LEASE");
}

#[test]
fn a_lease_is_one_partners_and_one_requests() {
    let leases = Leases::default();
    let leased = opened(&leases);
    let other = OrganisationId::from_u128(2);
    assert_eq!(code(leases.terms(&leased, other, at(1))), "NO_LEASE");
    let other_request = Leased { request: behalf().request_id, ..leased.clone() };
    assert_eq!(code(leases.terms(&other_request, PARTNER, at(1))), "NO_LEASE");
    assert!(leases.close(&leased, other).is_none());
    assert!(leases.close(&leased, PARTNER).is_some());
    assert_eq!(code(leases.terms(&leased, PARTNER, at(1))), "NO_LEASE");
}

#[test]
fn only_what_was_listed_is_sent() {
    let leases = Leases::default();
    let leased = opened(&leases);
    let admit = |part| code(leases.admit(&leased, PARTNER, part, at(1)));
    let (stream, run, _) = group(0);
    assert_eq!(admit((stream, run, Part::Init)), "ok");
    assert_eq!(admit((Stream::Sub, run, Part::Init)), "NOT_GRANTED");
    assert_eq!(admit((stream, run_of(camera(2, 2)), Part::Init)), "NOT_GRANTED");
    assert_eq!(admit((stream, run, Part::Group { first: 0, last: 4 })), "NOT_GRANTED");
    assert_eq!(admit(group(100)), "NOT_GRANTED");
    assert_eq!(admit(group(0)), "ok");
}

#[test]
fn at_most_30_seconds_of_viewing_are_sent_ahead() {
    let leases = Leases::default();
    let leased = opened(&leases);
    let admit = |n, seconds| {
        leases.sweep(at(seconds));
        code(leases.admit(&leased, PARTNER, group(n), at(seconds)))
    };
    assert!((0..7).all(|n| admit(n, 0) == "ok"));
    assert_eq!(admit(7, 0), "TOO_FAR_AHEAD");
    assert_eq!(admit(7, 1), "TOO_FAR_AHEAD");
    assert_eq!(admit(7, 2), "ok");
    // A jump starts anew; a second one right after does not.
    assert_eq!(admit(50, 3), "ok");
    assert!((51..57).all(|n| admit(n, 3) == "ok"));
    assert_eq!(admit(70, 4), "TOO_FAR_AHEAD");
    assert_eq!(admit(70, 5), "ok");
}

#[test]
fn whoever_jumps_all_the_time_gets_no_more_than_can_be_viewed() {
    let leases = Leases::default();
    let leased = opened(&leases);
    let mut sent = 0;
    for second in 0..60 {
        let renewed = Leased { issued: leased.issued.plus_micros(second + 1), ..leased.clone() };
        leases.renew(&renewed, PARTNER, at(second)).unwrap();
        let from = (second as u64 * 37) % 90;
        let admit = |n| leases.admit(&leased, PARTNER, group(n), at(second)).is_ok();
        sent += (from..from + 10).filter(|n| admit(*n)).count() as i64 * 4;
    }
    assert!(sent <= 120 + 60, "{sent} s of viewing within 60 s");
    assert!(sent > 100, "the control: {sent} s, somebody who looks for something is not held up at once");
}

#[test]
fn a_group_that_did_not_come_does_not_count() {
    let leases = Leases::default();
    let leased = opened(&leases);
    for n in 0..7 {
        assert_eq!(code(leases.admit(&leased, PARTNER, group(n), at(0))), "ok");
    }
    assert_eq!(code(leases.admit(&leased, PARTNER, group(7), at(0))), "TOO_FAR_AHEAD", "the control");
    for _ in 0..20 {
        leases.not_sent(&leased, group(6));
        assert_eq!(code(leases.admit(&leased, PARTNER, group(6), at(0))), "ok");
    }
}

#[test]
fn a_revoked_agreement_ends_its_leases_and_says_so() {
    let leases = Leases::default();
    let leased = opened(&leases);
    assert!(leases.end_agreement(AgreementId::from_u128(9)).is_empty());
    assert_eq!(code(leases.terms(&leased, PARTNER, at(1))), "ok");
    assert_eq!(leases.end_agreement(AgreementId::from_u128(4)).len(), 1);
    assert_eq!(code(leases.terms(&leased, PARTNER, at(1))), "REVOKED");
    assert!(!leases.sent(leased.lease, 0, 0, at(1)));
}
