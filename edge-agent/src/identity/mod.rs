//! Who this box is: its key, its certificate, its organisation, and the way to its hub.
//!
//! Belongs here: the enrolment token, the identity folder, the pinned TLS towards the hub, renewal.
//! Does not belong here: what is said to the hub once connected (`uplink`), sealing keys' use (`keys`).
//! Invariant: the hub is believed only under the authority pinned at enrolment, whatever a clock says.

mod cameras;
mod enrol;
mod renew;
mod store;
#[cfg(test)]
mod tests;
mod tls;
pub(crate) mod token;

pub use cameras::CameraNames;
pub use enrol::enrol;
pub use renew::{is_due, renew};
pub(crate) use store::replace_file;
pub use store::{Identity, IdentityFolder};
pub use tls::{HubAddresses, SpkiPin, connect};
pub use token::Token;

use campanile_proto::kind::Kind;
use campanile_proto::signed::SignatureError;
use std::path::PathBuf;

/// Why the box has no identity, or cannot use it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the enrolment token is not usable: {0}; copy the whole line that `campanile-hub edges token` printed")]
    BadToken(&'static str),
    #[error("cannot read the enrolment token from {from}")]
    ReadToken { from: String, source: std::io::Error },
    #[error("this box is already enrolled as {edge} at {organisation}; use --replace to give it a new identity")]
    AlreadyEnrolled { edge: String, organisation: String },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} is damaged: {reason}; enrol this box again with --replace")]
    Damaged { path: PathBuf, reason: String },
    #[error("cannot make a key or a certificate request")]
    MakeKey(#[source] rcgen::Error),
    #[error("cannot set up TLS")]
    SetUpTls(#[source] rustls::Error),
    #[error("cannot reach the hub at {addresses}: {cause}")]
    Unreachable { addresses: String, cause: String },
    #[error("what answers at {addresses} is not the hub of this box's token: its certificate is of another authority")]
    NotOurHub { addresses: String },
    #[error("the hub refuses: {sentence}")]
    Refused { kind: Kind, sentence: String },
    #[error("the hub's answer cannot be believed: {0}")]
    Unbelievable(&'static str),
    #[error("the sealing keys in the hub's answer cannot be believed")]
    Keys(#[from] crate::keys::KeysError),
    #[error("the organisation's key is malformed")]
    OrganisationKey(#[source] SignatureError),
}

impl IdentityError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::BadToken(_) | Self::OrganisationKey(_) => Kind::Invalid,
            Self::AlreadyEnrolled { .. } => Kind::Conflict,
            Self::Unreachable { .. } => Kind::Unavailable,
            Self::Refused { kind, .. } => *kind,
            Self::Unbelievable(_) | Self::Keys(_) | Self::NotOurHub { .. } => Kind::Unauthenticated,
            Self::ReadToken { .. } | Self::Read { .. } | Self::Write { .. } | Self::Damaged { .. } => Kind::Internal,
            Self::MakeKey(_) | Self::SetUpTls(_) => Kind::Internal,
        }
    }

    /// Exit code of `campanile-edge enrol` (sysexits.h): 65 a bad token, 69 no hub, 77 refused, 74 the disk.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::BadToken(_) | Self::OrganisationKey(_) => 65,
            Self::Unreachable { .. } => 69,
            Self::Refused { kind, .. } if kind.may_retry() => 69,
            Self::Refused { .. } | Self::Unbelievable(_) | Self::Keys(_) => 77,
            Self::AlreadyEnrolled { .. } | Self::NotOurHub { .. } => 77,
            Self::MakeKey(_) | Self::SetUpTls(_) => 70,
            Self::ReadToken { .. } => 66,
            Self::Read { .. } | Self::Write { .. } | Self::Damaged { .. } => 74,
        }
    }

    /// Reads what the hub answered; its sentence is for people.
    pub(crate) fn from_status(status: tonic::Status) -> Self {
        let kind = kind_of(status.code());
        let sentence: String = status.message().chars().filter(|c| !c.is_control()).take(400).collect();
        let sentence = if sentence.is_empty() { format!("{:?}", status.code()) } else { sentence };
        Self::Refused { kind, sentence }
    }
}

/// The kind behind a gRPC code: the inverse of [`Kind::grpc`].
pub(crate) fn kind_of(code: tonic::Code) -> Kind {
    match code {
        tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Kind::Invalid,
        tonic::Code::Unauthenticated => Kind::Unauthenticated,
        tonic::Code::PermissionDenied => Kind::Denied,
        tonic::Code::NotFound => Kind::NotFound,
        tonic::Code::FailedPrecondition | tonic::Code::AlreadyExists | tonic::Code::Aborted => Kind::Conflict,
        tonic::Code::ResourceExhausted => Kind::Exhausted,
        tonic::Code::DeadlineExceeded => Kind::Expired,
        tonic::Code::Unimplemented => Kind::Unsupported,
        tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown => Kind::Unavailable,
        _ => Kind::Internal,
    }
}
