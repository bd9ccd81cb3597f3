//! What a new segment is sealed to.

use super::orders::{EdgeIdentity, Setting};
use super::rotate::SealedTo;
use crate::keys::KeySet;
use campanile_proto::ids::{EdgeId, OrganisationId};
use campanile_proto::segment::PublicKey;
use campanile_proto::types::v1::KeyKind;

/// A key and whose it is.
pub(super) struct Sealing {
    /// None: in the clear.
    pub to: Option<PublicKey>,
    pub kind: KeyKind,
    pub rule: SealedTo,
    pub identity: EdgeIdentity,
}

impl Sealing {
    /// `None`: this must not be recorded.
    pub fn choose(setting: &Setting, keys: Option<&KeySet>, hour: i64) -> Option<Self> {
        let Some(keys) = keys else {
            let nobody = EdgeIdentity { organisation: OrganisationId::from_u128(0), edge: EdgeId::from_u128(0) };
            // An enrolled box without keys waits for some: nobody meant it to record what a thief can watch.
            return (setting.record_in_clear && setting.identity.is_none()).then_some(Self {
                to: None,
                kind: KeyKind::Unspecified,
                rule: SealedTo { generation: 0, reserve: false, retention_days: setting.retention_days },
                identity: nobody,
            });
        };
        let (kind, to) = keys.for_hour(hour, setting.stamper.belief().trusted);
        Some(Self {
            to: Some(to),
            kind,
            rule: SealedTo {
                generation: keys.generation,
                reserve: kind == KeyKind::Reserve,
                retention_days: keys.retention_days.min(setting.retention_days),
            },
            identity: EdgeIdentity { organisation: keys.organisation, edge: keys.edge },
        })
    }
}
