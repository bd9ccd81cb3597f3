//! What is asked at the door, and what it answers.

use campanile_proto::federation::v1::{Purpose, Right};
use campanile_proto::ids::{AgreementId, CameraId, EdgeId, HoldId, OrganisationId, RequestId};
use campanile_proto::kind::Kind;
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::Act;

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

impl Principal {
    /// How the register names them; stands there only as a commitment.
    pub fn label(&self) -> String {
        match self {
            Self::Nobody => String::new(),
            Self::Operator { name, .. } => name.clone(),
            Self::Administrator { uid } => format!("uid {uid}"),
            Self::Edge { id, .. } => format!("edge {id}"),
            Self::Partner { organisation } => format!("organisation {organisation}"),
        }
    }
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
    /// When each camera recorded: no picture, so neither purpose nor case; but when somebody was on record is
    /// about people, so it leaves an entry, which the list of cameras and the status do not.
    ViewCoverage,
    Search,
    Thumbnail,
    Playback,
    /// The next bytes of a playback that was let in before.
    PlaybackLease,
    /// What is held, why, until when, and what of it is missing: no picture.
    ViewHolds,
    /// Footage from a hold's copy.
    ReadHold,
    // administrators
    /// The keys of a segment's fragments, for who has the file: a box's disk in an evidence room.
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
    /// Says that the clock is right, gives a camera to another box.
    Administer,
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
    /// The next bytes of a partner's playback: decided again every time, so that a revocation acts at once.
    PartnerLease,
    PartnerClose,
    PartnerWitness,
}

impl Action {
    /// Whether it shows footage or events: then purpose and case number are demanded.
    pub fn shows_footage(self) -> bool {
        matches!(
            self,
            Self::Search
                | Self::Thumbnail
                | Self::Playback
                | Self::ReadHold
                | Self::Unseal
                | Self::PartnerSearch
                | Self::PartnerThumbnail
                | Self::PartnerPlayback
                | Self::PartnerLease
        )
    }

    /// What the register calls it. None leaves no entry at the door: it shows and changes nothing, or (signing
    /// in, enrolling) strangers could fill the register with it, and who lets them in notes it afterwards.
    pub fn act(self) -> Option<Act> {
        Some(match self {
            Self::Search | Self::PartnerSearch => Act::Search,
            Self::Thumbnail | Self::PartnerThumbnail => Act::Thumbnail,
            Self::Playback | Self::PartnerPlayback | Self::ReadHold => Act::Playback,
            Self::Unseal => Act::Export,
            Self::PlaceHold => Act::HoldPlaced,
            Self::ReleaseHold => Act::HoldReleased,
            Self::ViewCoverage => Act::View,
            Self::IssueToken => Act::IssueToken,
            Self::RevokeEdge => Act::RevokeEdge,
            Self::ReleaseEdge => Act::ReleaseEdge,
            Self::ManagePeople | Self::Administer => Act::Administer,
            Self::ManageAgreements | Self::PartnerConclude | Self::PartnerRevoke => Act::Agreement,
            Self::ReadRegister => Act::RegisterRead,
            _ => return None,
        })
    }

    /// What the register calls it when somebody who is known is refused: then it always has an entry.
    pub fn refused_act(self) -> Act {
        self.act().unwrap_or(match self {
            Self::SignIn | Self::SignOut => Act::SignIn,
            Self::Enrol => Act::Enrol,
            Self::EdgeSession | Self::EdgeDeliver | Self::EdgeRenew => Act::ConnectEdge,
            Self::Introduce | Self::Propose => Act::Agreement,
            Self::PlaybackLease | Self::PartnerLease | Self::PartnerClose => Act::Playback,
            Self::PartnerWitness => Act::RegisterRead,
            _ => Act::View,
        })
    }

    /// The right of an agreement that a partner needs.
    pub fn right(self) -> Option<Right> {
        Some(match self {
            Self::PartnerSearch => Right::Search,
            Self::PartnerThumbnail => Right::Thumbnail,
            Self::PartnerPlayback | Self::PartnerLease => Right::Playback,
            _ => return None,
        })
    }
}

/// One request at the door.
#[derive(Debug, Clone)]
pub struct Request {
    pub id: RequestId,
    pub principal: Principal,
    pub action: Action,
    pub purpose: Option<Purpose>,
    pub case_number: Option<String>,
    /// Empty: whatever the principal may see (a search); footage of one camera names it.
    pub cameras: Vec<CameraId>,
    /// Half-open. Demanded for searches and playback; for a partner's thumbnail the event's own.
    pub interval: Option<(WallTime, WallTime)>,
    /// Partner requests: under which agreement, for which organisation's footage, until when the request
    /// holds, and for which of its operators and roles.
    pub agreement: Option<AgreementId>,
    pub audience: Option<OrganisationId>,
    pub expires: Option<WallTime>,
    pub operator_pseudonym: Option<String>,
    pub role: Option<String>,
    /// The hold that is placed, released or read.
    pub hold: Option<HoldId>,
}

impl Request {
    /// A request that names nothing yet, under a fresh id.
    pub fn new(principal: Principal, action: Action) -> Self {
        Self {
            id: RequestId::ordered(),
            principal,
            action,
            purpose: None,
            case_number: None,
            cameras: Vec::new(),
            interval: None,
            agreement: None,
            audience: None,
            expires: None,
            operator_pseudonym: None,
            role: None,
            hold: None,
        }
    }
}

/// Why not. `sentence` may be shown to the asker; it confirms nothing's existence to a partner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused ({code}): {sentence}")]
pub struct Refusal {
    pub kind: Kind,
    /// NO_PURPOSE, NO_CASE, BAD_INTERVAL, NOT_SIGNED_IN, NOT_ALLOWED, NOT_GRANTED, NO_AGREEMENT, EXPIRED,
    /// SUSPENDED, UNAVAILABLE.
    pub code: &'static str,
    /// The clause that refuses or limits, as the agreement numbers it; empty when there is none.
    pub clause: String,
    pub sentence: String,
}

impl Refusal {
    pub fn new(kind: Kind, code: &'static str, sentence: impl Into<String>) -> Self {
        Self { kind, code, clause: String::new(), sentence: sentence.into() }
    }

    /// What a partner hears of what is not granted and of what is not there alike.
    pub fn not_granted(right: Right, clause: String) -> Self {
        let right = match right {
            Right::Search => "search",
            Right::Thumbnail => "thumbnail",
            Right::Playback => "playback",
            Right::Live => "live",
            Right::Export => "export",
            Right::Unspecified => "this",
        };
        let limit = if clause.is_empty() { String::new() } else { format!(" (clause {clause} limits it)") };
        let sentence = format!("no clause of the agreement grants {right} for this request{limit}");
        Self { kind: Kind::Denied, code: "NOT_GRANTED", clause, sentence }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed by this clause; `cameras` is what of the request is within it (empty for our own people: all).
    Allow {
        clause: String,
        cameras: Vec<CameraId>,
    },
    Refuse(Refusal),
}
