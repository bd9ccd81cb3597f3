//! Why something between hubs failed, for our log and for our own people.

use super::agreement::Problem;
use super::directory::NotInForce;
use super::mandate::MandateProblem;
use super::store::StoreError;
use campanile_proto::federation::v1::Refusal;
use campanile_proto::ids::{AgreementId, OrganisationId};
use campanile_proto::kind::Kind;
use campanile_proto::reply::ReplyError;
use campanile_proto::signed::SignatureError;

/// Why partners or agreements could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum FederationError {
    #[error("the federation's store failed")]
    Store(#[from] StoreError),
    #[error("the stored {what} cannot be read; restore federation.sqlite from a backup")]
    Stored { what: &'static str },
    #[error("the partner at {address} cannot be asked")]
    Reach {
        address: String,
        #[source]
        source: AskError,
    },
    #[error("the address {0} is not host:port")]
    Address(String),
    #[error(
        "the partner at {address} introduces itself with the fingerprint {found}, not {expected}; ask for it again by telephone"
    )]
    Fingerprint { address: String, expected: String, found: String },
    #[error("the partner's card is not valid: {0}")]
    Card(&'static str),
    #[error("the organisation {0} is this hub's own")]
    Ourselves(OrganisationId),
    #[error("the organisation {0} is already a partner under another key")]
    OtherKey(OrganisationId),
    #[error("the partner's mandate is not valid")]
    Mandate(#[source] MandateProblem),
    #[error("the connection's certificate authority is not the one in the partner's mandate")]
    OtherAuthority,
    #[error("the organisation {0} is not a partner; add it first")]
    UnknownPartner(OrganisationId),
    #[error("the agreement {0} is not here")]
    UnknownAgreement(AgreementId),
    #[error("the agreement is not valid")]
    Agreement(#[source] Problem),
    #[error("the agreement {0} is revoked")]
    Revoked(AgreementId),
    #[error("the agreement {0} is not valid any more")]
    Expired(AgreementId),
}

impl FederationError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Store(_) | Self::Stored { .. } => Kind::Internal,
            Self::Reach { source, .. } => source.kind(),
            Self::Address(_) | Self::Card(_) | Self::Mandate(_) | Self::Ourselves(_) | Self::Agreement(_) => {
                Kind::Invalid
            }
            Self::Fingerprint { .. } | Self::OtherAuthority => Kind::Denied,
            Self::OtherKey(_) | Self::Revoked(_) => Kind::Conflict,
            Self::UnknownPartner(_) | Self::UnknownAgreement(_) => Kind::NotFound,
            Self::Expired(_) => Kind::Expired,
        }
    }
}

/// Why a partner's answer did not come.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("the partner cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the partner did not answer within {0} s")]
    TimedOut(u64),
    #[error("the partner answers that it does not know our signature")]
    NotKnown,
    #[error("the partner is too busy")]
    Busy,
    #[error("the partner refuses ({code}): {sentence}", code = .0.code, sentence = .0.sentence)]
    Refused(Refusal),
    #[error("the partner failed")]
    Failed(#[source] Box<tonic::Status>),
    #[error("the answer is not what the partner sealed")]
    NotAuthentic(#[source] ReplyError),
    #[error("the answer was cut short on its way")]
    CutShort,
    #[error("the answer holds {0}, which was not asked for")]
    Unexpected(&'static str),
    #[error("the answer is not signed by the partner")]
    NotSigned(#[source] SignatureError),
    #[error("the organisation {0} is not a partner")]
    UnknownPartner(OrganisationId),
    #[error("{0}")]
    NotInForce(NotInForce),
    #[error("the playback has ended: {0}")]
    Ended(&'static str),
    #[error("no request key could be made")]
    Key,
}

impl AskError {
    /// One word for tables and pages.
    pub fn code(&self) -> &str {
        match self {
            Self::Unreachable(_) => "UNREACHABLE",
            Self::TimedOut(_) => "TIMED_OUT",
            Self::NotKnown => "NOT_KNOWN",
            Self::Busy => "BUSY",
            Self::Refused(refusal) => &refusal.code,
            Self::Failed(_) => "FAILED",
            Self::NotAuthentic(_) | Self::NotSigned(_) => "NOT_AUTHENTIC",
            Self::CutShort => "CUT_SHORT",
            Self::Unexpected(_) => "UNEXPECTED",
            Self::UnknownPartner(_) => "UNKNOWN_PARTNER",
            Self::NotInForce(why) => why.code(),
            Self::Ended(_) => "ENDED",
            Self::Key => "INTERNAL",
        }
    }

    /// The clause the owner named, as the agreement numbers it; empty when there is none.
    pub fn clause(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.clause,
            _ => "",
        }
    }

    /// What an operator reads; the cause below it stays in the log.
    pub fn sentence(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.sentence.clone(),
            other => other.to_string(),
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Failed(_) | Self::CutShort => Kind::Unavailable,
            Self::Busy => Kind::Exhausted,
            Self::NotKnown => Kind::Denied,
            Self::NotInForce(why) => super::refuse::kind_of(why.code()),
            Self::Refused(refusal) => super::refuse::kind_of(&refusal.code),
            Self::NotAuthentic(_) | Self::Unexpected(_) | Self::NotSigned(_) => Kind::Unavailable,
            Self::UnknownPartner(_) => Kind::NotFound,
            Self::Ended(_) => Kind::Expired,
            Self::Key => Kind::Internal,
        }
    }
}

impl From<tonic::Status> for AskError {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => Self::NotKnown,
            tonic::Code::ResourceExhausted => Self::Busy,
            tonic::Code::Unavailable => Self::Unreachable(Box::new(status)),
            _ => Self::Failed(Box::new(status)),
        }
    }
}
