//! Ids: UUIDs (RFC 9562) of 16 bytes on the wire, v4 for what a box makes (its clock may be wrong), v7 at
//! a hub. An id of one kind never passes for another.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// Bytes or text that are no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not a UUID: {reason}")]
pub struct InvalidId {
    what: &'static str,
    reason: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A random id (v4): for what is made where the clock may be wrong.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// An id ordered by time of making (v7): for what a hub makes.
            pub fn ordered() -> Self {
                Self(Uuid::now_v7())
            }

            pub const fn from_u128(value: u128) -> Self {
                Self(Uuid::from_u128(value))
            }

            /// The 16 bytes on the wire.
            pub fn to_vec(self) -> Vec<u8> {
                self.0.as_bytes().to_vec()
            }

            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;
            fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
                let reason = || format!("{} bytes instead of 16", bytes.len());
                let array = <[u8; 16]>::try_from(bytes)
                    .map_err(|_| InvalidId { what: $what, reason: reason() })?;
                Ok(Self(Uuid::from_bytes(array)))
            }
        }

        impl TryFrom<&bytes::Bytes> for $name {
            type Error = InvalidId;
            fn try_from(bytes: &bytes::Bytes) -> Result<Self, InvalidId> {
                Self::try_from(bytes.as_ref())
            }
        }

        impl From<$name> for bytes::Bytes {
            fn from(id: $name) -> Self {
                bytes::Bytes::copy_from_slice(id.as_bytes())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|e| InvalidId { what: $what, reason: e.to_string() })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

id!(/// A comune or other controller.
    OrganisationId, "organisation id");
id!(/// A box; belongs to one organisation.
    EdgeId, "edge id");
id!(/// A place and a view; survives replacing the device.
    CameraId, "camera id");
id!(/// A segment file.
    SegmentId, "segment id");
id!(/// An unbroken time line of one stream.
    RunId, "run id");
id!(/// A boot of a box's kernel.
    BootId, "boot id");
id!(/// A motion episode.
    EventId, "event id");
id!(/// Anything a box reports revisions of.
    ObjectId, "object id");
id!(/// One fetch of footage from a box.
    FetchId, "fetch id");
id!(/// An agreement (protocollo d'intesa).
    AgreementId, "agreement id");
id!(/// One access to footage or events, and its register entries.
    RequestId, "request id");
id!(/// A partner's lease on an interval of one camera.
    LeaseId, "lease id");
id!(/// A hold: footage that is kept beyond its term.
    HoldId, "hold id");
id!(/// 128 random bits made with a box's database.
    Epoch, "epoch");
id!(/// One life of a hub's catalogue.
    Incarnation, "catalogue incarnation");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_wire_and_text() {
        let id = CameraId::random();
        assert_eq!(CameraId::try_from(id.to_vec().as_slice()), Ok(id));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn names_what_is_wrong() {
        let error = RunId::try_from([1u8; 3].as_slice()).unwrap_err();
        assert_eq!(error.to_string(), "run id is not a UUID: 3 bytes instead of 16");
    }
}
