//! What the decision rests on: this hub's rules and its agreements, as plain values.

use super::ask::{Refusal, Request};
use campanile_proto::federation::v1::{Agreement, Grant, Purpose, Right};
use campanile_proto::ids::{AgreementId, CameraId, OrganisationId};
use campanile_proto::kind::Kind;
use campanile_proto::time::{MICROS_PER_HOUR, WallTime};
use std::collections::BTreeSet;

/// The newest schema of an agreement whose every restriction this version understands.
pub const AGREEMENT_SCHEMA: u32 = 1;

/// An agreement whose two signatures were verified.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveAgreement {
    pub id: AgreementId,
    pub agreement: Agreement,
    /// Not confirmed since a restore.
    pub suspended: bool,
    pub revoked_at: Option<WallTime>,
}

/// Everything the decision knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub organisation: OrganisationId,
    pub agreements: Vec<LiveAgreement>,
    /// 1 to 7.
    pub retention_days: u32,
}

impl Policy {
    /// How far back anybody may ask, in microseconds.
    pub fn lookback_micros(&self) -> i64 {
        i64::from(self.retention_days.clamp(1, 7)) * 24 * MICROS_PER_HOUR
    }
}

/// What an agreement allows a partner: the clauses that allow, and the cameras they reach.
#[derive(Debug)]
pub(super) struct Allowed {
    pub clause: String,
    pub cameras: Vec<CameraId>,
}

/// Looks for grants that cover a partner's request. A search gets whatever part of it is granted, anything
/// else all or nothing.
pub(super) fn granted(
    policy: &Policy,
    partner: OrganisationId,
    right: Right,
    request: &Request,
    now: WallTime,
) -> Result<Allowed, Refusal> {
    let live = live_agreement(policy, partner, request, now)?;
    let by_right: Vec<&Grant> =
        live.agreement.grants.iter().filter(|grant| is_between(grant, policy, partner, right)).collect();
    let fitting = by_right.iter().filter(|grant| fits(grant, policy, request, now));
    let (mut clauses, mut reach) = (BTreeSet::new(), BTreeSet::new());
    for grant in fitting {
        let cameras: Vec<CameraId> = grant.camera_ids.iter().filter_map(|id| CameraId::try_from(id).ok()).collect();
        let wanted = cameras.into_iter().filter(|id| request.cameras.is_empty() || request.cameras.contains(id));
        let before = reach.len();
        reach.extend(wanted);
        if reach.len() > before {
            clauses.insert(grant.clause.clone());
        }
    }
    let asked: BTreeSet<CameraId> = request.cameras.iter().copied().collect();
    let enough = match right {
        Right::Search => !reach.is_empty(),
        _ => !asked.is_empty() && asked == reach,
    };
    if !enough {
        // The clause that names what is missing says why; without one, the first that grants this right at all.
        let missing = |id: CameraId| asked.contains(&id) && !reach.contains(&id);
        let names_it = |grant: &&&Grant| grant.camera_ids.iter().any(|id| CameraId::try_from(id).is_ok_and(missing));
        let limit = by_right.iter().find(names_it).or(by_right.first());
        let limit = limit.map(|grant| grant.clause.clone()).unwrap_or_default();
        return Err(Refusal::not_granted(right, limit));
    }
    let clause = clauses.into_iter().collect::<Vec<_>>().join(", ");
    Ok(Allowed { clause, cameras: reach.into_iter().collect() })
}

/// The agreement the request names, if both parties are in it and it is in force.
fn live_agreement<'a>(
    policy: &'a Policy,
    partner: OrganisationId,
    request: &Request,
    now: WallTime,
) -> Result<&'a LiveAgreement, Refusal> {
    let none = || Refusal::new(Kind::Denied, "NO_AGREEMENT", "there is no agreement in force that covers this request");
    let live = policy
        .agreements
        .iter()
        .find(|live| Some(live.id) == request.agreement && names(&live.agreement, &[partner, policy.organisation]))
        .ok_or_else(none)?;
    if live.revoked_at.is_some_and(|at| at <= now) {
        return Err(Refusal::new(Kind::Denied, "REVOKED", "the agreement was revoked"));
    }
    if live.suspended {
        return Err(Refusal::new(
            Kind::Denied,
            "SUSPENDED",
            "the agreement is suspended until both parties confirm it",
        ));
    }
    if now.0 < live.agreement.valid_from_us || now.0 >= live.agreement.valid_until_us {
        return Err(Refusal::new(Kind::Expired, "EXPIRED", "the agreement is not in force at this time"));
    }
    if live.agreement.schema == 0 || live.agreement.schema > AGREEMENT_SCHEMA {
        let sentence = "the agreement is of a newer schema than this hub understands; update it";
        return Err(Refusal::new(Kind::Unsupported, "SCHEMA_TOO_OLD", sentence));
    }
    Ok(live)
}

fn names(agreement: &Agreement, organisations: &[OrganisationId]) -> bool {
    let party = |id: &OrganisationId| {
        agreement.parties.iter().any(|party| {
            party.card.as_ref().is_some_and(|card| card.organisation_id.as_ref() == id.as_bytes().as_slice())
        })
    };
    organisations.iter().all(party)
}

fn is_between(grant: &Grant, policy: &Policy, partner: OrganisationId, right: Right) -> bool {
    grant.owner_id.as_ref() == policy.organisation.as_bytes().as_slice()
        && grant.beneficiary_id.as_ref() == partner.as_bytes().as_slice()
        && grant.right == right as i32
}

fn fits(grant: &Grant, policy: &Policy, request: &Request, now: WallTime) -> bool {
    let purpose = request.purpose.is_some_and(|purpose| {
        purpose != Purpose::Maintenance && purpose != Purpose::Unspecified && grant.purposes.contains(&(purpose as i32))
    });
    let role = grant.roles.is_empty() || request.role.as_ref().is_some_and(|role| grant.roles.contains(role));
    let lookback = match grant.lookback_hours {
        0 => policy.lookback_micros(),
        hours => (i64::from(hours) * MICROS_PER_HOUR).min(policy.lookback_micros()),
    };
    let reach = request.interval.is_some_and(|(from, _)| now - from <= lookback.saturating_add(super::CLOCK_SLACK_US));
    purpose && role && reach
}
