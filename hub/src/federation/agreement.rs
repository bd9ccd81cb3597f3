//! Agreements, pure: drawing one up, reading one strictly, and in what state it is.

use super::mandate::read_card;
use crate::access::AGREEMENT_SCHEMA;
use campanile_proto::federation::v1::{
    Agreement, Grant, OrganisationCard, Party, Purpose, Revocation, Right, SignedEnvelope,
};
use campanile_proto::ids::{AgreementId, CameraId, OrganisationId};
use campanile_proto::signed::{self, SignatureError};
use campanile_proto::time::{MAX_RETENTION_HOURS, MICROS_PER_HOUR, WallTime};
use std::collections::BTreeMap;

const MAX_PARTIES: usize = 8;
const MAX_GRANTS: usize = 256;
const MAX_CAMERAS: usize = 10_000;
const MAX_ROLES: usize = 32;
const MAX_TITLE_CHARACTERS: usize = 200;
const MAX_CLAUSE_CHARACTERS: usize = 20;
const MAX_ROLE_CHARACTERS: usize = 64;
const MAX_REASON_CHARACTERS: usize = 500;
/// Ten years: a protocollo d'intesa runs for three to five.
const MAX_TERM_US: i64 = 3_653 * 24 * MICROS_PER_HOUR;
/// A partner's clock may be this far behind ours.
const BACKDATED_US: i64 = MICROS_PER_HOUR;

/// What people agree on before it has an id, parties and dates.
#[derive(Debug, Clone)]
pub struct AgreementDraft {
    pub title: String,
    pub partner: OrganisationId,
    /// Both directions; `owner_id` and `beneficiary_id` are the two organisations.
    pub grants: Vec<Grant>,
    pub valid_days: u32,
}

/// The same rights in both directions.
#[derive(Debug, Clone)]
pub struct Mutual {
    pub us: OrganisationId,
    pub partner: OrganisationId,
    pub title: String,
    pub rights: Vec<Right>,
    pub purposes: Vec<Purpose>,
    /// Empty: any.
    pub roles: Vec<String>,
    /// 0: the owner's whole retention.
    pub lookback_hours: u32,
    /// Empty: only the partner grants.
    pub our_cameras: Vec<CameraId>,
    pub valid_days: u32,
}

impl AgreementDraft {
    /// Article 2 is what we grant, article 3 what the partner grants: its cameras are left for it to fill in.
    pub fn mutual(terms: Mutual) -> Self {
        let sides = [(2, terms.us, terms.partner, &terms.our_cameras), (3, terms.partner, terms.us, &Vec::new())];
        let sides = sides.into_iter().filter(|(_, owner, _, cameras)| *owner == terms.partner || !cameras.is_empty());
        let side = |(article, owner, beneficiary, cameras): (u32, OrganisationId, OrganisationId, &Vec<CameraId>)| {
            let grant = |(number, right): (usize, &Right)| Grant {
                clause: format!("{article}.{}", number + 1),
                owner_id: owner.into(),
                beneficiary_id: beneficiary.into(),
                right: (*right).into(),
                camera_ids: cameras.iter().map(|id| (*id).into()).collect(),
                purposes: terms.purposes.iter().map(|purpose| (*purpose).into()).collect(),
                roles: terms.roles.clone(),
                lookback_hours: terms.lookback_hours,
            };
            terms.rights.iter().enumerate().map(grant).collect::<Vec<_>>()
        };
        let grants = sides.flat_map(side).collect();
        Self { title: terms.title, partner: terms.partner, grants, valid_days: terms.valid_days }
    }
}

/// Why an agreement or a revocation is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("it holds a field or value this version does not know ({0}); update this hub first")]
    SchemaTooOld(&'static str),
    #[error("a signature does not hold")]
    Signature(#[source] SignatureError),
    #[error("{field}: {remedy}")]
    Malformed { field: &'static str, remedy: &'static str },
    #[error("this hub's organisation is not a party, or is named with another key")]
    NotOurs,
    #[error("the organisation that sent it is not a party, or is named with another key")]
    NotTheirs,
    #[error("another agreement is already held under this id")]
    OtherBytes,
    #[error("a grant names no camera; its owner fills them in when it signs")]
    Blank,
}

/// Where an agreement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// We signed; another party has not.
    Proposed,
    /// Another party signed; our people have not.
    AwaitingUs,
    Live,
    Suspended,
    Revoked,
    Expired,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::AwaitingUs => "awaiting_us",
            Self::Live => "live",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// The agreement of a draft, for `parties` (ours first).
pub fn draw_up(draft: &AgreementDraft, parties: Vec<OrganisationCard>, now: WallTime) -> Agreement {
    let from = now.0 - BACKDATED_US;
    Agreement {
        schema: AGREEMENT_SCHEMA,
        agreement_id: AgreementId::ordered().into(),
        title: draft.title.clone(),
        parties: parties.into_iter().map(|card| Party { card: Some(card) }).collect(),
        grants: draft.grants.clone(),
        valid_from_us: from,
        valid_until_us: now.0.saturating_add(i64::from(draft.valid_days) * 24 * MICROS_PER_HOUR),
        drawn_up_us: now.0,
    }
}

/// Opens an agreement: every field and value known, every bound kept. Says nothing of its signatures.
pub fn read(envelope: &SignedEnvelope) -> Result<Agreement, Problem> {
    let agreement: Agreement = signed::open_strictly(envelope).map_err(|error| match error {
        SignatureError::UnknownField(name) => Problem::SchemaTooOld(name),
        other => Problem::Signature(other),
    })?;
    check(&agreement)?;
    Ok(agreement)
}

/// Opens a revocation, strictly.
pub fn read_revocation(envelope: &SignedEnvelope) -> Result<(AgreementId, Revocation), Problem> {
    let revocation: Revocation = signed::open_strictly(envelope).map_err(|error| match error {
        SignatureError::UnknownField(name) => Problem::SchemaTooOld(name),
        other => Problem::Signature(other),
    })?;
    let id = AgreementId::try_from(&revocation.agreement_id).map_err(|_| malformed("agreement_id", "must be an id"))?;
    if !is_text(&revocation.reason, 0, MAX_REASON_CHARACTERS) {
        return Err(malformed("reason", "must be at most 500 printable characters"));
    }
    Ok((id, revocation))
}

pub fn check(agreement: &Agreement) -> Result<(), Problem> {
    if agreement.schema != AGREEMENT_SCHEMA {
        return Err(Problem::SchemaTooOld("schema"));
    }
    AgreementId::try_from(&agreement.agreement_id).map_err(|_| malformed("agreement_id", "must be an id"))?;
    if !is_text(&agreement.title, 1, MAX_TITLE_CHARACTERS) {
        return Err(malformed("title", "must be 1 to 200 printable characters"));
    }
    let parties = cards(agreement)?;
    let term = agreement.valid_until_us.checked_sub(agreement.valid_from_us);
    if !term.is_some_and(|term| (1..=MAX_TERM_US).contains(&term)) {
        return Err(malformed("valid_until", "must lie after valid_from, by at most ten years"));
    }
    if !(1..=MAX_GRANTS).contains(&agreement.grants.len()) {
        return Err(malformed("grants", "there must be 1 to 256"));
    }
    agreement.grants.iter().try_for_each(|grant| check_grant(grant, &parties))
}

/// The parties' cards by organisation: two to eight, each once.
pub fn cards(agreement: &Agreement) -> Result<BTreeMap<OrganisationId, OrganisationCard>, Problem> {
    if !(2..=MAX_PARTIES).contains(&agreement.parties.len()) {
        return Err(malformed("parties", "there must be 2 to 8"));
    }
    let mut cards = BTreeMap::new();
    for party in &agreement.parties {
        let card = party.card.as_ref().ok_or_else(|| malformed("parties", "each must have a card"))?;
        let (id, _) = read_card(card).map_err(|remedy| malformed("parties", remedy))?;
        if cards.insert(id, card.clone()).is_some() {
            return Err(malformed("parties", "each must stand there once"));
        }
    }
    Ok(cards)
}

fn check_grant(grant: &Grant, parties: &BTreeMap<OrganisationId, OrganisationCard>) -> Result<(), Problem> {
    match Right::try_from(grant.right) {
        Ok(Right::Unspecified) | Err(_) => return Err(Problem::SchemaTooOld("right")),
        Ok(_) => {}
    }
    let known = |purpose: &i32| Purpose::try_from(*purpose).is_ok_and(|purpose| purpose != Purpose::Unspecified);
    if !grant.purposes.iter().all(known) {
        return Err(Problem::SchemaTooOld("purposes"));
    }
    if grant.purposes.is_empty() || grant.purposes.len() > MAX_ROLES {
        return Err(malformed("purposes", "each grant must name at least one, each once"));
    }
    if !is_text(&grant.clause, 1, MAX_CLAUSE_CHARACTERS) {
        return Err(malformed("clause", "must be 1 to 20 printable characters"));
    }
    let party = |id: &bytes::Bytes| OrganisationId::try_from(id).is_ok_and(|id| parties.contains_key(&id));
    if !party(&grant.owner_id) || !party(&grant.beneficiary_id) || grant.owner_id == grant.beneficiary_id {
        return Err(malformed("grants", "owner and beneficiary must be two of the parties"));
    }
    let cameras = &grant.camera_ids;
    if cameras.len() > MAX_CAMERAS || !cameras.iter().all(|id| CameraId::try_from(id).is_ok()) {
        return Err(malformed("camera_ids", "each grant must name at most 10,000 cameras"));
    }
    if grant.roles.len() > MAX_ROLES || !grant.roles.iter().all(|role| is_text(role, 1, MAX_ROLE_CHARACTERS)) {
        return Err(malformed("roles", "at most 32, of 1 to 64 printable characters"));
    }
    if i64::from(grant.lookback_hours) > MAX_RETENTION_HOURS {
        return Err(malformed("lookback_hours", "at most 168"));
    }
    Ok(())
}

/// Whether every grant of these owners names its cameras.
pub fn is_filled_in(agreement: &Agreement, by: impl Fn(&[u8]) -> bool) -> Result<(), Problem> {
    let blank = agreement.grants.iter().any(|grant| grant.camera_ids.is_empty() && by(&grant.owner_id));
    if blank { Err(Problem::Blank) } else { Ok(()) }
}

/// Fills what `owner` was asked to fill in; everything else stays as it was signed.
pub fn fill_in(agreement: &Agreement, owner: OrganisationId, cameras: &[CameraId]) -> Agreement {
    let mut filled = agreement.clone();
    for grant in blanks(&mut filled, owner) {
        grant.camera_ids = cameras.iter().map(|id| (*id).into()).collect();
    }
    filled
}

/// Whether `theirs` is `ours` with nothing changed but what `owner` was asked to fill in.
pub fn completes(ours: &Agreement, theirs: &Agreement, owner: OrganisationId) -> bool {
    let mut filled = ours.clone();
    if filled.grants.len() != theirs.grants.len() {
        return false;
    }
    for (mine, their) in filled.grants.iter_mut().zip(&theirs.grants) {
        if mine.camera_ids.is_empty() && mine.owner_id.as_ref() == owner.as_bytes() {
            mine.camera_ids.clone_from(&their.camera_ids);
        }
    }
    filled == *theirs
}

fn blanks(agreement: &mut Agreement, owner: OrganisationId) -> impl Iterator<Item = &mut Grant> {
    let blank = move |grant: &&mut Grant| grant.camera_ids.is_empty() && grant.owner_id.as_ref() == owner.as_bytes();
    agreement.grants.iter_mut().filter(blank)
}

/// Who of the parties signed these bytes, with the key on its card.
pub fn signers(envelope: &SignedEnvelope, agreement: &Agreement) -> Vec<OrganisationId> {
    let Ok(cards) = cards(agreement) else { return Vec::new() };
    let signed = |(id, card): (OrganisationId, OrganisationCard)| {
        let key = signed::verifying_key(&card.public_key).ok()?;
        signed::verify_envelope::<Agreement>(envelope, id, &key).ok().map(|()| id)
    };
    cards.into_iter().filter_map(signed).collect()
}

/// Whether the agreement names `id` with exactly this key.
pub fn names(agreement: &Agreement, id: OrganisationId, key: &[u8]) -> bool {
    cards(agreement).is_ok_and(|cards| cards.get(&id).is_some_and(|card| card.public_key.as_ref() == key))
}

/// What decides the state, beside the agreement.
pub struct Standing<'a> {
    pub signers: &'a [OrganisationId],
    pub revoked: bool,
    pub suspended: bool,
}

pub fn state(agreement: &Agreement, standing: &Standing<'_>, us: OrganisationId, now: WallTime) -> State {
    if standing.revoked {
        State::Revoked
    } else if now.0 >= agreement.valid_until_us {
        State::Expired
    } else if !standing.signers.contains(&us) {
        State::AwaitingUs
    } else if standing.signers.len() < agreement.parties.len() {
        State::Proposed
    } else if standing.suspended {
        State::Suspended
    } else {
        State::Live
    }
}

fn malformed(field: &'static str, remedy: &'static str) -> Problem {
    Problem::Malformed { field, remedy }
}

pub fn is_text(text: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}
