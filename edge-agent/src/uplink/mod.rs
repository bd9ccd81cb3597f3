//! The uplink: one session with the hub, as long as there is one.
//!
//! Belongs here: dialling, reports and their acknowledgement, the hub's wishes, delivering footage it asks for.
//! Does not belong here: what is worth reporting (`index`), who the hub is (`identity`).
//! Invariant: recording never notices. No acknowledged report is lost, none is counted twice; a report leaves the
//! outbox only when the hub says that it holds it.

mod deliver;
mod deliveries;
mod obey;
mod outbox;
mod patience;
mod reports;
mod session;
mod slots;
mod spans;
#[cfg(test)]
mod tests;

pub use session::{Standing, Uplink, Wishes};

use crate::identity::IdentityError;
use campanile_proto::kind::Kind;

/// Why a session ended or never began.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    #[error("no connection")]
    Connect(#[from] IdentityError),
    #[error("the hub ended the session: {sentence}")]
    Ended { kind: Kind, sentence: String },
    #[error("the hub did not say welcome within {0} seconds")]
    NoWelcome(u64),
    #[error("the hub speaks protocol {0}, this box {PROTOCOL}; update the older of the two")]
    Protocol(u32),
    #[error("the hub says goodbye: {0}")]
    Goodbye(String),
    #[error("this box's certificate is due for renewal")]
    RenewalDue,
    #[error("the index was made anew")]
    IndexMadeAnew,
    #[error("the outbox cannot be read")]
    Index(#[from] crate::index::IndexError),
}

/// The one protocol version so far.
pub(crate) const PROTOCOL: u32 = 1;

impl UplinkError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Connect(error) => error.kind(),
            Self::Ended { kind, .. } => *kind,
            Self::NoWelcome(_) => Kind::Unavailable,
            Self::Protocol(_) => Kind::Unsupported,
            Self::Goodbye(_) => Kind::Denied,
            Self::RenewalDue | Self::IndexMadeAnew => Kind::Unavailable,
            Self::Index(error) => error.kind(),
        }
    }

    fn from_status(status: &tonic::Status) -> Self {
        let sentence = status.message().chars().filter(|c| !c.is_control()).take(400).collect();
        Self::Ended { kind: crate::identity::kind_of(status.code()), sentence }
    }
}
