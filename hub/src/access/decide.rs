//! The decision, pure: policy, request and time in; allowed or refused with clause and sentence out.

use super::ask::{Action, Decision, Principal, Refusal, Request};
use super::policy::{Policy, granted};
use campanile_proto::federation::v1::Purpose;
use campanile_proto::ids::OrganisationId;
use campanile_proto::kind::Kind;
use campanile_proto::time::{MICROS_PER_HOUR, MICROS_PER_SECOND, WallTime};

/// How far a partner's or a browser's clock may be off.
pub const CLOCK_SLACK_US: i64 = 300 * MICROS_PER_SECOND;
/// A playlist of a day has tens of thousands of entries; more is for exports.
const MAX_PLAYBACK_US: i64 = 24 * MICROS_PER_HOUR;
/// A request signed for longer could be replayed for longer.
const MAX_REQUEST_TERM_US: i64 = 3_600 * MICROS_PER_SECOND;
const MAX_CASE_CHARACTERS: usize = 64;
const MAX_CAMERAS: usize = 10_000;

/// Decides one request. Whatever is not allowed by name is refused.
pub fn decide(policy: &Policy, request: &Request, now: WallTime) -> Decision {
    match weigh(policy, request, now) {
        Ok(decision) => decision,
        Err(refusal) => Decision::Refuse(refusal),
    }
}

fn weigh(policy: &Policy, request: &Request, now: WallTime) -> Result<Decision, Refusal> {
    let clause = stands(&request.principal, request.action)?;
    if request.action.shows_footage() {
        demand_purpose(request)?;
        demand_case(request)?;
        demand_interval(policy, request, now)?;
    }
    if request.cameras.len() > MAX_CAMERAS {
        return Err(Refusal::new(Kind::Invalid, "TOO_MANY_CAMERAS", format!("name at most {MAX_CAMERAS} cameras")));
    }
    match (&request.principal, request.action.right()) {
        (Principal::Partner { organisation }, Some(right)) => {
            demand_addressed(policy, *organisation, request, now)?;
            let allowed = granted(policy, *organisation, right, request, now)?;
            Ok(Decision::Allow { clause: allowed.clause, cameras: allowed.cameras })
        }
        _ => Ok(Decision::Allow { clause: clause.to_owned(), cameras: request.cameras.clone() }),
    }
}

/// Whether this kind of asker may do this at all, whatever it is about; and the rule that says so.
pub fn stands(principal: &Principal, action: Action) -> Result<&'static str, Refusal> {
    use Action::*;
    match (principal, action) {
        (_, SignIn | ReadPage) => Ok("anybody"),
        (Principal::Edge { revoked: true, .. }, _) => {
            Err(Refusal::new(Kind::Denied, "REVOKED", "this box was revoked; enrol it again with a new token"))
        }
        (Principal::Nobody | Principal::Edge { .. }, Enrol) => Ok("enrolment token"),
        (Principal::Nobody | Principal::Partner { .. }, Introduce | Propose) => Ok("anybody"),
        (
            Principal::Operator { .. },
            SignOut | ListCameras | ViewCoverage | Search | Thumbnail | Playback | PlaybackLease | ViewHolds | ReadHold,
        ) => Ok("operator"),
        (
            Principal::Administrator { .. },
            ListCameras | ViewCoverage | Search | Thumbnail | Playback | PlaybackLease | SignOut | ViewHolds | ReadHold
            | Unseal | PlaceHold | ReleaseHold | ViewEdges | IssueToken | RevokeEdge | ReleaseEdge | ManagePeople
            | ViewAgreements | ManageAgreements | ReadRegister | Status | Administer,
        ) => Ok("administrator"),
        (Principal::Edge { current: true, .. }, EdgeSession | EdgeDeliver | EdgeRenew) => Ok("box"),
        // A box that lay in a drawer comes back without a visit.
        (Principal::Edge { current: false, .. }, EdgeRenew) => Ok("box renewal"),
        (Principal::Edge { current: false, .. }, EdgeSession | EdgeDeliver) => {
            Err(Refusal::new(Kind::Unauthenticated, "EXPIRED", "the certificate has expired; renew it first"))
        }
        (
            Principal::Partner { .. },
            PartnerConclude | PartnerRevoke | PartnerSearch | PartnerThumbnail | PartnerPlayback | PartnerLease
            | PartnerClose | PartnerWitness,
        ) => Ok("partner"),
        (Principal::Nobody, _) => Err(Refusal::new(Kind::Unauthenticated, "NOT_SIGNED_IN", "sign in first")),
        _ => Err(Refusal::new(Kind::Denied, "NOT_ALLOWED", "this is not open to this account")),
    }
}

fn demand_purpose(request: &Request) -> Result<(), Refusal> {
    match request.purpose {
        None | Some(Purpose::Unspecified) => {
            Err(Refusal::new(Kind::Invalid, "NO_PURPOSE", "name the purpose of this access in `purpose`"))
        }
        Some(_) => Ok(()),
    }
}

fn demand_case(request: &Request) -> Result<(), Refusal> {
    let case = request.case_number.as_deref().unwrap_or_default();
    let length = case.chars().count();
    let printable = case.chars().all(|c| !c.is_control()) && !case.trim().is_empty();
    if (1..=MAX_CASE_CHARACTERS).contains(&length) && printable {
        return Ok(());
    }
    let sentence = format!("name the case this access is for in `case_number`: 1 to {MAX_CASE_CHARACTERS} characters");
    Err(Refusal::new(Kind::Invalid, "NO_CASE", sentence))
}

fn demand_interval(policy: &Policy, request: &Request, now: WallTime) -> Result<(), Refusal> {
    let bad = |sentence: &str| Err(Refusal::new(Kind::Invalid, "BAD_INTERVAL", sentence));
    let Some((from, to)) = request.interval else {
        // An own thumbnail hangs on an event that a search has named.
        return if request.action == Action::Thumbnail { Ok(()) } else { bad("name the interval in `from` and `to`") };
    };
    if from >= to {
        return bad("`from` must be before `to`");
    }
    if from > now.plus_micros(CLOCK_SLACK_US) {
        return bad("`from` is in the future");
    }
    // A hold says itself how far it reaches.
    let held = request.action == Action::ReadHold;
    if !held && now - from > policy.lookback_micros().saturating_add(CLOCK_SLACK_US) {
        let days = policy.retention_days;
        return bad(&format!("`from` is further back than anything is kept here ({days} days)"));
    }
    let span = match request.action {
        Action::Playback | Action::ReadHold | Action::PartnerPlayback | Action::PartnerLease => MAX_PLAYBACK_US,
        _ => policy.lookback_micros().saturating_add(2 * CLOCK_SLACK_US).saturating_add(MAX_PLAYBACK_US),
    };
    if to - from > span {
        let hours = span / MICROS_PER_HOUR;
        return bad(&format!("the interval is too long; at most {hours} hours at once"));
    }
    Ok(())
}

/// A partner's request is meant for us, still holds, and says whose operator it is for.
fn demand_addressed(policy: &Policy, partner: OrganisationId, request: &Request, now: WallTime) -> Result<(), Refusal> {
    if request.audience != Some(policy.organisation) || partner == policy.organisation {
        return Err(Refusal::new(Kind::Denied, "WRONG_AUDIENCE", "the request is addressed to another organisation"));
    }
    let expired = || Refusal::new(Kind::Expired, "EXPIRED", "the request is not valid at this time");
    let expires = request.expires.ok_or_else(expired)?;
    let left = expires - now;
    // A lease goes on for as long as its renewals, each of which is signed anew.
    let term = if request.action == Action::PartnerLease { i64::MAX } else { MAX_REQUEST_TERM_US };
    if left <= -CLOCK_SLACK_US || left > term {
        return Err(expired());
    }
    let printable = |text: &Option<String>| {
        text.as_ref().is_some_and(|t| (1..=128).contains(&t.chars().count()) && t.chars().all(|c| !c.is_control()))
    };
    if !printable(&request.operator_pseudonym) {
        let sentence = "the request names no operator; set `operator_pseudonym`, 1 to 128 characters";
        return Err(Refusal::new(Kind::Invalid, "NO_OPERATOR", sentence));
    }
    Ok(())
}
