//! Requests between hubs, pure: read strictly, checked against who asks, of whom, and when.

use super::refuse::{self, malformed, refusal, schema_too_old};
use campanile_proto::federation::v1::{AccessRequest, LeaseRequest, Purpose, Refusal, Right, SignedEnvelope};
use campanile_proto::grid::CellSet;
use campanile_proto::ids::{AgreementId, CameraId, EventId, LeaseId, OrganisationId, RequestId, RunId};
use campanile_proto::segment::PublicKey;
use campanile_proto::signed::{self, SignatureError, SignedMessage};
use campanile_proto::time::{MICROS_PER_SECOND, WallTime};
use campanile_proto::types::v1::Stream;

pub const SCHEMA: u32 = 1;
/// No request is larger: 10,000 cameras take 180 KB.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// A request is valid for at most this long; also how long its id is remembered.
pub const MAX_TERM_US: i64 = 60 * MICROS_PER_SECOND;
/// How far ahead of ours a partner's clock may be.
const MAX_AHEAD_US: i64 = 30 * MICROS_PER_SECOND;
const MAX_CAMERAS: usize = 10_000;
const MAX_CASE_CHARACTERS: usize = 64;
const MAX_NAME_CHARACTERS: usize = 128;
/// Words of a search.
pub const MAX_WORDS_CHARACTERS: usize = 200;
/// A partner gets at most this many hits of one search.
pub const MAX_HITS: u32 = 1_000;

/// A checked request for access.
#[derive(Debug, Clone)]
pub struct Access {
    pub id: RequestId,
    pub agreement: AgreementId,
    pub right: Right,
    pub purpose: Purpose,
    pub case_number: String,
    pub operator_pseudonym: String,
    pub role: String,
    pub cameras: Vec<CameraId>,
    pub from: WallTime,
    pub to: WallTime,
    /// As the requester's clock has it.
    pub issued: WallTime,
    pub expires: WallTime,
    pub words: String,
    pub region: Option<CellSet>,
    pub limit: u32,
    pub event: Option<EventId>,
}

/// A checked request under a lease.
#[derive(Debug, Clone)]
pub struct Leased {
    pub lease: LeaseId,
    pub request: RequestId,
    pub issued: WallTime,
}

/// What of a lease is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Init,
    Group { first: u64, last: u64 },
}

/// Opens a signed message whose signature was checked.
pub fn open<M: SignedMessage>(envelope: &SignedEnvelope) -> Result<M, Refusal> {
    signed::open_strictly(envelope).map_err(|error| match error {
        SignatureError::UnknownField(_) => schema_too_old(),
        other => malformed(other.to_string()),
    })
}

fn for_us(audience: &bytes::Bytes, us: OrganisationId) -> Result<(), Refusal> {
    if audience.as_ref() == us.as_bytes() {
        return Ok(());
    }
    Err(refusal(refuse::WRONG_AUDIENCE, "the request is addressed to another organisation"))
}

fn from_signer(requester: &bytes::Bytes, signer: OrganisationId) -> Result<(), Refusal> {
    if requester.as_ref() == signer.as_bytes() {
        return Ok(());
    }
    Err(malformed("requester_id must be the organisation that signed"))
}

fn schema(schema: u32) -> Result<(), Refusal> {
    match schema {
        SCHEMA => Ok(()),
        0 => Err(malformed("schema must be 1")),
        _ => Err(schema_too_old()),
    }
}

fn expired() -> Refusal {
    refusal(refuse::EXPIRED, "the request is not valid at this time; check the clocks and send a fresh one")
}

fn text(field: &'static str, text: &str, least: usize, most: usize) -> Result<(), Refusal> {
    if super::agreement::is_text(text, least, most) {
        return Ok(());
    }
    Err(malformed(format!("{field} must be {least} to {most} printable characters")))
}

/// Checks a request for access that `signer` signed.
pub fn check_access(
    wire: &AccessRequest,
    signer: OrganisationId,
    us: OrganisationId,
    now: WallTime,
) -> Result<Access, Refusal> {
    schema(wire.schema)?;
    for_us(&wire.audience_id, us)?;
    from_signer(&wire.requester_id, signer)?;
    let term = wire.expires_us.checked_sub(wire.issued_us);
    let ahead = wire.issued_us.saturating_sub(now.0) > MAX_AHEAD_US;
    if now.0 >= wire.expires_us || ahead || !term.is_some_and(|term| (1..=MAX_TERM_US).contains(&term)) {
        return Err(expired());
    }
    let right = Right::try_from(wire.right).ok().filter(|right| *right != Right::Unspecified);
    let purpose = Purpose::try_from(wire.purpose).ok().filter(|purpose| *purpose != Purpose::Unspecified);
    text("case_number", &wire.case_number, 1, MAX_CASE_CHARACTERS)?;
    text("operator_pseudonym", &wire.operator_pseudonym, 1, MAX_NAME_CHARACTERS)?;
    text("role", &wire.role, 0, MAX_NAME_CHARACTERS)?;
    if wire.camera_ids.len() > MAX_CAMERAS {
        return Err(malformed("camera_ids: at most 10,000"));
    }
    let cameras: Result<Vec<CameraId>, _> = wire.camera_ids.iter().map(CameraId::try_from).collect();
    if wire.from_us >= wire.to_us {
        return Err(malformed("from_us must lie before to_us"));
    }
    let search = wire.search.clone().unwrap_or_default();
    text("words", &search.words, 0, MAX_WORDS_CHARACTERS)?;
    let region = match search.region.is_empty() {
        true => None,
        false => Some(CellSet::from_bytes(&search.region).map_err(|_| malformed("region must be a 72-byte cell set"))?),
    };
    let event = match wire.event_id.is_empty() {
        true => None,
        false => Some(EventId::try_from(&wire.event_id).map_err(|_| malformed("event_id must be an id"))?),
    };
    Ok(Access {
        id: RequestId::try_from(&wire.request_id).map_err(|_| malformed("request_id must be an id"))?,
        agreement: AgreementId::try_from(&wire.agreement_id).map_err(|_| malformed("agreement_id must be an id"))?,
        right: right.ok_or_else(schema_too_old)?,
        purpose: purpose.ok_or_else(schema_too_old)?,
        case_number: wire.case_number.clone(),
        operator_pseudonym: wire.operator_pseudonym.clone(),
        role: wire.role.clone(),
        cameras: cameras.map_err(|_| malformed("camera_ids must be ids"))?,
        from: WallTime(wire.from_us),
        to: WallTime(wire.to_us),
        issued: WallTime(wire.issued_us),
        expires: WallTime(wire.expires_us),
        words: search.words,
        region,
        limit: search.limit.clamp(1, MAX_HITS),
        event,
    })
}

/// Checks a request under a lease that `signer` signed.
pub fn check_leased(
    wire: &LeaseRequest,
    signer: OrganisationId,
    us: OrganisationId,
    now: WallTime,
) -> Result<Leased, Refusal> {
    schema(wire.schema)?;
    for_us(&wire.audience_id, us)?;
    from_signer(&wire.requester_id, signer)?;
    let age = now.0.saturating_sub(wire.issued_us);
    if !(-MAX_AHEAD_US..MAX_TERM_US).contains(&age) {
        return Err(expired());
    }
    Ok(Leased {
        lease: LeaseId::try_from(&wire.lease_id).map_err(|_| malformed("lease_id must be an id"))?,
        request: RequestId::try_from(&wire.request_id).map_err(|_| malformed("request_id must be an id"))?,
        issued: WallTime(wire.issued_us),
    })
}

/// What a media request asks for.
pub fn check_part(wire: &LeaseRequest) -> Result<(Stream, RunId, Part), Refusal> {
    let stream = match Stream::try_from(wire.stream) {
        Ok(stream @ (Stream::Main | Stream::Sub)) => stream,
        Ok(_) => return Err(malformed("stream must be main or sub")),
        Err(_) => return Err(schema_too_old()),
    };
    let run = RunId::try_from(&wire.run_id).map_err(|_| malformed("run_id must be an id"))?;
    let part = if wire.init { Part::Init } else { Part::Group { first: wire.first, last: wire.last } };
    Ok((stream, run, part))
}

/// The reply key of a request, if something can be sealed to it.
pub fn reply_key(bytes: &[u8]) -> Option<PublicKey> {
    PublicKey::from_bytes(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: WallTime = WallTime(1_800_000_000_000_000);

    fn ids() -> (OrganisationId, OrganisationId) {
        (OrganisationId::from_u128(1), OrganisationId::from_u128(2))
    }

    fn good() -> AccessRequest {
        let (us, them) = ids();
        AccessRequest {
            schema: 1,
            request_id: RequestId::from_u128(3).into(),
            requester_id: them.into(),
            audience_id: us.into(),
            agreement_id: AgreementId::from_u128(4).into(),
            right: Right::Search.into(),
            purpose: Purpose::UrbanSecurity.into(),
            case_number: "1/2026".into(),
            operator_pseudonym: "op-1".into(),
            from_us: NOW.0 - 10,
            to_us: NOW.0,
            issued_us: NOW.0,
            expires_us: NOW.0 + MAX_TERM_US,
            ..Default::default()
        }
    }

    fn code(change: impl Fn(&mut AccessRequest)) -> String {
        let mut request = good();
        change(&mut request);
        let (us, them) = ids();
        check_access(&request, them, us, NOW).map(|_| "ok".to_owned()).unwrap_or_else(|refusal| refusal.code)
    }

    #[test]
    fn each_departure_is_named() {
        assert_eq!(code(|_| ()), "ok");
        assert_eq!(code(|r| r.schema = 2), "SCHEMA_TOO_OLD");
        assert_eq!(code(|r| r.right = 99), "SCHEMA_TOO_OLD");
        assert_eq!(code(|r| r.purpose = 0), "SCHEMA_TOO_OLD");
        assert_eq!(code(|r| r.audience_id = OrganisationId::from_u128(9).into()), "WRONG_AUDIENCE");
        assert_eq!(code(|r| r.requester_id = OrganisationId::from_u128(9).into()), "MALFORMED");
        assert_eq!(code(|r| r.expires_us = NOW.0), "EXPIRED");
        assert_eq!(code(|r| r.expires_us += 1), "EXPIRED");
        assert_eq!(code(|r| r.issued_us = i64::MIN), "EXPIRED");
        assert_eq!(code(|r| (r.issued_us, r.expires_us) = (NOW.0 + MAX_AHEAD_US + 1, NOW.0 + MAX_TERM_US)), "EXPIRED");
        assert_eq!(code(|r| r.case_number.clear()), "MALFORMED");
        assert_eq!(code(|r| r.to_us = r.from_us), "MALFORMED");
        assert_eq!(code(|r| r.camera_ids = vec![bytes::Bytes::from_static(b"x")]), "MALFORMED");
        assert_eq!(
            code(|r| r.search =
                Some(campanile_proto::federation::v1::SearchQuery { region: vec![1].into(), ..Default::default() })),
            "MALFORMED"
        );
    }

    proptest! {
        #[test]
        fn any_numbers_are_judged_without_panic(issued in any::<i64>(), expires in any::<i64>(), from in any::<i64>(), to in any::<i64>()) {
            let mut request = good();
            (request.issued_us, request.expires_us, request.from_us, request.to_us) = (issued, expires, from, to);
            let (us, them) = ids();
            let judged = check_access(&request, them, us, NOW);
            prop_assert!(judged.is_err() || (expires > NOW.0 && expires - issued <= MAX_TERM_US && from < to));
        }
    }
}
