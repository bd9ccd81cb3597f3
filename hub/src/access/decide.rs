//! The decision, pure: policy, request and time in; allowed or refused with clause and sentence out.

use campanile_proto::federation::v1::Purpose;
use campanile_proto::ids::{AgreementId, CameraId, EdgeId, OrganisationId, RequestId};
use campanile_proto::kind::Kind;
use campanile_proto::time::WallTime;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    Nobody,
    /// Signed in with a password.
    Operator {
        name: String,
        role: String,
    },
    /// A person on the hub's own machine, through the administration socket.
    Administrator {
        uid: u32,
    },
    /// A box with a certificate of ours; `current` is false once that certificate has expired, `revoked`
    /// when the registry says so.
    Edge {
        id: EdgeId,
        current: bool,
        revoked: bool,
    },
    /// A partner organisation whose signature was verified.
    Partner {
        organisation: OrganisationId,
    },
}

/// What is asked: one variant a route, method or command (grouped where the rule is one).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    // everybody
    SignIn,
    ReadPage,
    Enrol,
    Introduce,
    Propose,
    // operators
    SignOut,
    ListCameras,
    Search,
    Thumbnail,
    Playback,
    // administrators
    ManageEdges,
    ManagePeople,
    ManageAgreements,
    ReadRegister,
    Status,
    // boxes
    EdgeSession,
    EdgeDeliver,
    EdgeRenew,
    // partners
    PartnerConclude,
    PartnerRevoke,
    PartnerSearch,
    PartnerThumbnail,
    PartnerPlayback,
    PartnerLease,
    PartnerWitness,
}

/// One request at the door.
#[derive(Debug, Clone)]
pub struct Request {
    pub id: RequestId,
    pub principal: Principal,
    pub action: Action,
    pub purpose: Option<Purpose>,
    pub case_number: Option<String>,
    /// Empty: whatever the principal may see.
    pub cameras: Vec<CameraId>,
    pub interval: Option<(WallTime, WallTime)>,
    /// Partner requests: under which agreement, and for which of its operators and roles.
    pub agreement: Option<AgreementId>,
    pub operator_pseudonym: Option<String>,
    pub role: Option<String>,
}

/// Why not. `sentence` may be shown to the asker; it confirms nothing's existence to a partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Kind,
    /// NO_PURPOSE, NO_CASE, NOT_SIGNED_IN, NOT_GRANTED, NO_AGREEMENT, EXPIRED, SUSPENDED, …
    pub code: &'static str,
    pub clause: String,
    pub sentence: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed by this clause; `cameras` is what of the request is within it.
    Allow {
        clause: String,
        cameras: Vec<CameraId>,
    },
    Refuse(Refusal),
}
