//! One leaf: what is public of it, and what stands beside the tree.

use campanile_proto::federation::v1::Purpose;
use campanile_proto::ids::{AgreementId, CameraId, HoldId, OrganisationId, RequestId};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{Act, Phase, RegisterLeaf};
use sha2::{Digest, Sha256};

const SALT_BYTES: usize = 32;

/// A leaf before it has its place.
#[derive(Debug, Clone, PartialEq)]
pub struct LeafDraft {
    pub act: Act,
    pub phase: Phase,
    pub request: RequestId,
    /// Name or pseudonym; empty when nobody is signed in.
    pub operator: String,
    pub purpose: Option<Purpose>,
    pub case_number: Option<String>,
    /// The organisation of the operator when it is not ours.
    pub requester: Option<OrganisationId>,
    pub cameras: Vec<CameraId>,
    pub interval: Option<(WallTime, WallTime)>,
    pub agreement: Option<AgreementId>,
    pub clause: String,
    pub items: u64,
    pub bytes_sent: u64,
    /// One of the codes of a refusal or an interruption.
    pub reason: String,
    /// The hold it is about, or was read from.
    pub hold: Option<HoldId>,
}

impl LeafDraft {
    pub fn new(act: Act, phase: Phase, request: RequestId) -> Self {
        Self {
            act,
            phase,
            request,
            operator: String::new(),
            purpose: None,
            case_number: None,
            requester: None,
            cameras: Vec::new(),
            interval: None,
            agreement: None,
            clause: String::new(),
            items: 0,
            bytes_sent: 0,
            reason: String::new(),
            hold: None,
        }
    }
}

/// A value that stands in the tree only as a commitment.
#[derive(Clone, PartialEq, Eq)]
pub struct Personal {
    /// `operator`, `purpose` or `case`.
    pub field: &'static str,
    pub value: String,
    pub salt: Vec<u8>,
}

impl Personal {
    fn new(field: &'static str, value: String) -> Self {
        let mut salt = vec![0; SALT_BYTES];
        getrandom::fill(&mut salt).expect("the kernel gives random bytes because it does so from boot on");
        Self { field, value, salt }
    }
}

/// SHA-256(salt || field name || 0 || value).
pub(super) fn commitment(salt: &[u8], field: &str, value: &str) -> Vec<u8> {
    Sha256::new()
        .chain_update(salt)
        .chain_update(field.as_bytes())
        .chain_update([0])
        .chain_update(value.as_bytes())
        .finalize()
        .to_vec()
}

/// The leaf as it is hashed, and the personal values beside it.
pub(super) fn place(
    draft: &LeafDraft,
    sequence: u64,
    now: WallTime,
    organisation: OrganisationId,
) -> (RegisterLeaf, Vec<Personal>) {
    let purpose = draft.purpose.map(|p| p.as_str_name().to_owned()).unwrap_or_default();
    let personal: Vec<Personal> = [
        ("operator", draft.operator.clone()),
        ("purpose", purpose),
        ("case", draft.case_number.clone().unwrap_or_default()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(field, value)| Personal::new(field, value))
    .collect();
    let committed = |field: &str| {
        let found = personal.iter().find(|p| p.field == field);
        found.map(|p| commitment(&p.salt, p.field, &p.value)).unwrap_or_default().into()
    };
    let leaf = RegisterLeaf {
        sequence,
        utc_us: now.0,
        organisation_id: organisation.into(),
        act: draft.act as i32,
        phase: draft.phase as i32,
        request_id: draft.request.into(),
        operator_commitment: committed("operator"),
        purpose_commitment: committed("purpose"),
        case_commitment: committed("case"),
        requester_organisation_id: draft.requester.map(Into::into).unwrap_or_default(),
        camera_ids: draft.cameras.iter().map(|&id| id.into()).collect(),
        from_us: draft.interval.map_or(0, |(from, _)| from.0),
        to_us: draft.interval.map_or(0, |(_, to)| to.0),
        agreement_id: draft.agreement.map(Into::into).unwrap_or_default(),
        clause: draft.clause.clone(),
        items: draft.items,
        bytes_sent: draft.bytes_sent,
        reason: draft.reason.clone(),
        hold_id: draft.hold.map(Into::into).unwrap_or_default(),
    };
    (leaf, personal)
}
